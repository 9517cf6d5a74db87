"""The page with up to 100,000 pictures in a real Chromium: what a frame costs while one scrolls.

`darkroom up` serves a filled store; all thumbnails are links to a tiny file of each of four shapes, so the measure is
the page and not the decoding of pictures. The page scrolls at a reading and at a searching speed, at the newest
pictures, in the middle and at the oldest, after all were loaded page by page. From Chromium's trace: script, style and
layout of the main thread in each frame, by the clock and as CPU time, which a busy machine changes less.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any, Final

from PIL import Image as Picture
from playwright.async_api import Browser, CDPSession, Page

from benchmarks.filled_store import Variation, fill_store
from benchmarks.measurements import Table, percentile, report_progress, save_results
from common.store.connect import open_store
from common.store.port import Store
from tests.cluster import embedded
from tests.servers.chromium import launched

SHAPES: Final = ((256, 256), (256, 192), (192, 256), (256, 144))  # as large as a thumbnail: no rendition is asked for
SPEEDS: Final = {"reading": 1_500, "searching": 8_000}  # pixels a second
GESTURE_S: Final = 2
GOAL_MS: Final = 8
GOAL_BYTES: Final = 120_000
GOAL_SHIFT: Final = 0.05
CATEGORIES: Final = ["devtools.timeline", "disabled-by-default-devtools.timeline.frame", "v8"]
OUTERMOST: Final = {  # script, style and layout; an event within another of them is counted once
    *("FunctionCall", "EvaluateScript", "TimerFire", "FireAnimationFrame", "EventDispatch", "RunMicrotasks"),
    *("UpdateLayoutTree", "Layout", "IntersectionObserverController::computeIntersections", "MinorGC", "MajorGC"),
}
OBSERVE: Final = """
    window.shift = 0;
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
    }).observe({ type: "layout-shift", buffered: true });
