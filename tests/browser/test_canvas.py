"""The canvas, which shows the queue in its order."""

import re

import pytest
from playwright.async_api import expect

from tests.browser.gallery_pictures import add_images
from tests.browser.inference_stub import InferenceStub
from tests.browser.test_access import PHONE
from tests.inference_double import status

COUNT_SHIFTS = """
    window.shift = 0;
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) if (!entry.hadRecentInput) shift += entry.value;
    }).observe({ type: "layout-shift", buffered: true });
"""
GLIDES_ENDED = """() => Promise.allSettled(
    [...document.querySelectorAll("#gallery li")].flatMap((tile) => tile.getAnimations()).map((each) => each.finished)
)"""


@pytest.mark.long
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


@pytest.mark.long
async def test_a_wrong_clock_does_not_change_the_elapsed_time(visit, inference):
    await visit.page.clock.install(time="2031-01-01T00:00:00Z")
    await visit.open()
    inference.will(stub := InferenceStub())

    card = await visit.order("a picture in the future")

    await expect(card).to_contain_text(re.compile(r"(?<!\d)\d s so far"))
    stub.finish()


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
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


async def test_a_long_reason_is_read_without_a_mouse(new_visit, inference):
    reason = "the prompt is not allowed, " + "because of a rule that is long to tell, " * 4 + "and that is the end"
    inference.will(status(400, reason))
    visit = await new_visit(**PHONE)

    card = await visit.order("a picture with a long reason")

    await expect(card).not_to_contain_text("and that is the end")
    await card.get_by_role("button", name="Read all").tap()
    await expect(card).to_contain_text("and that is the end")


@pytest.mark.long
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
