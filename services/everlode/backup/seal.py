"""Seals a cut: containers, each encrypted under a key of its own, to the store; the manifest last.

Steps (5) and (6) of the protocol in cut.py. Order (must): every object is stored before the
manifest; the manifest is stored whole or not at all. So a backup that was interrupted has no
manifest, is listed as unfinished, and can be removed. An object is opened and decoded once, as a
restore would, before it is sent; what is in the store is then known by its hash. The objects of a
partition number are sent while others of it are made. Shell: writes the store.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from importlib.metadata import version
from typing import Any, BinaryIO, NamedTuple

from everlode.adapters.kafka_admin import topic_ids
from everlode.adapters.object_store import ObjectStore
from everlode.avro import schemas
from everlode.avro.plain import state_dict
from everlode.backup.age import fewer
from everlode.backup.asked import Source
from everlode.backup.chain import Parent
from everlode.backup.container import (
    DELETED,
    DELETED_SCHEMA,
    PARKED,
    PARKED_SCHEMA,
    Sums,
    check_records,
    open_sealed,
    room,
    seal,
    seal_file,
)
from everlode.backup.keys import KeyRing
from everlode.backup.manifest import (
    FORMAT,
    MANIFEST,
    Age,
    Compared,
    CutPosition,
    Manifest,
    ObjectEntry,
    Problem,
    TopicEntry,
    body_of,
    canonical,
    checksum,
    dump,
)
from everlode.backup.partition import PartitionCut
from everlode.backup.snapshot import Moment
from everlode.backup.spill import Spill
from everlode.backup.witnesses import Short
from everlode.errors import IntegrityError
from everlode.events.catalogue import STATES
from everlode.projection.fold import Known
from everlode.projection.tables import COMPONENTS
from everlode.state.dispatch import FOLD_VERSION
from everlode.telemetry.entries import StepEnded
from everlode.telemetry.sink import Sink
from everlode.topics import catalogue

SENT_AT_ONCE = 4
_DELETED_FIELDS = ("component", "key", "version", "event_id")


class Begun(NamedTuple):
    """A backup that has begun: what is known before its first object."""

    source: Source
    generation: int
    backup_id: str
    at_ms: int
    parent: Manifest | None
    key_id: str
    moment: Moment
    write_once: bool
    after: Parent
    """What it is chained to: the parent, or a newer one that the store has lost."""
    age: Age
    short: tuple[Short, ...]
    fences_lost: int

    @property
    def prefix(self) -> str:
        """Of all its objects' keys."""
        return f"{self.source.region}/{self.backup_id}"


