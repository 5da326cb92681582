"""How old a cut is, what it holds less than its parent, and what its operator is told of it."""

from __future__ import annotations

import pytest

from everlode.backup.age import age_of, concerns, fewer
from everlode.backup.container import DELETED, PARKED
from everlode.backup.manifest import Age, Compared, Manifest, ObjectEntry
from everlode.backup.standing import Applied
from everlode.events.stamp import stamp_at

NOW, HOUR = 1_700_000_000_000, 3_600_000


def applied(topic: str, behind_ms: int, seq: int = 5) -> Applied:
    return Applied(topic, 0, seq, stamp_at(NOW - behind_ms) if seq else 0)


def entry(component: str, partition: int, records: int) -> ObjectEntry:
    return ObjectEntry(
        key=f"{component}-{partition}", component=component, partition=partition, records=records,
        plain_sha256="", cipher_sha256="", plain_bytes=0, cipher_bytes=0, key_id="", wrapped_key="",
    )  # fmt: skip


def test_projector_that_is_dead_makes_cuts_that_are_behind_logs_and_clock() -> None:
    """Each backup of it is the same, and none is of now."""
    stood = [applied("eu.1.tasks", 72 * HOUR), applied("us.1.tasks", 72 * HOUR + 500)]
    stamp = min(a.stamp for a in stood)
    ends = {("eu.1.tasks", 0): NOW - 100, ("us.1.tasks", 0): NOW - 300}
    assert age_of(stamp, stood, ends, NOW) == Age(
        behind_logs_ms=72 * HOUR + 400, behind_clock_ms=72 * HOUR + 500
    )


def test_region_that_is_quiet_is_behind_the_clock_alone() -> None:
    stood = [applied("eu.1.tasks", HOUR)]
    ends = {("eu.1.tasks", 0): NOW - HOUR}
    assert age_of(stood[0].stamp, stood, ends, NOW) == Age(behind_logs_ms=0, behind_clock_ms=HOUR)


def test_partition_that_the_cut_does_not_wait_for_counts_from_where_it_stands() -> None:
    stood = [applied("eu.1.tasks", 1000), applied("us.1.tasks", 2 * HOUR), applied("ap", 0, 0)]
    live = {("eu.1.tasks", 0): NOW - 500, ("ap", 0): NOW}
    gone = live | {("us.1.tasks", 0): NOW - 2 * HOUR}
    behind = live | {("us.1.tasks", 0): NOW - HOUR}
    for ends, wanted in ((live, 500), (gone, 500), (behind, HOUR)):
        assert age_of(stood[0].stamp, stood, ends, NOW).behind_logs_ms == wanted


def test_record_of_the_future_is_of_now() -> None:
    stood = [applied("eu.1.tasks", 1000)]
    age = age_of(stood[0].stamp, stood, {("eu.1.tasks", 0): NOW + HOUR}, NOW)
    assert age == Age(behind_logs_ms=1000, behind_clock_ms=1000)
    assert age_of(stamp_at(NOW + HOUR), stood, {}, NOW) == Age(behind_logs_ms=0, behind_clock_ms=0)


@pytest.mark.parametrize(
    ("now", "wanted"),
    [
        ({"tasks": (9, 10), "miners": (3, 0), DELETED: (1, 0)}, ()),
        ({"tasks": (0, 0), "miners": (3, 0), DELETED: (1, 0)}, (("tasks", 19, 0),)),
        ({"tasks": (9, 8), "miners": (2, 0), DELETED: (2, 1)}, ()),
        ({"tasks": (9, 10), "miners": (0, 0), DELETED: (1, 1)}, (("miners", 3, 0),)),
        ({"tasks": (9, 10), "miners": (3, 0), DELETED: (0, 0)}, ((DELETED, 1, 0),)),
        ({}, ((DELETED, 1, 0), ("miners", 3, 0), ("tasks", 19, 0))),
    ],
)
def test_fewer_records_than_in_the_parent_are_named_but_for_what_was_deleted(
    now: dict[str, tuple[int, int]], wanted: tuple[tuple[str, int, int], ...]
) -> None:
    parent = {"tasks": (9, 10), "miners": (3, 0), DELETED: (1, 0), PARKED: (5, 5)}

    def objects(of: dict[str, tuple[int, int]]) -> list[ObjectEntry]:
        return [entry(c, p, records) for c, both in of.items() for p, records in enumerate(both)]

    assert fewer(objects(parent), objects(now)) == wanted
    assert fewer([], objects(parent)) == ()


def made(**changes: object) -> Manifest:
    return Manifest.model_construct(
        parent_id="before", age=None, compared=None, fewer=()
    ).model_copy(update=changes)


def test_backup_that_is_as_wanted_or_of_an_older_build_is_no_concern() -> None:
    fine = made(
        age=Age(behind_logs_ms=900_000, behind_clock_ms=900_000),
        compared=Compared(rows=7, from_rows=0, without_row=0),
    )
    assert concerns(fine, 900) == concerns(made(), 1) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"age": Age(behind_logs_ms=900_001, behind_clock_ms=0)}, "900 s behind the ends of the"),
        ({"age": Age(behind_logs_ms=0, behind_clock_ms=999_999)}, "999 s behind the clock"),
        ({"compared": Compared(rows=7, from_rows=3, without_row=0)}, "3 states were in no state"),
        ({"compared": Compared(rows=7, from_rows=0, without_row=2)}, "2 states have no row"),
        ({"fewer": (("tasks", 9, 8),)}, "tasks: 8 records, 9 in backup before"),
    ],
)
def test_each_concern_is_named(changes: dict[str, object], words: str) -> None:
    (concern,) = concerns(made(**changes), 900)
    assert words in concern
