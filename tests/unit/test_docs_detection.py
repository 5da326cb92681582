"""docs/detection.md names every setting of a detector with its value, and every rule; each verdict
has a runbook, and each handler a chapter of docs/handlers.md."""

from __future__ import annotations

import re
from pathlib import Path

from everlode.detection import detector
from everlode.detection.replay import VERDICTS
from everlode.detection.tuning import DEFAULT
from everlode.events.services import SERVICES

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "detection.md").read_text()
HANDLERS = (DOCS / "handlers.md").read_text()


def test_page_has_the_settings_of_a_detector_in_their_order_and_no_others() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", PAGE, re.MULTILINE)
    assert rows == [(name, str(value)) for name, value in DEFAULT._asdict().items()]


def test_page_has_every_verdict_and_rule() -> None:
    rules = set(re.findall(r'"((?:[a-z]+-)+[a-z]+|phi|idle)"', Path(detector.__file__).read_text()))
    rules -= {"no-answer"}  # an answer to a probe
    assert len(rules) == 7
    assert [rule for rule in sorted(rules) if f"`{rule}`" not in PAGE] == []
    assert [v.__name__ for v in VERDICTS if f"`{v.__name__}`" not in PAGE] == []


def test_each_verdict_has_a_runbook_that_names_it() -> None:
    rows = re.findall(r"^\| `(\w+)` .*\[\w+\]\((runbooks/\w+\.md)\) \|$", PAGE, re.MULTILINE)
    assert {name for name, _ in rows} == {verdict.__name__ for verdict in VERDICTS}
    assert [row for row in rows if f"`{row[0]}`" not in alone((DOCS / row[1]).read_text())] == []


def alone(text: str) -> str:
    """Names of events marked as such, also where a command has them."""
    return re.sub(r"--type (\w+)", r"--type `\1`", text)


def test_each_handler_has_its_chapter_and_its_row() -> None:
    chapters = re.findall(r"^## A (.+) is lost$", HANDLERS, re.MULTILINE)
    assert chapters == [service.node.replace("-", " ") for service in SERVICES]
    ends = re.findall(r"^\| [\w ]+ \| (?!ends).+ \| `(\w+)` \|$", HANDLERS, re.MULTILINE)
    assert ends == [service.ended.__name__ for service in SERVICES]
