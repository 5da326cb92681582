"""Makes a backup of a region: cut → containers → encrypted objects → manifest, last.

Order (must): every object is stored before the manifest; the manifest is stored whole or not at
all. So a backup that was interrupted has no manifest, is listed as unfinished, and can be removed.
Shell.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from everlode.adapters.postgres import Projection, current_generation
from everlode.adapters.s3 import ObjectStore
from everlode.avro import schemas
from everlode.backup.container import Sums, seal, seal_file
from everlode.backup.cut import CutPart, Place, read_part, stamp_of_cut
from everlode.backup.keys import DEFAULT_KEY, KeyRing
from everlode.backup.manifest import (
    FORMAT,
    CutPosition,
    Manifest,
    ObjectEntry,
    Problem,
    TopicEntry,
    body_of,
    canonical,
    checksum,
    dump,
    parse,
    sha256_of,
)
from everlode.errors import IntegrityError, NotFound
from everlode.events.catalogue import STATES
from everlode.events.stamp import millis_of
from everlode.projection.tables import COMPONENTS, FACTS_OF
from everlode.state.dispatch import FOLD_VERSION
from everlode.topics import Topology, catalogue
from everlode.topics.names import fact_topic

MANIFEST = "manifest.json"


class Source(NamedTuple):
    """The region that is backed up."""

    region: str
    bootstrap: str
    conninfo: str
    topology: Topology


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _positions(db: Projection) -> dict[tuple[str, int], Place]:
    rows = db.query("select topic, part, seq, stamp from {g}.positions")
    return {(topic, part): Place(seq, stamp) for topic, part, seq, stamp in rows}


def create_backup(
    source: Source,
    store: ObjectStore,
    keys: KeyRing,
    *,
    key_id: str = DEFAULT_KEY,
    progress: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Make a full backup and return its manifest. Safe to interrupt: then there is none.

    Raises: Precondition: nothing to back up. IntegrityError: a state topic went back. Unavailable.
    """
    began = _now_ms()
    generation = current_generation(source.conninfo)
    db = Projection(source.conninfo, generation, "backup")
    before = _positions(db)
    stamp = stamp_of_cut(before)
    problems = db.query("select kind, topic, part, key from {g}.problems order by 1, 2, 3, 4")
    opened = db.query("select topic, part, scope, epoch from {g}.opened order by 1, 2, 3")
    db.close()
    capable = store.capabilities().conditional_put
    parent = latest(store, source.region)
    backup_id = (
        time.strftime("%Y%m%dT%H%M%S", time.gmtime(began / 1000)) + f"-{os.urandom(3).hex()}"
    )
    prefix = f"{source.region}/{backup_id}"
    entries: list[ObjectEntry] = []
    reached: dict[tuple[str, int], tuple[int, int]] = {}
    with tempfile.TemporaryDirectory(prefix="everlode-backup-") as folder:
        for component in COMPONENTS:
            for partition in range(source.topology.partitions):
                part = read_part(source.bootstrap, generation, component, partition, stamp)
                for topic, at in part.reached.items():
                    known = reached.get((topic, partition), (0, 0))
                    reached[topic, partition] = max(known, at)
                entries.append(_store_part(part, prefix, store, keys, key_id, Path(folder)))
                progress(f"{component}/{partition}: {entries[-1].records} states")
        entries.append(_store_config(source, prefix, store, keys, key_id, Path(folder)))
    manifest = _manifest(
        source, generation, stamp, backup_id, began, tuple(entries), reached, key_id,
        parent, problems, opened, capable,
    )  # fmt: skip
    data = dump(manifest, keys.sign(body_of(manifest)))
    name = f"{prefix}/{MANIFEST}"
    store.put(name, data, only_new=capable)
    if store.get(name) != data:
        raise IntegrityError(f"{name}: the store gives other bytes than it took")
    progress(f"manifest of {backup_id}: {manifest.total_backup_size} bytes")
    return manifest


def _entry(
    sums: Sums, name: str, component: str, partition: int, key_id: str, wrapped: str
) -> ObjectEntry:
    return ObjectEntry(
        key=name, component=component, partition=partition, records=sums.records,
        plain_sha256=sums.plain_sha256, cipher_sha256=sums.cipher_sha256,
        plain_bytes=sums.plain_bytes, cipher_bytes=sums.cipher_bytes, key_id=key_id,
        wrapped_key=wrapped,
    )  # fmt: skip


