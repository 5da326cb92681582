"""A real headless browser for tests of pages, and what it complains of."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
QUIET = ["--no-sandbox", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--disable-quic"]  # fmt: skip


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's own Chromium, for the length of the block."""
    assert CHROMIUM is not None, "no Chromium found: apt-get install chromium"
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


def opened(browser: Browser, **options: Any) -> tuple[Page, list[str]]:
    """A new page, and the list that gets what its console and its scripts complain of."""
    page = browser.new_page(**options)
    complaints: list[str] = []
    page.on("console", lambda line: complaints.append(line.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return page, complaints


def shot(page: Page, name: str) -> None:
    """A picture of what is in the window, for the docs: where the variable SHOTS names a folder."""
    folder = os.environ.get("SHOTS")
    if folder is not None:
        page.screenshot(path=Path(folder) / f"{name}.png")


def width_of(page: Page) -> int:
    """Pixels that it is wide, with its style: words are found before that has come."""
    page.wait_for_load_state("load")
    return int(page.evaluate("document.documentElement.scrollWidth"))
