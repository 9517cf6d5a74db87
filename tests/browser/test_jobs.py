"""Whole jobs of a person, with their actions counted: a click, a key, or a text that is typed."""

import asyncio
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import expect

from benchmarks.filled_store import fill_store
from common.store import sqlite_schema
from tests.browser.gallery_pictures import until_there_are
from tests.browser.visit import Visit, is_painted
from tests.cluster import embedded, front_end

SCROLL = """new Promise((done) => {
    scrollBy(0, innerHeight / 2);
    requestAnimationFrame(() => requestAnimationFrame(done));
})"""
EARLIER, YESTERDAYS, TODAYS = 200, 60, 65


class Person:
    """Does one thing after the other, and counts them."""

    def __init__(self, visit) -> None:
        self.visit = visit
        self.page = visit.page
        self.actions = 0

    async def click(self, what, **options) -> None:
        self.actions += 1
        await what.click(**options)

    async def choose(self, what, value) -> None:
        self.actions += 1
        await what.select_option(value)

    async def type(self, what, text) -> None:
        self.actions += 1
        await what.fill(text)

    async def press(self, key) -> None:
        self.actions += 1
        await self.page.keyboard.press(key)

    async def scroll_to(self, tile) -> None:
        """Only the tiles near the screen exist, and only a part of the pictures is loaded at first."""
        async with asyncio.timeout(30):
            while not await tile.count():
                await self.page.evaluate(SCROLL)
        await tile.scroll_into_view_if_needed()


def fill(folder) -> None:
    """325 pictures without their files: of the days before, of yesterday at noon, of today."""
    now = datetime.now(UTC).replace(microsecond=0)
    noon = (now - timedelta(days=1)).replace(hour=12, minute=0, second=0)
    prompts = iter(range(1000))

    def varied(what):
        return ((("prompt", f"{what} {next(prompts)}"), ("width", 64), ("height", 64)) for _ in range(1000))

    file = folder / "darkroom.db"
    fill_store(file, EARLIER, born=now - timedelta(days=9), varied=varied("an earlier picture"))
    fill_store(file, YESTERDAYS, born=noon, varied=varied("a picture of yesterday"))
    fill_store(file, TODAYS, born=now - timedelta(seconds=20 * TODAYS), varied=varied("a picture of today"))
    with closing(sqlite_schema.connect(file, readers=0, timeout_s=5)[0]) as connection:
        (count,) = connection.execute("SELECT count(*) FROM images").fetchone()
    assert count == EARLIER + YESTERDAYS + TODAYS


@pytest.mark.long
async def test_few_actions_find_delete_and_download(tmp_path, new_profile):
    """325 pictures: yesterday's in 3 actions; 50 deleted, 20 downloaded in 4 actions each."""
    await asyncio.to_thread(fill, tmp_path)
    profile = await new_profile(timezone_id="UTC")
    await profile.route("**/media/**", lambda route: route.fulfill(path="docs/playground.png"))
    async with embedded(tmp_path, RETENTION_DAYS="never") as cluster, front_end(cluster.url) as api:
        await do_the_jobs(Visit(await profile.new_page(), cluster.url + "/"), api)


async def do_the_jobs(visit, api):
    await visit.open()
    page = visit.page
    await expect(page.locator("#gallery h2")).to_contain_text("325 pictures")

    person = Person(visit)
    await person.choose(page.get_by_label("Time of the pictures"), "yesterday")
    await person.type(page.get_by_role("searchbox"), f"yesterday {EARLIER + 7}")
    await person.click(visit.tile(f"a picture of yesterday {EARLIER + 7}"))
    await expect(visit.viewer).to_contain_text(f"a picture of yesterday {EARLIER + 7}")
    assert person.actions <= 3

    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Clear").click()
    await expect(page.locator("#gallery h2")).to_contain_text("325 pictures")
    person = Person(visit)
    await person.click(visit.tiles.first, modifiers=["ControlOrMeta"])
    last = visit.tile(f"a picture of today {EARLIER + YESTERDAYS + TODAYS - 50}")
    await person.scroll_to(last)
    await person.click(last, modifiers=["Shift"])
    await expect(page.get_by_role("toolbar")).to_contain_text("50 selected")
    await person.press("Delete")
    await expect(page.locator("#gallery h2")).to_contain_text("275 pictures")
    await expect(visit.notices).to_contain_text("50 pictures deleted")
    assert person.actions <= 4
    await visit.notices.get_by_role("button", name="Dismiss").click()
    await until_there_are(api, 275)

    person = Person(visit)
    await page.evaluate("scrollTo(0, 0)")
    await person.click(visit.tile(f"a picture of today {EARLIER + YESTERDAYS + 14}"), modifiers=["ControlOrMeta"])
    last = visit.tile(f"a picture of yesterday {EARLIER + YESTERDAYS - 5}")
    await person.scroll_to(last)
    await person.click(last, modifiers=["Shift"])
    await expect(page.get_by_role("toolbar")).to_contain_text("20 selected")
    async with page.expect_response(lambda response: response.url.endswith("/api/archives/")) as made:
        await person.click(page.get_by_role("button", name="Download"))
    assert (await made.value).status == 201
    await expect(visit.notices).to_contain_text("Downloading 20 pictures")
    assert person.actions <= 4


@pytest.mark.long
async def test_six_iterations_are_compared_in_pairs(visit):
    """They stay on the canvas; every pair is seen in the comparison, which leads back to the canvas."""
    for at in range(6):
        await visit.order("six iterations of one prompt")
        await expect(visit.page.locator("#canvas .card.completed")).to_have_count(at + 1)
    ids = await visit.cards.evaluate_all("cards => cards.map((card) => card.dataset.id)")
    place = await visit.page.evaluate("scrollY")
    person = Person(visit)

    await person.click(visit.cards.first.get_by_role("button", name="Compare"))
    seen = [await compared(visit)]
    for left in range(5):
        # each picture that comes after the left one, then the nearest of them becomes the left one
        for _ in range(4 - left):
            await person.press("ArrowRight")
            seen.append(await compared(visit))
        for _ in range(4 - left):
            await person.press("ArrowLeft")
        await person.press("k")
        await person.press("ArrowRight")
        seen.append(await compared(visit))
    await visit.press("Escape")

    await expect(visit.viewer).to_have_count(0)
    assert await visit.page.evaluate("scrollY") == place
    assert {frozenset(pair) for pair in seen} == {
        frozenset((one, other)) for one in ids for other in ids if one != other
    }


async def compared(visit) -> tuple[str, ...]:
    for picture in await visit.viewer.locator("figure img").all():
        assert await is_painted(picture)
    return tuple((await visit.page.evaluate("location.hash")).removeprefix("#compare=").split(","))
