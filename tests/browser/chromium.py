"""Headless Chromium: the one that is installed, driven by Playwright.

Main path: with launched() as browser, page(browser, home) as (page, watch): page.goto(...).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MACOS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
OPTIONS = (
    "--no-sandbox",  # root in a container has no other way
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDTH, HEIGHT = 1280, 1400


def find() -> str | None:
    """Return the path of an installed browser, None where there is none."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    return next((path for path in MACOS if Path(path).exists()), None)


def is_required() -> bool:
    """Whether a missing browser is a failure, as in CI, and not a reason to skip."""
    return os.environ.get("COURSE_REQUIRE_BROWSER") == "1"


@dataclass(slots=True)
class Watch:
    """What went wrong in a page while nobody looked."""

    home: str
    """Addresses that start with this are ours."""
    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def problems(self) -> list[str]:
        """Return script errors, console errors and requests that left the machine."""
        return [*self.errors, *(f"request to {url}" for url in self.outside)]

    def follow(self, page: Page) -> None:
        """Listen to a page from now on."""
        page.on("pageerror", lambda error: self.errors.append(f"page error: {error}"[:500]))
        page.on("console", lambda said: self._console(said.type, said.text))
        page.on("request", lambda request: self._request(request.url))
        page.on("websocket", lambda socket: self._request(socket.url.replace("ws:", "http:", 1)))

    def _console(self, kind: str, text: str) -> None:
        if kind == "error":
            self.errors.append(f"console: {text}"[:500])

    def _request(self, url: str) -> None:
        if not url.startswith((self.home, "data:", "blob:")):
            self.outside.append(url[:200])


@contextlib.contextmanager
def launched() -> Iterator[Browser]:
    """Start the browser, and end it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(), args=list(OPTIONS))
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def page(browser: Browser, home: str) -> Iterator[tuple[Page, Watch]]:
    """Open an empty page, in a context of its own, that belongs to the server at `home`."""
    watch = Watch(home)
    opened = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    watch.follow(opened)
    try:
        yield opened, watch
    finally:
        opened.close()
