"""The status page: what an operator sees and does. Any error of the browser fails the test."""

from pathlib import Path

import pytest
from playwright.async_api import expect

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
