"""The form for a new picture: its fields on every screen, in every colour and direction."""

from io import BytesIO

import pytest
from PIL import Image
from playwright.async_api import expect

from tests.browser.gallery_pictures import add_images
from tests.browser.test_access import PHONE


@pytest.mark.long
async def test_generate_stays_within_reach_on_a_phone(api, new_visit):
    await add_images(api, 30)
    visit = await new_visit(**PHONE)

    await visit.page.evaluate("scrollTo(0, document.body.scrollHeight)")

    await expect(visit.generate).to_be_in_viewport(ratio=1)
    await expect(visit.tiles.last).to_be_in_viewport(ratio=1)


@pytest.mark.long
async def test_forced_colours_leave_every_control_visible(api, new_visit):
    await add_images(api, 1)
    visit = await new_visit(forced_colors="active")
    style = "(element, name) => getComputedStyle(element)[name]"

    assert await visit.generate.evaluate(style, "borderTopStyle") == "solid"
    switch = visit.page.get_by_role("switch", name="Hires fix")
    off = await switch.evaluate(style, "backgroundColor")
    assert await switch.evaluate(style, "borderTopStyle") == "solid"
    await switch.check()
    await expect(switch).not_to_have_css("background-color", off)
    chosen, other = (
        visit.page.locator(".sizes label").filter(has_text=ratio).locator("span") for ratio in ("1:1", "4:3")
    )
    assert await chosen.evaluate(style, "backgroundColor") != await other.evaluate(style, "backgroundColor")
    await visit.page.get_by_role("button", name="Preferences").click()
    await visit.page.get_by_role("radio", name="Light").check()
    chosen, other = (visit.page.locator("#preferences label").filter(has_text=name) for name in ("Light", "System"))
    background = "label => getComputedStyle(label.querySelector('span')).backgroundColor"
    assert await chosen.evaluate(background) != await other.evaluate(background)
    await visit.press("Escape")
    # a slider is drawn in parts that no style can be read of: its pixels have more than one colour
    slider = visit.page.get_by_role("slider", name="Steps")
    assert await slider.evaluate(style, "forcedColorAdjust") == "none"
    assert colours_of(await slider.screenshot()) > 2


@pytest.mark.long
async def test_prompts_are_written_in_their_own_direction(api, visit, inference):
    prompt = "سفينة شراعية في البحر عند الغروب"
    await visit.order(prompt)
    await expect(visit.tile(prompt)).to_be_visible()

    direction = "element => getComputedStyle(element).direction"
    assert await visit.prompt.evaluate(direction) == "rtl"
    assert await visit.card(prompt).locator(".prompt").evaluate(direction) == "rtl"
    await visit.tile(prompt).click()
    assert await visit.viewer.locator(".prompt").evaluate(direction) == "rtl"


async def test_a_long_prompt_is_counted_and_never_cut(visit, inference):
    await visit.prompt.fill("🦊" * 4003)

    await expect(visit.page.get_by_text("4,003 of 4,000 characters")).to_be_visible()
    await visit.generate.click()
    await expect(visit.page.get_by_role("alert")).to_have_text("The prompt is 3 characters too long.")
    assert inference.orders == []
    await visit.prompt.fill("🦊" * 4000)
    await visit.generate.click()
    await expect(visit.tiles).to_have_count(1)
    assert len(inference.orders[0]["prompt"]) == 4000


@pytest.mark.long
async def test_a_model_has_one_name(visit, inference):
    card = await visit.order("a picture of a named model")
    await expect(visit.tile("a picture of a named model")).to_be_visible()

    await expect(card.locator(".making")).to_contain_text("SDXL")
    await visit.tile("a picture of a named model").click()
    await expect(visit.viewer.locator(".facts")).to_contain_text("SDXL")
    await expect(visit.viewer.locator(".facts")).not_to_contain_text("sdxl")


async def test_the_page_leads_to_the_documentation_of_the_api(visit):
    link = visit.page.get_by_role("link", name="API documentation")

    assert await link.evaluate("link => new URL(link.href).pathname") == "/docs"


async def test_a_size_of_ones_own_is_ordered(visit, inference):
    width, height = (visit.page.get_by_label(name, exact=True) for name in ("Width", "Height"))
    await visit.page.get_by_role("radio", name="16:9", exact=True).check()
    await expect(width).to_have_value("1280")

    await width.fill("333")
    await height.fill("9999")
    await height.blur()

    await expect(width).to_have_value("336")
    await expect(height).to_have_value("2048")
    await height.fill("200")
    await visit.order("a picture of its own size")
    await expect(visit.tile("a picture of its own size")).to_be_visible()
    assert (inference.orders[0]["width"], inference.orders[0]["height"]) == (336, 200)


def colours_of(content: bytes) -> int:
    """The number of colours of a screenshot."""
    return len(Image.open(BytesIO(content)).convert("RGB").getcolors(1_000_000) or [])
