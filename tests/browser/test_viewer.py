"""The viewer of one picture: its name as a file, its actions, its size, its settings."""

import re

import pytest
from playwright.async_api import expect

from tests.browser.gallery_pictures import add_images
from tests.browser.test_access import PHONE

TABLET = {"viewport": {"width": 768, "height": 1024}, "has_touch": True}
LARGE = {"width": 1024, "height": 1024}
NAMES = {
    "a lighthouse at dusk, stormy sea": "a-lighthouse-at-dusk-stormy-sea-42.png",
    "../../etc/passwd: \\ <b>*?|\n": "etc-passwd-b-42.png",
    "灯台と海": "灯台と海-42.png",
    "🦊 🦊": "picture-42.png",
    "one two three four five six seven eight nine ten": "one-two-three-four-five-six-seven-eight-42.png",
}


@pytest.mark.long
async def test_a_download_is_named_by_prompt_and_seed(api, visit):
    for prompt, name in NAMES.items():
        image = await api.order(prompt=prompt, seed=42)
        await api.final(image["id"])
        download = visit.cards.filter(has=visit.page.locator(f"[href*='{image['id']}']")).locator("a[download]")
        async with visit.page.expect_download() as started:
            await download.click()
        assert (await started.value).suggested_filename == name

    await visit.tile("a lighthouse at dusk").click()
    await expect(visit.viewer).to_contain_text("Euler")
    async with visit.page.expect_download() as started:
        await visit.viewer.get_by_role("link", name="Download").click()
    assert (await started.value).suggested_filename == NAMES["a lighthouse at dusk, stormy sea"]


@pytest.mark.long_unless("phone")
@pytest.mark.parametrize("device", [PHONE, TABLET], ids=["phone", "tablet"])
async def test_the_actions_of_a_picture_are_on_the_first_screen(api, new_visit, device):
    await add_images(api, 1, **LARGE)
    visit = await new_visit(**device)
    await visit.tile("picture 0").click()
    await expect(visit.viewer).to_contain_text("Euler")

    for role, name in (
        ("button", "Use settings"),
        ("button", "More like this"),
        ("link", "Download"),
        ("button", "Pin"),
        ("button", "Delete"),
    ):
        await expect(visit.viewer.get_by_role(role, name=name)).to_be_in_viewport(ratio=1)
    box = await visit.viewer.locator(".large").bounding_box()
    assert box is not None
    assert box["width"] > 0.75 * device["viewport"]["width"]


@pytest.mark.long
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


@pytest.mark.long
async def test_parts_of_a_picture_are_taken_over(api, new_visit, inference):
    """The prompts, the seed, the link; then everything but the seed, without a change of the form."""
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
    await visit.tile("picture 0").click()
    await visit.viewer.get_by_role("button", name="More like this").click()
    await expect(visit.notices).to_contain_text("Requesting one more picture with another seed")
    await expect(visit.viewer).to_contain_text("of 2")
    assert (inference.orders[-1]["prompt"], inference.orders[-1]["negative_prompt"]) == ("picture 0", "fog")
    assert inference.orders[-1]["seed"] != 4242
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