"""
TRANSFERRED: Final = """
    [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
        .filter(({ name }) => !name.includes("/media/"))
        .reduce((sum, { transferSize }) => sum + transferSize, 0)
"""
LOAD_ALL: Final = """async () => {
    const frame = () => new Promise(requestAnimationFrame);
    for (let idle = 0; idle < 600 && document.querySelector("#gallery .more"); idle += 1) {
        const before = document.documentElement.scrollHeight;
        scrollTo(0, before);
        await frame();
        if (document.documentElement.scrollHeight !== before) idle = 0;
    }
    return document.querySelector("#gallery .more") === null;
}"""


def variations() -> Iterator[Variation]:
    for number, (width, height) in enumerate(cycle(SHAPES)):
        yield (
            ("prompt", f"picture {number}, a lighthouse at dusk, a stormy sea, seen from the cliffs"),
            ("width", width),
            ("height", height),
        )


async def fill(folder: Path, size: int) -> None:
    """A store that ends now, and the thumbnails as links: a file system allows some ten thousand to one file."""
    file = folder / "darkroom.db"
    if file.exists():
        return
    born = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=20) * size
    fill_store(file, size, born=born, varied=variations())
    async with open_store(f"sqlite:///{file}", timeout_s=60) as store:
        await _link_thumbnails(store, folder / "media")


async def _link_thumbnails(store: Store, root: Path) -> None:
    after, number = "", 0
    shared: dict[tuple[tuple[int, int], int], Path] = {}
    while images := await store.completed(after_id=after, limit=1_000):
        for image in images:
            key = (image.width, image.height), number // 20_000
            target = root / str(image.thumbnail)
            target.parent.mkdir(parents=True, exist_ok=True)
            if key not in shared:
                target.write_bytes(_picture(*key[0]))
                shared[key] = target
            else:
                os.link(shared[key], target)
            number += 1
        after = images[-1].id


def _picture(width: int, height: int) -> bytes:
    into = BytesIO()
    Picture.linear_gradient("L").resize((width, height)).convert("RGB").save(into, "PNG")
    return into.getvalue()


async def main(size: int, kept: Path | None) -> None:
    with nullcontext(str(kept)) if kept else tempfile.TemporaryDirectory(prefix="darkroom-page-") as place:
        folder = Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        await fill(folder, size)
        report_progress("filled")
        async with embedded(folder, RETENTION_DAYS="never") as cluster, launched() as browser:
            await measure(browser, cluster.url, size)


async def measure(browser: Browser, url: str, size: int) -> None:
    page = await browser.new_page(viewport={"width": 1440, "height": 900})
    await page.add_init_script(OBSERVE)
    client = await page.context.new_cdp_session(page)
    numbers = Table(f"The page with {size:,} pictures", ("value", "goal"), head="")
    numbers.add("first load without pictures, bytes", value=await first_load(page, url), goal=GOAL_BYTES)
    numbers.add("JS heap after it, MB", value=await heap_mb(client))
    frames = Table("Script, style and layout of a frame, ms", ("frames", *COLUMNS), head="while scrolling")
    every: list[tuple[float, float]] = []
    nodes = [await node_count(page)]
    shift = await page.evaluate("window.shift")
    for depth in ("newest", "middle", "oldest"):
        if depth == "middle":
            assert await page.evaluate(LOAD_ALL), "not all pictures were loaded"
            report_progress("all pictures are loaded")
            numbers.add("JS heap with all loaded, MB", value=await heap_mb(client))
        where = {"newest": 0.0, "middle": 0.5, "oldest": 1.0}[depth]
        await page.evaluate("share => scrollTo(0, share * document.documentElement.scrollHeight)", where)
        await page.wait_for_load_state("networkidle")
        await page.evaluate("window.shift = 0")
        for name, speed in SPEEDS.items():
            found = await scroll(browser, page, client, speed, up=depth == "oldest")
            frames.add(f"{depth}, {name}", **summary(found))
            every += found
            report_progress(f"{depth}, {name}: {summary(found)}")
            nodes.append(await node_count(page))
        shift = max(shift, await page.evaluate("window.shift"))
    frames.add("all", **summary(every))
    numbers.add("JS heap at the end, MB", value=await heap_mb(client))
    numbers.add("elements of the document, at most", value=max(nodes))
    numbers.add("layout shift of the first load or of two gestures", value=shift, goal=GOAL_SHIFT)
    numbers.add("script and layout of a frame, p95, ms", value=percentile([c for c, _ in every], 0.95), goal=GOAL_MS)
    numbers.add("  as CPU time", value=percentile([c for _, c in every], 0.95), goal=GOAL_MS)
    save_results("page", [numbers, frames], size=size)


COLUMNS: Final = ("p50", "p95", "p99", "p50 CPU", "p95 CPU", "p99 CPU")


def summary(frames: list[tuple[float, float]]) -> dict[str, float]:
    values = [percentile(kind, share) for kind in zip(*frames, strict=True) for share in (0.5, 0.95, 0.99)]
    return {"frames": len(frames), **dict(zip(COLUMNS, values, strict=True))}


async def first_load(page: Page, url: str) -> int:
    """The bytes over the wire until the gallery is there, with headers; pictures and the websocket apart."""
    await page.goto(url)
    await page.locator("#gallery[aria-busy=false] li").first.wait_for()
    await page.wait_for_load_state("networkidle")
    return int(await page.evaluate(TRANSFERRED))


async def heap_mb(client: CDPSession) -> float:
    await client.send("HeapProfiler.collectGarbage")
    return float((await client.send("Runtime.getHeapUsage"))["usedSize"]) / 1e6


async def node_count(page: Page) -> int:
    return int(await page.evaluate("document.querySelectorAll('*').length"))


async def scroll(
    browser: Browser, page: Page, client: CDPSession, speed: int, *, up: bool
) -> list[tuple[float, float]]:
    """The time and CPU time of each frame of a gesture, in ms."""
    await browser.start_tracing(page=page, categories=CATEGORIES)
    await client.send(
        "Input.synthesizeScrollGesture",
        {
            "x": 900,
            "y": 500,
            "speed": speed,
            "gestureSourceType": "mouse",
            "yDistance": speed * GESTURE_S * (1 if up else -1),
        },
    )
    trace = json.loads(await browser.stop_tracing())
    return frames_of(trace["traceEvents"])


def frames_of(events: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """What the main thread did between two of its frames."""
    starts = [event for event in events if event["name"] == "BeginMainThreadFrame"]
    thread = max({(e["pid"], e["tid"]) for e in starts}, key=lambda t: sum((e["pid"], e["tid"]) == t for e in starts))
    own = [event for event in events if (event["pid"], event["tid"]) == thread]
    begun = sorted(event["ts"] for event in own if event["name"] == "BeginMainThreadFrame")
    tasks = sorted(
        (event for event in own if event["name"] in OUTERMOST and "dur" in event), key=lambda event: int(event["ts"])
    )
    outer: list[dict[str, Any]] = []
    for task in tasks:
        if not outer or task["ts"] >= outer[-1]["ts"] + outer[-1]["dur"]:
            outer.append(task)
    found = []
    at = 0
    for start, end in pairwise(begun):
        spent = cpu = 0.0
        while at < len(outer) and outer[at]["ts"] < end:
            if outer[at]["ts"] >= start:
                spent += outer[at]["dur"] / 1000
                cpu += outer[at].get("tdur", outer[at]["dur"]) / 1000
            at += 1
        found.append((spent, cpu))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=100_000, help="pictures, default 100,000")
    parser.add_argument("--folder", type=Path, help="is filled if it has no store, and kept; else a temporary one")
    chosen = parser.parse_args()
    asyncio.run(main(chosen.size, chosen.folder))
