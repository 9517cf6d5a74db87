"""One card for one request, in whatever order the answer and the events arrive."""

import asyncio

import pytest
from playwright.async_api import expect

from tests.browser.inference_stub import InferenceStub
from tests.inference_double import status

pytestmark = pytest.mark.border(rule="D7")

GENERATIONS = "**/v1/images/generations"
COUNT_CARDS = """
    window.mostCards = 0;
    const count = () => { mostCards = Math.max(mostCards, document.querySelectorAll("#canvas article").length); };
    new MutationObserver(count).observe(document.body, { childList: true, subtree: true });
"""


class HeldAnswers:
    """Holds requests for images and their answers back, each kind until the test releases it."""

    def __init__(self, *, are_requests_held: bool = False) -> None:
        self.requests = asyncio.Event()
        self.answers = asyncio.Event()
        if not are_requests_held:
            self.requests.set()

    async def __call__(self, route) -> None:
        await self.requests.wait()
        response = await route.fetch()
        await self.answers.wait()
        await route.fulfill(response=response)


async def most_cards(visit) -> int:
    """The largest number of cards that the page showed at once since `COUNT_CARDS` ran."""
    return await visit.page.evaluate("mostCards")


async def answered(visit, count: int = 1) -> None:
    """Until no request waits for its answer: the page then reads what is left of the limits."""
    await visit.page.wait_for_function(
        "count => performance.getEntriesByType('resource')"
        ".filter(({name, responseStatus}) => name.endsWith('generations') && responseStatus).length >= count",
        arg=count,
    )


@pytest.mark.long
async def test_an_event_before_the_answer_makes_no_second_card(visit, inference):
    stub = InferenceStub()
    inference.will(stub)
    held = HeldAnswers()
    await visit.page.route(GENERATIONS, held)
    await visit.page.evaluate(COUNT_CARDS)

    card = await visit.order("a picture with a slow answer")

    await expect(card).to_have_accessible_name("Painting: a picture with a slow answer")
    stub.step(1, 4)
    await expect(card).to_contain_text("step 1 of 4")
    held.answers.set()
    await answered(visit)
    stub.finish()
    await expect(card.locator("img")).to_be_visible()
    assert await most_cards(visit) == 1


@pytest.mark.long
async def test_an_image_that_ends_before_the_answer_is_one_card(visit, inference):
    """The whole painting overtakes the answer."""
    inference.will(stub := InferenceStub())
    held = HeldAnswers()
    await visit.page.route(GENERATIONS, held)
    await visit.page.evaluate(COUNT_CARDS)

    card = await visit.order("a picture that is quicker than its answer")
    await stub.begun.wait()
    stub.finish()
    await expect(visit.tile("a picture that is quicker than its answer")).to_be_visible()
    held.answers.set()
    await answered(visit)

    await expect(card.locator("img")).to_be_visible()
    await expect(visit.tiles).to_have_count(1)
    assert await most_cards(visit) == 1


@pytest.mark.long
async def test_a_slow_request_is_replaced_by_its_image(visit, inference):
    inference.will(stub := InferenceStub())
    held = HeldAnswers(are_requests_held=True)
    await visit.page.route(GENERATIONS, held)
    await visit.page.evaluate(COUNT_CARDS)

    card = await visit.order("a picture behind a slow proxy")
    await expect(card).to_have_accessible_name("Sending: a picture behind a slow proxy")
    held.requests.set()

    await expect(card).to_have_accessible_name("Painting: a picture behind a slow proxy")
    held.answers.set()
    stub.finish()
    await expect(visit.tile("a picture behind a slow proxy")).to_be_visible()
    assert await most_cards(visit) == 1


@pytest.mark.long
async def test_two_requests_with_the_same_settings_have_two_cards(visit, inference):
    stubs = [InferenceStub(), InferenceStub()]
    inference.will(*stubs)
    held = HeldAnswers(are_requests_held=True)
    await visit.page.route(GENERATIONS, held)
    await visit.page.evaluate(COUNT_CARDS)
    await visit.page.get_by_label("Seed", exact=True).fill("5")

    for count in (1, 2):
        await visit.order("twins")
        await expect(visit.cards).to_have_count(count)
    held.requests.set()

    await expect(visit.page.get_by_role("article", name="Painting: twins")).to_have_count(2)
    held.answers.set()
    await answered(visit, 2)
    for stub in stubs:
        stub.finish()
    await expect(visit.tiles).to_have_count(2)
    assert await most_cards(visit) == 2


@pytest.mark.long
async def test_images_of_other_clients_are_shown_meanwhile(visit, inference, api):
    inference.will(*(InferenceStub() for _ in range(2)))
    held = HeldAnswers(are_requests_held=True)
    await visit.page.route(GENERATIONS, held)

    await expect(await visit.order("my own picture")).to_be_visible()
    await api.order(prompt="a picture of another client")
    await api.order(prompt="my own picture")  # with another size and seed

    await expect(visit.card("a picture of another client")).to_be_visible()
    await expect(visit.card("my own picture")).to_have_count(2)
    held.requests.set()
    held.answers.set()
    await expect(visit.page.get_by_role("article", name="Sending")).to_have_count(0)
    await expect(visit.cards).to_have_count(3)


