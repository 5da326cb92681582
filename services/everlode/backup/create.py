"""Makes a backup of a region: cut → containers → encrypted objects → manifest, last.

Order (must): every object is stored before the manifest; the manifest is stored whole or not at
all. So a backup that was interrupted has no manifest, is listed as unfinished, and can be removed.
Shell.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from everlode.adapters.kafka_admin import topic_ids
from everlode.adapters.object_store import ObjectStore
from everlode.adapters.postgres import Projection
from everlode.adapters.postgres_read import current_generation
from everlode.avro import schemas
from everlode.avro.codec import state_dict
from everlode.backup.container import (
    DELETED,
    DELETED_SCHEMA,
    PARKED,
    PARKED_SCHEMA,
    Sums,
    seal,
    seal_file,
    staging,
)
from everlode.backup.cut import CutReader, PartitionCut
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
from everlode.log.learn import taught
from everlode.projection.fold import Known
from everlode.projection.tables import COMPONENTS
from everlode.state.dispatch import FOLD_VERSION
from everlode.topics import Topology, catalogue, fact_topics

MANIFEST = "manifest.json"
STAGING = "everlode-backup-"


class Source(NamedTuple):
    """The region that is backed up."""

    region: str
    bootstrap: str
    conninfo: str
    topology: Topology


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@contextmanager
def _timed(timings: dict[str, int], what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    timings[what] += round((time.monotonic() - began) * 1000)


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
    generation = current_generation(source.conninfo)
    capable = store.capabilities().conditional_put
    parent = latest(store, source.region)
    began = max(_now_ms(), parent.created_at_ms + 1 if parent else 0)  # ids in order, always
    backup_id = _id_of(began)
    prefix = f"{source.region}/{backup_id}"
    sealer = _Sealer(prefix, store, keys, key_id)
    db = Projection(source.conninfo, generation, "backup")
    try:
        codec = taught(source.bootstrap, source.topology.origins)
        reader = CutReader(source.bootstrap, db, fact_topics(source.topology), progress, codec)
        with closing(reader):
            timings = dict.fromkeys(("read", "store"), 0)
            positions: list[CutPosition] = []
            opened: list[tuple[str, int, str, int]] = []
            for partition in range(source.topology.partitions):
                with _timed(timings, "read"):
                    part = reader.partition(partition)
                with _timed(timings, "store"):
                    sealer.part(part, progress)
                positions += _positions(part, reader)
                opened += [(t, partition, s, e) for (t, s), e in sorted(part.opened.items())]
            problems = reader.noted.problems
    finally:
        db.close()
    sealer.config(source)
    entries = tuple(sealer.entries)
    manifest = _manifest(
        source, generation, reader.chosen.stamp, backup_id, began, entries, positions, key_id,
        parent, problems, opened, capable, timings,
    )  # fmt: skip
    data = dump(manifest, keys.sign(body_of(manifest)))
    name = f"{prefix}/{MANIFEST}"
    store.put(name, data, only_new=capable)
    if store.get(name) != data:
        raise IntegrityError(f"{name}: the store gives other bytes than it took")
    progress(f"manifest of {backup_id}: {manifest.total_backup_size} bytes")
    return manifest


def _id_of(began_ms: int) -> str:
    """Ids sort by when their backups began."""
    seconds = time.strftime("%Y%m%dT%H%M%S", time.gmtime(began_ms / 1000))
    return f"{seconds}{began_ms % 1000:03d}-{os.urandom(3).hex()}"


def _positions(part: PartitionCut, reader: CutReader) -> list[CutPosition]:
    status = reader.chosen.status
    return [
        CutPosition(
            topic=topic, partition=part.partition, seq=at.seq, stamp=at.stamp,
            next_offset=at.next_offset, status=status.get((topic, part.partition), "empty"),
        )
        for topic, at in sorted(part.positions.items())
    ]  # fmt: skip


class _Sealer:
    """Writes and stores the objects of one backup, one after the other."""

    def __init__(self, prefix: str, store: ObjectStore, keys: KeyRing, key_id: str) -> None:
        self._prefix, self._store, self._keys, self._key_id = prefix, store, keys, key_id
        self.entries: list[ObjectEntry] = []

    def part(self, part: PartitionCut, progress: Callable[[str], None]) -> None:
        """The states of one partition number, and what was deleted or waits there."""
        by_component: dict[str, list[tuple[str, Known]]] = {c: [] for c in COMPONENTS}
        for (component, key), known in sorted(part.states.items()):
            by_component[component].append((key, known))
        for component, found in by_component.items():
            states = (state_dict(k.state) for _, k in found if k.state is not None)
            self._seal(component, part.partition, states, STATES[component].__name__)
            progress(f"{component}/{part.partition}: {self.entries[-1].records} states")
        gone = (
            {"component": component, "key": key, "version": known.version,
             "event_id": known.event_id}
            for component, found in by_component.items()
            for key, known in found
            if known.state is None
        )  # fmt: skip
        self._seal(DELETED, part.partition, gone, DELETED_SCHEMA)
        waiting = (w._asdict() for w in part.parked)
        self._seal(PARKED, part.partition, waiting, PARKED_SCHEMA)

    def config(self, source: Source) -> None:
        """Topology, topics and all schemas: what a new machine needs before the states."""
        value = {
            "topology": source.topology.model_dump(mode="json"),
            "topics": [spec._asdict() for spec in catalogue(source.topology)],
            "schemas": {n: schemas.raw(n) for n in schemas.names()},
        }
        with staging(STAGING) as folder:
            plain = folder / "config"
            plain.write_bytes(canonical(value))
            self._store_file(
                "config", 0, "json", folder, lambda to, key, name: seal_file(plain, to, key, name)
            )

    def _seal(
        self, component: str, partition: int, records: Iterable[dict[str, Any]], schema: Any
    ) -> None:
        with staging(STAGING) as folder:
            self._store_file(
                component, partition, "avro", folder,
                lambda to, key, name: seal(records, schema, to, key, name),
            )  # fmt: skip

    def _store_file(
        self, component: str, partition: int, suffix: str, folder: Path,
        make: Callable[[Path, bytes, str], Sums],
    ) -> None:  # fmt: skip
        name = f"{self._prefix}/{component}-{partition}.{suffix}.enc"
        data_key, path = os.urandom(32), folder / "object"
        sums = make(path, data_key, name)
        self._store.put_file(name, path)
        self.entries.append(
            ObjectEntry(
                key=name,
                component=component,
                partition=partition,
                **sums._asdict(),
                key_id=self._key_id,
                wrapped_key=self._keys.wrap(self._key_id, data_key, name),
            )
        )


def _manifest(
    source: Source,
    generation: int,
    stamp: int,
    backup_id: str,
    began: int,
    objects: tuple[ObjectEntry, ...],
    positions: list[CutPosition],
    key_id: str,
    parent: Manifest | None,
    problems: list[tuple[str, str, int, str]],
    opened: list[tuple[str, int, str, int]],
    capable: bool,
    timings: dict[str, int],
) -> Manifest:
    sizes = dict.fromkeys((*COMPONENTS, DELETED, PARKED, "config"), 0)
    for entry in objects:
        sizes[entry.component] += entry.cipher_bytes
    specs = [s for s in catalogue(source.topology, generation) if s.cluster == source.region]
    ids = topic_ids(source.bootstrap, [s.name for s in specs])
    return Manifest(
        format=FORMAT, tool=f"everlode {version('everlode')}", fold_version=FOLD_VERSION,
        backup_id=backup_id, backup_type="full-system", region=source.region,
        generation=generation, partitions=source.topology.partitions, created_at_ms=began,
        completed_at_ms=max(began, _now_ms()), timings_ms=timings, cut_stamp=stamp,
        parent_id=parent.backup_id if parent else "",
        parent_sha256=sha256_of(parent) if parent else "", positions=tuple(positions),
        opened=tuple(opened), objects=objects,
        schemas={c.__name__: schemas.fingerprint(c.__name__).hex() for c in STATES.values()},
        topics=tuple(
            TopicEntry(
                name=s.name, topic_id=ids.get(s.name, ""), partitions=s.partitions,
                configs=s.configs,
            )
            for s in specs
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
    return max(0, _now_ms() - millis_of(manifest.cut_stamp))


__all__ = ["Source", "age_ms", "create_backup", "latest", "list_backups", "load_manifest"]
