"""docs/shared.md names, for all that members share, a test that there is."""

from __future__ import annotations

import re

from tests.unit.test_docs import ROOT

LINES = [line for line in (ROOT / "docs/shared.md").read_text().splitlines() if line[:2] == "| "]


def test_every_line_has_what_it_does_what_it_costs_and_a_test_that_there_is() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"^def (test_\w+)", tests, re.M))
    assert len(LINES) > 20
    for line in LINES[1:]:
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        assert len(cells) == 5, line
        named = re.findall(r"`(test_\w+)`", cells[4])
        assert named, line
        assert set(named) <= there, set(named) - there
