"""A headless Chromium for the tests, driven by Playwright, where there is one.

It is the program that the environment variable HMDIFF_BROWSER names, or one of its usual names on
the PATH; the npm package @sparticuz/chromium unpacks one. Playwright's own would be downloaded.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome-headless-shell")
PATIENCE_MS = 180_000
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-zygote")


def program() -> str | None:
    """The browser's path, or None."""
    return os.environ.get("HMDIFF_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)


class Tab:
    """One page of a browser; `problems` are its uncaught errors and what its console complains of,
    `requests` the addresses that it asked for."""

    def __init__(self, page: Page):
        self.page, self.problems, self.requests = page, [], []
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda said: self.problems.extend([said.text] * (said.type == "error")))
        page.on("request", lambda asked: self.requests.append(asked.url))

    def open(self, page: Path, width: int = 1280, height: int = 900) -> None:
        """Load a file at a width in pixels, and wait for it."""
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.goto(page.resolve().as_uri())

    def run(self, code: str):
        """The JSON value of an expression, a promise's once it is there."""
        return self.page.evaluate(code)

    def key(self, key: str) -> None:
        """Press and release a key."""
        self.page.keyboard.press(key)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Move the pressed mouse between two points of the window."""
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move(*end)
        self.page.mouse.up()

    def picture(self) -> bytes:
        """The whole page as PNG."""
        return self.page.screenshot(full_page=True)


@contextmanager
def browser(path: str) -> Iterator[Tab]:
    """Start a browser, give its first tab, and end it."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield Tab(chromium.new_page())
        finally:
            chromium.close()
