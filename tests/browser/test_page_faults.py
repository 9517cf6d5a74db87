"""What jarred people on the page: names, order, movement, size, colours, texts."""

import re
from io import BytesIO

import pytest
from PIL import Image
from playwright.async_api import expect

from tests.browser.inference_stub import InferenceStub
from tests.browser.test_access import PHONE
from tests.browser.test_gallery import add_images, until_there_are
from tests.browser.visit import is_painted
from tests.inference_double import status

TABLET = {"viewport": {"width": 768, "height": 1024}, "has_touch": True}
COUNT_SHIFTS = """
    window.shift = 0;
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) if (!entry.hadRecentInput) shift += entry.value;
    }).observe({ type: "layout-shift", buffered: true });
"""
GLIDES_ENDED = """() => Promise.allSettled(
    [...document.querySelectorAll("#gallery li")].flatMap((tile) => tile.getAnimations()).map((each) => each.finished)
)"""
LARGE = {"width": 1024, "height": 1024}


NAMES = {
    "a lighthouse at dusk, stormy sea": "a-lighthouse-at-dusk-stormy-sea-42.png",
    "../../etc/passwd: \\ <b>*?|\n": "etc-passwd-b-42.png",
    "灯台と海": "灯台と海-42.png",
    "🦊 🦊": "picture-42.png",
    "one two three four five six seven eight nine ten": "one-two-three-four-five-six-seven-eight-42.png",
}


async def test_a_download_is_named_by_prompt_and_seed(api, visit):
    for prompt, name in NAMES.items():
        image = await api.order(prompt=prompt, seed=42)
        await api.final(image["id"])
        download = visit.cards.filter(has=visit.page.locator(f"[href*='{image['id']}']")).locator("a[download]")
        await expect(download).to_have_attribute("download", name)
    async with visit.page.expect_download() as started:
        await download.click()
    assert (await started.value).suggested_filename == name

    await visit.tile("a lighthouse at dusk").click()
    await expect(visit.viewer).to_contain_text("Euler")
    async with visit.page.expect_download() as started:
        await visit.viewer.get_by_role("link", name="Download").click()
    assert (await started.value).suggested_filename == NAMES["a lighthouse at dusk, stormy sea"]


async def test_without_progress_the_elapsed_time_is_shown(visit, inference):
    inference.will(stub := InferenceStub())

    card = await visit.order("a picture without progress")

    await expect(card).to_contain_text(re.compile(r"[1-9]\d* s so far"))
    bar = card.get_by_role("progressbar")
    assert await bar.get_attribute("aria-valuenow") is None, "how far it is, is not known"
    await visit.page.reload()
    await expect(card).to_contain_text(re.compile(r"[2-9]\d* s so far"))
    stub.step(1, 4)
    await expect(bar).to_have_attribute("aria-valuenow", "25")
    await expect(card).not_to_contain_text("so far")
    stub.finish()


async def test_a_wrong_clock_does_not_change_the_elapsed_time(visit, inference):
    await visit.page.clock.install(time="2031-01-01T00:00:00Z")
    await visit.open()
    inference.will(stub := InferenceStub())

    card = await visit.order("a picture in the future")

    await expect(card).to_contain_text(re.compile(r"(?<!\d)\d s so far"))
    stub.finish()


async def test_the_canvas_shows_the_queue_in_its_order(visit, inference):
    stubs = [InferenceStub(), InferenceStub()]  # as many as are painted at once
    inference.will(*stubs)
    prompts = ["one", "two", "three", "four"]

    for prompt in prompts:
        await expect(await visit.order(f"picture {prompt}")).to_be_visible()

    await expect(visit.cards.first).to_have_accessible_name("Painting: picture one")
    assert await visit.cards.locator(".prompt").all_inner_texts() == [f"picture {prompt}" for prompt in prompts]
    tops = await visit.cards.evaluate_all("cards => cards.map((card) => Math.round(card.getBoundingClientRect().top))")
    assert len(set(tops)) == 1, "one row"
    for stub in stubs:
        stub.finish()
    for prompt in prompts:
        await expect(visit.tile(f"picture {prompt}")).to_be_visible()
    assert await visit.cards.locator(".prompt").all_inner_texts() == [f"picture {prompt}" for prompt in prompts]


async def test_nothing_moves_by_itself_while_pictures_are_made(api, new_visit, inference):
    """One is ordered here, one elsewhere; each starts and ends by events, not by a click."""
    await add_images(api, 12)
    visit = await new_visit(is_open=False)
    await visit.page.add_init_script(COUNT_SHIFTS)
    await visit.open()
    heading = visit.page.locator("#gallery h2")
    await expect(visit.cards).to_have_count(1)
    before = await heading.bounding_box()

    stubs = [InferenceStub(), InferenceStub()]
    inference.will(*stubs)
    await visit.order("ordered here")
    await expect(visit.card("ordered here")).to_have_accessible_name("Painting: ordered here")
    await api.order(prompt="ordered elsewhere")
    await expect(visit.card("ordered elsewhere")).to_be_visible()
    for stub, prompt in zip(stubs, ("ordered here", "ordered elsewhere"), strict=True):
        stub.finish()
        await expect(visit.tile(prompt)).to_be_visible()
        await expect(visit.card(prompt).locator("img")).to_be_visible()
        await visit.page.evaluate(GLIDES_ENDED)

    after = await heading.bounding_box()
    assert before is not None
    assert after is not None
    assert after["y"] == before["y"]
    assert await visit.page.evaluate("shift") < 0.05


