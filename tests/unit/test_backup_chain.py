"""The chain of backups, against a store that drops, changes, forges and puts back."""

from __future__ import annotations

from pathlib import Path

import pytest

from everlode.backup.chain import Parent, behind, breaks, parent_of, require_newest
from everlode.backup.chosen import Shelf, broken, finished
from everlode.backup.keys import KeyRing
from everlode.backup.manifest import Manifest, body_of, dump, sha256_of
from everlode.backup.verify import newest_signed
from everlode.errors import IntegrityError, WrongKey
from everlode.events.control import BackupMade
from tests.support.stores.memory_store import MemoryStore
from tests.unit.test_backup_manifest import manifest

NAMES = ("a", "b", "c", "d")


def chained(*names: str, after: Manifest | None = None) -> dict[str, Manifest | None]:
    found: dict[str, Manifest | None] = {}
    for number, name in enumerate(names):
        parent = parent_of(after, None)
        after = manifest(
            backup_id=name, created_at_ms=number, parent_id=parent.backup_id,
            parent_sha256=parent.sha256,
        )  # fmt: skip
        found[name] = after
    return found


def noted(made: Manifest | None) -> BackupMade:
    assert made is not None
    return BackupMade(
        region="eu", backup_id=made.backup_id, manifest_sha256=sha256_of(made),
        created_at_ms=made.created_at_ms,
    )  # fmt: skip


CHAIN = chained(*NAMES)
OTHER = chained("b")["b"]


def without(*names: str) -> dict[str, Manifest | None]:
    return {name: m for name, m in CHAIN.items() if name not in names}


@pytest.mark.parametrize("gone", [(), ("a",), ("a", "b"), ("d",), NAMES, ("a", "b", "c")])
def test_chain_is_whole_wherever_it_begins_and_ends(gone: tuple[str, ...]) -> None:
    assert breaks(without(*gone)) == {}


@pytest.mark.parametrize(
    ("found", "at", "reason"),
    [
        (without("b"), "c", "its parent b is missing, and a is older"),
        (without("b", "c"), "d", "its parent c is missing, and a is older"),
        ({**CHAIN, "b": None}, "c", "its parent b is not usable"),
        ({**CHAIN, "a": chained("a", "x")["x"]}, "b", "its parent a has another manifest"),
        ({**CHAIN, "e": chained("e")["e"]}, "e", "it names no parent, and d is older"),
        ({**CHAIN, "cc": chained("cc", after=CHAIN["b"])["cc"]}, "cc", "c stands between them"),
    ],
    ids=["dropped", "two dropped", "damaged", "other", "begun anew", "forked"],
)
def test_break_of_the_chain_is_named_where_it_is(
    found: dict[str, Manifest | None], at: str, reason: str
) -> None:
    assert reason in breaks(found)[at]


def test_parent_is_the_later_of_what_the_store_has_and_what_is_noted() -> None:
    b, c = CHAIN["b"], CHAIN["c"]
    assert b is not None
    assert c is not None
    assert parent_of(None, None) == Parent("", "", -1)
    assert parent_of(c, None) == parent_of(c, noted(b)) == parent_of(c, noted(c))
    assert parent_of(c, noted(b)) == ("c", sha256_of(c), c.created_at_ms)
    assert parent_of(b, noted(c)) == parent_of(None, noted(c)) == parent_of(c, None)


def test_latest_that_is_not_the_newest_that_was_made_needs_the_operators_word() -> None:
    b, c = CHAIN["b"], CHAIN["c"]
    for latest, note in ((c, None), (c, noted(b)), (c, noted(c))):
        require_newest(latest, note)
    for latest, reason in ((b, "latest there is b"), (None, "no other is there")):
        with pytest.raises(IntegrityError, match=f"backup c, the newest.*{reason}") as caught:
            require_newest(latest, noted(c))
        assert (caught.value.code, "id" in caught.value.hint) == ("newest_missing", True)
    assert "another manifest" in behind(OTHER, noted(b))


# -- in a store ------------------------------------------------------------------------------------


@pytest.fixture
def keys(tmp_path: Path) -> KeyRing:
    ring = KeyRing(tmp_path / "keys")
    ring.create()
    return ring


@pytest.fixture
def shelf(keys: KeyRing) -> Shelf:
    store = MemoryStore()
    for name, made in CHAIN.items():
        assert made is not None
        store.put(f"eu/{name}/manifest.json", dump(made, keys.sign(body_of(made))))
    return Shelf(store, keys, "eu")


def forge(shelf: Shelf, name: str, tmp_path: Path) -> None:
    """A whole manifest of the highest id, by whoever can write to the store."""
    other = KeyRing(tmp_path / "forger")
    other.create()
    made = manifest(backup_id=name, created_at_ms=253_402_300_799_000)
    shelf.store.put(f"eu/{name}/manifest.json", dump(made, other.sign(body_of(made))))


def test_forged_manifest_is_no_parent_decides_no_id_and_breaks_no_chain(
    shelf: Shelf, tmp_path: Path
) -> None:
    forge(shelf, "99991231T235959999-ffffff", tmp_path)
    newest = newest_signed(*shelf)
    assert newest == CHAIN["d"]
    assert parent_of(newest, noted(CHAIN["d"])).created_at_ms < 10
    read = finished(shelf)
    assert isinstance(read["99991231T235959999-ffffff"], IntegrityError)
    assert broken(read) == {}


def test_damaged_newest_is_no_parent_but_the_note_of_it_is(shelf: Shelf) -> None:
    name = "eu/d/manifest.json"
    shelf.store.put(name, shelf.store.get(name)[:-9])
    newest, note = newest_signed(*shelf), noted(CHAIN["d"])
    assert newest == CHAIN["c"]
    assert parent_of(newest, note).backup_id == "d"
    assert "backup d, the newest that was made" in behind(newest, note)


def test_chain_is_read_whole_and_walked(shelf: Shelf) -> None:
    assert list(finished(shelf).items()) == list(CHAIN.items())
    shelf.store.delete("eu/c/manifest.json")
    assert list(broken(finished(shelf))) == ["d"]
    assert list(broken(finished(shelf, 2))) == ["d"]
    assert list(finished(shelf, 1)) == ["d"]
    assert broken(finished(shelf, 1)) == {}


def test_lost_keys_are_no_reason_to_begin_another_chain(shelf: Shelf) -> None:
    for half in ("signing.key", "signing.pub"):
        (shelf.keys.folder / half).unlink()
    with pytest.raises(WrongKey):
        newest_signed(*shelf)
