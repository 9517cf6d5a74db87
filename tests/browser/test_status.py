"""The status page: what an operator sees and does. Any error of the browser fails the test."""

import json
from functools import partial
from pathlib import Path

import pytest
from playwright.async_api import Route, expect

from scripts.status_screenshots import STATES
from tests.browser.test_signin import CLAIMS, SECRET, sign_in, token

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
IDENTITY = {
    "JWT_SECRET": SECRET,
    "JWT_ISSUER": CLAIMS["iss"],
    "JWT_AUDIENCE": CLAIMS["aud"],
    "MEDIA_SIGNING_KEYS": "a-key-of-a-test-of-32-characters-and-more",
    "OPERATORS": "ops",
}


async def open_status(visit):
    await visit.page.goto(visit.url + "status")
    await expect(visit.page.get_by_role("heading", name="Generators")).to_be_visible()
    return visit.page


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["dark", "light"])
async def test_the_status_is_live_and_accessible(new_visit, scheme):
    """Figures, generators and dead letters are shown on a phone, without a fault that axe finds."""
    visit = await new_visit(is_open=False, viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page = await open_status(visit)

    await expect(page.get_by_text("working").first).to_be_visible()
    await expect(page.get_by_role("rowheader", name="image.work.default")).to_be_visible()
    await page.get_by_role("button", name="Show the list").click()
    await expect(page.get_by_text("There are none.")).to_be_visible()
    await page.get_by_role("button", name="Compare files and records").click()
    await expect(page.get_by_label("Report")).to_contain_text('"dryRun": true')
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await page.evaluate(AXE)
    assert (await page.evaluate("axe.run()"))["violations"] == []
    async with page.expect_response("**/api/status/"):  # it reads again by itself
        pass


STATES_SAY = {  # the troubles that are shown, in their order; what the store holds is not known without it
    "well": [],
    "broker-down": ["bus is unavailable: rabbitmq:5672: connection refused"],
    "store-down": ["store is unavailable: mongodb:27017: timed out"],
    "circuits-open": ["Pool default: the back end {backend} is down."],
    "dead-letters": ["3 dead letters."],
    "no-generators": ["Pool default has no generator: images of 12 owners wait."],
    "queue-old": ["Queue image.work.default: the oldest command has waited for 21 min."],
    "figures-old": ["The figures are 32 min old: is a janitor running?"],
    "nothing-gathered": ["No janitor has gathered figures yet."],
}


@pytest.mark.long
async def test_each_state_says_what_is_wrong(new_visit):
    """The real status with what its trouble changes, as scripts/status_screenshots.py takes it. None is too wide."""
    visit = await new_visit(is_open=False, viewport={"width": 390, "height": 844})
    page = await open_status(visit)
    await expect(page.get_by_role("rowheader", name="image.work.default")).to_be_visible()
    async with page.expect_response("**/api/status/") as answer:
        status = await (await answer.value).json()
    said = {}
    for state in STATES_SAY:
        STATES[state](changed := json.loads(json.dumps(status)))
        await page.route("**/api/status/", partial(Route.fulfill, json=changed))
        await open_status(visit)
        said[state] = await page.locator(".troubles li").all_text_contents()
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), state

    backend = status["generators"][0]["backends"][0]["name"]
    assert said == {state: [text.format(backend=backend) for text in texts] for state, texts in STATES_SAY.items()}


@pytest.mark.long
@pytest.mark.parametrize("settings", [IDENTITY])
async def test_the_status_is_for_operators(new_visit, new_profile, settings):
    ada = await new_visit(await new_profile(), is_open=False)
    ada.expect_refusals(401, 403)
    await ada.page.goto(ada.url + "status")
    await sign_in(ada, token("ada"))
    await expect(ada.page.get_by_role("alert")).to_contain_text("OPERATORS lists them")

    await ada.page.get_by_role("button", name="Sign out").click()
    await sign_in(ada, token("ops"))

    await expect(ada.page.get_by_role("heading", name="Generators")).to_be_visible()