async def test_ordering_deep_in_the_gallery_stays_there(api, new_visit, inference):
    await add_images(api, 60)
    visit = await new_visit()
    await visit.page.mouse.move(900, 700)
    await visit.page.evaluate("scrollTo(0, 900)")
    await visit.page.wait_for_function("scrollY === 900")
    inference.will(stub := InferenceStub())

    await visit.order("a picture from below")

    above = visit.page.get_by_role("button", name="1 picture in progress")
    await expect(above).to_be_visible()
    assert await visit.page.evaluate("scrollY") == 900
    await above.click()
    await expect(visit.card("a picture from below")).to_be_in_viewport()
    stub.finish()


async def test_twelve_deletions_are_one_notice_with_one_undo(api, visit):
    await add_images(api, 14)
    await expect(visit.tiles).to_have_count(14)
    await visit.tiles.first.focus()

    for _ in range(12):
        await visit.press("Delete")

    await expect(visit.tiles).to_have_count(2)
    await expect(visit.notices.locator(".notice")).to_have_count(1)
    await expect(visit.notices).to_contain_text("12 pictures deleted")
    await visit.notices.get_by_role("button", name="Undo all").click()
    await expect(visit.tiles).to_have_count(14)
    await visit.tiles.first.focus()
    await visit.press("Delete")
    await expect(visit.notices).to_contain_text("Picture deleted")
    await visit.notices.get_by_role("button", name="Dismiss").click()
    await until_there_are(api, 13)


@pytest.mark.parametrize("device", [PHONE, TABLET], ids=["phone", "tablet"])
async def test_the_actions_of_a_picture_are_on_the_first_screen(api, new_visit, device):
    await add_images(api, 1, **LARGE)
    visit = await new_visit(**device)
    await visit.tile("picture 0").click()
    await expect(visit.viewer).to_contain_text("Euler")

    for role, name in (("button", "Use settings"), ("link", "Download"), ("button", "Pin"), ("button", "Delete")):
        await expect(visit.viewer.get_by_role(role, name=name)).to_be_in_viewport(ratio=1)
    box = await visit.viewer.locator(".large").bounding_box()
    assert box is not None
    assert box["width"] > 0.75 * device["viewport"]["width"]


async def test_generate_stays_within_reach_on_a_phone(api, new_visit):
    await add_images(api, 30)
    visit = await new_visit(**PHONE)

    await visit.page.evaluate("scrollTo(0, document.body.scrollHeight)")

    await expect(visit.generate).to_be_in_viewport(ratio=1)
    await expect(visit.tiles.last).to_be_in_viewport(ratio=1)


async def test_a_picture_is_swiped_and_pinched(api, new_visit):
    await add_images(api, 2, **LARGE)
    visit = await new_visit(**PHONE)
    await visit.tile("picture 1").click()
    large = visit.viewer.locator(".large")
    await expect(large).to_be_visible()
    fingers = Fingers(await visit.page.context.new_cdp_session(visit.page))

    await fingers.draw([[(300, 200), (250, 202), (180, 204), (90, 205)]])
    await expect(visit.viewer).to_contain_text("picture 0")
    await fingers.draw([[(90, 200), (200, 202), (300, 204)]])
    await expect(visit.viewer).to_contain_text("picture 1")
    fits = await large.bounding_box()
    await fingers.draw([[(180, 200), (120, 200), (60, 200)], [(210, 200), (270, 200), (330, 200)]])

    await expect(visit.viewer.get_by_role("button", name=re.compile(r"\d+ %"))).to_have_attribute(
        "aria-pressed", "true"
    )
    zoomed = await large.bounding_box()
    assert fits is not None
    assert zoomed is not None
    assert zoomed["width"] > 3 * fits["width"]
    # a drag moves the enlarged picture, and is no swipe
    await fingers.draw([[(300, 200), (200, 200), (100, 200)]])
    await expect(visit.viewer).to_contain_text("picture 1")
    dragged = await large.bounding_box()
    assert dragged is not None
    assert dragged["x"] < zoomed["x"] - 100


async def test_a_picture_is_shown_at_its_full_size(api, visit):
    await add_images(api, 1, **LARGE)
    await visit.tile("picture 0").click()
    large = visit.viewer.locator(".large")
    await expect(large).to_be_visible()
    fits = await large.bounding_box()

    await large.click()

    await expect(visit.viewer.get_by_role("button", name="100 %")).to_have_attribute("aria-pressed", "true")
    full = await large.bounding_box()
    assert fits is not None
    assert full is not None
    assert fits["width"] < 900
    assert round(full["width"]) == 1024
    await visit.press("z")
    await expect(visit.viewer.get_by_role("button", name="Zoom")).to_have_attribute("aria-pressed", "false")
    assert await large.bounding_box() == fits


