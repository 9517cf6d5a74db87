"""`python scripts/screenshot.py`: takes docs/playground.png from the real page.

Starts Darkroom with the reference painter in a temporary folder, paints a gallery, and takes the page while one more
picture is painted. With `--all FOLDER` it takes the page in light and dark, on a desktop and on a phone, and one
enlarged picture, to review changes of the page.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from playwright.async_api import Browser, BrowserContext, Page, async_playwright  # noqa: E402 - after the path

from tests.cluster import Cluster, embedded, front_end  # noqa: E402
from tests.servers import chromium  # noqa: E402

README: Final = ROOT / "docs" / "playground.png"
PROMPTS: Final = """\
snowy mountains under an aurora, winter night
a calm red lake, misty dawn
dark forest, full moon
cherry blossom garden, spring morning
bubbles over green hills at sunrise
bright stars above a purple planet
abstract flowing silk, teal and gold
mountains of fire, thunderstorm
autumn hills, golden light
underwater bubbles, deep blue
pink smoke and violet wind
neon city in the rain at night
the open ocean, sunlight from above
yellow meadow in summer
desert dunes at sunset
green valley after rain
red maple hills, evening
fireflies at midnight""".splitlines()
SIZES: Final = [(1024, 1024), (1152, 864), (1280, 720), (864, 1152), (1280, 720)]
SLOWLY: Final = {"PAINTER_STEP_DELAY": "0.3"}
PATIENCE_MS: Final = 120_000  # a picture takes some ten seconds then
LOOKS: Final = {
    "desk-dark": {"viewport": {"width": 1440, "height": 900}, "color_scheme": "dark"},
    "desk-light": {"viewport": {"width": 1440, "height": 900}, "color_scheme": "light"},
    "phone-dark": {
        "viewport": {"width": 390, "height": 844},
        "color_scheme": "dark",
        "device_scale_factor": 2,
        "is_mobile": True,
        "has_touch": True,
    },
    "phone-light": {
        "viewport": {"width": 390, "height": 844},
        "color_scheme": "light",
        "device_scale_factor": 2,
        "is_mobile": True,
        "has_touch": True,
    },
}


def main() -> None:
    path, _ = prepared(README.parent)
    asyncio.run(take(path))


def prepared(folder: Path) -> tuple[str, Path]:
    """The path of the browser and that of the folder for the pictures; exits if there is no browser."""
    path = chromium.find()
    if path is None:
        sys.exit("no Chromium: install it, or set TEST_CHROMIUM")
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(ROOT)  # the services are started as modules
    return path, folder


async def take(chromium_path: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        async with embedded(Path(scratch)) as cluster, browser_at(chromium_path) as browser:
            await fill_gallery(cluster)
            # from now on painting takes its time, so that it can be seen
            up = cluster.services["up"]
            up.env.update(SLOWLY)
            await up.stop()
            await cluster.start()
            await take_page(browser, cluster.url)


async def fill_gallery(cluster: Cluster) -> None:
    order = random.Random(3)
    async with front_end(cluster.url) as client:
        for number, prompt in enumerate(reversed(PROMPTS)):
            width, height = SIZES[order.randrange(len(SIZES))]
            image = await client.order(prompt=prompt, width=width, height=height, steps=30, seed=number)
            await client.final(image["id"])
            print(f"painted: {prompt}")


async def take_page(browser: Browser, url: str) -> None:
    """One picture just finished, one half painted, and the gallery below."""
    async with page_in(browser, "desk-dark") as page:
        await page.goto(url)
        await page.locator("#gallery[aria-busy=false] li").first.wait_for()
        await order(page, "16:9", "stormy sea at dusk, dramatic clouds", seed="11")
        await page.locator(".card").first.wait_for()
        await order(page, "3:4", "blue hills in the snow, first light")
        await page.locator(".card.completed .picture img").wait_for()
        bar = page.locator(".card.running [role=progressbar]")
        # of 30 steps, two thirds: there may be none that is seen at exactly one number
        await bar.and_(page.locator(", ".join(f"[aria-valuenow='{share}']" for share in (60, 63, 66, 70)))).wait_for()
        await page.mouse.move(0, 0)
        await page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        await pictures_are_there(page)
        await page.screenshot(path=README)
        print(README)


async def order(page: Page, ratio: str, prompt: str, *, seed: str = "") -> None:
    await page.get_by_label("Prompt", exact=True).fill(prompt)
    await page.get_by_role("radio", name=ratio, exact=True).check()
    await page.get_by_label("Seed", exact=True).fill(seed)
    await page.get_by_role("button", name="Generate").click()


async def pictures_are_there(page: Page) -> None:
    """What is on the screen is decoded, and nothing moves any more."""
    await page.evaluate(
        """async () => {
            const isSeen = (image) => image.getBoundingClientRect().top < innerHeight;
            await Promise.all([...document.images].filter(isSeen).map((image) => image.decode()));
            const endless = (animation) => animation.effect.getTiming().iterations === Infinity;
            const animations = document.getAnimations().filter((animation) => !endless(animation));
            await Promise.allSettled(animations.map((animation) => animation.finished));
        }"""
    )


@asynccontextmanager
async def browser_at(path: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=chromium.FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def page_in(browser: Browser, look: str) -> AsyncIterator[Page]:
    context: BrowserContext = await browser.new_context(**LOOKS[look])  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE_MS)
    try:
        yield await context.new_page()
    finally:
        await context.close()


if __name__ == "__main__":
    main()
