"""The last heartbeats, noted in PostgreSQL; one that it cannot hold is kept as a dead letter.

Invariant: a heartbeat that is left out is kept before the others' offsets are acknowledged. Shell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from everlode.adapters.dead_letters import DeadLetters
from everlode.adapters.kafka import Raw
from everlode.adapters.kafka_sender import Sender
from everlode.adapters.postgres_heartbeats import Heartbeats
from everlode.agents.projection import Message
from everlode.avro.codec import Codec
from everlode.errors import ContractError
from everlode.events.heartbeats import MinerBeat, NodeBeat
from everlode.projection.halves import in_halves
from everlode.projector.worker import Home
from everlode.telemetry.entries import RecordLeftOut
from everlode.telemetry.sink import Sink
from everlode.topics.names import region_of
from everlode.topics.place import placed

LETTER_S = 15.0


class _Beat(NamedTuple):
    message: Message
    row: tuple[Any, ...]


class Beats:
    """Notes heartbeats of one generation. Not thread-safe."""

    def __init__(self, home: Home, report: Sink) -> None:
        """Makes the generation's tables where they are missing. Raises: Unavailable."""
        self._codec = Codec()
        self._db = Heartbeats(home.conninfo, home.generation, home.node_id)
        self._db.create()
        self._dead = DeadLetters(Sender(home.bootstrap), "projector")
        self._report = report

    def note(self, messages: Sequence[Message]) -> None:
        """Note the last heartbeat of each node and each miner. Idempotent. Raises: Unavailable."""
        nodes: dict[str, _Beat] = {}
        miners: dict[str, list[_Beat]] = {}
        for message in messages:
            try:
                fact = placed(self._codec, message.topic, message.key, message.value)
            except ContractError:
                continue  # the detector quarantines it
            envelope, data = fact
            who, region = envelope.aggregate_id, region_of(envelope.origin)
            if isinstance(data, NodeBeat):
                row: tuple[Any, ...] = (
                    who, region, data.component, data.kind, data.role, data.held_epoch,
                    data.endpoint, data.status, data.load_ppm, data.current_tasks,
                    data.max_concurrent, data.work_done, data.queue_size, list(data.specialties),
                    envelope.stamp, envelope.occurred_at, data.waits_for,
                )  # fmt: skip
                nodes[who] = _Beat(message, row)
            elif isinstance(data, MinerBeat):
                row = (
                    who, region, data.interval_ms, len(data.running), envelope.stamp,
                    envelope.occurred_at,
                )  # fmt: skip
                miners.setdefault(who, [])[1:] = [_Beat(message, row)]  # the first and the last
        self._write([*nodes.values()], self._db.nodes)
        self._write([beat for found in miners.values() for beat in found], self._db.miners)

    def close(self) -> None:
        """Leave."""
        self._db.close()

    def _write(
        self, beats: Sequence[_Beat], write: Callable[[Sequence[tuple[Any, ...]]], None]
    ) -> None:
        if beats:
            for _ in in_halves(beats, lambda part: write([b.row for b in part]), self._leave_out):
                pass

    def _leave_out(self, beats: Sequence[_Beat], error: ContractError) -> None:
        for beat in beats:
            raw = Raw(*beat.message)
            self._dead.add(raw, error)
            self._dead.deliver(LETTER_S)
            self._report(RecordLeftOut(raw.topic, raw.partition, raw.offset, error.message))
