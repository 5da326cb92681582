"""Progress is reported once a second and at its end, with its rate."""

from __future__ import annotations

from collections.abc import Iterable

from everlode.telemetry.entries import Entry
from everlode.telemetry.pace import Pace


def reported(total: int, steps: Iterable[tuple[float, int]]) -> list[str]:
    """`steps`: seconds that pass, and how many more are done then."""
    now, found = [100.0], list[Entry]()
    pace = Pace(found.append, "restore tasks", total, clock=lambda: now[0])
    for passed, count in steps:
        now[0] += passed
        pace.more(count)
    return [entry.text for entry in found]


def test_progress_is_reported_once_a_second_and_at_the_end() -> None:
    assert reported(40, [(0.4, 10)] * 4) == [
        "restore tasks: 30 of 40 records, 25/s",
        "restore tasks: 40 of 40 records, 25/s",
    ]


def test_progress_of_unknown_length_has_no_end() -> None:
    assert reported(0, [(0.1, 5), (1.9, 5), (0.1, 5)]) == ["restore tasks: 10 records, 5/s"]
