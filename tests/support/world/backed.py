"""A region with lawful facts, for tests of backups: small stack and projector in-process.

The facts are those of the simulated region (tests/simulation), spread over two partitions and
stamped anew with wall time, so that any prefix of them is closed under causes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import AdminClient

from everlode.adapters.kafka import Record
from everlode.adapters.kafka_topics import alter_topic, delete_topics
from everlode.adapters.kafka_writer import Writer
from everlode.adapters.postgres import Projection
from everlode.adapters.postgres_read import current_generation
from everlode.adapters.s3 import S3Store
from everlode.avro.cloudevents import event_headers
from everlode.avro.codec import Codec, encode_fact
from everlode.backup.asked import Source
from everlode.backup.container import read
from everlode.backup.create import create_backup
from everlode.backup.keys import KeyRing
from everlode.backup.manifest import Manifest
from everlode.backup.verify import fetch
from everlode.control.scopes import Scope
from everlode.events.barriers import Barrier, EpochOpened
from everlode.events.base import Envelope, Event, Fact, ScopeEpoch
from everlode.events.catalogue import FACT_COMPONENTS
from everlode.events.services import SERVICES
from everlode.events.stamp import stamp_at
from everlode.projection.tables import COMPONENTS
from everlode.projector.bulk import catch_up
from everlode.projector.worker import NOTHING_OUTSIDE, Home, Outside, PartitionWorker
from everlode.stack import NativeStack
from everlode.stack.native.supervisor import save_options
from everlode.state.dispatch import component_of_state
from everlode.topics import Topology, fact_topics, state_topics
from everlode.topics.names import fact_topic, state_topic
from everlode.topics.partition import partition_of
from tests.simulation.test_state_simulation import Region
from tests.support.facts.decided import decide
from tests.support.facts.whole_topic import records

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
BARRIER = Barrier(writer_id="test")
TOPOLOGY = Topology(regions=("eu",), control_replication=1, control_min_insync=1)
STORY_SCOPES, STORY_EPOCHS = tuple(str(Scope(s.facts, "eu")) for s in SERVICES), 20
"""The scopes of a story's facts, and an epoch that none of them is above."""
Rows = dict[tuple[str, str], tuple[int, bytes | None]]


def story(seed: int, tasks: int) -> list[tuple[str, Fact]]:
    """(component, fact), causes before effects."""
    region = Region(seed, 0.0)
    region.run(tasks)
    found = [(name, fact) for name, log in region.logs.items() for fact in log.facts]
    assert all(fact.envelope.epoch <= STORY_EPOCHS for _, fact in found)
    return sorted(found, key=lambda item: (item[1].envelope.stamp, item[0]))


