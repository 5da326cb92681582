"""The report as people see it: a real browser, narrow and wide, light and dark."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from everlode.demo.page import html
from tests.support.facts.report import GOOD
from tests.support.processes.chromium import chromium
from tests.support.processes.report_page import check_fits, check_marks, check_read, shown


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
    report["timeline"][0]["text"] += " of github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c"
    return report


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


def written(folder: Path) -> Path:
    file = folder / "report.html"
    file.write_text(html(busy()))
    return file


@pytest.mark.parametrize("width", [320, 768, 1440])
def test_page_fits_its_window_and_nothing_is_complained_of(
    browser: Browser, tmp_path: Path, width: int
) -> None:
    page, complaints = shown(browser, written(tmp_path), viewport={"width": width, "height": 800})
    check_fits(page, complaints, width)
    page.close()


def test_details_are_folded_away_until_they_are_asked_for(browser: Browser, tmp_path: Path) -> None:
    page, _ = shown(browser, written(tmp_path))
    row = page.get_by_role("cell", name="20261128T165437123")
    assert not row.is_visible()
    page.get_by_text("Backup", exact=True).click()
    assert row.is_visible()
    page.close()


def test_marks_stand_where_they_are_seen(browser: Browser, tmp_path: Path) -> None:
    page, _ = shown(browser, written(tmp_path), viewport={"width": 1100, "height": 800})
    assert check_marks(page) == 180 + 1 + 2  # a bar a second, one late part, two faults
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_its_ground(browser: Browser, tmp_path: Path, scheme: str) -> None:
    page, _ = shown(browser, written(tmp_path), color_scheme=scheme)
    check_read(page, scheme)
    page.close()
