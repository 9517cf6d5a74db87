"""The gallery with its viewer."""

import asyncio

import pytest
from playwright.async_api import expect

from tests.browser.gallery_pictures import add_images, until_there_are
from tests.browser.visit import is_painted
from tests.cluster import ORDER

HISTORY = "**/api/images/history/**"
FIRST_ON_SCREEN = """() => {
    const tiles = [...document.querySelectorAll("#gallery li button[data-id]")];
    const places = tiles.map((tile) => [tile.dataset.id, tile.getBoundingClientRect().top]);
    return places.find(([, top]) => top >= 0);
}"""


@pytest.mark.long
@pytest.mark.parametrize("many", [110, 300])  # the page reads 40, then 100 at a time
async def test_many_images_scroll_as_thumbnails(api, new_visit, many):
    """Down to the oldest, one more arrives at the top, up to it and down; only the tiles near the screen exist."""
    await add_images(api, many)
    visit = await new_visit()
    await expect(visit.page.locator("#gallery h2")).to_contain_text(f"{many} pictures")
    ids: list[str] = []
    most = 0

    while len(ids) < many:
        await expect(visit.tiles.nth(0)).to_be_attached()
        shown = await visit.tiles.evaluate_all("tiles => tiles.map((tile) => tile.dataset.id)")
        ids += [each for each in shown if each not in ids]
        most = max(most, len(shown))
        await visit.page.mouse.wheel(0, 500)
        await visit.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    assert len(ids) == many
    assert ids == sorted(ids, reverse=True), "an id begins with its time: newest first"
    assert most < 150
    await visit.page.mouse.wheel(0, 5_000)
    await expect(visit.tiles.and_(visit.page.get_by_label("picture 0", exact=True))).to_be_in_viewport()
    assert await is_painted(visit.tiles.last.locator("img"))
    assert not [url for url in visit.requests if "/media/generated_images/" in url]
    # one more above: what is on the screen stays there
    on_screen, at = await visit.page.evaluate(FIRST_ON_SCREEN)
    await api.order(prompt="the newest")
    await expect(visit.page.locator("#gallery h2")).to_contain_text(f"{many + 1} pictures")
    seen = visit.tiles.and_(visit.page.locator(f"[data-id='{on_screen}']"))
    assert abs(await seen.evaluate("tile => tile.getBoundingClientRect().top") - at) < 1
    await visit.tiles.last.focus()
    await visit.press("Home")
    await expect(visit.tile("the newest")).to_be_focused()
    await visit.press("End")
    await expect(visit.tiles.and_(visit.page.get_by_label("picture 0", exact=True))).to_be_focused()


@pytest.mark.long
async def test_changes_made_elsewhere_appear_at_once(api, visit):
    image = await api.order(prompt="by another front end")
    await expect(visit.tile("by another front end")).to_be_visible()
    # seen large, the picture's record is read in full: the delete comes after that, or the browser logs a 404
    async with visit.page.expect_response(lambda response: response.url.endswith(f"/api/images/{image['id']}/")):
        await visit.tile("by another front end").click()
    await expect(visit.viewer).to_be_visible()

    await api.ask("DELETE", f"/api/images/{image['id']}/")

    await expect(visit.viewer).to_have_count(0)
    await expect(visit.tiles).to_have_count(0)
    await expect(visit.notices).to_contain_text("This picture was deleted")


@pytest.mark.long
async def test_a_deletion_reaches_other_tabs_after_the_undo_time(api, new_visit):
    await add_images(api, 2)
    one, other = await new_visit(), await new_visit()
    await expect(other.tiles).to_have_count(2)

    await one.tile("picture 1").click()
    await one.viewer.get_by_role("button", name="Delete").click()

    await expect(one.tiles).to_have_count(1)
    await expect(other.tiles).to_have_count(2)
    await one.notices.get_by_role("button", name="Dismiss").click()
    await expect(other.tiles).to_have_count(1)
    await expect(other.page.locator("#gallery h2")).to_contain_text("1 picture")


async def test_a_deletion_can_be_undone(api, visit):
    await add_images(api, 2)
    await expect(visit.tiles).to_have_count(2)

    await visit.tile("picture 1").click()
    await visit.viewer.get_by_role("button", name="Delete").click()
    # the viewer has moved on to the one beside it
    await expect(visit.viewer).to_contain_text("picture 0")
    await visit.notices.get_by_role("button", name="Undo").click()

    await visit.press("Escape")
    await expect(visit.tiles).to_have_count(2)
    assert (await api.get("/api/images/history/"))[1]["total"] == 2


