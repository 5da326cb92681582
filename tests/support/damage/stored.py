"""Damage to what the object store holds, and to the keys that open it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from typing import Any

from everlode.backup.keys import DEFAULT_KEY, KeyRing
from everlode.backup.manifest import Manifest, body_of, canonical, dump
from tests.support.damage.world import World

Harm = Callable[[World], None]


def _name(manifest: Manifest) -> str:
    return f"eu/{manifest.backup_id}/manifest.json"


def _changes(key: Callable[[World], str], change: Callable[[World, bytes], bytes]) -> Harm:
    """An object has other bytes."""

    def harm(world: World) -> None:
        name = key(world)
        world.region.store.put(name, change(world, world.region.store.get(name)))

    return harm


def _flipped(_: World, data: bytes) -> bytes:
    found = bytearray(data)
    found[len(found) // 2] ^= 1
    return bytes(found)


def _of_another(manifest: Manifest, keys: KeyRing, **changes: Any) -> bytes:
    """A manifest that is signed by these keys, with other values."""
    other = manifest.model_copy(update=changes)
    return dump(other, keys.sign(body_of(other)))


def _other_keys(world: World) -> KeyRing:
    ring = KeyRing(world.region.folder / "other-keys")
    ring.create()
    return ring


# -- the latest backup's manifest, and one of its objects --------------------------------------


def _latest(world: World) -> str:
    return _name(world.latest)


def _object(world: World) -> str:
    return _object_of(world.latest)


def _object_of(manifest: Manifest) -> str:
    return next(o.key for o in manifest.objects if (o.component, o.partition) == ("tasks", 0))


def _seq_lowered(_: World, data: bytes) -> bytes:
    """By one, in canonical form, with the signature that it had."""
    value = json.loads(data)
    next(p for p in value["manifest"]["positions"] if p["seq"])["seq"] -= 1
    return canonical(value)


def _sealed_anew(_: World, data: bytes) -> bytes:
    """Of the same length, under another data key."""
    return os.urandom(len(data))


MANIFEST: dict[str, Harm] = {
    "emptied": _changes(_latest, lambda _, __: b""),
    "truncated": _changes(_latest, lambda _, data: data[: len(data) // 2]),
    "older copy put back": _changes(_latest, lambda w, _: w.region.store.get(_name(w.older))),
    "made again": _changes(_latest, lambda w, _: _of_another(w.latest, _other_keys(w))),
    "one record changed": _changes(_latest, _seq_lowered),
    "another region's": _changes(
        _latest, lambda w, _: _of_another(w.latest, w.region.keys, region="us")
    ),
}
OBJECT: dict[str, Harm] = {
    "emptied": _changes(_object, lambda _, __: b""),
    "truncated": _changes(_object, lambda _, data: data[:-1]),
    "older copy put back": _changes(_object, lambda w, _: w.region.store.get(_object_of(w.older))),
    "made again": _changes(_object, _sealed_anew),
    "one record changed": _changes(_object, _flipped),
    "another region's": _changes(
        _object, lambda w, _: w.region.store.get(_object(w).replace("tasks-0", "miners-0"))
    ),
}


# -- the chain ---------------------------------------------------------------------------------


def _drop(world: World, *, keep: Callable[[str], bool]) -> None:
    for key in world.objects():
        if not keep(key):
            world.region.store.delete(key)


def chain_signed_anew(world: World) -> None:
    """Every manifest is there, signed by somebody else."""
    other = _other_keys(world)
    for key, data in world.objects().items():
        if key.endswith("/manifest.json"):
            manifest = Manifest.model_validate_json(json.dumps(json.loads(data)["manifest"]))
            world.region.store.put(key, _of_another(manifest, other))


def _older_is(**changes: Any) -> Harm:
    """The latest one's parent is another manifest than it was made after, signed by us."""
    return _changes(
        lambda world: _name(world.older),
        lambda world, _: _of_another(world.older, world.region.keys, **changes),
    )


CHAIN: dict[str, Harm] = {
    "emptied": lambda w: _drop(w, keep=lambda _: False),
    "truncated": lambda w: _drop(w, keep=lambda key: key >= f"eu/{w.older.backup_id}"),
    "older copy put back": lambda w: _drop(w, keep=lambda key: w.latest.backup_id not in key),
    "made again": chain_signed_anew,
    "one record changed": _older_is(timings_ms={}),
    "another region's": _older_is(region="us"),
}


# -- keys --------------------------------------------------------------------------------------


def _key_is(change: Callable[[str], str]) -> Harm:
    def harm(world: World) -> None:
        path = world.region.keys.folder / f"{DEFAULT_KEY}.kek"
        path.write_text(change(path.read_text()))

    return harm


def key_lost(world: World) -> None:
    """The folder is as it was before the key in use was made."""
    (world.region.keys.folder / f"{DEFAULT_KEY}.kek").unlink()


def key_made_again(world: World) -> None:
    """It was lost, and another one has its name."""
    key_lost(world)
    world.region.keys.create()


def keys_of_another(world: World) -> None:
    """The whole folder is another region's, with its signing key."""
    other = _other_keys(world)
    shutil.rmtree(world.region.keys.folder)
    shutil.copytree(other.folder, world.region.keys.folder)


KEY: dict[str, Harm] = {
    "emptied": _key_is(lambda _: ""),
    "truncated": _key_is(lambda text: text[:32]),
    "older copy put back": key_lost,
    "made again": key_made_again,
    "one record changed": _key_is(lambda text: ("1" if text[0] == "0" else "0") + text[1:]),
    "another region's": keys_of_another,
}