@pytest.mark.parametrize(("density", "size"), [(1, {"width": 1280, "height": 720}), (2, LARGE)])
async def test_tiles_are_as_sharp_as_they_are_drawn(api, new_visit, density, size):
    await add_images(api, 3, **size)
    visit = await new_visit(device_scale_factor=density)
    await expect(visit.tiles).to_have_count(3)

    for image in await visit.tiles.locator("img").all():
        assert await is_painted(image)
        drawn = await image.evaluate("image => image.getBoundingClientRect().width * devicePixelRatio")
        source = await image.evaluate(
            "async image => { const i = new Image(); i.src = image.currentSrc;"
            "await i.decode(); return i.naturalWidth; }"
        )
        assert source >= min(drawn * 0.95, size["width"])
    assert [url for url in visit.requests if "/renditions/" in url]
    assert not [url for url in visit.requests if "/generated_images/" in url]


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
    # a slider is drawn in parts that no style can be read of: its pixels have more than one colour
    slider = visit.page.get_by_role("slider", name="Steps")
    assert await slider.evaluate(style, "forcedColorAdjust") == "none"
    assert colours_of(await slider.screenshot()) > 2


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


async def test_a_long_reason_is_read_without_a_mouse(new_visit, inference):
    reason = "the prompt is not allowed, " + "because of a rule that is long to tell, " * 4 + "and that is the end"
    inference.will(status(400, reason))
    visit = await new_visit(**PHONE)

    card = await visit.order("a picture with a long reason")

    await expect(card).not_to_contain_text("and that is the end")
    await card.get_by_role("button", name="Read all").tap()
    await expect(card).to_contain_text("and that is the end")


async def test_failed_cards_do_not_crowd_the_canvas(visit, inference):
    inference.will(*[status(400, "no")] * 6)
    for number in range(6):
        card = await visit.order(f"a picture that fails {number}")
        await expect(card).to_contain_text("refused this request")
    await expect(visit.cards).to_have_count(3)
    inference.will(stub := InferenceStub())

    card = await visit.order("a picture that is painted")

    await expect(card).to_be_in_viewport(ratio=0.9)
    await visit.page.get_by_role("button", name="Clear 6 failed").click()
    await expect(visit.cards).to_have_count(1)
    stub.finish()


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


async def test_a_removed_tile_loads_no_file(api, visit):
    await add_images(api, 2, **LARGE)
    await expect(visit.tiles).to_have_count(2)
    await is_painted(visit.tiles.last.locator("img"))
    await visit.tiles.first.focus()
    before = len([url for url in visit.requests if "/media/" in url])

    await visit.press("Delete")
    await expect(visit.tiles).to_have_count(1)
    await visit.press("Delete")
    await expect(visit.tiles).to_have_count(0)

    await visit.notices.get_by_role("button", name="Dismiss").click()
    await until_there_are(api, 0)
    assert [url for url in visit.requests if "/media/" in url][before:] == []


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


async def test_parts_of_a_picture_are_taken_over(api, new_visit):
    await add_images(api, 1, seed=4242, negativePrompt="fog", width=512, height=512)
    visit = await new_visit(permissions=["clipboard-read", "clipboard-write"])
    seed = visit.page.get_by_label("Seed", exact=True)
    await visit.tile("picture 0").click()
    await expect(visit.viewer).to_contain_text("Euler")

    await visit.viewer.get_by_role("button", name="Copy link").click()
    await expect(visit.notices).to_contain_text("Link copied")
    assert await visit.page.evaluate("navigator.clipboard.readText()") == visit.page.url
    await visit.viewer.get_by_role("button", name="Prompt only").click()
    await expect(visit.prompt).to_have_value("picture 0")
    await expect(visit.page.get_by_label("Negative prompt")).to_have_value("fog")
    await expect(seed).to_have_value("")
    await visit.prompt.fill("another")
    await visit.tile("picture 0").click()
    await visit.viewer.get_by_role("button", name="Seed only").click()

    await expect(seed).to_have_value("4242")
    await expect(visit.prompt).to_have_value("another")


class Fingers:
    """Draws lines on a touch screen, one for each finger."""

    def __init__(self, session) -> None:
        self._session = session

    async def draw(self, lines: list[list[tuple[int, int]]]) -> None:
        for number, points in enumerate(zip(*lines, strict=True)):
            kind = "touchMove" if number else "touchStart"
            touches = [{"x": x, "y": y, "id": at} for at, (x, y) in enumerate(points)]
            await self._session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
        await self._session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def colours_of(content: bytes) -> int:
    """The number of colours of a screenshot."""
    return len(Image.open(BytesIO(content)).convert("RGB").getcolors(1_000_000) or [])
