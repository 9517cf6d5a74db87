"""The Chromium or Chrome of the browser tests: its path, its flags."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright, expect

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--in-process-gpu",
    "--renderer-process-limit=1",
    "--disable-site-isolation-trials",
    "--enable-features=NetworkServiceInProcess2",
]
PATIENCE_MS = 30_000  # of one expectation, on a machine with much else to do
# The shell has the same engine without the windows around it: the tests of the page take 90 s of a core, not 230 s.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PLAYWRIGHTS = ("chromium_headless_shell-*/*/*headless*shell", "chromium-*/chrome-linux*/chrome")


def find() -> str | None:
    """The path of a browser: `TEST_CHROMIUM`, else one on the PATH, else the one that playwright installed."""
    if given := os.environ.get("TEST_CHROMIUM"):
        return given
    return next(filter(None, map(shutil.which, NAMES)), None) or _installed_by_playwright()


def _installed_by_playwright() -> str | None:
    folder = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH", Path.home() / ".cache/ms-playwright"))
    return next((str(path) for pattern in PLAYWRIGHTS for path in sorted(folder.glob(pattern))), None)


@asynccontextmanager
async def launched(*flags: str) -> AsyncIterator[Browser]:
    """A running browser. Without one the test is skipped, or fails in CI."""
    path = find()
    if path is None:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing("no Chromium: install it, or set TEST_CHROMIUM")
    expect.set_options(timeout=PATIENCE_MS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=[*FLAGS, *flags])
        yield browser
        await browser.close()
