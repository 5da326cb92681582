"""The archive's index, and what has changed since the snapshot, against plain dicts."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.events.snapshots import ArchivePage
from everlode.snapshots import index
from everlode.snapshots.dirty import Dirty, FactAt
from everlode.snapshots.index import PartitionIndex, name_hash

STEPS = st.lists(st.one_of(st.integers(0, 40), st.just("fold")), max_size=300)


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "PAGE", 4)
    monkeypatch.setattr(index, "MERGE", 3)


@given(STEPS)
def test_index_finds_the_newest_offset_also_once_it_is_read_back_from_its_pages(
    steps: list[int | str],
) -> None:
    kept, oracle = PartitionIndex(), dict[int, int]()
    log: list[int] = []
    topic: dict[int, ArchivePage] = {}
    for step in steps:
        if isinstance(step, int):
            kept.add(step, len(log))
            oracle[step] = len(log)
            log.append(step)
            continue
        pages, gone = kept.fold_up()
        topic.update({page.start: page for page in pages})
        for start in gone:
            del topic[start]
        assert len(topic) <= 3 + len(log) // 4
    again = PartitionIndex(topic.values())
    assert again.end == again.paged == kept.paged
    for offset in range(again.end, len(log)):
        again.add(log[offset], offset)
    for each in range(41):
        assert kept.find(each) == again.find(each) == oracle.get(each)


def test_page_that_never_came_is_a_hole_behind_which_the_archive_is_read() -> None:
    pages = [ArchivePage(0, 4, b"", b""), ArchivePage(8, 12, b"", b"")]
    assert PartitionIndex(pages).end == 4
    large = ArchivePage(0, 12, b"", b"")
    assert PartitionIndex([*pages, large]).end == 12


def test_names_are_hashed_as_the_schema_says() -> None:
    assert name_hash(b"tasks/t1") == int.from_bytes(sha256(b"tasks/t1").digest()[:8], "little")


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=60))
def test_mark_is_never_above_a_change_that_no_entry_holds(steps: list[tuple[str, bool]]) -> None:
    dirty, last, written = Dirty(lambda: 0.0), dict[str, int](), dict[str, int]()
    for offset, (key, write) in enumerate(steps):
        if write:
            dirty.written(0, ("tasks", key))
            written[key] = last.get(key, -1)
        else:
            dirty.note(("tasks", key), FactAt(0, offset, offset + 1), offset)
            last[key] = offset
        first = dirty.first(0)
        held = {k for k, at in last.items() if at > written.get(k, -1)}
        assert {key for _, (_, key) in dirty.oldest(0.0)} == held
        if first is not None:
            changes = [at for at, (k, w) in enumerate(steps[: offset + 1]) if k in held and not w]
            assert first.offset in changes
            assert all(at >= first.offset for k in held for at in [last[k]])


def test_standby_drops_what_another_has_written_and_keeps_what_has_changed_since() -> None:
    dirty = Dirty(lambda: 0.0)
    for offset, key in enumerate("abca"):
        dirty.note(("tasks", key), FactAt(0, offset, offset + 1), offset)
    dirty.trim(0, 3)
    first = dirty.first(0)
    assert first is not None
    assert first.offset == 0, "a has changed at 3: its first change keeps the mark low"
    dirty.trim(0, 4)
    assert dirty.first(0) is None
    assert len(dirty) == 0
