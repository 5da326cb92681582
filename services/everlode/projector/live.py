"""What the agents of one projector do: facts applied, heartbeats noted. Shell."""

from __future__ import annotations

from collections.abc import Mapping

from everlode.adapters.kafka import Raw
from everlode.agents.projection import Message
from everlode.log.learn import learner
from everlode.projector.assignment import Assignment
from everlode.projector.beats import Beats
from everlode.projector.bulk import catch_up
from everlode.projector.worker import NOTHING_OUTSIDE, Home, Outside, PartitionWorker
from everlode.telemetry.figures import APPLIED, BATCHES
from everlode.telemetry.sink import Sink, silent
from everlode.telemetry.tracing import Received, tracing
from everlode.topics import Topology, fact_topics


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
        learn = learner(home.bootstrap, topology.origins, home.node_id)
        self._outside = outside._replace(learn=learn, report=report)
        self._beats = Beats(home, report)

    def _take(self, partition: int) -> PartitionWorker:
        return PartitionWorker(self.home, partition, self.topics, self._outside)

    def catch_up(self, workers: Mapping[int, PartitionWorker]) -> int:
        """Bring workers to the ends of their logs in bulk; returns how many records."""
        count = catch_up(self.home.bootstrap, workers, self.topics, self._report)
        APPLIED.labels("bulk").inc(count)
        return count

    def apply(self, partition: int, messages: list[Message]) -> None:
        """Apply live records."""
        raws = [Raw(*m) for m in messages]
        with (
            BATCHES.labels(self.home.region).time(),
            tracing().batch(
                f"projection {self.home.region}",
                (Received((m.topic, m.partition, m.offset), m.offset, m.headers) for m in messages),
            ),
        ):
            count = self.assignment.apply(partition, raws, "live")
        self.applied += count
        APPLIED.labels("live").inc(count)

    def heartbeats(self, messages: list[Message]) -> None:
        """Note the last heartbeat of each node and each miner."""
        self._beats.note(messages)

    def close(self) -> None:
        """Leave what is not of one partition number; those are given up by the assignment."""
        self._beats.close()
