"""Backups are dropped from the oldest on, and never the newest whole one without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from everlode.backup.chosen import Shelf
from everlode.backup.drop import drop_backups
from everlode.backup.keys import KeyRing
from everlode.backup.manifest import Manifest, body_of, checksum, dump
from everlode.backup.stored import list_backups
from everlode.errors import IntegrityError, NotFound, Precondition, Unavailable
from everlode.telemetry.sink import silent
from tests.support.stores.memory_store import MemoryStore
from tests.unit.test_backup_chain import chained, noted

MADE = {
    name: m.model_copy(update={"objects": (), "integrity_checksum": checksum(())})
    for name, m in chained("a", "b", "c").items()
    if m is not None
}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    keys = KeyRing(tmp_path / "keys")
    keys.create()
    store = MemoryStore()
    for name, made in MADE.items():
        store.put(f"eu/{name}/tasks-0.avro.enc", b"sealed")
        store.put(f"eu/{name}/manifest.json", dump(made, keys.sign(body_of(made))))
    store.put("eu/aa/tasks-0.avro.enc", b"of one that was interrupted")
    return Shelf(store, keys, "eu")


def drop(shelf: Shelf, upto: str, newest: Manifest | None = None, **word: bool) -> list[str]:
    """What is left."""
    made = noted(newest or MADE["c"])
    drop_backups(shelf, upto, made, even_newest=word.get("even_newest", False), report=silent)
    return [name for name, _ in list_backups(shelf.store, "eu")]


def test_backup_goes_with_all_that_are_older_and_with_what_is_unfinished(shelf: Shelf) -> None:
    assert drop(shelf, "b") == ["c"]
    assert [item.key for item in shelf.store.list("eu/")] == [
        "eu/c/manifest.json", "eu/c/tasks-0.avro.enc",
    ]  # fmt: skip


def test_newest_whole_one_stays_without_the_operators_word(shelf: Shelf) -> None:
    with pytest.raises(Precondition, match="c is the newest whole one") as caught:
        drop(shelf, "c")
    assert caught.value.code == "newest"
    assert [name for name, _ in list_backups(shelf.store, "eu")] == ["a", "aa", "b", "c"]
    assert drop(shelf, "c", even_newest=True) == []


def test_newest_whole_one_is_not_one_that_is_unfinished(shelf: Shelf) -> None:
    shelf.store.put("eu/d/tasks-0.avro.enc", b"under way")
    with pytest.raises(Precondition, match="c is the newest whole one"):
        drop(shelf, "d")


def test_nothing_is_removed_when_what_stays_is_not_whole_or_not_the_newest(shelf: Shelf) -> None:
    (of_d,) = (m for m in chained("d").values() if m is not None)
    with pytest.raises(IntegrityError) as caught:
        drop(shelf, "a", of_d)
    assert caught.value.code == "newest_missing"
    data = shelf.store.get("eu/c/manifest.json")
    shelf.store.put("eu/c/manifest.json", data.replace(b'"signature":"', b'"signature":"0'))
    with pytest.raises(IntegrityError):
        drop(shelf, "a")
    assert len(list_backups(shelf.store, "eu")) == 4


def test_backup_that_is_not_there_is_an_error(shelf: Shelf) -> None:
    with pytest.raises(NotFound, match="no backup x"):
        drop(shelf, "x")


def test_what_was_interrupted_goes_on(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest goes first, so that what is left is no backup."""
    delete, left = MemoryStore.delete, [3]

    def failing(store: MemoryStore, key: str) -> None:
        if not left[0]:
            raise Unavailable("away")
        left[0] -= 1
        delete(store, key)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryStore, "delete", failing)
        with pytest.raises(Unavailable):
            drop(shelf, "b")
    assert dict(list_backups(shelf.store, "eu")) == {"aa": False, "b": True, "c": True}
    assert drop(shelf, "b") == ["c"]
