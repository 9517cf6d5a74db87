"""`python scripts/page_states.py FOLDER`: takes the playground in each of its states, to review changes of it.

The server and its gallery are real, painted by the reference painter. Then a stub takes the painter's place, so that
an image stops at any step, fails or waits. Each state is taken in light and dark, on a desktop and on a phone.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from playwright.async_api import Page, Route, expect  # noqa: E402 - after the path

from scripts.screenshot import LOOKS, browser_at, fill_gallery, page_in, pictures_are_there, prepared  # noqa: E402
from tests.browser.inference_stub import CAPABILITIES, InferenceStub  # noqa: E402
from tests.browser.test_dropping import DROP  # noqa: E402
from tests.browser.test_gallery import HISTORY  # noqa: E402
from tests.browser.visit import Visit  # noqa: E402
from tests.cluster import FrontEnd, embedded, front_end  # noqa: E402
from tests.inference_double import Inference, inference_double, status  # noqa: E402
from tests.servers import chromium  # noqa: E402

REFUSAL: Final = (
    "the prompt is not allowed here: it names a living person, and the rules of this service, which are at "
    "https://example.org/rules, say that no picture of one may be made without consent"
)
SETTINGS: Final = {
    "SHARE_LINKS": "true",
    "MEDIA_SIGNING_KEYS": "a-key-of-a-screenshot-of-32-characters",
    "CONCURRENT_REQUESTS": "2",
    "WAITING_REQUESTS": "4",
    "RETRY_DELAYS": "30",
}


class Scene:
    """One tab, and the inference service behind it."""

    def __init__(self, page: Page, url: str, inference: Inference) -> None:
        self.visit = Visit(page, f"{url}/")
        self.page = page
        self._inference = inference
        self._stubs: list[InferenceStub] = []

    async def order(self, prompt: str, answer: Any = None, *, steps: Sequence[int] = (0,)) -> None:
        """Request a picture that gets this answer, or else as many as there are steps, of 30: each stops at its own."""
        stubs = [] if answer else [InferenceStub() for _ in steps]
        self._stubs += stubs
        self._inference.will(*([answer] if answer else stubs))
        await (await self.visit.order(prompt)).first.wait_for()
        for stub, step in zip(stubs, steps, strict=False):
            if step:
                await stub.begun.wait()
                stub.step(step, 30)
                await self.page.get_by_text(f"step {step} of 30").first.wait_for(state="attached")

    async def open_picture(self, number: int = 3) -> None:
        await self.visit.tiles.nth(number).click()
        await self.page.locator(".facts dd").first.wait_for()

    def finish(self) -> None:
        self._inference.forget()
        for stub in self._stubs:
            stub.finish()


async def gallery(scene: Scene) -> None:
    """Nothing is in work."""
    await scene.page.locator("#gallery li img").first.wait_for()


async def loading(scene: Scene) -> None:
    await scene.page.route(HISTORY, lambda _route: asyncio.sleep(3600))
    await scene.page.reload()
    await scene.page.get_by_text("Loading the pictures").wait_for()


async def history_fails(scene: Scene) -> None:
    await scene.page.route(HISTORY, lambda route: route.fulfill(status=503, json={"code": "unavailable"}))
    await scene.page.reload()
    await scene.page.get_by_text("could not be loaded").wait_for()


async def empty(scene: Scene) -> None:
    async def without_images(route: Route) -> None:
        answer = await route.fetch()
        await route.fulfill(json={**(await answer.json()), "images": [], "total": 0, "nextCursor": None})

    await scene.page.route(HISTORY, without_images)
    await scene.page.reload()
    await scene.page.get_by_text("Nothing here yet").wait_for()


async def offline(scene: Scene) -> None:
    """One picture is in work, one is ordered without a network."""
    await scene.order("a harbour at night, long exposure", steps=[12])
    await scene.page.context.set_offline(True)
    await scene.page.evaluate("window.dispatchEvent(new Event('offline'))")
    await scene.visit.offline.wait_for()
    await (await scene.visit.order("a picture ordered in the dark")).get_by_text("cannot be reached").wait_for()


async def batch(scene: Scene) -> None:
    """Four pictures of one request: two are painted, two wait."""
    await scene.page.get_by_role("radio", name="4", exact=True).check(force=True)
    await scene.order("four foxes in the snow, golden light", steps=[18, 7, 0, 0])


async def waiting_line(scene: Scene) -> None:
    """Two are painted at once, and four may wait: no more can be ordered."""
    for number, prompt in enumerate(("dawn", "noon", "dusk", "night", "the blue hour", "midnight")):
        await scene.order(f"a lighthouse at {prompt}", steps=[8 + 9 * number if number < 2 else 0])
    await expect(scene.visit.generate).to_be_disabled()


async def failed(scene: Scene) -> None:
    """One is refused, another one is tried again."""
    await scene.order("a portrait of someone famous", status(400, REFUSAL))
    await scene.visit.cards.get_by_text("refused this request").wait_for()
    await scene.order("a bumpy road", status(500))
    await scene.page.get_by_text("Trying again in").wait_for()


async def viewer(scene: Scene) -> None:
    await scene.open_picture()


async def zoom(scene: Scene) -> None:
    await scene.open_picture()
    await scene.visit.press("z")
    await scene.visit.viewer.get_by_role("button", name="%").wait_for()


async def sharing(scene: Scene) -> None:
    """Two links, one with the prompt."""
    await scene.open_picture()
    await scene.visit.viewer.get_by_role("button", name="Share", exact=True).click()
    create = scene.visit.viewer.get_by_role("button", name="Create link")
    for at in range(2):
        await expect(create).to_be_enabled()
        await create.click()
        await scene.visit.viewer.get_by_role("listitem").nth(at).wait_for()
        await scene.visit.viewer.get_by_label("Show the prompt").check()
    await create.scroll_into_view_if_needed()


async def settings_open(scene: Scene) -> None:
    """The preferences of the browser; on a phone, with all settings of a picture unfolded."""
    unfold = scene.page.locator(".unfold")
    if await unfold.is_visible():
        await unfold.click()
    await scene.page.get_by_role("button", name="Preferences").click()


async def signed_out(scene: Scene) -> None:
    problem = {"code": "unauthorized", "detail": "a valid bearer token or API key is required"}
    await scene.page.route("**/api/**", lambda route: route.fulfill(status=401, json=problem))
    await scene.page.reload()
    await scene.page.get_by_label("Access token").wait_for()


async def dragging(scene: Scene) -> None:
    """A file is held over the page."""
    over = DROP.replace('"dragover", "drop"', '"dragover"')
    await scene.page.evaluate(over, ["picture.png", base64.b64encode(b"not yet read").decode()])


async def dropped(scene: Scene) -> None:
    """The settings of a picture of the gallery are taken over."""
    source = await scene.visit.tiles.nth(2).get_attribute("data-id")
    image = await (await scene.page.request.get(f"{scene.visit.url}api/images/{source}/")).json()
    content = await (await scene.page.request.get(f"{scene.visit.url}{image['imageUrl'].lstrip('/')}")).body()
    await scene.page.evaluate(DROP, ["picture.png", base64.b64encode(content).decode()])
    await scene.visit.notices.locator(".notice").wait_for()


async def search(scene: Scene) -> None:
    await scene.page.get_by_role("searchbox").fill("misty dawn")
    await expect(scene.page.locator("#gallery h2")).to_contain_text("1 picture")


async def no_match(scene: Scene) -> None:
    await scene.page.get_by_role("searchbox").fill("a zebra in a lift")
    await scene.page.locator(".empty").wait_for()


async def selection(scene: Scene) -> None:
    await scene.visit.tiles.nth(1).focus()
    await scene.visit.press("Space", *["Shift+ArrowRight"] * 3)
    await scene.page.get_by_role("toolbar").wait_for()


async def compared(scene: Scene) -> None:
    await scene.visit.tiles.nth(1).focus()
    await scene.visit.press("Space", "Shift+ArrowRight")
    await scene.page.get_by_role("toolbar").get_by_role("button", name="Compare").click()
    await scene.visit.viewer.locator("tr.differs").first.wait_for()


async def deleted(scene: Scene) -> None:
    """Deletions are undone, not confirmed; the test of a state ends before they are carried out."""
    await selection(scene)
    await scene.visit.press("Delete")
    await scene.visit.notices.get_by_role("button", name="Undo all").wait_for()


async def recent(scene: Scene) -> None:
    kept = '["a fox in an autumn forest, golden light", "neon city in the rain at night"]'
    await scene.page.evaluate("kept => localStorage.setItem('darkroom.prompts', kept)", kept)
    await scene.page.reload()
    await scene.visit.loaded()
    await scene.page.get_by_role("button", name="Recent").click()


STATES: Final[dict[str, Callable[[Scene], Awaitable[None]]]] = {
    each.__name__.replace("_", "-"): each
    for each in (
        *(gallery, loading, history_fails, empty, offline, batch, waiting_line, failed, viewer, zoom, sharing),
        *(settings_open, signed_out, dragging, dropped, search, no_match, selection, compared, deleted, recent),
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Takes the page of the playground in each of its states.")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--only", metavar="STATE", action="append", choices=STATES, help="this state (repeatable)")
    chosen = parser.parse_args()
    path, folder = prepared(chosen.folder)
    expect.set_options(timeout=chromium.PATIENCE_MS)
    asyncio.run(take_all(path, folder, chosen.only or list(STATES)))


async def take_all(chromium_path: str, folder: Path, states: list[str]) -> None:
    async with server() as (url, inference), browser_at(chromium_path) as browser, front_end(url) as client:
        kept = await ids(client)
        for state in states:
            for look in LOOKS:
                async with page_in(browser, look) as page:
                    scene = Scene(page, url, inference)
                    await scene.visit.open()
                    await STATES[state](scene)
                    await pictures_are_there(page)
                    await page.screenshot(path=folder / f"{state}-{look}.png")
                    print(folder / f"{state}-{look}.png")
                    scene.finish()
                for image_id in await ids(client) - kept:
                    await client.post(f"/api/images/{image_id}/cancel/")
                    await client.final(image_id)
                    await client.ask("DELETE", f"/api/images/{image_id}/")


@asynccontextmanager
async def server() -> AsyncIterator[tuple[str, Inference]]:
    """Darkroom with a gallery, and the stub that takes the painter's place."""
    with tempfile.TemporaryDirectory() as scratch:
        async with embedded(Path(scratch)) as cluster, inference_double() as inference:
            await fill_gallery(cluster)
            inference.capabilities = CAPABILITIES
            up = cluster.services["up"]
            up.env.update(SETTINGS, INFERENCE_SERVICE_URL=inference.url)
            await up.stop()
            await cluster.start()
            yield cluster.url, inference


async def ids(client: FrontEnd) -> set[str]:
    _, page = await client.get("/api/images/history/?perPage=100&status=all")
    return {image["id"] for image in page["images"]}


if __name__ == "__main__":
    main()
