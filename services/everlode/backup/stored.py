"""Which backups the object store has, and their manifests. Shell: reads the store."""

from __future__ import annotations

import re
import time
from typing import NamedTuple

from everlode.adapters.object_store import ObjectStore
from everlode.backup.manifest import LIST, MANIFEST, Manifest, parse
from everlode.errors import IntegrityError, NotFound
from everlode.events.stamp import millis_of

_OURS = re.compile(r"([^/]+)/([^/]+)")
"""Below a region: a backup's id, and one of its objects."""


class Contents(NamedTuple):
    """What stands below a region's name in the store."""

    backups: list[tuple[str, bool]]
    """(backup id, finished), oldest first; unfinished ones have no manifest."""
    foreign: list[str]
    """Keys that no backup of ours has, e.g. `eu/`, which a console's "create folder" makes."""


def contents(store: ObjectStore, region: str) -> Contents:
    """Whatever is there; what is not ours is named, and holds nobody up. Raises: Unavailable."""
    found: dict[str, bool] = {}
    foreign = []
    for item in store.list(f"{region}/"):
        ours = _OURS.fullmatch(item.key.removeprefix(f"{region}/"))
        if ours is None:
            foreign.append(item.key)
        else:
            backup_id, name = ours.groups()
            found[backup_id] = found.get(backup_id, False) or name == MANIFEST
    return Contents(sorted(found.items()), foreign)


def list_backups(store: ObjectStore, region: str) -> list[tuple[str, bool]]:
    """(backup id, finished) of a region, oldest first; see `contents`."""
    return contents(store, region).backups


def load_manifest(store: ObjectStore, region: str, backup_id: str) -> tuple[Manifest, bytes, str]:
    """A manifest, its signed bytes and signature.

    Raises: NotFound: there is no such backup, or it is unfinished. IntegrityError.
    """
    name = f"{region}/{backup_id}/{MANIFEST}"
    try:
        if not _OURS.fullmatch(f"{backup_id}/{MANIFEST}"):
            raise NotFound(f"{name} is no name")
        data = store.get(name)
    except NotFound:
        raise NotFound(
            f"backup {backup_id} of {region} does not exist or is unfinished",
            hint=LIST,
        ) from None
    manifest, body, signature = parse(data, name)
    if (manifest.region, manifest.backup_id) != (region, backup_id):
        raise IntegrityError(
            f"{name}: it is of {manifest.region}/{manifest.backup_id}",
            code="bad_manifest",
            hint=f"it was copied there: use another backup: {LIST}",
        )
    return manifest, body, signature


def age_ms(manifest: Manifest) -> int:
    """Milliseconds of the cut before now."""
    return max(0, time.time_ns() // 1_000_000 - millis_of(manifest.cut_stamp))
