"""The report as people see it: a real browser, narrow and wide, light and dark."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from everlode.demo.page import html
from tests.support.facts.contrast import AA, contrast, luminance
from tests.support.facts.report import GOOD
from tests.support.processes.chromium import chromium, opened, width_of


def busy() -> dict[str, Any]:
    """A report of three minutes, with a late second, a region that is gone, and long texts."""
    drawn, report = random.Random(1), copy.deepcopy(GOOD)
    seconds = {str(s): [200, 190 if s == 1060 else 200, drawn.randint(80, 9000)]
               for s in range(1000, 1180)}  # fmt: skip
    report["promises"]["P1_mining_does_not_stop"]["by_second"] = seconds
    report["windows"] = {"30 s after the SIGKILL": [1_060_000, 1_090_000],
                         "from the disaster to the recovery": [1_120_000, 1_150_000]}  # fmt: skip
    report["lag_s"] = {
        "eu": [[s, 1.0] for s in range(1000, 1180, 2) if not 1120 < s < 1140],
        "us": [[s, 1.5] for s in range(1000, 1180, 2)],
    }
    report["backup"]["backup_id"] = "20261128T165437123-0a1b2c" * 4
    return report


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


def show(
    browser: Browser, folder: Path, report: dict[str, Any], **options: Any
) -> tuple[Page, list[str]]:
    file = folder / "report.html"
    file.write_text(html(report))
    page, complaints = opened(browser, **options)
    page.on("request", lambda asked: complaints.append(asked.url))  # but for the page itself
    page.goto(file.as_uri())
    complaints.remove(file.as_uri())
    return page, complaints


@pytest.mark.parametrize("width", [320, 768, 1440])
def test_page_fits_its_window_and_nothing_is_complained_of(
    browser: Browser, tmp_path: Path, width: int
) -> None:
    page, complaints = show(browser, tmp_path, busy(), viewport={"width": width, "height": 800})
    page.locator("summary").all()[5].click()
    page.locator("details").evaluate_all("all => all.forEach(d => d.open = true)")
    assert width_of(page) <= width
    assert complaints == []
    page.close()


def test_details_are_folded_away_until_they_are_asked_for(browser: Browser, tmp_path: Path) -> None:
    page, _ = show(browser, tmp_path, busy())
    row = page.get_by_role("cell", name="20261128T165437123")
    assert not row.is_visible()
    page.get_by_text("Backup", exact=True).click()
    assert row.is_visible()
    page.close()


def test_marks_stand_where_they_are_seen(browser: Browser, tmp_path: Path) -> None:
    page, _ = show(browser, tmp_path, busy(), viewport={"width": 1100, "height": 800})
    chart = page.get_by_role("img", name="answers a second, in time and late")
    frame = chart.bounding_box()
    assert frame is not None
    marks = [m.bounding_box() for m in chart.locator("rect").all()]
    assert len(marks) == 180 + 1 + 2  # a bar a second, one late part, two faults
    for mark in marks:
        assert mark is not None
        assert frame["x"] <= mark["x"]
        assert mark["x"] + mark["width"] <= frame["x"] + frame["width"] + 1
        assert mark["height"] > 0
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_its_ground(browser: Browser, tmp_path: Path, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: a contrast of 4.5 to 1 at least, of plain and of soft text."""
    page, _ = show(browser, tmp_path, busy(), color_scheme=scheme)
    look = "e => [getComputedStyle(e).color, getComputedStyle(document.body).backgroundColor]"
    for name in ("h1", "p.soft", "figcaption", "summary", "ol.steps em"):
        ink, ground = page.locator(name).first.evaluate(look)
        assert contrast(ink, ground) >= AA, (name, ink, ground)
    dark = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")) < 0.5
    assert dark == (scheme == "dark")
    page.close()
