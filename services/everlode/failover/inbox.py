"""What a coordinator reads of its region: heartbeats, facts, verdicts, the recovery stream. Shell.

Invariants: a record is given once to a process, in order within its partition; a damaged one is
left out, and kept as a dead letter by the leading coordinator where no other process keeps it; so
is one that whoever it was given to could not take, of any topic.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from everlode.adapters.dead_letters import DeadLetters
from everlode.adapters.kafka import Raw
from everlode.adapters.kafka_mixed import MixedReader
from everlode.adapters.kafka_sender import Sender
from everlode.avro.cloudevents import URGENT_BYTES
from everlode.avro.codec import Codec
from everlode.errors import ContractError, Unavailable
from everlode.events.base import Fact
from everlode.settings.endpoints import RegionParts
from everlode.snapshots.read import read_snapshot
from everlode.telemetry.entries import RecordLeftOut, Unanswered
from everlode.telemetry.sink import Sink, silent
from everlode.topics.names import fact_topic
from everlode.topics.place import placed

LETTERS_S = 1.0
CAUGHT_UP_S = 3.0
"""Nothing more to read for this long: all has been read that can be."""
SIGNALS_READ = 20_000
"""Of heartbeats, verdicts and the recovery stream the last ones. Older verdicts have been acted on
or are overtaken, estimates are from the last `estimates.KEPT`, and that an older operation is open
the control log says: what is published of it again has the same ids."""
LOOK_BACK_S = 120.0
"""All but heartbeats is read from this time on, at least: an operation that is resumed counts it.
"""
ALONE = ("health", "recovery")
"""Components whose topics nobody else reads, and keeps dead letters of; they have one partition."""


class Read(NamedTuple):
    """A record that was read. `behind`: it is older than this process."""

    component: str
    behind: bool
    fact: Fact
    raw: Raw


class Inbox:
    """Of one coordinator. `keeps` says whether it is the one that keeps dead letters."""

    def __init__(
        self,
        place: RegionParts,
        node_id: str,
        facts: Iterable[str],
        keeps: Callable[[], bool],
        report: Sink = silent,
    ) -> None:
        self.snapshots = {
            name: read_snapshot(place.bootstrap, place.origin, name, place.partitions)
            for name in sorted(set(facts))
        }
        """What the facts begin with."""
        components = ("heartbeats", *self.snapshots, *ALONE)
        self._component = {fact_topic(place.origin, c): c for c in components}
        self._keeps = keeps
        self._report = report
        self._codec = Codec()
        self._reader = MixedReader(
            place.bootstrap, f"coordinator-{node_id}", {fact_topic(place.origin, "heartbeats")},
            wait_ms=200, min_bytes=URGENT_BYTES,
        )  # fmt: skip
        self._sender = Sender(place.bootstrap)
        self._letters = DeadLetters(self._sender, "coordinator")
        places = [
            (topic, partition)
            for topic, c in self._component.items()
            for partition in range(1 if c in ALONE else place.partitions)
        ]
        self._ends = self._reader.ends(places)
        since_ms = round((time.time() - LOOK_BACK_S) * 1000)
        beats = fact_topic(place.origin, "heartbeats")
        recent = self._reader.at_time({at: since_ms for at in places if at[0] != beats})
        starts = {at: self._start(*at, recent.get(at)) for at in places}
        begins = self._reader.beginnings(places)
        self._reader.assign(starts)
        self._behind = {at for at in places if self._ends[at] > max(starts[at], begins[at])}
        """Not what retention has emptied: of that the client never says that it is at the end."""
        self._read_at = time.monotonic()

    def _start(self, topic: str, partition: int, recent: int | None) -> int:
        """Of facts what no snapshot has, of signals the last ones; in any case what is `recent`."""
        component = self._component[topic]
        last = max(0, self._ends[topic, partition] - SIGNALS_READ)
        if component in self.snapshots:
            last = self.snapshots[component].next_offset(partition)
        return last if recent is None else min(last, recent)

    @property
    def caught_up(self) -> bool:
        """True once all that was there at the start has been read."""
        return not self._behind

    def read(self, wait_s: float = 0.1) -> Iterator[Read]:
        """The next records, for whose first one it waits; to be iterated to the end.

        Raises: Unavailable: after all of them.
        """
        batch = self._reader.batch(2000, wait_s)
        for raw in batch:
            found = self._decoded(raw)
            if found is not None:
                yield found
        try:
            self._letters.deliver(LETTERS_S)
        except Unavailable as error:  # a failover must not wait for them; they are sent again
            self._report(Unanswered(error.code, error.message, error.hint))
        if not self._behind:
            return
        if any(raw.offset < self._ends[raw.topic, raw.partition] for raw in batch):
            self._read_at = time.monotonic()
        at = self._reader.positions(self._behind)
        self._behind = {key for key in self._behind if at[key] < self._ends[key]}
        if time.monotonic() - self._read_at > CAUGHT_UP_S:
            self._behind = set()  # an open transaction of a dead primary ends what can be read

    def _decoded(self, raw: Raw) -> Read | None:
        component = self._component[raw.topic]
        behind = raw.offset < self._ends.get((raw.topic, raw.partition), 0)
        try:
            fact = placed(self._codec, raw.topic, raw.key, raw.value)
        except ContractError as error:
            if not behind and component in ALONE:
                self._leave_out(raw, error)
            return None  # of the others, the projector and the detector keep it
        return Read(component, behind, fact, raw)

    def leave_out(self, record: Read, error: ContractError) -> None:
        """Keep a record that could not be taken; one that is older than this process was kept."""
        if not record.behind:
            self._leave_out(record.raw, error)

    def _leave_out(self, raw: Raw, error: ContractError) -> None:
        self._report(RecordLeftOut(raw.topic, raw.partition, raw.offset, error.message))
        if self._keeps():
            self._letters.add(raw, error)

    def close(self) -> None:
        """Leave."""
        self._sender.flush(2)
        self._reader.close()
