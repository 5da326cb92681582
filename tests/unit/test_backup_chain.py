"""The chain of backups, against a store that drops, changes, forges and puts back."""

from __future__ import annotations

from pathlib import Path

import pytest

from everlode.backup import chosen as chosen_module
from everlode.backup.chain import Parent, behind, breaks, parent_of, require_newest
from everlode.backup.chosen import Shelf, broken, chosen, finished
from everlode.backup.drop import drop_backups
from everlode.backup.keys import KeyRing
from everlode.backup.manifest import Manifest, body_of, dump, sha256_of
from everlode.backup.verify import from_end, of_id, signed_manifest
from everlode.errors import IntegrityError, NotFound, WrongKey
from everlode.events.control import BackupMade
from everlode.telemetry.entries import Entry
from everlode.telemetry.sink import silent
from everlode.views.backups import shown
from tests.support.stores.junk import KINDS, junk
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
        require_newest(latest, note, {})
    for latest, reason in ((b, "latest there is b"), (None, "no other is there")):
        with pytest.raises(IntegrityError, match=f"backup c, the newest.*{reason}") as caught:
            require_newest(latest, noted(c), {})
        assert (caught.value.code, "id" in caught.value.hint) == ("newest_missing", True)
    assert "another manifest" in behind(OTHER, noted(b), {})


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


JUNK_ID = "z99991231T235959999-ffffff"


def planted(shelf: Shelf, name: str, kind: str, folder: Path) -> None:
    forged = manifest(backup_id=name, created_at_ms=253_402_300_799_000)
    shelf.store.put(f"eu/{name}/manifest.json", junk(kind, forged, folder))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [JUNK_ID, "latest"])
def test_junk_of_the_highest_id_decides_nothing_and_is_named(
    shelf: Shelf, tmp_path: Path, kind: str, name: str
) -> None:
    planted(shelf, name, kind, tmp_path)
    notes, note = list[Entry](), noted(CHAIN["d"])
    newest, passed = from_end(*shelf, report=notes.append)
    assert newest == CHAIN["d"]
    assert list(passed) == [name]
    assert [e.text.startswith(f"backup: {name} is passed over: eu/{name}") for e in notes] == [True]
    assert "\x7f" not in notes[0].text + passed[name].hint
    require_newest(newest, note, passed)
    assert parent_of(newest, note).created_at_ms < 10
    assert signed_manifest(*shelf, "latest") == CHAIN["d"]
    read = finished(shelf)
    assert isinstance(read[name], IntegrityError)
    assert broken(read) == {}
    with pytest.raises(IntegrityError, match=f"eu/{name}"):
        of_id(*shelf, name)
    drop_backups(shelf, "a", note, even_newest=True, report=notes.append)
    assert shown(shelf, note).behind == ""


@pytest.mark.parametrize("kind", KINDS)
def test_junk_in_place_of_the_newest_that_was_made_is_an_error_by_name(
    shelf: Shelf, tmp_path: Path, kind: str
) -> None:
    """Or whoever can write to the store could put a user back to an older one in silence."""
    planted(shelf, "d", kind, tmp_path)
    (newest, passed), note = from_end(*shelf), noted(CHAIN["d"])
    assert newest == CHAIN["c"]
    assert parent_of(newest, note).backup_id == "d"
    with pytest.raises(IntegrityError, match="backup d, the newest that was made") as caught:
        require_newest(newest, note, passed)
    assert (caught.value.code, "by its id" in caught.value.hint) == (passed["d"].code, True)
    assert passed["d"].message in caught.value.message
    assert shown(shelf, note).behind == caught.value.message
    with pytest.raises(IntegrityError, match="backup d, the newest that was made"):
        drop_backups(shelf, "a", note, even_newest=False, report=silent)


def test_end_is_chosen_with_what_was_passed_over_and_an_id_keeps_its_refusal(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (JUNK_ID, "A"):
        planted(shelf, name, "deep object", tmp_path)
    monkeypatch.setattr(chosen_module, "newest_noted", lambda *_: noted(CHAIN["d"]))
    for end, ours, junk_id in (("latest", "d", JUNK_ID), ("oldest", "a", "A")):
        meant = chosen(shelf, end, "control", silent)
        assert meant.manifest == CHAIN[ours]
        assert meant.passed_over == [f"eu/{junk_id}/manifest.json: not a manifest (RecursionError)"]
    assert chosen(shelf, "b", "control", silent) == (CHAIN["b"], {})
    with pytest.raises(IntegrityError, match=f"eu/{JUNK_ID}/manifest"):
        chosen(shelf, JUNK_ID, "control", silent)
    planted(shelf, "d", "foreign", tmp_path)
    with pytest.raises(
        IntegrityError, match="d, the newest that was made, is not usable"
    ) as caught:
        chosen(shelf, "latest", "control", silent)
    assert caught.value.code == "bad_signature"


def test_store_with_nothing_but_junk_says_what_it_passed_over(shelf: Shelf, tmp_path: Path) -> None:
    for name in NAMES:
        planted(shelf, name, "foreign", tmp_path / name)
    with pytest.raises(NotFound, match="4 passed over, the first: eu/d"):
        signed_manifest(*shelf, "latest")


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
        from_end(*shelf)