class Backed:
    """`eu` with an object store. Use as a context manager."""

    def __init__(self, folder: Path, s3: str = "auto") -> None:
        self.folder = folder
        self.stack = NativeStack(TOPOLOGY, folder / "stack", mirrors=False, control_nodes=1, s3=s3)
        self.keys = KeyRing(folder / "keys")
        self.keys.create()
        self.codec = Codec()
        self.written: list[tuple[str, Fact, int]] = []
        """(component, fact as written, partition), barriers left out."""
        self._seqs: Counter[tuple[str, int]] = Counter()
        self._stamp = 0

    def __enter__(self) -> Self:
        self.endpoints = self.stack.up()
        save_options(self.stack.data_dir, TOPOLOGY)  # as `everlode stack up` does
        place = self.endpoints.regions["eu"]
        self.bootstrap, self.conninfo = place.kafka_bootstrap, place.postgres_conninfo()
        assert self.endpoints.s3 is not None
        s3 = self.endpoints.s3
        self.store = S3Store(s3.endpoint, s3.keys(), s3.buckets[0])
        assert self.endpoints.control_bootstrap is not None
        for scope in STORY_SCOPES:
            decide(self.endpoints.control_bootstrap, scope, STORY_EPOCHS)
        self._writers = {c: Writer(self.bootstrap, f"{c}.eu.1") for c in FACT_COMPONENTS}
        for writer in self._writers.values():
            writer.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for writer in self._writers.values():
            writer.abandon()
        self.stack.down(at_once=True)

    def write(
        self,
        facts: list[tuple[str, Fact]],
        skip: set[int] | None = None,
        *,
        barriers: bool = True,
    ) -> None:
        """Append facts, then a barrier to every partition. `skip`: indices that get lost."""
        records: dict[str, list[Record]] = {c: [] for c in FACT_COMPONENTS}
        for number, (component, fact) in enumerate(facts):
            partition = partition_of(fact.envelope.aggregate_id, TOPOLOGY.partitions)
            record = self._record(component, partition, fact)
            if number not in (skip or ()):
                records[component].append(record)
        for component, found in records.items():
            if barriers:
                found += [self._record(component, p, None) for p in range(TOPOLOGY.partitions)]
            self._writers[component].write(found)

    def lose(self, component: str, partition: int) -> None:
        """As if the next record of a partition had been written and were nowhere."""
        self._seqs[component, partition] += 1

    def begin_anew(self, component: str, seqs: Mapping[int, int] | None = None) -> None:
        """Take up a log that was made again, whose partitions end at these `seq`s, else at 0."""
        for partition in range(TOPOLOGY.partitions):
            self._seqs[component, partition] = (seqs or {}).get(partition, 0)
        self._writers[component].abandon()
        self._writers[component] = Writer(self.bootstrap, f"{component}.eu.1")
        self._writers[component].open()

    def reached(self) -> dict[tuple[str, int], int]:
        """(component, partition) → last `seq` that was written."""
        return dict(self._seqs)

    def open(self, component: str, scope: str, epoch: int) -> None:
        """Open an epoch in every partition."""
        mark = EpochOpened(node_id="test", scopes=(ScopeEpoch(scope=scope, epoch=epoch),))
        self._writers[component].write(
            [self._record(component, p, None, mark) for p in range(TOPOLOGY.partitions)]
        )

    def _record(
        self, component: str, partition: int, fact: Fact | None, mark: Event = BARRIER
    ) -> Record:
        at = (component, partition)
        self._seqs[at] += 1
        self._stamp = max(self._stamp + 1, stamp_at(time.time_ns() // 1_000_000))
        topic = fact_topic("eu.1", component)
        if fact is None:
            envelope = Envelope(
                event_id=f"{topic}/{partition}/{self._seqs[at]}/0", aggregate_id=topic, version=0,
                origin="eu.1", scope="", epoch=0, seq=self._seqs[at], stamp=self._stamp,
                occurred_at=FIRST, correlation_id=topic,
            )  # fmt: skip
            data = mark
        else:
            envelope = fact.envelope.model_copy(
                update={"seq": self._seqs[at], "stamp": self._stamp, "origin": "eu.1"}
            )
            data = fact.data
            self.written.append((component, Fact(envelope, data), partition))
        return Record(
            topic, partition, envelope.aggregate_id, encode_fact(envelope, data),
            event_headers(envelope, type(data).__name__),
        )  # fmt: skip

    @staticmethod
    def state_key(fact: Fact) -> tuple[str, str]:
        """(state component, key) of what a fact changes."""
        return component_of_state(type(fact.data)), fact.envelope.aggregate_id

    @staticmethod
    def renamed(fact: Fact, prefix: str) -> Fact:
        """The same fact of another aggregate, for a story that is told twice.

        What it refers to is renamed too.
        """
        envelope = fact.envelope.model_copy(
            update={
                "aggregate_id": f"{prefix}-{fact.envelope.aggregate_id}",
                "event_id": f"{prefix}-{fact.envelope.event_id}",
            }
        )
        there = fact.data.model_dump(include={"task_id", "validation_id"}, exclude_none=True)
        changes = {name: f"{prefix}-{value}" for name, value in there.items()}
        return Fact(envelope, fact.data.model_copy(update=changes))

    def signals(self, component: str) -> list[Fact]:
        """All signals of a one-partition topic, in order."""
        found = records(self.bootstrap, fact_topic("eu.1", component))
        return [self.codec.decode_fact(raw.value) for raw in found]

    def create(self) -> Manifest:
        """A backup without lease and announcement."""
        source = Source("eu", self.bootstrap, self.conninfo, TOPOLOGY)
        return create_backup(source, self.store, self.keys)

    def project(self, *, without: Sequence[str] = (), outside: Outside = NOTHING_OUTSIDE) -> int:
        """Bring the current generation to the ends of the logs; returns the generation.

        `without`: components whose facts are not read this time.
        """
        generation = current_generation(self.conninfo)
        home = Home("eu", self.bootstrap, self.conninfo, generation, "projector")
        db = Projection(self.conninfo, generation, "projector")
        db.create()
        db.close()
        topics = [t for t in fact_topics(TOPOLOGY) if not t.endswith(tuple(without) or ("-",))]
        workers = {p: PartitionWorker(home, p, topics, outside) for p in range(TOPOLOGY.partitions)}
        catch_up(self.bootstrap, workers, topics)
        for worker in workers.values():
            worker.close()
        return generation

    def applied(self, topic: str) -> dict[int, int]:
        """Partition → `seq` up to which the projector has applied a topic."""
        db = Projection(self.conninfo, current_generation(self.conninfo), "test")
        found = db.query("select part, seq from {g}.positions where topic = %s", (topic,))
        db.close()
        return dict(found)

    def rows(self) -> Rows:
        """Every row of the current generation: (version, state)."""
        db = Projection(self.conninfo, current_generation(self.conninfo), "test")
        found = {
            (component, key): (version, None if doc is None else bytes(doc))
            for component in COMPONENTS
            for key, version, doc in db.query(f"select key, version, doc from {{g}}.{component}")
        }
        db.close()
        return found

    def truncate(self, component: str, partition: int) -> None:
        """A partition of the current generation's state topic loses all that it has."""
        topic = state_topic(current_generation(self.conninfo), component)
        alter_topic(self.bootstrap, topic, {"cleanup.policy": "compact,delete"})
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        place = TopicPartition(topic, partition, OFFSET_END)
        for future in admin.delete_records([place]).values():
            future.result(20)
        alter_topic(self.bootstrap, topic, {"cleanup.policy": "compact"})

    def held(self, manifest: Manifest, folder: Path) -> dict[tuple[str, str], int]:
        """(component, key) → version of each state in a backup's objects."""
        found = {}
        for entry in manifest.objects:
            if entry.component in COMPONENTS:
                with fetch(self.store, self.keys, entry, folder).open("rb") as file:
                    for item in read(file, entry.key):
                        found[entry.component, item["key"]] = item["version"]
        return found

    def disaster(self) -> None:
        """PostgreSQL's data and the state topics are gone."""
        generation = current_generation(self.conninfo)
        self.stack.wipe("eu/postgres")
        delete_topics(self.bootstrap, [s.name for s in state_topics(TOPOLOGY, "eu", generation)])
        self.stack.restart("eu/postgres")
        self.conninfo = self.endpoints.regions["eu"].postgres_conninfo()
