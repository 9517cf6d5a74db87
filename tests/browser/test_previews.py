"""Previews of an image in progress."""

import pytest
from playwright.async_api import expect

from tests.browser.inference_stub import InferenceStub
from tests.browser.visit import is_painted
from tests.inference_double import picture


@pytest.mark.long
async def test_a_preview_fills_the_card_until_the_image_replaces_it(visit, inference):
    inference_stub = InferenceStub()
    inference.will(inference_stub)
    await visit.page.get_by_role("radio", name="16:9", exact=True).check()
    card = await visit.order("a picture to watch")
    inference_stub.step(1, 4)
    await expect(card).to_contain_text("step 1 of 4")
    preview, frame = card.locator(".preview"), card.locator(".frame")
    await expect(preview).to_have_count(0)
    before = await frame.bounding_box()

    inference_stub.preview(picture(size=(64, 36)), 2, 4)

    await expect(card).to_contain_text("step 2 of 4")
    assert await is_painted(preview)
    first = await preview.get_attribute("src")
    assert first is not None
    assert first.startswith("data:image/webp;base64,")
    assert await frame.bounding_box() == before
    inference_stub.step(3, 4)  # without a preview: the last one stays
    await expect(card).to_contain_text("step 3 of 4")
    await expect(preview).to_have_attribute("src", first)
    inference_stub.finish()
    painted = card.locator(".picture img")
    await expect(painted).to_have_class("fading")  # it fades in over the preview
    await expect(preview).to_have_count(0)
    assert await is_painted(painted)
