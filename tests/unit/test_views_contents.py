"""What `stack doctor` finds in what the stores of a region hold: by what others know of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from everlode.backup.manifest import CutPosition, Manifest, TopicEntry
from everlode.events.base import ScopeEpoch
from everlode.events.snapshots import SnapshotMark
from everlode.events.stamp import stamp_at
from everlode.topics.place import End, TopicPartition
from everlode.views.contents import Known, Stores, compare
from tests.unit.test_backup_manifest import manifest

OWN: TopicPartition = ("eu.1.tasks", 0)
OTHER: TopicPartition = ("us.1.tasks", 0)
SCOPE = "task-manager/eu"
NOW, KEPT = 1_700_000_000_000, 1000


def at(seq: int) -> End:
    return End(seq, stamp_at(NOW) + seq)


def mark(seq: int, *epochs: int) -> SnapshotMark:
    end = at(seq)
    opened = tuple(ScopeEpoch(scope=SCOPE, epoch=epoch) for epoch in epochs)
    return SnapshotMark(seq, 0, end.stamp, 1, 0, opened, ())


def cut(seq: int, **changes: object) -> Manifest:
    position = CutPosition(
        topic=OWN[0], partition=0, seq=seq, stamp=at(seq).stamp, next_offset=0, status="live"
    )
    return manifest(
        **{"positions": (position,), "opened": ((*OWN, SCOPE, 2),), "generation": 2, **changes}
    )


WHOLE = Stores(
    "eu", 2, True,
    positions={OWN: at(9), OTHER: at(5)},
    fences={(*OWN, SCOPE): 2},
    openings={(*OWN, SCOPE, 2): 3},
    marks={OWN: mark(8, 2)},
    ends={OWN: at(9), OTHER: at(5)},
    ids={"eu.1.tasks": "id"},
)  # fmt: skip
US = Stores("us", 1, True, positions={OWN: at(7)}, ends={OWN: at(7), OTHER: at(9)},
          openings={(*OWN, SCOPE, 2): 3})  # fmt: skip
KNOWN = Known(cut(6), 2, KEPT, NOW + 1)


def kinds(
    held: Stores = WHOLE, *, us: Stores = US, ends: dict[TopicPartition, End] | None = None,
    known: Known = KNOWN,
) -> list[str]:  # fmt: skip
    return [one.kind for one in compare(held, ends or dict(held.ends), [us], known)]


def test_region_whose_stores_hold_what_all_know_has_no_finding() -> None:
    assert kinds() == []
    assert kinds(known=KNOWN._replace(cut=None, switched=0)) == []


@pytest.mark.parametrize("by", ["position", "cut", "mark", "copy"])
def test_log_that_ends_before_what_any_witness_knows_is_named(by: str) -> None:
    held, us, known = replace(WHOLE, positions={OWN: at(6), OTHER: at(5)}), US, KNOWN
    assert kinds(held, ends={OWN: at(8), OTHER: at(5)}) == []
    match by:
        case "position":
            held = WHOLE
        case "cut":
            known = KNOWN._replace(cut=cut(9, generation=1))
        case "mark":
            held = replace(held, marks={OWN: mark(9)})
        case "copy":
            us = replace(US, ends={OWN: at(9)})
    assert kinds(held, us=us, ends={OWN: at(8), OTHER: at(5)}, known=known) == ["log_short"]


def test_mark_is_taken_with_what_its_writer_decided_for_other_partitions() -> None:
    """So its stamp may be above that of the last fact here."""
    later = mark(9)._replace(stamp=at(20).stamp)
    assert kinds(replace(WHOLE, marks={OWN: later})) == []
    behind = replace(WHOLE, positions={OWN: at(12), OTHER: at(5)}, marks={OWN: later})
    assert kinds(behind, ends={OWN: End(12, at(9).stamp), OTHER: at(5)}) == ["log_short"]


def test_copy_that_is_on_its_way_is_not_short_and_one_that_was_read_from_is() -> None:
    assert kinds(ends={OWN: at(9), OTHER: at(5)}) == []
    assert kinds(ends={OWN: at(9), OTHER: at(4)}) == ["log_short"]


def test_log_without_records_is_short_unless_they_were_older_than_retention() -> None:
    empty = {OWN: at(9), OTHER: End()}
    assert kinds(ends=empty) == ["log_short"]
    assert kinds(ends=empty, known=KNOWN._replace(now_ms=NOW + KEPT + 10)) == []


def test_topic_with_another_id_than_the_cut_noted_is_named() -> None:
    noted = TopicEntry(name="eu.1.tasks", topic_id="other", partitions=1, configs={})
    assert kinds(known=KNOWN._replace(cut=cut(6, topics=(noted,)))) == ["topic_made_again"]
    same = noted.model_copy(update={"topic_id": "id"})
    assert kinds(known=KNOWN._replace(cut=cut(6, topics=(same,)))) == []


def test_generation_that_is_older_than_what_was_decided_or_cut_is_named() -> None:
    back = replace(WHOLE, generation=1)
    assert kinds(back) == ["generation_back"]
    assert kinds(back, known=KNOWN._replace(switched=0)) == ["generation_back"]
    assert kinds(back, known=KNOWN._replace(cut=None, switched=1)) == []
    lost = Stores("eu", 9, False)
    assert kinds(lost, known=KNOWN._replace(cut=None)) == ["generation_lost"]


def test_database_that_nobody_has_used_yet_has_no_finding() -> None:
    new = Stores("eu", 1, False, ends={OWN: at(9)})
    assert kinds(new, known=Known(None, 0, KEPT, NOW)) == []


def test_position_before_its_rows_or_the_cut_is_named_once() -> None:
    assert kinds(replace(WHOLE, rows_ahead={OWN: 9})) == ["position_back"]
    back = replace(WHOLE, positions={OWN: at(5), OTHER: at(5)})
    assert kinds(back) == ["position_back"]
    assert kinds(replace(back, rows_ahead={OWN: 9})) == ["position_back"]


def test_topic_with_records_and_without_a_position_is_named() -> None:
    held = replace(WHOLE, positions={OWN: at(9)})
    assert kinds(held) == ["position_missing"]
    assert kinds(replace(held, ends={OWN: at(9), OTHER: End()})) == []


@pytest.mark.parametrize("by", ["cut", "mark", "another region"])
def test_fence_that_any_witness_knows_and_the_database_not_is_named(by: str) -> None:
    held = replace(WHOLE, fences={}, marks={})
    none = cut(6, opened=())
    known, us = KNOWN._replace(cut=none), replace(US, openings={})
    assert kinds(held, us=us, known=known) == []
    match by:
        case "cut":
            known = KNOWN
        case "mark":
            held = replace(held, marks={OWN: mark(8, 2)})
        case "another region":
            us = US
    assert kinds(held, us=us, known=known) == ["fence_lost"]


def test_fence_behind_the_position_is_still_to_come() -> None:
    us = replace(US, openings={(*OWN, SCOPE, 3): 10})
    assert kinds(us=us) == []
    assert kinds(replace(WHOLE, marks={OWN: mark(9, 3)}), us=us) == ["fence_lost"]
