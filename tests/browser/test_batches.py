"""Several pictures of one request on the page: one card, one cancel, one download; what waits is a list."""

import io
import zipfile

import pytest
from playwright.async_api import expect

from tests.browser.inference_stub import InferenceStub
from tests.browser.test_access import PHONE, findings
from tests.browser.test_one_card import COUNT_CARDS, GENERATIONS, HeldAnswers, answered, most_cards
from tests.inference_double import status


async def choose(visit, number: int) -> None:
    numbers = visit.page.get_by_role("radiogroup", name="Pictures")
    await numbers.get_by_role("radio", name=str(number), exact=True).check()


@pytest.mark.long
async def test_a_batch_is_one_card_from_request_to_download(visit, inference):
    """Four are requested with a seed: two are painted at once; when all are done, they are downloaded and put away."""
    stubs = [InferenceStub() for _ in range(4)]
    inference.will(*stubs)
    await visit.page.get_by_label("Seed", exact=True).fill("4294967294")
    await choose(visit, 4)
    await expect(visit.generate).to_contain_text("Generate 4")

    card = await visit.order("four boats")

    await expect(card.locator(".frame")).to_have_count(4)
    await expect(card).to_have_accessible_name("Painting: four boats, 0 of 4 done")
    stubs[0].step(1, 4)
    await expect(card.get_by_role("progressbar", name="Painting 1 of 4")).to_have_attribute("aria-valuenow", "25")
    assert await findings(visit) == []
    stubs[0].finish()
    await expect(card).to_have_accessible_name("Painting: four boats, 1 of 4 done")
    for stub in stubs[1:]:
        stub.finish()
    await expect(card).to_have_accessible_name("Done: four boats, 4 of 4 done")
    await expect(visit.tiles).to_have_count(4)
    await expect(visit.cards).to_have_count(1)
    assert [order["seed"] for order in inference.orders] == [4294967294, 4294967295, 0, 1]

    async with visit.page.expect_download() as started:
        await card.get_by_role("button", name="Download all 4").click()
    with zipfile.ZipFile(io.BytesIO((await (await started.value).path()).read_bytes())) as file:
        assert len([name for name in file.namelist() if name.endswith(".png")]) == 4
    await visit.page.reload()
    await expect(card.locator(".picture img")).to_have_count(4)
    await card.get_by_role("button", name="Open: four boats, 2 of 4").click()
    await expect(visit.viewer).to_contain_text("4294967295")
    await visit.press("Escape")
    await card.get_by_role("button", name="Remove from canvas").click()
    await expect(visit.cards).to_have_count(0)


@pytest.mark.long
async def test_the_rest_of_a_batch_is_cancelled_and_begun_again(visit, inference):
    """One of four is done, one has failed and has a card of its own; the other two end with one notice."""
    stubs = [InferenceStub(), InferenceStub(), InferenceStub()]
    inference.will(stubs[0], status(400, "not this one"), *stubs[1:])
    await choose(visit, 4)

    await visit.order("four foxes")

    await expect(visit.page.get_by_text("not this one")).to_be_visible()
    stubs[0].finish()
    card = visit.page.get_by_role("article", name="four foxes, 1 of 3 done")
    await expect(card).to_be_visible()
    await card.get_by_role("button", name="Cancel the rest").click()
    await expect(visit.notices).to_contain_text("2 pictures cancelled")
    await expect(visit.notices.locator(".notice")).to_have_count(1)
    await expect(visit.page.get_by_role("article", name="Done: four foxes")).to_be_visible()
    seeds = [order["seed"] for order in inference.orders]

    await choose(visit, 1)
    await visit.notices.get_by_role("button", name="Start again").click()

    await expect(visit.page.get_by_role("article", name="four foxes, 2 of 2 done")).to_be_visible()
    assert sorted(order["seed"] for order in inference.orders[-2:]) == [seeds[0] + 2, seeds[0] + 3]


@pytest.mark.long
async def test_a_batch_is_one_card_when_events_come_first(visit, inference):
    stubs = [InferenceStub() for _ in range(2)]
    inference.will(*stubs)
    held = HeldAnswers()
    await visit.page.route(GENERATIONS, held)
    await visit.page.evaluate(COUNT_CARDS)
    await choose(visit, 2)

    card = await visit.order("two of them")

    await expect(card).to_have_accessible_name("Painting: two of them, 0 of 2 done")
    held.answers.set()
    await answered(visit)
    for stub in stubs:
        stub.finish()
    await expect(card).to_have_accessible_name("Done: two of them, 2 of 2 done")
    assert await most_cards(visit) == 1


@pytest.mark.long
@pytest.mark.parametrize("settings", [{"CONCURRENT_REQUESTS": "1", "WAITING_REQUESTS": "20", "REQUESTS_PER_HOUR": "0"}])
async def test_what_waits_is_a_list_on_any_screen(new_visit, inference, settings):
    """Eight requests: six are cards, two wait in the list, from which one is cancelled and the other comes forward."""
    visit = await new_visit(**PHONE)
    inference.will(stub := InferenceStub())
    for number in range(8):
        await visit.order(f"picture {number}")
        await expect(visit.page.get_by_text("Sending the request")).to_have_count(0)
        await expect(visit.generate).to_be_enabled()
    more = visit.page.get_by_role("button", name="2 more in the queue")
    await more.click()
    line = visit.page.get_by_role("group", name="Pictures that wait")

    await expect(line.get_by_role("listitem")).to_contain_text(["picture 6", "picture 7"])
    assert await findings(visit) == []
    assert await visit.page.evaluate("document.documentElement.scrollWidth") == 390
    await line.get_by_role("button", name="Cancel: picture 7").click()
    await expect(line.get_by_role("listitem")).to_have_count(1)
    stub.finish()

    await expect(line).to_have_count(0)
    await expect(visit.tile("picture 6")).to_be_visible()


@pytest.mark.long
@pytest.mark.parametrize("settings", [{"CONCURRENT_REQUESTS": "1", "WAITING_REQUESTS": "2", "REQUESTS_PER_HOUR": "0"}])
async def test_a_number_that_does_not_fit_is_not_sent(visit, inference, settings):
    await choose(visit, 4)

    await expect(visit.page.locator("#limits")).to_have_text("Room for 3 more pictures now. Choose fewer, or wait.")
    await expect(visit.generate).to_be_disabled()
    await choose(visit, 2)
    await expect(visit.generate).to_be_enabled()
    await visit.order("two at once")
    await expect(visit.tiles).to_have_count(2)