async def test_a_deletion_stands_when_the_page_is_left(api, visit):
    await add_images(api, 1)
    await visit.tile("picture 0").focus()
    await visit.press("Delete")
    await expect(visit.tiles).to_have_count(0)

    await visit.page.goto("about:blank")

    await until_there_are(api, 0)


@pytest.mark.long
async def test_a_picture_is_pinned_in_both_tabs_and_on_the_server(api, new_visit):
    await add_images(api, 1)
    one, other = await new_visit(), await new_visit()
    await one.tile("picture 0").click()
    await expect(one.viewer).to_contain_text("until")

    await one.viewer.get_by_role("button", name="Pin").click()

    await expect(one.viewer.get_by_role("button", name="Pinned")).to_have_attribute("aria-pressed", "true")
    await expect(one.viewer).to_contain_text("as long as it is pinned")
    await expect(other.tiles.first).to_have_accessible_name("picture 0, pinned")
    (image,) = (await api.get("/api/images/history/"))[1]["images"]
    assert image["pinned"] is True


@pytest.mark.long
async def test_all_parameters_are_shown_and_the_seed_is_copied(api, new_visit):
    await add_images(api, 1, seed=4242, negativePrompt="no fog", steps=3, sampler="DDIM")
    visit = await new_visit(permissions=["clipboard-read", "clipboard-write"])
    await visit.tile("picture 0").click()

    for word in ("picture 0", "no fog", "SDXL", "64 × 64", "3", "7.5", "DDIM", "4242", "PNG", "1 of 1"):
        await expect(visit.viewer).to_contain_text(word)
    await visit.viewer.get_by_role("button", name="Copy the seed").click()

    assert await visit.page.evaluate("navigator.clipboard.readText()") == "4242"


async def test_a_picture_is_downloaded_under_its_name(api, visit):
    await add_images(api, 1)
    await visit.tile("picture 0").click()

    async with visit.page.expect_download() as started:
        await visit.viewer.get_by_role("link", name="Download").click()

    download = await started.value
    assert download.suggested_filename.endswith(".png")


@pytest.mark.long
async def test_the_way_back_closes_a_picture_and_its_address_opens_it(api, new_visit):
    await add_images(api, 1)
    visit = await new_visit()
    await visit.tile("picture 0").click()
    await expect(visit.viewer).to_be_visible()
    address = visit.page.url

    await visit.page.go_back()
    await expect(visit.viewer).to_have_count(0)
    linked = await new_visit(is_open=False)
    await linked.page.goto(address)
    await expect(linked.viewer).to_contain_text("picture 0")
    await linked.press("Escape")
    await expect(linked.viewer).to_have_count(0)


async def test_a_history_that_cannot_be_read_says_so(api, new_visit):
    """At the first visit: it is being read, it could not be, and it is read again by the button."""
    await add_images(api, 1)
    visit = await new_visit(is_open=False)
    visit.expect_refusals(503)
    answers = asyncio.Event()

    async def fail(route) -> None:
        await answers.wait()
        await route.fulfill(status=503, json={"status": 503, "code": "unavailable", "detail": "the store is away"})

    await visit.page.route(HISTORY, fail)
    await visit.page.goto(visit.url)
    await expect(visit.page.get_by_text("Loading the pictures")).to_be_visible()
    answers.set()
    await expect(visit.page.get_by_text("The pictures could not be loaded")).to_be_visible()
    await visit.page.unroute(HISTORY)
    await visit.page.get_by_role("button", name="Try again").click()

    await expect(visit.tile("picture 0")).to_be_visible()


@pytest.mark.long
async def test_a_batch_ordered_elsewhere_is_shown_in_its_order(visit, api):
    """Another client requests four images at once; the order stays when the page reads the history again."""
    status, answer = await api.post("/v1/images/generations", {**ORDER, "prompt": "four at once", "numImages": 4})

    await expect(visit.tiles).to_have_count(4)
    live = await visit.tiles.evaluate_all("tiles => tiles.map((tile) => tile.dataset.id)")
    await visit.page.reload()
    await visit.loaded()
    read = await visit.tiles.evaluate_all("tiles => tiles.map((tile) => tile.dataset.id)")

    assert status == 201
    assert live == read == [image["id"] for image in reversed(answer["images"])]
