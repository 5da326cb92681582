"""Which backups the object store has, and their manifests. Shell: reads the store."""

from __future__ import annotations

import time

from everlode.adapters.object_store import ObjectStore
from everlode.backup.manifest import MANIFEST, Manifest, parse
from everlode.errors import IntegrityError, NotFound
from everlode.events.stamp import millis_of


def list_backups(store: ObjectStore, region: str) -> list[tuple[str, bool]]:
    """(backup id, finished) of a region, oldest first; unfinished ones have no manifest."""
    found: dict[str, bool] = {}
    for item in store.list(f"{region}/"):
        _, backup_id, name = item.key.split("/", 2)
        found[backup_id] = found.get(backup_id, False) or name == MANIFEST
    return sorted(found.items())


def load_manifest(store: ObjectStore, region: str, backup_id: str) -> tuple[Manifest, bytes, str]:
    """A manifest, its signed bytes and signature; `latest` and `oldest` are ids too.

    Raises: NotFound: there is no such backup, or it is unfinished. IntegrityError.
    """
    finished = [b for b, done in list_backups(store, region) if done]
    if backup_id in ("latest", "oldest"):
        if not finished:
            raise NotFound(f"region {region} has no backup", hint="everlode backup create")
        backup_id = finished[-1] if backup_id == "latest" else finished[0]
    if backup_id not in finished:
        raise NotFound(
            f"backup {backup_id} of {region} does not exist or is unfinished",
            hint="everlode backup list",
        )
    name = f"{region}/{backup_id}/{MANIFEST}"
    manifest, body, signature = parse(store.get(name), name)
    if (manifest.region, manifest.backup_id) != (region, backup_id):
        raise IntegrityError(
            f"{name}: it is of {manifest.region}/{manifest.backup_id}",
            code="bad_manifest",
            hint="it was copied there: use another backup: everlode backup list",
        )
    return manifest, body, signature


def latest(store: ObjectStore, region: str) -> Manifest | None:
    """The newest finished backup's manifest, if there is one that can be read."""
    try:
        return load_manifest(store, region, "latest")[0]
    except (NotFound, IntegrityError):
        return None


def age_ms(manifest: Manifest) -> int:
    """Milliseconds of the cut before now."""
    return max(0, time.time_ns() // 1_000_000 - millis_of(manifest.cut_stamp))
