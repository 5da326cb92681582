"""A projector's world for one test: topics of an origin and a generation of its own.

On a stack that is shared: nothing of it is left at the end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count

from confluent_kafka import Producer

from everlode.adapters.kafka import Raw, Reader
from everlode.adapters.kafka_admin import delete_topics, ensure_topics
from everlode.adapters.postgres import Projection
from everlode.avro.codec import Codec, encode_fact
from everlode.events.base import Fact
from everlode.events.states import State
from everlode.projector.learn import Learn, never
from everlode.projector.worker import Home, PartitionWorker, fact_topics
from everlode.stack.endpoints import Endpoints
from everlode.topics import Topology
from everlode.topics.catalogue import catalogue
from everlode.topics.names import dead_letter_topic, fact_topic, state_topic

_numbers = count(101)


class Lab:
    """Topics eu.<N>.*, their dead letters and states, and the PostgreSQL schema g<N>."""

    def __init__(self, endpoints: Endpoints) -> None:
        self.number = next(_numbers)
        self.origin = f"eu.{self.number}"
        place = endpoints.regions["eu"]
        self.bootstrap = place.kafka_bootstrap
        self.conninfo = place.postgres_conninfo()
        self.topology = Topology(regions=("eu",), incarnations={"eu": self.number}, partitions=1)
        self.topics = fact_topics(self.topology)
        mine = (f"{self.origin}.", f"dlt.projector.{self.origin}.", f"state.g{self.number}.")
        self.specs = [s for s in catalogue(self.topology, self.number) if s.name.startswith(mine)]
        self.workers: list[PartitionWorker] = []
        self._raw = Producer({"bootstrap.servers": self.bootstrap, "acks": "all", "linger.ms": 2})
        self._codec = Codec()

    # -- what is in the log ------------------------------------------------------------------

    def put(self, topic: str, key: bytes | None, value: bytes | None) -> None:
        """Write any bytes."""
        self._raw.produce(topic, value, key, partition=0)
        assert self._raw.flush(20) == 0

    def say(self, component: str, *facts: Fact) -> None:
        """Write facts, in order."""
        for item in facts:
            key = item.envelope.aggregate_id.encode()
            self._raw.produce(self.topic(component), encode_fact(*item), key, partition=0)
        assert self._raw.flush(20) == 0

    def topic(self, component: str) -> str:
        """The component's fact topic."""
        return fact_topic(self.origin, component)

    def records(self, *topics: str, start: int = 0) -> list[Raw]:
        """Committed records of partition 0, in order within each topic."""
        reader = Reader(self.bootstrap, "lab", wait_ms=20)
        places = {(t, 0): start for t in topics}
        ends = reader.ends(places)
        reader.assign(places)
        wanted = {at: end for at, end in ends.items() if end > start}
        found = [r for batch in reader.until(wanted, 20) for r in batch]
        reader.close()
        return found

    def dead(self, component: str) -> list[Raw]:
        """Dead letters of a fact topic."""
        return self.records(dead_letter_topic("projector", self.topic(component)))

    # -- the projector -----------------------------------------------------------------------

    def home(self, node_id: str) -> Home:
        """Where a projector of this name works."""
        return Home("eu", self.bootstrap, self.conninfo, self.number, node_id)

    def worker(self, node_id: str = "one", learn: Learn = never) -> PartitionWorker:
        """A worker that takes partition 0 over."""
        made = PartitionWorker(self.home(node_id), 0, self.topics, learn)
        self.workers.append(made)
        return made

    def feed(self, worker: PartitionWorker, most: int = 10_000) -> None:
        """Give the worker what it has not had yet, in batches of at most `most`."""
        for topic in self.topics:
            at = worker.positions()[topic].next_offset
            raws = [r for r in self.records(topic) if r.offset >= at]
            for start in range(0, len(raws), most):
                worker.apply(raws[start : start + most], "live")

    # -- what came of it ---------------------------------------------------------------------

    @contextmanager
    def database(self) -> Iterator[Projection]:
        """The generation's tables."""
        found = Projection(self.conninfo, self.number, "lab")
        try:
            yield found
        finally:
            found.close()

    def problems(self) -> list[tuple[str, str, int, str]]:
        """(kind, topic, offset, key), by place."""
        with self.database() as db:
            text = "select kind, topic, at_offset, key from {g}.problems order by 2, 3, 1"
            return [(k, t, o, key) for k, t, o, key in db.query(text)]

    def rows(self, component: str) -> dict[str, tuple[int, str]]:
        """Key → (version, event id) in PostgreSQL."""
        with self.database() as db:
            text = f"select key, version, event_id from {{g}}.{component}"
            return {key: (version, event) for key, version, event in db.query(text)}

    def published(self, component: str) -> dict[str, State | None]:
        """The state topic's last word on each key; fails when it ever went back."""
        found: dict[str, State | None] = {}
        top: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
        for raw in self.records(state_topic(self.number, component)):
            assert raw.key is not None
            key = raw.key.decode()
            if raw.value is None:
                found[key] = None
                continue
            state = self._codec.decode_state(raw.value)
            at = (state.epoch, state.version)
            assert at >= top[key], f"state_regression: {key} from {top[key]} to {at}"
            top[key] = at
            found[key] = state
        return found

    def agrees(self, components: Sequence[str]) -> bool:
        """True when state topics and PostgreSQL say the same."""
        return all(
            {k: s.version for k, s in self.published(c).items() if s is not None}
            == {k: version for k, (version, _) in self.rows(c).items()}
            for c in components
        )


@contextmanager
def lab(endpoints: Endpoints) -> Iterator[Lab]:
    """A lab, and nothing left of it."""
    made = Lab(endpoints)
    ensure_topics(made.bootstrap, made.specs)
    try:
        with made.database() as db:
            db.create()
        yield made
    finally:
        for worker in made.workers:
            worker.close()
        with made.database() as db:
            db.drop()
        delete_topics(made.bootstrap, [s.name for s in made.specs])
