"""The search of the gallery: its filters, the address, what arrives meanwhile."""

from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import expect

from tests.browser.gallery_pictures import until_there_are
from tests.browser.test_access import PHONE, TABLET, WIDE, findings

PROMPTS = ("a lighthouse at dusk", "a light in the forest", "a red fox", "Café at night")


async def paint(api):
    for prompt in PROMPTS:
        await api.order(prompt=prompt, steps=1)
    await until_there_are(api, len(PROMPTS))


async def names(visit):
    return await visit.tiles.evaluate_all("tiles => tiles.map((tile) => tile.getAttribute('aria-label'))")


@pytest.mark.long
async def test_results_appear_while_one_types(api, visit):
    """Letters, a picture that arrives and matches, one that does not, no match at all, and back to all pictures."""
    await paint(api)
    await expect(visit.tiles).to_have_count(4)
    field = visit.page.get_by_role("searchbox", name="Search the prompts")

    await field.press_sequentially("LIGHT")
    await expect(visit.tiles).to_have_count(2)
    await expect(visit.page.locator("#gallery h2")).to_contain_text("2 pictures")
    await api.order(prompt="daylight", steps=1)
    await api.order(prompt="lightning", steps=1)
    await expect(visit.tiles).to_have_count(3)
    assert await names(visit) == ["lightning", "a light in the forest", "a lighthouse at dusk"]

    await field.fill("caf dusk")
    await expect(visit.page.locator(".empty")).to_contain_text("No picture matches caf dusk")
    await visit.page.get_by_role("button", name="Show all pictures").click()
    await expect(visit.tiles).to_have_count(6)


@pytest.mark.long
async def test_the_address_holds_the_search(api, new_visit):
    """A search, then the pinned ones of it, a picture, Back twice, Back to all, a reload, and a link in another tab."""
    await paint(api)
    _, history = await api.get("/api/images/history/?q=dusk")
    await api.ask("PATCH", f"/api/images/{history['images'][0]['id']}/", json={"pinned": True})
    visit = await new_visit()
    await visit.page.get_by_role("searchbox").fill("light")
    await expect(visit.tiles).to_have_count(2)
    await visit.page.get_by_role("button", name="Pinned", exact=True).click()
    await expect(visit.tiles).to_have_count(1)
    await visit.tiles.first.click()
    await expect(visit.viewer).to_contain_text("1 of 1")
    address = visit.page.url
    assert "q=light" in address
    assert "pinned=true" in address

    await visit.page.go_back()
    await expect(visit.viewer).to_have_count(0)
    await visit.page.go_back()
    await expect(visit.tiles).to_have_count(2)
    await visit.page.reload()
    await expect(visit.tiles).to_have_count(2)
    await expect(visit.page.get_by_role("searchbox")).to_have_value("light")
    await visit.page.go_back()
    await expect(visit.tiles).to_have_count(4)
    linked = await new_visit(is_open=False)
    await linked.page.goto(address)
    await expect(linked.viewer).to_contain_text("a lighthouse at dusk")
    await linked.press("Escape")
    await expect(linked.tiles).to_have_count(1)


@pytest.mark.long
async def test_pictures_are_found_by_model_and_day(api, visit):
    """Pictures of two models; the days are those of the browser."""
    await paint(api)
    await api.order(prompt="a picture of another model", model="plain", sampler="LCM", steps=1)
    await expect(visit.tiles).to_have_count(5)
    await expect(visit.page.locator("#gallery h3")).to_contain_text("Today")

    await visit.page.get_by_label("Model of the pictures").select_option("plain")
    await expect(visit.tiles).to_have_count(1)
    await visit.page.get_by_role("button", name="Clear").click()
    await visit.page.get_by_label("Time of the pictures").select_option("yesterday")
    await expect(visit.page.locator(".empty")).to_contain_text("No picture matches these filters")
    await visit.page.get_by_label("Time of the pictures").select_option("days")
    await visit.page.get_by_label("To", exact=True).fill(f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}")
    await expect(visit.tiles).to_have_count(5)
    await visit.page.get_by_label("To", exact=True).fill(f"{datetime.now(UTC) - timedelta(days=2):%Y-%m-%d}")
    await expect(visit.tiles).to_have_count(0)


@pytest.mark.long
@pytest.mark.parametrize("look", ["dark", "light"])
@pytest.mark.parametrize("device", [{}, PHONE, TABLET, WIDE], ids=["desk", "phone", "tablet", "wide"])
async def test_axe_finds_nothing_in_search_and_selection(api, new_visit, look, device):
    """The search, no match, the selection, the comparison; nothing is wider than the screen."""
    await paint(api)
    visit = await new_visit(color_scheme=look, reduced_motion="reduce", **device)
    width = await visit.page.evaluate("document.documentElement.clientWidth")

    async def is_fine():
        assert await findings(visit) == []
        assert await visit.page.evaluate("document.documentElement.scrollWidth") == width

    await visit.page.get_by_label("Time of the pictures").select_option("days")
    await visit.page.get_by_role("searchbox").fill("light")
    await expect(visit.tiles).to_have_count(2)
    await is_fine()
    await visit.page.get_by_role("searchbox").fill("zebra")
    await expect(visit.page.locator(".empty")).to_be_visible()
    await is_fine()
    await visit.page.get_by_role("button", name="Show all pictures").click()
    await visit.tiles.first.focus()
    await visit.press(" ", "Shift+ArrowRight")
    await expect(visit.page.get_by_role("toolbar")).to_contain_text("2 selected")
    await is_fine()
    await visit.page.get_by_role("button", name="Compare").click()
    await expect(visit.viewer).to_contain_text("Euler")
    await is_fine()


@pytest.mark.long
async def test_a_date_that_does_not_exist_hides_nothing(api, new_visit):
    await paint(api)
    visit = await new_visit()

    await visit.page.goto(f"{api.url}/?when=days&from=2025-99-99&to=2025-02-30")

    await expect(visit.tiles).to_have_count(4)
    await expect(visit.tiles.first).to_be_visible()
