"""`everlode projector run`: bulk catch-up, then Faust, from PostgreSQL's positions. Shell."""

from __future__ import annotations

import sys
import threading
from typing import Any

from everlode.adapters.kafka import Raw
from everlode.adapters.kafka_group import commit_group, group_members
from everlode.adapters.postgres import Projection, current_generation
from everlode.agents.app import run_app
from everlode.agents.projection import Message, ProjectionAgents
from everlode.avro.codec import Codec
from everlode.errors import ConfigError, ContractError
from everlode.events.heartbeats import NodeBeat
from everlode.nodes.build import agent_of, say
from everlode.projector.bulk import catch_up
from everlode.projector.learn import learner
from everlode.projector.worker import Home, PartitionWorker, fact_topics
from everlode.sdk.agent import Identity, Load
from everlode.settings import settings
from everlode.stack.endpoints import Endpoints
from everlode.topics import Topology
from everlode.topics.names import fact_topic, region_of
from everlode.topics.place import check_place


class Projector:
    """The workers of one process, by partition number."""

    def __init__(self, home: Home, topology: Topology) -> None:
        self.home = home
        self.topology = topology
        self.topics = fact_topics(topology)
        self.applied = 0
        self._workers: dict[int, PartitionWorker] = {}
        self._guard = threading.Lock()
        self._codec = Codec()
        self._learn = learner(home.bootstrap, topology.origins, home.node_id)
        self._beats_db = Projection(home.conninfo, home.generation, home.node_id)
        self._beats_db.create()

    def worker(self, partition: int) -> PartitionWorker:
        """The worker of a partition number; takes it over the first time."""
        with self._guard:
            found = self._workers.get(partition)
            if found is None:
                found = PartitionWorker(self.home, partition, self.topics, self._learn)
                self._workers[partition] = found
            return found

    def apply(self, partition: int, messages: list[Message]) -> None:
        """Apply live records."""
        self.worker(partition).apply([Raw(*m) for m in messages], "live")
        self.applied += len(messages)

    def beats(self, messages: list[Message]) -> None:
        """Note the last beat of each node."""
        rows: dict[str, tuple[Any, ...]] = {}
        for message in messages:
            try:
                fact = self._codec.decode_fact(message.value)
                check_place(message.topic, message.key, fact)
            except ContractError:
                continue  # the detector quarantines it
            envelope, data = fact
            if isinstance(data, NodeBeat):
                rows[envelope.aggregate_id] = (
                    envelope.aggregate_id, region_of(envelope.origin), data.component, data.kind,
                    data.role, data.held_epoch, data.endpoint, data.status, data.load_ppm,
                    data.current_tasks, data.max_concurrent, data.work_done, data.queue_size,
                    list(data.specialties), envelope.stamp, envelope.occurred_at,
                )  # fmt: skip
        if rows:
            self._beats_db.nodes(rows)


def run_projector(region: str, node_id: str, endpoints: Endpoints) -> None:
    """Run a projector until SIGTERM, or until another has taken its partitions.

    Raises: ConfigError: unknown region. Unavailable: PostgreSQL or Kafka does not answer.
    """
    if region not in endpoints.regions:
        raise ConfigError(f"region {region!r}", hint=f"there are: {', '.join(endpoints.regions)}")
    cfg = settings()
    topology = cfg.load_topology()
    place = endpoints.regions[region]
    conninfo = place.postgres_conninfo()
    generation = current_generation(conninfo)
    home = Home(region, place.kafka_bootstrap, conninfo, generation, node_id)
    projector = Projector(home, topology)
    agent = agent_of(
        Identity(node_id, region, place.origin, "projector"),
        endpoints,
        topology,
        cfg,
        load=lambda: Load(work_done=projector.applied),
    )
    agent.start()
    group = f"projector.{region}.g{generation}"
    if not group_members(place.kafka_bootstrap, group):
        workers = {p: projector.worker(p) for p in range(topology.partitions)}
        count = catch_up(place.kafka_bootstrap, workers, projector.topics)
        say(f"{node_id}: caught up, {count} records in bulk, generation {generation}")
        commit_group(
            place.kafka_bootstrap,
            group,
            {
                (topic, p): position.next_offset
                for p, worker in workers.items()
                for topic, position in worker.positions().items()
            },
        )
    heartbeats = [fact_topic(o, "heartbeats") for o in topology.origins]
    agents = ProjectionAgents(
        group, place.kafka_bootstrap, projector.topics, heartbeats, projector.apply, projector.beats
    )
    say(f"{node_id}: ready")
    code = run_app(agents.app)
    agent.close()
    sys.exit(code)
