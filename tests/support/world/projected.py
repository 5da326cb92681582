"""One broker and a database for tests of the projection: facts in, by any means; rows out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from confluent_kafka import Producer

from everlode.adapters.kafka import Raw
from everlode.adapters.kafka_topics import ensure_topics
from everlode.adapters.postgres import Projection
from everlode.avro.codec import encode_fact
from everlode.events.base import Envelope, Event, Fact
from everlode.events.catalogue import FACT_COMPONENTS
from everlode.events.stamp import stamp_at
from everlode.projector.bulk import catch_up
from everlode.projector.worker import NOTHING_OUTSIDE, Home, Outside, PartitionWorker
from everlode.stack import NativeStack
from everlode.topics import Topology, fact_topics, state_topics
from everlode.topics.names import dead_letter_topic, fact_topic, state_topic
from tests.support.facts.whole_topic import records
from tests.support.world.backed import story

TOPOLOGY = Topology(regions=("eu",), control_replication=1, control_min_insync=1)
FIRST = datetime(2026, 1, 1, tzinfo=UTC)


def histories(tasks: int = 4, seed: int = 1) -> dict[str, list[Fact]]:
    """Component → a lawful history, with at least four facts, of one aggregate of it.

    Rewards have fewer: two.
    """
    found: dict[str, dict[str, list[Fact]]] = {c: {} for c in FACT_COMPONENTS}
    for component, fact in story(seed, tasks):
        found[component].setdefault(fact.envelope.aggregate_id, []).append(fact)
    return {c: max(keys.values(), key=len) for c, keys in found.items()}


def as_other(facts: list[Fact], case: str) -> list[Fact]:
    """A history as one of another key."""
    return [
        fact._replace(
            envelope=fact.envelope.model_copy(
                update={
                    "aggregate_id": f"{fact.envelope.aggregate_id}~{case}",
                    "event_id": f"{fact.envelope.event_id}~{case}",
                }
            )
        )
        for fact in facts
    ]


class Lab:
    """`eu` of a small stack, facts written by hand. Use as a context manager."""

    def __init__(self, folder: Path, *, control: bool = False) -> None:
        self.folder = folder
        self.stack = NativeStack.small(folder / "stack", control=control)
        self.seqs: Counter[tuple[str, int]] = Counter()
        self.generation = 1
        self._workers: list[PartitionWorker] = []

    def __enter__(self) -> Lab:
        self.endpoints = self.stack.up()
        place = self.endpoints.regions["eu"]
        self.bootstrap, self.conninfo = place.kafka_bootstrap, place.postgres_conninfo()
        self._producer = Producer({"bootstrap.servers": self.bootstrap, "acks": "all"})
        self.make(1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()
        self.stack.down(at_once=True)

    def make(self, generation: int) -> None:
        """A new, empty generation, used from now on."""
        self.generation = generation
        ensure_topics(self.bootstrap, state_topics(TOPOLOGY, "eu", generation))
        db = Projection(self.conninfo, generation, "test")
        db.create()
        db.close()

    # -- writing -------------------------------------------------------------------------------

    def fact(
        self, component: str, fact: Fact, *, skip: int = 0, partition: int = 0, **changes: Any
    ) -> tuple[str, bytes]:
        """Key and bytes of a fact as the next record of its partition; `changes` to its envelope.

        `skip`: as if so many records before it had been lost.
        """
        at = (component, partition)
        self.seqs[at] += 1 + skip
        envelope = fact.envelope.model_copy(
            update={
                "seq": self.seqs[at], "stamp": stamp_at(1_000_000 + self.seqs[at]),
                "origin": "eu.1", **changes,
            }
        )  # fmt: skip
        return envelope.aggregate_id, encode_fact(envelope, fact.data)

    def mark(self, component: str, data: Event, partition: int = 0) -> tuple[str, bytes]:
        """A barrier or an opened epoch, as the next record."""
        envelope = Envelope(
            event_id="mark", aggregate_id="mark", version=0, origin="eu.1", scope="", epoch=0,
            seq=0, stamp=0, occurred_at=FIRST, correlation_id="mark",
        )  # fmt: skip
        return self.fact(component, Fact(envelope, data), partition=partition)

    def put(self, topic: str, key: str | None, value: bytes | None, partition: int = 0) -> None:
        """Append a record, whatever it is."""
        self._producer.produce(topic, key=key, value=value, partition=partition)

    def append(self, component: str, *records: tuple[str | None, bytes | None]) -> None:
        """Append records to partition 0 of a fact topic, and wait until they are there."""
        for key, value in records:
            self.put(fact_topic("eu.1", component), key, value)
        self.flush()

    def flush(self) -> None:
        """Wait until all that was put is there."""
        assert self._producer.flush(30) == 0

    # -- folding -------------------------------------------------------------------------------

    def home(self, node_id: str = "projector") -> Home:
        """Where a projector works."""
        return Home("eu", self.bootstrap, self.conninfo, self.generation, node_id)

    def worker(
        self, partition: int = 0, node_id: str = "projector", outside: Outside = NOTHING_OUTSIDE
    ) -> PartitionWorker:
        """Take a partition over."""
        found = PartitionWorker(self.home(node_id), partition, fact_topics(TOPOLOGY), outside)
        self._workers.append(found)
        return found

    def leave(self) -> None:
        """Close all workers there are."""
        for worker in self._workers:
            worker.close()
        self._workers.clear()

    def project(self) -> None:
        """A projector that begins, folds to the end and leaves."""
        self.leave()
        workers = {p: self.worker(p) for p in range(TOPOLOGY.partitions)}
        catch_up(self.bootstrap, workers, fact_topics(TOPOLOGY))
        self.leave()

    # -- looking -------------------------------------------------------------------------------

    def query(self, text: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a query in the generation."""
        db = Projection(self.conninfo, self.generation, "test")
        try:
            return db.query(text, values)
        finally:
            db.close()

    def version(self, component: str, key: str) -> int:
        """Version of a row; 0 when there is none."""
        rows = self.query(f"select version from {{g}}.{component} where key = '{key}'")
        return int(rows[0][0]) if rows else 0

    def problems(self, component: str) -> list[tuple[Any, ...]]:
        """(kind, key, event id, expected, found) of a topic's problems, in log order."""
        topic = fact_topic("eu.1", component)
        return self.query(
            "select kind, key, event_id, expected, found from {g}.problems"
            f" where topic = '{topic}' order by at_offset, kind"
        )

    def records(self, topic: str, partitions: int = 1) -> list[Raw]:
        """All committed records of a topic, by partition."""
        return records(self.bootstrap, topic, partitions)

    def dead(self, component: str) -> list[Raw]:
        """Dead letters of a fact topic, oldest first."""
        return self.records(dead_letter_topic("projector", fact_topic("eu.1", component)))

    def published(self, component: str, partitions: int = 2) -> list[Raw]:
        """The state topic as it stands."""
        return self.records(state_topic(self.generation, component), partitions)
