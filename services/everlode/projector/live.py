"""What the agents of one projector do: facts applied, heartbeats noted. Shell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from everlode.adapters.kafka import Raw
from everlode.adapters.postgres_heartbeats import Heartbeats
from everlode.agents.projection import Message
from everlode.avro.codec import Codec
from everlode.errors import ContractError
from everlode.events.heartbeats import MinerBeat, NodeBeat
from everlode.log.learn import learner
from everlode.projector.assignment import Assignment
from everlode.projector.bulk import catch_up
from everlode.projector.worker import NOTHING_OUTSIDE, Home, Outside, PartitionWorker
from everlode.telemetry.sink import Sink, silent
from everlode.topics import Topology, fact_topics
from everlode.topics.names import region_of
from everlode.topics.place import placed


class Projector:
    """What the agents of one process do."""

    def __init__(
        self,
        home: Home,
        topology: Topology,
        outside: Outside = NOTHING_OUTSIDE,
        report: Sink = silent,
    ) -> None:
        """Schemas are learnt from the region's own copies of the `.schemas` topics.

        `report` gets what is lost, taken and caught up, by partition number.
        """
        self.home = home
        self.topology = topology
        self.topics = fact_topics(topology)
        self._report = report
        self.applied = 0
        self.assignment = Assignment(self._take, self.catch_up, report)
        self._codec = Codec()
        learn = learner(home.bootstrap, topology.origins, home.node_id)
        self._outside = outside._replace(learn=learn)
        self._heartbeats_db = Heartbeats(home.conninfo, home.generation, home.node_id)
        self._heartbeats_db.create()

    def _take(self, partition: int) -> PartitionWorker:
        return PartitionWorker(self.home, partition, self.topics, self._outside)

    def catch_up(self, workers: Mapping[int, PartitionWorker]) -> int:
        """Bring workers to the ends of their logs in bulk; returns how many records."""
        return catch_up(self.home.bootstrap, workers, self.topics, self._report)

    def apply(self, partition: int, messages: list[Message]) -> None:
        """Apply live records."""
        raws = [Raw(*m) for m in messages]
        self.applied += self.assignment.apply(partition, raws, "live")

    def heartbeats(self, messages: list[Message]) -> None:
        """Note the last heartbeat of each node and each miner."""
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
            self._heartbeats_db.nodes(rows)
        if miners:
            self._heartbeats_db.miners([beat for found in miners.values() for beat in found])
