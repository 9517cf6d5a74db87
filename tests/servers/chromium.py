"""The path of a Chromium or Chrome for the browser tests."""

import os
import shutil
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> str | None:
    """The path of a browser: `TEST_CHROMIUM`, else one on the PATH, else the one that playwright installed."""
    if given := os.environ.get("TEST_CHROMIUM"):
        return given
    return next(filter(None, map(shutil.which, NAMES)), None) or _installed_by_playwright()


def _installed_by_playwright() -> str | None:
    folder = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH", Path.home() / ".cache/ms-playwright"))
    return next((str(path) for path in sorted(folder.glob("chromium-*/chrome-linux*/chrome"))), None)
