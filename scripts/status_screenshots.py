"""`python scripts/status_screenshots.py FOLDER`: takes the status page in each of its states, to review changes of it.

The page is that of a real server. Its answers are changed on the way to the browser: each state is the real status with
what its trouble changes. Each is taken in light and dark, on a desktop and on a phone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from playwright.async_api import Page, Route  # noqa: E402 - after the path

from scripts.screenshot import LOOKS, browser_at, page_in, prepared  # noqa: E402
from tests.cluster import embedded, front_end  # noqa: E402
from tests.waiting import until  # noqa: E402

Status = dict[str, Any]
LONG: Final = "gpu-rack-7.datacenter-frankfurt.internal.example.org:8188"
REASONS: Final = (
    "unknown_image: there is no record of this image",
    "undecodable: the body is not valid JSON: line 1 column 1 (char 0)",
    "worker_lost: six workers were lost on this image; the last one was generator-5f7d8b9c4-xk2lp",
)
LETTERS: Final = [
    {
        "id": f"0194685b-6c00-7d3e-9f10-2f0a4f6b8c1{number}",
        "diedAt": "2026-11-29T17:20:05.000Z",
        "queue": "image.work.default",
        "reason": reason,
    }
    for number, reason in enumerate(REASONS)
]


def well(_status: Status) -> None:
    """All is well, with some work."""


def down(name: str, reason: str) -> Callable[[Status], None]:
    def change(status: Status) -> None:
        for part in status["parts"]:
            if part["name"] == name:
                part |= {"ready": False, "reason": reason}

    return change


def store_down(status: Status) -> None:
    """What the api answers then: nothing that is in the store."""
    down("store", "store is unavailable: mongodb:27017: timed out")(status)
    empty: Status = {"generators": [], "pools": [], "queues": [], "failures": {}}
    status |= {**empty, **dict.fromkeys(("age", "linedUp", "pendingEvents", "deadLetters", "storage", "nextPurge"))}


def circuits_open(status: Status) -> None:
    for generator in status["generators"]:
        for backend in generator["backends"]:
            backend["circuit"] = "open"


def dead_letters(status: Status) -> None:
    status["deadLetters"] = len(LETTERS)


def no_generators(status: Status) -> None:
    status["generators"] = []
    for pool in status["pools"]:
        pool |= {"generators": 0, "running": 0, "queued": 0, "ownersWithoutGenerator": 12}


def queue_old(status: Status) -> None:
    for queue in status["queues"]:
        if queue["name"].startswith("image.work."):
            queue |= {"messages": 4_312, "oldestAge": 1_260.0}


def figures_old(status: Status) -> None:
    status["age"] = 1_900.0


def nothing_gathered(status: Status) -> None:
    empty: Status = {"pools": [], "queues": []}
    status |= {**empty, **dict.fromkeys(("age", "linedUp", "pendingEvents", "deadLetters", "storage", "nextPurge"))}


def everything_wrong(status: Status) -> None:
    for change in (circuits_open, dead_letters, queue_old, figures_old, down("bus", "bus is unavailable")):
        change(status)
    status["nextPurge"] = "2026-01-01T00:00:00.000Z"
    status["parts"][0]["warning"] = "the queue newsletter.events of another service is full and refuses events"


STATES: Final[dict[str, Callable[[Status], None]]] = {
    "well": well,
    "broker-down": down("bus", "bus is unavailable: rabbitmq:5672: connection refused"),
    "store-down": store_down,
    "store-slow": down("store", "store is unavailable: no answer within 5 s"),
    "media-down": down("media", "media is unavailable: No space left on device"),
    "circuits-open": circuits_open,
    "dead-letters": dead_letters,
    "no-generators": no_generators,
    "queue-old": queue_old,
    "figures-old": figures_old,
    "nothing-gathered": nothing_gathered,
    "everything": everything_wrong,
}
PROBLEMS: Final = {
    "forbidden": (403, {"code": "not_operator", "detail": "only operators may use this; OPERATORS lists them"}),
    "unavailable": (503, {"code": "unavailable", "detail": "store is unavailable: timed out"}),
    "signed-out": (401, {"code": "unauthorized", "detail": "a valid bearer token or API key is required"}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Takes the status page in each of its states.")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--only", metavar="STATE", action="append", help="only this state (may be repeated)")
    chosen = parser.parse_args()
    path, folder = prepared(chosen.folder)
    asyncio.run(take_all(path, folder, set(chosen.only or ())))


async def take_all(chromium_path: str, folder: Path, only: set[str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        async with embedded(Path(scratch)) as cluster, browser_at(chromium_path) as browser:
            status = await real_status(cluster.url)
            for state in only or {**STATES, **PROBLEMS, "loading": None}:
                for look in LOOKS:
                    async with page_in(browser, look) as page:
                        await answer(page, state, status)
                        await page.goto(f"{cluster.url}/status")
                        await take(page, state, folder / f"status-{state}-{look}.png")


async def real_status(url: str) -> Status:
    """The status of the server once it has painted, with a second pool and figures of some size."""
    async with front_end(url) as client:
        await client.final((await client.order())["id"])
        status: Status = {}

        async def is_counted() -> bool:
            nonlocal status
            _, status = await client.get("/api/status/")
            return bool(status["storage"])

        await until(is_counted)
    generator, pool = status["generators"][0], status["pools"][0]
    backend = generator["backends"][0]
    status["generators"] = [
        {**generator, "backends": [{**backend, "name": "gpu1:8188"}, {**backend, "name": LONG}]},
        {**generator, "pool": "flux", "backends": [{**backend, "name": "flux:8188", "dialect": "comfyui"}]},
    ]
    status["pools"] = [{**pool, "running": 8, "queued": 31}, {**pool, "name": "flux", "running": 1}]
    status["queues"].append({"name": "image.work.flux", "messages": 3, "oldestAge": 4.2})
    status |= {
        "linedUp": 1_204,
        "pictures": [12, 14, 9, 0, 3, 17, 21, 19, 22, 20],
        "picturesPerMinute": 19.8,
        "failures": {"inference_refused": 3, "deadline": 1},
        "storage": {"files": 1_284_112, "bytes": 2_311_843_991_222, "age": 420.0},
    }
    return status


async def take(page: Page, state: str, path: Path) -> None:
    await page.locator(waited_for(state)).first.wait_for()
    if state == "dead-letters":
        await page.get_by_role("button", name="Show the list").click()
        await page.get_by_role("button", name="Show", exact=True).first.click()
        await page.get_by_label("Body of the message").wait_for()
    await page.screenshot(path=path, full_page=True)
    print(path)


def waited_for(state: str) -> str:
    if state == "signed-out":
        return "dialog, form"
    return ".message" if state in {"loading", *PROBLEMS} else ".tiles"


async def answer(page: Page, state: str, status: Status) -> None:
    """Let the page get the status of this state."""
    changed = json.loads(json.dumps(status))
    if change := STATES.get(state):
        change(changed)

    async def fulfill(route: Route) -> None:
        path = route.request.url.partition("/api/status/")[2]
        if state == "loading":
            await asyncio.sleep(60)
        if problem := PROBLEMS.get(state):
            code, fields = problem
            body = {"type": "about:blank", "title": "x", "status": code, **fields}
            await route.fulfill(status=code, json=body, headers={"Content-Type": "application/problem+json"})
        elif path == "dead-letters/":
            await route.fulfill(json={"deadLetters": LETTERS})
        elif path:
            await route.fulfill(
                json={**LETTERS[0], "body": json.dumps({"type": "image.generate", "data": {"seed": 7}})}
            )
        else:
            await route.fulfill(json=changed)

    async def fulfill_until_closed(route: Route) -> None:
        with suppress(asyncio.CancelledError):
            await fulfill(route)

    await page.route("**/api/status/**", fulfill_until_closed)


if __name__ == "__main__":
    main()
