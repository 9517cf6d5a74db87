"""The way from the prompt to the image."""

import pytest
from playwright.async_api import expect

from tests.browser.inference_stub import InferenceStub
from tests.browser.visit import Visit, is_painted
from tests.cluster import embedded
from tests.inference_double import status


async def test_an_image_is_requested_painted_and_shown(browser, tmp_path, new_profile):
    # the only test with the real stand-in painter
    async with embedded(tmp_path) as cluster:
        profile = await new_profile()
        visit = await Visit(await profile.new_page(), cluster.url + "/").open()
        await expect(visit.page.get_by_text("Nothing here yet")).to_be_visible()

        await visit.page.get_by_role("radio", name="16:9", exact=True).check()
        await visit.page.get_by_label("Steps", exact=True).fill("4")
        await visit.prompt.fill("a lighthouse at dusk, stormy sea")
        await visit.press("Control+Enter")

        picture = visit.card("a lighthouse").locator(".picture img")
        await expect(picture).to_be_visible()
        assert await is_painted(picture)
        assert await is_painted(visit.tile("a lighthouse").locator("img"))
        await visit.tile("a lighthouse").click()
        await expect(visit.viewer).to_contain_text("1280 × 720")
        assert visit.complaints == []


async def test_progress_is_shown_step_by_step(visit, inference):
    inference_stub = InferenceStub()
    inference.will(inference_stub)

    card = await visit.order("a slow picture")

    await expect(card).to_have_accessible_name("Painting: a slow picture")
    inference_stub.step(5, 20)
    bar = card.get_by_role("progressbar")
    await expect(bar).to_have_attribute("aria-valuenow", "25")
    await expect(card).to_contain_text("step 5 of 20")
    inference_stub.step(10, 20)
    await expect(bar).to_have_attribute("aria-valuenow", "50")
    await expect(card).to_contain_text("left")
    await expect(visit.page).to_have_title("50 % – Darkroom")
    inference_stub.finish()
    await expect(card.locator("img")).to_be_visible()
    await expect(visit.page).to_have_title("Darkroom")


@pytest.mark.long
async def test_requests_have_a_card_and_a_queue_position_each(visit, inference):
    stubs = [InferenceStub(), InferenceStub()]  # as many as are painted at once
    inference.will(*stubs)

    for prompt in ("one", "two", "three", "four"):
        await expect(await visit.order(f"picture {prompt}")).to_be_visible()

    await expect(visit.cards).to_have_count(4)
    await expect(visit.card("picture three")).to_contain_text("Waiting in the queue")
    await expect(visit.card("picture three")).to_contain_text("Next in line")
    await expect(visit.card("picture four")).to_contain_text("2nd in the queue")
    for inference_stub in stubs:
        inference_stub.finish()
    for prompt in ("one", "two", "three", "four"):
        await expect(visit.tile(f"picture {prompt}")).to_be_visible()


@pytest.mark.long
async def test_the_queue_position_falls_and_is_not_announced(visit, inference, api):
    stubs = [InferenceStub() for _ in range(3)]
    inference.will(*stubs)
    for number in range(3):
        await api.order(prompt=f"a picture before it, {number}")
    for inference_stub in stubs[:2]:
        await inference_stub.begun.wait()

    card = await visit.order("a picture in line")
    await expect(card).to_contain_text("2nd in the queue")
    await visit.page.reload()
    await expect(card).to_contain_text("2nd in the queue")
    stubs[0].finish()

    await expect(card).to_contain_text("Next in line")
    assert await card.locator("[aria-live], [role=status], [role=alert]").count() == 0
    await expect(visit.page.locator("body > [role=status].unseen")).not_to_contain_text("line")
    for inference_stub in stubs[1:]:
        inference_stub.finish()
    await expect(visit.tile("a picture in line")).to_be_visible()


async def test_cancel_stops_the_painting_and_offers_a_repeat(visit, inference):
    inference_stub = InferenceStub()
    inference.will(inference_stub)
    card = await visit.order("a picture too many")
    await inference_stub.begun.wait()

    await card.get_by_role("button", name="Cancel").click()

    await expect(card).to_have_count(0)
    await inference_stub.dropped.wait()
    await visit.notices.get_by_role("button", name="Start again").click()
    await expect(visit.tile("a picture too many")).to_be_visible()


@pytest.mark.long
async def test_a_failure_shows_its_reason_and_a_remedy(visit, inference):
    inference.will(status(400, "the prompt is not allowed"))

    card = await visit.order("a forbidden picture")

    await expect(card).to_contain_text("refused this request")
    await expect(card).to_contain_text("Change the prompt or the settings")
    await expect(card).to_contain_text("the prompt is not allowed")
    await card.get_by_role("button", name="Try again").click()
    await expect(visit.tile("a forbidden picture")).to_be_visible()
    await card.filter(has_text="refused").get_by_role("button", name="Remove from canvas").click()
    await expect(visit.page.get_by_text("refused this request")).to_have_count(0)


@pytest.mark.long
@pytest.mark.parametrize("settings", [{"RETRY_DELAYS": "2"}])
async def test_a_retry_shows_its_time(visit, inference, settings):
    inference.will(status(500))

    card = await visit.order("a bumpy picture")

    await expect(card).to_contain_text("Trying again in")
    await expect(card).to_contain_text("the image service had an error")
    await expect(visit.tile("a bumpy picture")).to_be_visible()


