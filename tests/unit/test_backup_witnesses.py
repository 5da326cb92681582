"""What a backup's logs, positions and fences are compared with, whatever they have lost."""

from __future__ import annotations

import pytest

from everlode.backup.facts import fences_at
from everlode.backup.manifest import CutPosition, Manifest
from everlode.backup.standing import Applied, Fence, Opening, Standing
from everlode.backup.witnesses import (
    Short,
    as_logged,
    fences_known,
    is_cut_off,
    may_be_empty,
    require_positions,
    short_logs,
    with_fences,
)
from everlode.errors import IntegrityError
from everlode.events.base import ScopeEpoch
from everlode.events.snapshots import SnapshotMark
from everlode.events.stamp import stamp_at
from everlode.topics.place import End, TopicPartition
from tests.support.world.projecting import opened
from tests.unit.test_backup_cut_folds import FENCE, at, facts_of
from tests.unit.test_backup_manifest import manifest

TASKS = "eu.1.tasks"
AT: TopicPartition = (TASKS, 0)


def applied(seq: int, stamp: int = 0) -> Applied:
    return Applied(*AT, seq, stamp or seq * 10, seq * 2)


def mark(seq: int, stamp: int, *epochs: int) -> SnapshotMark:
    opened = tuple(ScopeEpoch(scope=FENCE[1], epoch=epoch) for epoch in epochs)
    return SnapshotMark(seq, 0, stamp, 1, 0, opened, ())


def parent(seq: int, **changes: object) -> Manifest:
    at = CutPosition(
        topic=TASKS, partition=0, seq=seq, stamp=seq * 10, next_offset=0, status="live"
    )
    return manifest(positions=(at,), **changes)


@pytest.mark.parametrize("end", [End(9, 90), End(12, 120)])
def test_log_that_reaches_what_is_known_is_not_short(end: End) -> None:
    assert short_logs({AT: applied(9)}, parent(8), {}, {AT: end}) == ()
    assert not is_cut_off(applied(9), end)


@pytest.mark.parametrize("end", [End(), End(5, 50), End(9, 89), End(8, 95)])
def test_log_that_ends_before_what_was_applied_is_named(end: End) -> None:
    """By its count or by its stamps: one that was made again counts anew."""
    assert short_logs({AT: applied(9)}, None, {}, {AT: end}) == (Short(*AT, end.seq, 9),)


def test_log_that_ends_before_the_parents_cut_is_named_though_the_projector_knows_no_better() -> (
    None
):
    assert short_logs({AT: applied(5)}, parent(9), {}, {AT: End(5, 50)}) == (Short(*AT, 5, 9),)
    marks = {AT: mark(9, 90)}
    assert short_logs({AT: applied(5)}, None, marks, {AT: End(5, 50)}) == (Short(*AT, 5, 9),)


@pytest.mark.parametrize("end", [End(9, 90), End(10, 125)])
def test_mark_says_nothing_of_a_partitions_stamps(end: End) -> None:
    """It is taken with facts of other partitions, and their stamps are its writer's last ones."""
    marks = {AT: mark(9, 130)}
    assert short_logs({AT: applied(9)}, None, marks, {AT: end}) == ()


def test_log_that_retention_has_emptied_keeps_its_offsets() -> None:
    old = applied(9, stamp_at(1000))
    assert may_be_empty(old, 18, 1001)
    assert not may_be_empty(old, 17, 1001), "it was longer"
    assert not may_be_empty(old, 18, 1000), "its last record is kept still"


def test_position_is_what_the_log_counts_where_both_are_of_one_fact() -> None:
    assert as_logged(applied(14, 90), End(9, 90)).seq == 9
    for end in (None, End(20, 200), End(5, 50)):
        assert as_logged(applied(14, 90), end).seq == 14


@pytest.mark.parametrize("now", [{}, {AT: applied(7)}])
def test_position_before_that_of_the_parent_stops_the_backup(
    now: dict[TopicPartition, Applied],
) -> None:
    with pytest.raises(IntegrityError, match=r"eu\.1\.tasks/0 is .*knew it at seq 8") as caught:
        require_positions(now, parent(8), 1)
    assert caught.value.code == "position_back"
    require_positions(now, parent(8), 2)  # another generation: what is lost is lost by a word
    require_positions(now, None, 1)
    require_positions({AT: applied(8)}, parent(8), 1)


def fences(*openings: Opening) -> dict[int, dict[Fence, tuple[Opening, ...]]]:
    return {0: {FENCE: openings}} if openings else {}


def older(*epochs: int, cut_stamp: int = 3) -> Manifest:
    opened = tuple((FENCE[0], 0, FENCE[1], epoch) for epoch in epochs)
    return manifest(opened=opened, cut_stamp=cut_stamp)


@pytest.mark.parametrize("by", ["the parent", "a mark"])
@pytest.mark.parametrize(
    ("there", "lost"),
    [((), 1), ((Opening(1, 4),), 1), ((Opening(2, 4),), 0), ((Opening(3, 4),), 0)],
)
def test_fence_that_others_know_is_in_force(there: tuple[Opening, ...], lost: int, by: str) -> None:
    before = older(2) if by == "the parent" else None
    marks = {} if before else {(FENCE[0], 0): mark(3, 3, 2)}
    found, gone = with_fences(fences(*there), fences_known(before, marks, 5 << 16, {}))
    assert len(gone) == lost
    stood = Standing(0, {FENCE[0]: Applied(FENCE[0], 0, 9, 9 << 16)}, found[0], (), frozenset())
    wanted = max(2, *(o.epoch for o in there)) if there else 2
    assert fences_at(stood, facts_of(9, [], stood)) == {FENCE: wanted}


def test_fence_that_was_known_after_the_cut_only_is_not_asked() -> None:
    marks = {(FENCE[0], 0): mark(3, 6 << 16, 2)}
    for reached in ({}, {(FENCE[0], 0): 2}):
        assert list(fences_known(older(2, cut_stamp=6 << 16), marks, 5 << 16, reached)) == []
    assert with_fences(fences(), ()) == ({}, set())


@pytest.mark.parametrize(("opened_at", "wanted"), [(None, {FENCE: 2}), (8, {})])
def test_fence_of_a_mark_behind_the_cut_stands_unless_its_opening_is_met_there(
    opened_at: int | None, wanted: dict[Fence, int]
) -> None:
    """What the projector has applied up to the mark is read: an opening behind the cut is met."""
    marks = {(FENCE[0], 0): mark(9, 9 << 16, 2)}
    known = fences_known(None, marks, 5 << 16, {(FENCE[0], 0): 9})
    found, _ = with_fences(fences(), known)
    stood = Standing(0, {FENCE[0]: Applied(FENCE[0], 0, 9, 9 << 16)}, found[0], (), frozenset())
    facts = [] if opened_at is None else [at("tasks", opened("tasks", opened_at, 2))]
    assert fences_at(stood, facts_of(5, facts, stood)) == wanted


def test_fence_that_the_log_has_lost_stands_where_it_was_noted() -> None:
    stood = Standing(
        0, {FENCE[0]: Applied(FENCE[0], 0, 9, 9 << 16)}, {FENCE: (Opening(2, 8),)}, (),
        frozenset(), frozenset({FENCE[0]}),
    )  # fmt: skip
    assert fences_at(stood, facts_of(4, [], stood)) == {FENCE: 2}
