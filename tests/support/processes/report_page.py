"""The report's page as people see it, in a real browser: what must hold of each one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from tests.support.facts.contrast import AA, contrast, luminance
from tests.support.processes.chromium import opened, width_of

CHART = "answers a second, in time and late"


def shown(browser: Browser, file: Path, **options: Any) -> tuple[Page, list[str]]:
    """The page of a file, and the list of what it complains of, or asks for beside itself."""
    page, complaints = opened(browser, **options)
    page.on("request", lambda asked: complaints.append(asked.url))  # but for the page itself
    page.goto(file.as_uri())
    complaints.remove(file.as_uri())
    return page, complaints


def check_fits(page: Page, complaints: list[str], width: int) -> None:
    """It is no wider than its window, also with all details open, and complains of nothing."""
    page.locator("summary").all()[5].click()
    page.locator("details").evaluate_all("all => all.forEach(d => d.open = true)")
    assert width_of(page) <= width
    assert complaints == []


def check_marks(page: Page) -> int:
    """The marks of its first chart stand within it, each to be seen; returns their number."""
    chart = page.get_by_role("img", name=CHART)
    frame = chart.bounding_box()
    assert frame is not None
    marks = [m.bounding_box() for m in chart.locator("rect").all()]
    for mark in marks:
        assert mark is not None
        assert frame["x"] <= mark["x"]
        assert mark["x"] + mark["width"] <= frame["x"] + frame["width"] + 1
        assert mark["height"] > 0
    return len(marks)


def check_read(page: Page, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: a contrast of 4.5 to 1 at least, of plain and of soft text.

    On a ground that is dark where the scheme is.
    """
    look = "e => [getComputedStyle(e).color, getComputedStyle(document.body).backgroundColor]"
    for name in ("h1", "p.soft", "figcaption", "summary", "ol.steps em"):
        ink, ground = page.locator(name).first.evaluate(look)
        assert contrast(ink, ground) >= AA, (name, ink, ground)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (luminance(ground) < 0.5) == (scheme == "dark")