@pytest.mark.long
async def test_a_reload_during_work_loses_nothing(visit, inference):
    inference_stub = InferenceStub()
    inference.will(inference_stub, status(400, "never"))
    card = await visit.order("a patient picture")
    inference_stub.step(2, 10)
    await expect(card).to_contain_text("20")
    await expect(await visit.order("a picture that fails")).to_contain_text("refused")

    await visit.page.reload()

    await expect(card).to_be_visible()
    await expect(visit.card("a picture that fails")).to_contain_text("refused")
    inference_stub.step(8, 10)
    await expect(card).to_contain_text("step 8 of 10")
    inference_stub.finish()
    await expect(card.locator("img")).to_be_visible()
    await expect(visit.tile("a patient picture")).to_be_visible()


@pytest.mark.long
@pytest.mark.parametrize(
    "settings", [{"CONCURRENT_REQUESTS": "1", "WAITING_REQUESTS": "none", "REQUESTS_PER_HOUR": "3"}]
)
async def test_limits_are_shown_before_they_are_reached(visit, inference, settings):
    inference_stub = InferenceStub()
    inference.will(inference_stub)
    limits = visit.page.locator("#limits")
    await expect(limits).to_have_text("1 of 1 can start now · 3 of 3 left this hour")

    await expect(await visit.order("the first")).to_be_visible()

    await expect(limits).to_have_text("One picture at a time. Wait for it, or cancel it.")
    await expect(visit.generate).to_be_disabled()
    inference_stub.finish()
    await expect(visit.generate).to_be_enabled()
    await visit.order("the second")
    await expect(visit.tile("the second")).to_be_visible()
    await expect(visit.generate).to_be_enabled()
    await visit.order("the third")
    await expect(visit.tile("the third")).to_be_visible()
    await expect(limits).to_contain_text("Limit of 3 an hour reached. Next picture in 60 min.")


@pytest.mark.long
@pytest.mark.parametrize("settings", [{"CONCURRENT_REQUESTS": "1", "WAITING_REQUESTS": "1", "REQUESTS_PER_HOUR": "0"}])
async def test_a_picture_waits_for_its_turn(visit, inference, settings):
    """One picture is painted, a second one waits, a third one would be too many."""
    inference_stub = InferenceStub()
    inference.will(inference_stub)
    limits = visit.page.locator("#limits")
    await expect(await visit.order("the first")).to_be_visible()
    await expect(limits).to_have_text("the next one waits for its turn")

    second = await visit.order("the second")

    await expect(second).to_contain_text("Waiting for its turn")
    await expect(second).to_contain_text("in the queue")
    await expect(limits).to_have_text("1 pictures wait already. Wait for one, or cancel one.")
    await expect(visit.generate).to_be_disabled()
    inference_stub.finish()
    await expect(visit.tile("the second")).to_be_visible()
    await expect(visit.generate).to_be_enabled()


@pytest.mark.long
async def test_options_a_model_lacks_are_disabled(visit, inference):
    await visit.page.get_by_label("Negative prompt").fill("people")
    await visit.page.get_by_role("switch", name="Hires fix").check()

    await visit.page.get_by_label("Model").select_option("plain")

    await expect(visit.page.get_by_label("Negative prompt")).to_be_disabled()
    await expect(visit.page.get_by_role("switch", name="Hires fix")).to_be_disabled()
    await expect(visit.page.get_by_label("Sampler")).to_have_value("LCM")
    await expect(visit.page.get_by_label("Steps", exact=True)).to_have_value("8")
    await visit.order("a plain picture")
    await expect(visit.tile("a plain picture")).to_be_visible()
    order = inference.orders[-1]
    assert (order["width"], order["height"], order["steps"], order["sampler"]) == (512, 512, 8, "LCM")
    assert (order["negative_prompt"], order["hires_fix"]) == ("", False)


@pytest.mark.long
async def test_use_settings_restores_the_seed_too(visit, inference):
    await visit.page.get_by_role("radio", name="3:4").check()
    await visit.page.get_by_label("Seed", exact=True).fill("123")
    await visit.page.get_by_label("Negative prompt").fill("fog")
    await visit.order("a picture to repeat")
    await visit.tile("a picture to repeat").click()
    await visit.page.go_back()
    await visit.page.get_by_role("button", name="Random seed").click()
    await expect(visit.page.get_by_label("Seed", exact=True)).to_have_value("")
    await visit.page.get_by_label("Negative prompt").fill("")

    await visit.tile("a picture to repeat").click()
    await visit.viewer.get_by_role("button", name="Use settings").click()

    await expect(visit.viewer).to_have_count(0)
    await expect(visit.page.get_by_label("Seed", exact=True)).to_have_value("123")
    await expect(visit.page.get_by_label("Negative prompt")).to_have_value("fog")
    await expect(visit.prompt).to_be_focused()
    await visit.press("Control+Enter")
    await expect(visit.tiles).to_have_count(2)
    assert inference.orders[0] == inference.orders[1]
