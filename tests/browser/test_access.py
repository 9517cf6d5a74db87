"""Accessibility of the page: keyboard, screen readers, phones, light and dark, reduced motion."""

from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browser.gallery_pictures import add_images
from tests.browser.inference_stub import InferenceStub
from tests.inference_double import status

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
TABLET = {"viewport": {"width": 768, "height": 1024}, "has_touch": True}
WIDE = {"viewport": {"width": 1920, "height": 1080}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@pytest.mark.long
async def test_everything_is_done_with_the_keyboard_alone(api, new_visit):
    await add_images(api, 6)
    visit = await new_visit()
    await visit.press("Tab")
    await expect(visit.page.get_by_role("button", name="Preferences")).to_be_focused()
    await visit.press("Tab")
    await expect(visit.prompt).to_be_focused()

    await visit.page.keyboard.type("a typed picture")
    await visit.press("Control+Enter")
    await expect(visit.tile("a typed picture")).to_be_visible()
    await visit.page.get_by_role("button", name="Open: a typed picture").focus()
    await tab_to(visit, "#gallery li button")
    await expect(visit.tile("a typed picture")).to_be_focused()
    await visit.press("ArrowRight", "ArrowRight")
    await expect(visit.tile("picture 4")).to_be_focused()
    await visit.press("End", "Home", "ArrowDown", "ArrowUp", "ArrowRight", "Enter")

    await expect(visit.viewer).to_contain_text("picture 5")
    await visit.press("ArrowRight")
    await expect(visit.viewer).to_contain_text("picture 4")
    await visit.press("Escape")
    await expect(visit.viewer).to_have_count(0)
    await expect(visit.tile("picture 4")).to_be_focused()

    await visit.press("Delete")
    await expect(visit.tile("picture 4")).to_have_count(0)
    await expect(visit.tile("picture 3")).to_be_focused()
    await visit.press("Control+z")
    await expect(visit.tile("picture 4")).to_be_visible()


async def test_changes_are_announced_to_screen_readers(visit, inference):
    announcements = visit.page.locator("body > [role=status].unseen")
    inference_stub = InferenceStub()
    inference.will(inference_stub)
    await visit.order("a picture to hear of")
    await expect(announcements).to_have_text("Painting: a picture to hear of")
    inference_stub.finish()
    await expect(announcements).to_have_text("Done: a picture to hear of")
    inference.will(status(400))
    await visit.order("a picture that is refused")
    await expect(announcements).to_contain_text("Failed: a picture that is refused")


@pytest.mark.parametrize(
    ("device", "look"),
    [
        pytest.param({}, "dark", id="desk-dark"),
        pytest.param(PHONE, "light", id="phone-light", marks=pytest.mark.long),
        pytest.param({}, "light", id="desk-light", marks=pytest.mark.long),
        pytest.param(PHONE, "dark", id="phone-dark", marks=pytest.mark.long),
        pytest.param(TABLET, "light", id="tablet-light", marks=pytest.mark.long),
        pytest.param(TABLET, "dark", id="tablet-dark", marks=pytest.mark.long),
        pytest.param(WIDE, "light", id="wide-light", marks=pytest.mark.long),
        pytest.param(WIDE, "dark", id="wide-dark", marks=pytest.mark.long),
    ],
)
async def test_axe_has_no_serious_findings(api, new_visit, inference, look, device):
    visit = await new_visit(color_scheme=look, reduced_motion="reduce", **device)
    await expect(visit.page.get_by_text("Nothing here yet")).to_be_visible()
    assert await findings(visit) == []

    inference.will(status(400, "no"))
    await visit.order("a picture that is refused")
    await expect(visit.cards).to_contain_text("refused")
    await add_images(api, 3)
    stubs = [InferenceStub(), InferenceStub()]
    inference.will(*stubs)
    for prompt in ("painted", "begun", "waiting"):
        await expect(await visit.order(f"a picture {prompt}")).to_be_visible()
    stubs[0].step(3, 4)
    await expect(visit.page.get_by_text("step 3 of 4")).to_be_visible()
    assert await findings(visit) == []

    for inference_stub in stubs:
        inference_stub.finish()
    await visit.tile("picture 1").click()
    await expect(visit.viewer).to_contain_text("Euler")
    assert await findings(visit) == []


@pytest.mark.long
async def test_nothing_is_wider_than_a_phone(api, new_visit):
    await add_images(api, 5)
    visit = await new_visit(**PHONE)
    await expect(visit.page.get_by_label("Sampler")).to_be_hidden()
    await visit.page.get_by_role("button", name="Settings").click()
    await expect(visit.page.get_by_label("Sampler")).to_be_visible()
    await visit.page.get_by_role("button", name="Preferences").click()
    await expect(visit.page.get_by_role("radio", name="Dark")).to_be_in_viewport()

    assert await visit.page.evaluate("document.documentElement.scrollWidth") == 390
    await visit.press("Escape")
    await visit.tile("picture 2").click()
    await expect(visit.viewer).to_contain_text("Euler")
    assert await visit.viewer.evaluate("dialog => dialog.scrollWidth") == 390


async def tab_to(visit, selector: str, most: int = 12) -> None:
    for _ in range(most):
        await visit.press("Tab")
        if await visit.page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"{selector} is not reached by Tab")


async def findings(visit) -> list[str]:
    """What axe-core finds serious or critical, with the elements."""
    await visit.page.evaluate(AXE)
    report = await visit.page.evaluate("rules => axe.run(document, rules)", RULES)
    return [
        f"{found['impact']}: {found['help']}: {[node['html'][:200] for node in found['nodes']]}"
        for found in report["violations"]
        if found["impact"] in {"serious", "critical"}
    ]
