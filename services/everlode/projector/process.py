"""`everlode projector run`: bulk catch-up, then Faust, from PostgreSQL's positions. Shell."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from everlode.adapters.kafka import Raw
from everlode.adapters.kafka_group import commit_group, group_members
from everlode.adapters.postgres import current_generation
from everlode.adapters.postgres_beats import Beats
from everlode.agents.app import run_app
from everlode.agents.projection import Effects, Message, ProjectionAgents
from everlode.avro.codec import Codec
from everlode.control.fold import ControlState
from everlode.errors import ConfigError, ContractError, FencedOut
from everlode.events.heartbeats import MinerBeat, NodeBeat
from everlode.nodes.build import agent_of, say
from everlode.projector.bulk import catch_up
from everlode.projector.epochs import DecidedEpochs
from everlode.projector.findings import Findings
from everlode.projector.held import Held
from everlode.projector.learn import learner
from everlode.projector.worker import ALONE, Home, Outside, PartitionWorker, fact_topics
from everlode.sdk.agent import Identity, Load
from everlode.sdk.signals import SignalWriter
from everlode.settings import settings
from everlode.stack.endpoints import Endpoints
from everlode.topics import Topology
from everlode.topics.names import fact_topic, region_of
from everlode.topics.place import placed

OVERTAKEN_S = 1.0
"""How often a projector looks whether its generation is still the current one."""


class Projector:
    """What the agents of one process do."""

    def __init__(self, home: Home, topology: Topology, outside: Outside = ALONE) -> None:
        """Schemas are learnt from the region's own copies of the `.schemas` topics."""
        self.home = home
        self.topology = topology
        self.topics = fact_topics(topology)
        self.applied = 0
        self.held = Held(self._take, self.catch_up, lambda line: say(f"{home.node_id}: {line}"))
        self._codec = Codec()
        learn = learner(home.bootstrap, topology.origins, home.node_id)
        self._outside = outside._replace(learn=learn)
        self._beats_db = Beats(home.conninfo, home.generation, home.node_id)
        self._beats_db.create()

    def _take(self, partition: int) -> PartitionWorker:
        return PartitionWorker(self.home, partition, self.topics, self._outside)

    def catch_up(self, workers: Mapping[int, PartitionWorker]) -> int:
        """Bring workers to the ends of their logs in bulk; returns how many records."""
        return catch_up(self.home.bootstrap, workers, self.topics)

    def apply(self, partition: int, messages: list[Message]) -> None:
        """Apply live records."""
        raws = [Raw(*m) for m in messages]
        self.applied += self.held.apply(partition, raws, "live")

    def beats(self, messages: list[Message]) -> None:
        """Note the last beat of each node and each miner."""
        rows: dict[str, tuple[Any, ...]] = {}
        miners: dict[str, list[tuple[Any, ...]]] = {}
        for message in messages:
            try:
                fact = placed(self._codec, message.topic, message.key, message.value)
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
            elif isinstance(data, MinerBeat):
                beat = (
                    envelope.aggregate_id, region_of(envelope.origin), data.interval_ms,
                    len(data.running), envelope.stamp, envelope.occurred_at,
                )  # fmt: skip
                miners.setdefault(envelope.aggregate_id, [])[1:] = [beat]  # the first and the last
        if rows:
            self._beats_db.nodes(rows)
        if miners:
            self._beats_db.miners([beat for found in miners.values() for beat in found])


def run_projector(region: str, node_id: str, endpoints: Endpoints) -> None:
    """Run a projector until SIGTERM, or until its generation is no longer the current one.

    Raises: ConfigError: unknown region. Unavailable: PostgreSQL or Kafka does not answer.
    FencedOut: a recovery has switched to another generation; start it again.
    """
    if region not in endpoints.regions:
        raise ConfigError(f"region {region!r}", hint=f"there are: {', '.join(endpoints.regions)}")
    cfg = settings()
    topology = cfg.load_topology()
    place = endpoints.regions[region]
    conninfo = place.postgres_conninfo()
    generation = current_generation(conninfo)
    home = Home(region, place.kafka_bootstrap, conninfo, generation, node_id)
    signals = SignalWriter(place.kafka_bootstrap, place.origin, cfg.clock())
    outside = Outside(
        epochs=DecidedEpochs(lambda: agent.control), found=Findings(place.origin, signals)
    )
    projector = Projector(home, topology, outside)
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
        _begin(projector, group)
    heartbeats = [fact_topic(o, "heartbeats") for o in topology.origins]
    agents = ProjectionAgents(
        group,
        place.kafka_bootstrap,
        projector.topics,
        heartbeats,
        Effects(projector.apply, projector.beats, projector.held.assigned, projector.held.settle),
    )
    say(f"{node_id}: ready")
    overtaken = threading.Event()
    threading.Thread(
        target=_end_when_overtaken, args=(home, lambda: agent.control, overtaken), daemon=True
    ).start()
    code = run_app(agents.app)
    signals.close()
    agent.close()
    if overtaken.is_set():
        raise FencedOut(
            f"{node_id}: generation {generation} of {region} is no longer the current one",
            code="generation_replaced",
            hint="start it again: it goes on with the generation that is",
        )
    sys.exit(code)


def _end_when_overtaken(
    home: Home, control: Callable[[], ControlState], overtaken: threading.Event
) -> None:
    """Nobody reads what a projector writes for a generation that has been replaced."""
    while control().generations.get(home.region, 0) <= home.generation:
        time.sleep(OVERTAKEN_S)
    overtaken.set()
    os.kill(os.getpid(), signal.SIGTERM)


def _begin(projector: Projector, group: str) -> None:
    """Catch up in bulk as the first of the group, which then starts where that ended."""
    home = projector.home
    with ThreadPoolExecutor() as threads:
        workers = dict(
            enumerate(threads.map(projector.held.worker, range(projector.topology.partitions)))
        )
    try:
        count = projector.catch_up(workers)
    except FencedOut:  # one that was started at the same time does it
        say(f"{home.node_id}: another projector catches up")
        return
    say(f"{home.node_id}: caught up, {count} records in bulk, generation {home.generation}")
    commit_group(
        home.bootstrap,
        group,
        {
            (topic, p): position.next_offset
            for p, worker in workers.items()
            for topic, position in worker.positions().items()
        },
    )
