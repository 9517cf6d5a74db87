"""`/docs` in a real browser: no request to another host, no violation of its policy."""

import json
import os

import pytest

from tests.cluster import embedded
from tests.inference_double import inference_double
from tests.servers import chromium

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]


@pytest.fixture
def chromium_path() -> str:
    path = chromium.find()
    if path is None:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing("no Chromium: install it, or set TEST_CHROMIUM")
    return path


@pytest.mark.long
@pytest.mark.browser
async def test_the_docs_page_makes_no_outside_request(tmp_path, chromium_path):
    """The page shows the document without a warning; a sample can be read, and an operation be tried."""
    from playwright.async_api import async_playwright

    async with (
        inference_double() as inference,
        embedded(tmp_path, INFERENCE_SERVICE_URL=inference.url) as cluster,
        async_playwright() as playwright,
    ):
        browser = await playwright.chromium.launch(executable_path=chromium_path, args=FLAGS)
        page = await browser.new_page()
        asked, said = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append((message.type, message.text)))
        page.on("pageerror", lambda error: said.append(("error", str(error))))

        await page.goto(f"{cluster.url}/docs")
        await page.get_by_text("/v1/images/generations").first.wait_for()
        # the document is shown without a warning, in groups, with a body that can be sent as it stands
        shown = await page.locator("#page").inner_text()
        await page.get_by_text("/v1/images/generations").first.click()
        sample = await page.locator("textarea.body-param__text").first.input_value()
        await page.get_by_text("/v1/images/generations").first.click()
        await page.get_by_text("/api/images/history/").first.click()
        await page.get_by_role("button", name="Execute").first.click()
        await page.locator(".live-responses-table").first.wait_for()
        answer = await page.locator(".live-responses-table").first.inner_text()
        await browser.close()

    assert '"images"' in answer, "an operation can be tried on the page"
    assert "dialect" not in shown.lower()
    assert all(group in shown for group in ("Generate", "Images", "OpenAI", "Server"))
    assert json.loads(sample)["prompt"] == "a lighthouse at dusk, stormy sea"
    assert [url for url in asked if not url.startswith((cluster.url, "data:"))] == []
    assert [line for line in said if line[0] == "error"] == []
