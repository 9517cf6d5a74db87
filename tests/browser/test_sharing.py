"""Share links: made in the viewer, visited without an account."""

import pytest
from playwright.async_api import expect

from tests.browser.test_access import AXE, RULES, findings

KEY = "a-signing-secret-of-the-tests-0123456789"


@pytest.mark.long
@pytest.mark.parametrize("settings", [{"SHARE_LINKS": "true", "MEDIA_SIGNING_KEYS": KEY}])
async def test_a_picture_is_shared_and_the_link_revoked(api, new_visit, new_profile):
    """Two links, with the prompt and without; a visitor without script opens both; one is revoked.

    Axe finds nothing in the viewer, on the page of a link, or on that of a link that has ended.
    """
    await api.final((await api.order(prompt="a shared lighthouse"))["id"])
    visit = await new_visit(reduced_motion="reduce")
    await visit.tile("a shared lighthouse").click()
    await visit.viewer.get_by_role("button", name="Share", exact=True).click()
    links = visit.viewer.get_by_role("list", name="Links to this picture")
    create = visit.viewer.get_by_role("button", name="Create link")
    await expect(create).to_be_enabled()
    await visit.viewer.get_by_label("The link works for").select_option("1 hour")
    await create.click()
    await expect(links).to_contain_text("without the prompt")
    await visit.viewer.get_by_label("Show the prompt").check()
    await create.click()
    await expect(links.get_by_role("listitem")).to_have_count(2)
    await links.get_by_role("button", name="Copy the link").last.click()
    await expect(visit.notices).to_contain_text("Share link copied")
    assert await findings(visit) == []
    urls = [await box.input_value() for box in await links.get_by_role("textbox").all()]

    page = await (await new_profile(java_script_enabled=False, color_scheme="light")).new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    await page.goto(urls[1])
    await expect(page).to_have_title("a shared lighthouse")
    await expect(page.locator("figcaption")).to_have_text("a shared lighthouse")
    await page.goto(urls[0])
    await expect(page).to_have_title("Shared picture")
    await expect(page.get_by_role("img", name="A generated picture")).to_have_js_property("naturalWidth", 64)
    assert "shared lighthouse" not in await page.content()
    assert await page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor") == "rgb(245, 243, 240)"
    async with page.expect_download() as started:
        await page.get_by_role("link", name="Download").click()
    assert (await started.value).suggested_filename == "picture.png"
    assert complaints == []

    await links.get_by_role("button", name="Revoke the link").first.click()
    await expect(links.get_by_role("listitem")).to_have_count(1)
    await page.goto(urls[0])
    await expect(page.get_by_role("heading")).to_have_text("This link was withdrawn")

    for look in ("dark", "light"):
        page = await (await new_profile(color_scheme=look, bypass_csp=True)).new_page()
        for url in urls:
            await page.goto(url)
            assert await axe_findings(page) == []


async def axe_findings(page) -> list[str]:
    """What axe-core finds, of any severity."""
    await page.evaluate(AXE)
    report = await page.evaluate("rules => axe.run(document, rules)", RULES)
    return [f"{found['help']}: {[node['html'] for node in found['nodes']]}" for found in report["violations"]]


async def test_without_the_setting_there_is_no_share_button(api, visit):
    await api.order(prompt="a picture of one owner")
    await visit.tile("a picture of one owner").click()

    await expect(visit.viewer.get_by_role("button", name="Copy link")).to_be_visible()
    await expect(visit.viewer.get_by_role("button", name="Share", exact=True)).to_have_count(0)