def _store_part(
    part: CutPart, prefix: str, store: ObjectStore, keys: KeyRing, key_id: str, folder: Path
) -> ObjectEntry:
    name = f"{prefix}/{part.component}-{part.partition}.avro.enc"
    data_key = os.urandom(32)
    path = folder / "object"

    def ordered() -> Iterator[dict[str, Any]]:
        for key in sorted(part.states):
            yield part.states[key]

    sums = seal(ordered(), STATES[part.component].__name__, path, data_key, name)
    store.put_file(name, path)
    wrapped = keys.wrap(key_id, data_key, name)
    return _entry(sums, name, part.component, part.partition, key_id, wrapped)


def _store_config(
    source: Source, prefix: str, store: ObjectStore, keys: KeyRing, key_id: str, folder: Path
) -> ObjectEntry:
    """Topology, topics and all schemas: what a new machine needs before the states."""
    name = f"{prefix}/config-0.json.enc"
    plain, path = folder / "config", folder / "object"
    value = {
        "topology": source.topology.model_dump(mode="json"),
        "topics": [spec._asdict() for spec in catalogue(source.topology)],
        "schemas": {n: schemas.raw(n) for n in schemas.names()},
    }
    plain.write_bytes(canonical(value))
    data_key = os.urandom(32)
    sums = seal_file(plain, path, data_key, name)
    store.put_file(name, path)
    return _entry(sums, name, "config", 0, key_id, keys.wrap(key_id, data_key, name))


def _manifest(
    source: Source,
    generation: int,
    stamp: int,
    backup_id: str,
    began: int,
    objects: tuple[ObjectEntry, ...],
    reached: dict[tuple[str, int], tuple[int, int]],
    key_id: str,
    parent: Manifest | None,
    problems: list[tuple[Any, ...]],
    opened: list[tuple[Any, ...]],
    capable: bool,
) -> Manifest:
    sizes = dict.fromkeys((*COMPONENTS, "config"), 0)
    for entry in objects:
        sizes[entry.component] += entry.cipher_bytes
    positions = []
    for origin in source.topology.origins:
        for component in dict.fromkeys(FACTS_OF.get(c, c) for c in COMPONENTS):
            for partition in range(source.topology.partitions):
                topic = fact_topic(origin, component)
                seq, at = reached.get((topic, partition), (0, 0))
                positions.append(
                    CutPosition(topic=topic, partition=partition, seq=seq, stamp=at, next_offset=0)
                )
    specs = [s for s in catalogue(source.topology, generation) if s.cluster == source.region]
    return Manifest(
        format=FORMAT, tool=f"everlode {version('everlode')}", fold_version=FOLD_VERSION,
        backup_id=backup_id, backup_type="full-system", region=source.region,
        generation=generation, partitions=source.topology.partitions, created_at_ms=began,
        completed_at_ms=_now_ms(), cut_stamp=stamp,
        parent_id=parent.backup_id if parent else "",
        parent_sha256=sha256_of(parent) if parent else "", positions=tuple(positions),
        opened=tuple((t, p, s, e) for t, p, s, e in opened), objects=objects,
        schemas={c.__name__: schemas.fingerprint(c.__name__).hex() for c in STATES.values()},
        topics=tuple(
            TopicEntry(name=s.name, partitions=s.partitions, configs=s.configs) for s in specs
        ),
        topology=source.topology.model_dump(mode="json"),
        problems=tuple(Problem(kind=k, topic=t, partition=p, key=x) for k, t, p, x in problems),
        task_backup_size=sizes["tasks"], miner_backup_size=sizes["miners"],
        validation_backup_size=sizes["validations"], reward_backup_size=sizes["rewards"],
        fraud_backup_size=sizes["fraud"], config_backup_size=sizes["config"],
        total_backup_size=sum(sizes.values()), integrity_checksum=checksum(objects),
        encryption_key_id=key_id, write_once=capable,
    )  # fmt: skip


# -- finding backups -----------------------------------------------------------------------------


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
    return parse(store.get(name), name)


def latest(store: ObjectStore, region: str) -> Manifest | None:
    """The newest finished backup's manifest, if there is one that can be read."""
    try:
        return load_manifest(store, region, "latest")[0]
    except (NotFound, IntegrityError):
        return None


def age_ms(manifest: Manifest) -> int:
    """Milliseconds of the cut before now."""
    return max(0, _now_ms() - millis_of(manifest.cut_stamp))


__all__ = ["Source", "age_ms", "create_backup", "latest", "list_backups", "load_manifest"]
