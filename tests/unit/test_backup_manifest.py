"""The manifest: canonical, signed, chained; nobody changes a byte of it unseen."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from everlode.backup.keys import KeyRing
from everlode.backup.manifest import (
    CutPosition,
    Manifest,
    ObjectEntry,
    body_of,
    canonical,
    checksum,
    dump,
    parse,
    sha256_of,
)
from everlode.backup.verify import signed_manifest
from everlode.errors import IntegrityError, NotFound
from tests.support.stores.memory_store import MemoryStore

ENTRY = ObjectEntry(
    key="eu/b/tasks-0.avro.enc", component="tasks", partition=0, records=3, plain_sha256="1" * 64,
    cipher_sha256="2" * 64, plain_bytes=10, cipher_bytes=20, key_id="backup-v1",
    wrapped_key="00",
)  # fmt: skip


def manifest(**changes: object) -> Manifest:
    value = Manifest(
        format=1, tool="everlode 0", fold_version=1, backup_id="b", backup_type="full-system",
        region="eu", generation=1, partitions=1, created_at_ms=1, completed_at_ms=2, cut_stamp=3,
        parent_id="", parent_sha256="",
        positions=(
            CutPosition(
                topic="eu.1.tasks", partition=0, seq=4, stamp=3, next_offset=5, status="live"
            ),
        ),
        opened=(("eu.1.tasks", 0, "task-manager/eu", 2),), objects=(ENTRY,),
        schemas={"TaskState": "00"}, topics=(), topology={"regions": ["eu"]}, problems=(),
        timings_ms={"read": 5, "store": 6},
        task_backup_size=20, miner_backup_size=0, validation_backup_size=0, reward_backup_size=0,
        fraud_backup_size=0, config_backup_size=0, total_backup_size=20,
        integrity_checksum=checksum((ENTRY,)), encryption_key_id="backup-v1", write_once=True,
    )  # fmt: skip
    return value.model_copy(update=changes)


@pytest.fixture
def keys(tmp_path: Path) -> KeyRing:
    ring = KeyRing(tmp_path / "keys")
    ring.create()
    return ring


def stored(value: Manifest, keys: KeyRing) -> tuple[MemoryStore, str]:
    store, name = MemoryStore(), "eu/b/manifest.json"
    store.put(name, dump(value, keys.sign(body_of(value))))
    return store, name


def test_manifest_comes_back_as_it_was(keys: KeyRing) -> None:
    store, _ = stored(manifest(), keys)
    assert signed_manifest(store, keys, "eu", "latest") == manifest()


def test_one_byte_changed_anywhere_is_refused(keys: KeyRing) -> None:
    store, name = stored(manifest(), keys)
    data = store.get(name)
    for at in range(len(data)):
        store.put(name, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(IntegrityError):
            signed_manifest(store, keys, "eu", "b")


def test_byte_added_or_missing_is_refused(keys: KeyRing) -> None:
    store, name = stored(manifest(), keys)
    data = store.get(name)
    for changed in (data + b" ", data[:-1], b"", b"{}", b"[]", b"null"):
        store.put(name, changed)
        with pytest.raises(IntegrityError, match="eu/b/manifest"):
            signed_manifest(store, keys, "eu", "b")


def test_manifest_of_the_format_before_is_read_and_keeps_its_hash(keys: KeyRing) -> None:
    """What it did not have is not in what its signature and its child's hash are of."""
    store, name = stored(manifest(format=1), keys)
    assert set(json.loads(store.get(name))["manifest"]) & {"compared", "age", "fewer"} == set()
    found = signed_manifest(store, keys, "eu", "latest")
    assert (found.compared, found.age, found.fewer) == (None, None, ())
    body = store.get(name).partition(b'{"manifest":')[2].rpartition(b',"signature":')[0]
    assert body_of(found) == body
    assert sha256_of(found) == hashlib.sha256(body).hexdigest()


def test_manifest_of_another_format_says_so_and_what_made_it(keys: KeyRing) -> None:
    store, _ = stored(manifest(format=4), keys)
    with pytest.raises(IntegrityError, match="format 4, expected 3") as caught:
        signed_manifest(store, keys, "eu", "b")
    assert caught.value.code == "unknown_format"
    assert manifest().tool in caught.value.hint


def test_manifest_signed_by_another_is_refused(keys: KeyRing, tmp_path: Path) -> None:
    other = KeyRing(tmp_path / "other")
    other.create()
    store, _ = stored(manifest(), other)
    with pytest.raises(IntegrityError, match="signature"):
        signed_manifest(store, keys, "eu", "b")


def test_manifest_whose_sums_are_wrong_is_refused(keys: KeyRing) -> None:
    store, _ = stored(manifest(integrity_checksum="3" * 64), keys)
    with pytest.raises(IntegrityError, match="checksum"):
        signed_manifest(store, keys, "eu", "b")


def test_manifest_under_another_name_is_refused(keys: KeyRing) -> None:
    """A good manifest copied over another backup's, or another region's, is a swap."""
    store, name = stored(manifest(), keys)
    store.put("eu/c/manifest.json", store.get(name))
    with pytest.raises(IntegrityError, match="eu/c"):
        signed_manifest(store, keys, "eu", "c")


def test_canonical_form_does_not_depend_on_order() -> None:
    assert canonical({"b": 1, "a": ["ü", None, True]}) == '{"a":["ü",null,true],"b":1}'.encode()
    value = json.loads(canonical({"x": {"b": 1, "a": 2}}))
    assert canonical(value) == canonical({"x": {"a": 2, "b": 1}})


def test_floats_are_not_canonical() -> None:
    with pytest.raises((TypeError, ValueError)):
        canonical({"a": 1.5})


def test_every_field_is_part_of_the_chain_hash() -> None:
    first = sha256_of(manifest())
    assert sha256_of(manifest(cut_stamp=4)) != first
    assert sha256_of(manifest()) == first


def test_unfinished_backup_is_none(keys: KeyRing) -> None:
    store = MemoryStore()
    store.put("eu/x/tasks-0.avro.enc", b"1")
    with pytest.raises(NotFound, match="no backup"):
        signed_manifest(store, keys, "eu", "latest")
    with pytest.raises(NotFound, match="unfinished"):
        signed_manifest(store, keys, "eu", "x")


def test_parse_reports_the_name(keys: KeyRing) -> None:
    with pytest.raises(IntegrityError, match="the-name"):
        parse(b"\xff\x00", "the-name")
