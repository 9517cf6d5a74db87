"""A visit of the page: what a person sees and does. Any error of the browser fails the test."""

from playwright.async_api import ConsoleMessage, Error, Locator, Page, Request, Response, expect


class Visit:
    """One tab."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._is_offline_expected = False
        self._are_refusals_expected = False
        page.on("console", self._console)
        page.on("pageerror", self._error)
        page.on("request", self._request)

    async def open(self) -> "Visit":
        """The page, with its websocket open and the history read."""
        await self.page.goto(self.url)
        return await self.loaded()

    async def loaded(self) -> "Visit":
        await expect(self.page.locator("#gallery")).to_have_attribute("aria-busy", "false")
        return self

    async def order(self, prompt: str, *, is_answered: bool = True) -> Locator:
        """Write the prompt, press Generate and wait for the answer of the api; returns the card of the request.

        Until the page has handled the answer, it may show the request and its queued image as two cards.
        """
        await self.prompt.fill(prompt)
        if is_answered:
            async with self.page.expect_response(is_generation):
                await self.generate.click()
            await expect(self.card(prompt)).to_have_count(1)
        else:
            await self.generate.click()
        return self.card(prompt)

    def expect_offline(self) -> None:
        """Allow network errors: the server is down in this test."""
        self._is_offline_expected = True

    def expect_refusals(self) -> None:
        """Allow answers with 401: the server requires a token in this test."""
        self._are_refusals_expected = True

    @property
    def prompt(self) -> Locator:
        return self.page.get_by_label("Prompt", exact=True)

    @property
    def generate(self) -> Locator:
        return self.page.get_by_role("button", name="Generate")

    @property
    def cards(self) -> Locator:
        return self.page.locator("#canvas article")

    @property
    def tiles(self) -> Locator:
        return self.page.locator("#gallery li button[data-id]")

    @property
    def viewer(self) -> Locator:
        return self.page.get_by_role("dialog")

    @property
    def offline(self) -> Locator:
        return self.page.get_by_text("Offline. This page may be out of date")

    @property
    def notices(self) -> Locator:
        return self.page.locator(".notices")

    def card(self, prompt: str) -> Locator:
        return self.cards.filter(has_text=prompt)

    def tile(self, prompt: str) -> Locator:
        return self.page.locator("#gallery").get_by_role("button", name=prompt)

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.page.keyboard.press(key)

    def _console(self, message: ConsoleMessage) -> None:
        is_network = "ERR_" in message.text or "WebSocket connection" in message.text
        is_refusal = "401" in message.text
        is_expected = (is_network and self._is_offline_expected) or (is_refusal and self._are_refusals_expected)
        if message.type in {"error", "warning"} and not is_expected:
            self.complaints.append(f"{message.type}: {message.text} ({message.location.get('url')})")

    def _error(self, error: Error) -> None:
        self.complaints.append(f"error: {error.message}\n{error.stack}")

    def _request(self, request: Request) -> None:
        self.requests.append(request.url)
        if not request.url.startswith(self.url):
            self.complaints.append(f"a request to elsewhere: {request.url}")


def is_generation(response: Response) -> bool:
    return response.request.method == "POST" and response.url.endswith("/v1/images/generations")


async def is_painted(picture: Locator) -> bool:
    """True if an <img> is decoded."""
    return bool(await picture.evaluate("image => image.decode().then(() => image.naturalWidth > 0)"))
