"""Which regions do not hear which, as operators are shown it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from everlode.events.base import Envelope, Fact
from everlode.events.control import RegionSuspected
from everlode.events.health import LinkStale
from everlode.views.links import stale_links, standing
from everlode.views.scopes import suspicion
from tests.unit.test_control_sites import Log

AT = datetime(2026, 1, 1, tzinfo=UTC)


def verdict(source: str, second: int, *, over: bool, sites_heard: int = 2) -> Fact:
    envelope = Envelope(
        event_id="e", aggregate_id=source, version=0, origin="eu.1", scope="", epoch=0, seq=1,
        stamp=1, occurred_at=AT + timedelta(seconds=second), correlation_id="c",
    )  # fmt: skip
    silence_ms = 0 if over else 5_000
    data = LinkStale(silence_ms=silence_ms, heard=sites_heard, sites=3, over=over, evidence=())
    return Fact(envelope, data)


def test_links_are_stale_by_the_last_word_on_each() -> None:
    said = [
        verdict("us", 1, over=False),
        verdict("ap", 2, over=False, sites_heard=1),
        verdict("us", 3, over=True),
    ]
    (link,) = stale_links("eu", said)
    assert (link.source, link.reader, link.silent_s, link.blind) == ("ap", "eu", 5.0, True)
    assert link.since == "2026-01-01T00:00:02+00:00"


def test_region_stands_as_the_control_log_says() -> None:
    log = Log()
    assert standing(log.state, "us") is None
    log.suspect("eu", "us")
    assert standing(log.state, "us") == "suspected: not heard by eu"
    log.suspect("ap", "us")
    assert standing(log.state, "us") == "lost: not heard by ap, eu"


def test_history_says_of_each_word_whether_it_counts_and_made_a_loss() -> None:
    log = Log()
    rows = []
    for observer, epoch in (("eu", 1), ("ap", 0), ("ap", 1)):
        at = log.suspect(observer, "us", epoch=epoch)
        said = RegionSuspected(
            region="us", observer=observer, silence_ms=1, over=False, based_on=at, evidence=()
        )
        rows.append(suspicion(at, verdict("us", 1, over=False), said, log.state))
    assert [(row["counts"], row["lost"]) for row in rows] == [
        (True, False), (False, False), (True, True),
    ]  # fmt: skip
