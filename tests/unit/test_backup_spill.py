"""Slices of the keys, and the file that they are kept in until their turn comes."""

from __future__ import annotations

import random
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import pytest

from everlode.backup import spill
from everlode.backup.spill import SLICE_KEYS, Item, Slices, Spill


def test_every_key_is_in_one_slice_of_its_component() -> None:
    slices = Slices({"tasks": 5 * SLICE_KEYS, "miners": 1, "fraud": 0})
    assert [len(slices.of_component(c)) for c in ("tasks", "miners", "fraud")] == [5, 1, 1]
    assert slices.count == 7
    assert [slices.component(n) for n in range(7)] == [*["tasks"] * 5, "miners", "fraud"]
    found = {slices.of(("tasks", f"t-{n}")) for n in range(1000)}
    assert found == set(slices.of_component("tasks"))
    assert slices.of(("miners", "a")) == slices.of_component("miners")[0]
    assert slices.of(("tasks", "\udcff")) in found, "a key that is no text has its place too"


def test_slices_are_about_as_large_as_each_other() -> None:
    slices = Slices({"tasks": 40 * SLICE_KEYS})
    sizes = [0] * slices.count
    for n in range(40_000):
        sizes[slices.of(("tasks", f"task-{n:08}"))] += 1
    assert max(sizes) < 1.3 * 1000


@pytest.mark.parametrize("buffer", [1, 4096, 1 << 20])
def test_items_come_back_bucket_by_bucket_in_their_order(
    monkeypatch: pytest.MonkeyPatch, buffer: int
) -> None:
    monkeypatch.setattr(spill, "BUFFER", buffer)
    monkeypatch.setattr(spill, "LEAST", 1)
    chance = random.Random(7)
    wanted: defaultdict[int, list[Item]] = defaultdict(list)
    with closing(Spill(5)) as kept:
        for n in range(2000):
            item = (n, f"k{n}", None if n % 7 == 0 else bytes(chance.randrange(60)), n % 2 == 0)
            bucket = chance.randrange(4)
            wanted[bucket].append(item)
            kept.add(bucket, item, 60)
        for _ in range(2):
            assert {b: list(kept.items(b)) for b in range(5)} == {**wanted, 4: []}


def test_file_of_a_spill_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(spill, "BUFFER", 1)
    monkeypatch.setattr(spill, "LEAST", 1)
    with closing(Spill(1)) as kept:
        kept.add(0, ("secret",), 10)
        assert list(tmp_path.iterdir()) == []
        assert list(kept.items(0)) == [("secret",)]