class Sealer:
    """Writes and stores the objects of one backup, and its manifest; `close` it."""

    def __init__(self, begun: Begun, store: ObjectStore, keys: KeyRing, report: Sink) -> None:
        self._begun, self._store, self._keys, self.report = begun, store, keys, report
        self._threads = ThreadPoolExecutor(SENT_AT_ONCE, "seal")
        self._topics = self._threads.submit(_topics, begun.source, begun.generation)
        self._sent: list[tuple[ObjectEntry, BinaryIO, Future[None]]] = []
        self._entries: list[ObjectEntry] = []
        self._positions: list[CutPosition] = []
        self._opened: list[tuple[str, int, str, int]] = []
        self._compared = Compared(rows=0, from_rows=0, without_row=0, fences_lost=begun.fences_lost)

    def close(self) -> None:
        """Leave; what is being sent is waited for, and what was not begun is thrown away."""
        self._threads.shutdown(cancel_futures=True)
        for _, sealed, _ in self._sent:
            sealed.close()

    def part(self, part: PartitionCut) -> None:
        """The states of one partition number, and what was deleted or waits there; all stored."""
        status = self._begun.moment.chosen.status
        self._positions += [
            CutPosition(
                topic=topic, partition=part.partition, seq=at.seq, stamp=at.stamp,
                next_offset=at.next_offset, status=status.get((topic, part.partition), "empty"),
            )
            for topic, at in sorted(part.positions.items())
        ]  # fmt: skip
        self._opened += [
            (topic, part.partition, scope, epoch)
            for (topic, scope), epoch in sorted(part.fences.items())
        ]
        with closing(Spill(1)) as gone:
            for component in COMPONENTS:
                states = _live(component, part.states(component), gone)
                self._seal(component, part.partition, states, STATES[component].__name__)
            deleted = (dict(zip(_DELETED_FIELDS, item, strict=True)) for item in gone.items(0))
            self._seal(DELETED, part.partition, deleted, DELETED_SCHEMA)
        waiting = ({"topic": w.topic, "offset": w.offset, "value": w.value} for w in part.parked)
        self._seal(PARKED, part.partition, waiting, PARKED_SCHEMA)
        compared = f"{part.rows} rows compared"
        self.report(StepEnded("cut", f"partition {part.partition}", compared))
        self._await_stored()
        so_far = self._compared
        self._compared = Compared(
            rows=so_far.rows + part.rows,
            from_rows=so_far.from_rows + part.from_rows,
            without_row=so_far.without_row + part.without_row,
            fences_lost=so_far.fences_lost,
        )

    def config(self) -> None:
        """Topology, topics and all schemas: what a new machine needs before the states."""
        topology = self._begun.source.topology
        value = {
            "topology": topology.model_dump(mode="json"),
            "topics": [spec._asdict() for spec in catalogue(topology)],
            "schemas": {n: schemas.raw(n) for n in schemas.names()},
        }
        with room(), tempfile.TemporaryFile() as plain:
            plain.write(canonical(value))
            self._store_file(
                "config", 0, "json", lambda to, key, name: seal_file(plain, to, key, name)
            )
        self._await_stored()

    def manifest(self, timings_ms: Mapping[str, int]) -> Manifest:
        """Sign and store it, and read it back: now it is a backup.

        Raises: IntegrityError: the store gives other bytes than it took. Unavailable.
        """
        made = self._made(timings_ms)
        data = dump(made, self._keys.sign(body_of(made)))
        name = f"{self._begun.prefix}/{MANIFEST}"
        self._store.put(name, data, only_new=self._begun.write_once)
        if self._store.get(name) != data:
            raise IntegrityError(f"{name}: the store gives other bytes than it took")
        self.report(StepEnded("manifest", made.backup_id, f"{made.total_backup_size} bytes"))
        return made

    def _seal(
        self, component: str, partition: int, records: Iterable[dict[str, Any]], schema: Any
    ) -> None:
        self._store_file(
            component, partition, "avro",
            lambda to, key, name: seal(records, schema, to, key, name),
        )  # fmt: skip

    def _store_file(
        self, component: str, partition: int, suffix: str,
        make: Callable[[BinaryIO, bytes, str], Sums],
    ) -> None:  # fmt: skip
        name = f"{self._begun.prefix}/{component}-{partition}.{suffix}.enc"
        data_key, key_id = os.urandom(32), self._begun.key_id
        with room(), ExitStack() as opened:
            sealed = opened.enter_context(tempfile.TemporaryFile())
            sums = make(sealed, data_key, name)
            entry = ObjectEntry(
                key=name, component=component, partition=partition, **sums._asdict(),
                key_id=key_id, wrapped_key=self._keys.wrap(key_id, data_key, name),
            )  # fmt: skip
            self._check(sealed, entry, sums)
            opened.pop_all()  # it is closed once it was sent
        self._entries.append(entry)
        self._sent.append((entry, sealed, self._threads.submit(self._send, name, sealed)))

    def _check(self, sealed: BinaryIO, entry: ObjectEntry, sums: Sums) -> None:
        """It opens with the key that the manifest will hold, and decodes."""
        key = self._keys.unwrap(entry.key_id, entry.wrapped_key, entry.key)
        with tempfile.TemporaryFile() as plain:
            open_sealed(sealed, plain, key, entry.key, sums)
            if entry.component != "config":
                check_records(plain, entry.key, sums.records)

    def _send(self, name: str, sealed: BinaryIO) -> None:
        with sealed:
            self._store.put_file(name, sealed)

    def _await_stored(self) -> None:
        """Until all that was sent is stored; each is reported, in order."""
        for entry, _, stored in self._sent:
            stored.result()
            what = f"{entry.component}/{entry.partition}"
            self.report(StepEnded("seal", what, f"{entry.records} records"))
        self._sent.clear()

    def _made(self, timings_ms: Mapping[str, int]) -> Manifest:
        begun, source, parent = self._begun, self._begun.source, self._begun.parent
        objects = tuple(self._entries)
        sizes = dict.fromkeys((*COMPONENTS, DELETED, PARKED, "config"), 0)
        for entry in objects:
            sizes[entry.component] += entry.cipher_bytes
        return Manifest(
            format=FORMAT, tool=f"everlode {version('everlode')}", fold_version=FOLD_VERSION,
            backup_id=begun.backup_id, backup_type="full-system", region=source.region,
            generation=begun.generation, partitions=source.topology.partitions,
            created_at_ms=begun.at_ms,
            completed_at_ms=max(begun.at_ms, time.time_ns() // 1_000_000),
            timings_ms=dict(timings_ms), cut_stamp=begun.moment.chosen.stamp,
            parent_id=begun.after.backup_id, parent_sha256=begun.after.sha256,
            positions=tuple(self._positions),
            opened=tuple(self._opened), objects=objects,
            schemas={c.__name__: schemas.fingerprint(c.__name__).hex() for c in STATES.values()},
            topics=self._topics.result(),
            topology=source.topology.model_dump(mode="json"),
            problems=tuple(
                Problem(kind=k, topic=t, partition=p, key=x) for k, t, p, x in begun.moment.problems
            ),
            task_backup_size=sizes["tasks"], miner_backup_size=sizes["miners"],
            validation_backup_size=sizes["validations"], reward_backup_size=sizes["rewards"],
            fraud_backup_size=sizes["fraud"], config_backup_size=sizes["config"],
            total_backup_size=sum(sizes.values()), integrity_checksum=checksum(objects),
            encryption_key_id=begun.key_id, write_once=begun.write_once, compared=self._compared,
            age=begun.age, fewer=fewer(parent.objects if parent else (), objects),
            short=begun.short,
        )  # fmt: skip


def _live(
    component: str, states: Iterable[tuple[str, Known]], gone: Spill
) -> Iterator[dict[str, Any]]:
    """The states as plain values; what was deleted goes to `gone`."""
    for key, known in states:
        if known.state is not None:
            yield state_dict(known.state)
        else:
            gone.add(0, (component, key, known.version, known.event_id), 150)


def _topics(source: Source, generation: int) -> tuple[TopicEntry, ...]:
    """The region's topics as they are, with the ids that the cluster knows them by."""
    specs = [s for s in catalogue(source.topology, generation) if s.cluster == source.region]
    ids = topic_ids(source.bootstrap, [s.name for s in specs])
    return tuple(
        TopicEntry(
            name=s.name, topic_id=ids.get(s.name, ""), partitions=s.partitions, configs=s.configs
        )
        for s in specs
    )