@pytest.mark.long
async def test_a_refused_request_leaves_the_image_of_another_client(visit, inference, api):
    """Both ask for the same. The page takes the other image for its own until its request is refused."""
    inference.will(InferenceStub())
    refuse = asyncio.Event()

    async def refused(route) -> None:
        await refuse.wait()
        await route.fulfill(status=400, json={"status": 400, "code": "invalid_request", "detail": "not like this"})

    visit.expect_refusals(400)
    await visit.page.route(GENERATIONS, refused)
    await visit.page.get_by_label("Seed", exact=True).fill("5")
    async with visit.page.expect_request(GENERATIONS) as sent:
        await visit.order("a popular picture")
    request = (await sent.value).post_data_json

    await api.post("/v1/images/generations", request, Prefer="respond-async")
    await expect(visit.card("a popular picture")).to_have_accessible_name("Painting: a popular picture")
    await expect(visit.cards).to_have_count(1)
    refuse.set()

    await expect(visit.page.get_by_text("not like this")).to_be_visible()
    await expect(visit.card("a popular picture")).to_have_count(1)


async def test_a_lost_answer_makes_no_second_card(visit, inference, api):
    inference.will(stub := InferenceStub())
    visit.expect_offline()

    async def lose(route) -> None:
        await route.fetch()
        await route.abort()

    await visit.page.route(GENERATIONS, lose, times=1)
    await visit.page.evaluate(COUNT_CARDS)

    card = await visit.order("a picture with a lost answer")

    await expect(card).to_have_accessible_name("Painting: a picture with a lost answer")
    await answered(visit)  # the repeated request
    stub.finish()
    await expect(visit.tile("a picture with a lost answer")).to_be_visible()
    assert await most_cards(visit) == 1
    assert (await api.get("/api/images/history/?status=all"))[1]["total"] == 1


@pytest.mark.long
async def test_an_image_that_failed_early_is_reported_once(visit, inference):
    """The repeated request is answered with a problem that holds the failed image."""
    inference.will(status(400, "the prompt is not allowed"))
    visit.expect_offline()
    visit.expect_refusals(422)

    async def lose(route) -> None:
        await route.fetch()
        await route.abort()

    await visit.page.route(GENERATIONS, lose, times=1)

    card = await visit.order("a picture that failed early")

    await expect(card).to_contain_text("the prompt is not allowed")
    await answered(visit)
    await expect(visit.cards).to_have_count(1)
    await expect(visit.page.get_by_text("The request failed")).to_have_count(0)


@pytest.mark.long
@pytest.mark.parametrize("deed", ["Cancel", "Remove from canvas"])
async def test_a_card_removed_before_the_answer_does_not_come_back(visit, inference, deed):
    stub = InferenceStub()
    inference.will(stub if deed == "Cancel" else status(400, "no"))
    held = HeldAnswers()
    await visit.page.route(GENERATIONS, held)

    card = await visit.order("a picture that is not wanted")
    if deed == "Cancel":
        await stub.begun.wait()
    await card.get_by_role("button", name=deed).click()
    await expect(card).to_have_count(0)
    held.answers.set()
    await answered(visit)

    # what the answer changes is drawn before the picture that is ordered after it
    await expect(await visit.order("a later picture")).to_be_visible()
    await expect(visit.card("a picture that is not wanted")).to_have_count(0)


@pytest.mark.long
async def test_a_reload_before_the_answer_shows_one_card(visit, inference):
    inference.will(stub := InferenceStub())
    held = HeldAnswers()
    await visit.page.route(GENERATIONS, held)
    card = await visit.order("a picture through a reload")
    await expect(card).to_have_accessible_name("Painting: a picture through a reload")
    await visit.page.unroute(GENERATIONS)

    await visit.page.reload()

    await expect(card).to_have_accessible_name("Painting: a picture through a reload")
    await expect(visit.cards).to_have_count(1)
    stub.finish()
    await expect(visit.tile("a picture through a reload")).to_be_visible()
    await expect(visit.tiles).to_have_count(1)


@pytest.mark.long
async def test_a_second_tab_shows_one_card_too(new_visit, inference):
    one, other = await new_visit(), await new_visit()
    inference.will(stub := InferenceStub())
    held = HeldAnswers()
    await one.page.route(GENERATIONS, held)
    await other.page.evaluate(COUNT_CARDS)

    await one.order("a picture in two tabs")

    for visit in (one, other):
        await expect(visit.card("a picture in two tabs")).to_have_accessible_name("Painting: a picture in two tabs")
    held.answers.set()
    stub.finish()
    for visit in (one, other):
        await expect(visit.tile("a picture in two tabs")).to_be_visible()
        await expect(visit.cards).to_have_count(1)
    assert await most_cards(other) == 1
