"""docs/detection.md names every setting of a detector with its value, and every rule."""

from __future__ import annotations

import re
from pathlib import Path

from everlode.detection import detector
from everlode.detection.replay import VERDICTS
from everlode.detection.tuning import DEFAULT

PAGE = (Path(__file__).parents[2] / "docs" / "detection.md").read_text()


def test_page_has_the_settings_of_a_detector_in_their_order_and_no_others() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", PAGE, re.MULTILINE)
    assert rows == [(name, str(value)) for name, value in DEFAULT._asdict().items()]


def test_page_has_every_verdict_and_rule() -> None:
    rules = set(re.findall(r'"((?:[a-z]+-)+[a-z]+|phi|idle)"', Path(detector.__file__).read_text()))
    rules -= {"no-answer"}  # an answer to a probe
    assert len(rules) == 7
    assert [rule for rule in sorted(rules) if f"`{rule}`" not in PAGE] == []
    assert [v.__name__ for v in VERDICTS if f"`{v.__name__}`" not in PAGE] == []
