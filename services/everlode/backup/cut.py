"""The consistent cut: everything with a stamp up to T, of one region, without stopping anybody.

T is the smallest stamp that the region's projector has applied over the live partitions. For each
partition number: (1) read the state topics to their ends and keep, per key, the newest state with
stamp ≤ T; (2) fold onto them the facts with stamp ≤ T that follow (the projector publishes only
the newest state of a batch, so a state between two of a batch is in no state topic, and it writes
rows first, so the states of its last batch may not be there yet). So the cut is
exact: its states are the fold of every partition up to its `seq`. What PostgreSQL says of all this
is read at one moment, before any topic: nothing may move from the one to the other unseen, and of
a partition nothing counts that the projector had not applied then. Invariants: a state topic that
goes back in (epoch, version) is an IntegrityError; a deleted key stays deleted. Memory: one
partition number. `newest` and `choose` are pure; the rest is shell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from everlode.adapters.kafka import Raw, Reader
from everlode.adapters.postgres import Projection
from everlode.avro.codec import Codec, StateHead
from everlode.backup.noted import Applied, Waiting, noted
from everlode.errors import ContractError, IntegrityError, Precondition
from everlode.events.barriers import Barrier, EpochOpened
from everlode.events.base import Envelope
from everlode.events.catalogue import STATE_COMPONENTS
from everlode.events.stamp import millis_of
from everlode.events.states import State
from everlode.projection.fold import UNKNOWN, Incoming, Key, Known, Outcome, PartitionFold, Prefix
from everlode.topics.names import state_topic
from everlode.topics.place import placed

STALE_MS = 30_000
"""A partition further behind the newest than this is stale: T does not wait for it."""
WINDOWS_MS = (5_000, 30_000, 600_000, 1 << 62)
"""How far before T the facts are read; further when that does not reach."""
READ_S = 120.0
NEW_GENERATION = "do not back this generation up: build a new one with everlode recover"


class Chosen(NamedTuple):
    """The cut's stamp, and which (topic, partition) are stale or empty."""

    stamp: int
    status: dict[tuple[str, int], str]


class Found(NamedTuple):
    """What the state topics of one partition number hold for the cut."""

    states: dict[Key, Known]
    jumps: dict[Key, int]
    """Keys that have versions which no state topic holds → the version looked for: the next state
    is after T and not the next version, or the row is further, of a batch not yet published."""


@dataclass(slots=True)
class PartitionCut:
    """The cut of one partition number."""

    partition: int
    states: dict[Key, Known]
    positions: dict[str, Prefix]
    opened: dict[tuple[str, str], int] = field(default_factory=dict)
    parked: list[Waiting] = field(default_factory=list)


def choose(applied: Iterable[Applied]) -> Chosen:
    """The stamp of the cut. Pure.

    Raises: Precondition: the projector has applied nothing yet.
    """
    rows = list(applied)
    newest = max((r.stamp for r in rows), default=0)
    if newest == 0:
        raise Precondition(
            "the projector has applied nothing yet: there is nothing to back up",
            hint="is it running? everlode status",
        )
    bound = newest - (STALE_MS << 16)
    status = {
        (r.topic, r.partition): "empty" if not r.seq else "live" if r.stamp >= bound else "stale"
        for r in rows
    }
    live = [r.stamp for r in rows if status[r.topic, r.partition] == "live"]
    return Chosen(min(live), status)


def _check_order(
    what: str,
    before: tuple[int, StateHead],
    now: tuple[int, StateHead],
    decoded: Callable[[int, StateHead], State],
) -> None:
    """Raises: IntegrityError: the later record (offset, head) of a key goes back, or differs."""
    have, found = before[1][1:3], now[1][1:3]
    if found < have:
        raise IntegrityError(
            f"{what} goes back from (epoch, version) {have} to {found}",
            code="state_regression",
            hint=NEW_GENERATION,
        )
    if found > have or before[1].value in (b"", now[1].value):
        return
    if decoded(*now) != decoded(*before):  # in an upgrade one state may have two forms
        raise IntegrityError(
            f"{what} has two states of (epoch, version) {found}",
            code="state_conflict",
            hint=NEW_GENERATION,
        )


def newest(
    component: str,
    records: Iterable[tuple[int, str, StateHead | None]],
    stamp: int,
    where: str,
    into: Found,
    decode: Callable[[bytes], State],
) -> None:
    """Keep the newest state per key with stamp ≤ `stamp`, from one state partition. Pure.

    `records`: offset, key, and head or None (a tombstone). Only what is kept is decoded: a topic
    holds many times as many records until it is compacted. A tombstone counts wherever it stands:
    a deletion is for good. Raises: IntegrityError: a key went back, has two states of one version,
    or a state that is kept cannot be decoded.
    """

    def decoded(offset: int, head: StateHead) -> State:
        try:
            return decode(head.value)
        except ContractError as error:
            raise _foreign(f"{where}@{offset}", error) from None

    last: dict[str, tuple[int, StateHead]] = {}
    kept: dict[str, tuple[int, StateHead | int]] = {}
    """Name → offset, and head or the version in which it was deleted."""
    for offset, name, head in records:
        before = last.get(name)
        if head is None:
            epoch, version = (before[1].epoch, before[1].version + 1) if before else (0, 1)
            kept[name] = offset, version
            into.jumps.pop((component, name), None)
            last[name] = offset, StateHead(name, epoch, version, 0, b"")
            continue
        if before is not None:
            _check_order(f"{where}: {name}", before, (offset, head), decoded)
        last[name] = offset, head
        if head.stamp <= stamp:
            kept[name] = offset, head
            into.jumps.pop((component, name), None)
        elif (component, name) not in into.jumps:
            _, held = kept.get(name, (0, 0))
            have = held if isinstance(held, int) else held.version
            if head.version > have + 1:
                into.jumps[component, name] = have + 1
    for name, (offset, held) in kept.items():
        into.states[component, name] = (
            Known(None, held, "")
            if isinstance(held, int)
            else Known(decoded(offset, held), held.version, "")
        )


class CutReader:
    """Reads the cut of one region, one partition number after the other."""

    def __init__(
        self,
        bootstrap: str,
        projection: Projection,
        topics: Sequence[str],
        progress: Callable[[str], None] = lambda _: None,
        codec: Codec | None = None,
    ) -> None:
        """`topics`: all fact topics; `codec`: may know newer schemas. Chooses the stamp.

        Raises: Precondition; Unavailable.
        """
        self._db = projection
        self._topics = topics
        self._codec = codec or Codec()
        self._progress = progress
        self.noted = noted(projection, topics)
        self.chosen = choose(self.noted.applied.values())
        self._reader = Reader(bootstrap, "backup", wait_ms=50)

    def close(self) -> None:
        """Leave."""
        self._reader.close()

    def partition(self, partition: int) -> PartitionCut:
        """The exact cut of one partition number. Raises: IntegrityError; Unavailable."""
        found = self._states(partition)
        self._deleted(partition, found)
        self._unpublished(partition, found)
        for window in WINDOWS_MS:
            cut = self._folded(partition, found, window)
            if cut is not None:
                return cut
            self._progress(f"partition {partition}: reading further back than {window} ms")
        raise IntegrityError(
            f"partition {partition}: facts that the cut needs are no longer in the log",
            code="snapshot_gap",
            hint="retention is shorter than the projector's lag: build a new generation",
        )

    def _states(self, partition: int) -> Found:
        into = Found({}, {})
        for component in STATE_COMPONENTS:
            topic = state_topic(self._db.generation, component)
            where = f"{topic}/{partition}"
            records = self._records(component, topic, partition)
            newest(component, records, self.chosen.stamp, where, into, self._codec.decode_state)
        return into

    def _records(
        self, component: str, topic: str, partition: int
    ) -> Iterator[tuple[int, str, StateHead | None]]:
        for batch in self._reader.to_ends({(topic, partition): 0}, READ_S):
            for raw in batch:
                try:
                    yield raw.offset, *self._record(component, raw)
                except ContractError as error:
                    raise _foreign(f"{topic}/{partition}@{raw.offset}", error) from None

    def _record(self, component: str, raw: Raw) -> tuple[str, StateHead | None]:
        """A state record's key and head. Raises: ContractError: it does not belong here."""
        if raw.key is None:
            raise ContractError("the record has no key", code="null_key")
        name = raw.key.decode(errors="replace")
        if raw.value is None:
            return name, None
        head = self._codec.state_head(component, raw.value)
        if head.key != name:
            raise ContractError(f"key {name!r} with the state of {head.key!r}")
        return name, head

    def _deleted(self, partition: int, found: Found) -> None:
        """From the projection's rows: tombstones carry no version, and are compacted away."""
        for component in STATE_COMPONENTS:
            for name, version, event_id in self._db.query(
                "select key, version, event_id from {g}." + component
                + " where doc is null and part = %s",
                (partition,),
            ):  # fmt: skip
                found.states[component, name] = Known(None, version, event_id)
                found.jumps.pop((component, name), None)

    def _unpublished(self, partition: int, found: Found) -> None:
        """What is in rows and on its way to the state topics: the facts read must reach it."""
        for (component, name), version in self.noted.parts[partition].unpublished.items():
            have = found.states.get((component, name), UNKNOWN).version
            if have < version:
                found.jumps.setdefault((component, name), have + 1)

    # -- the facts around T --------------------------------------------------------------------

    def _folded(self, partition: int, found: Found, window_ms: int) -> PartitionCut | None:
        """The cut with the facts of the window folded; None when the window is too short."""
        states, seen = dict(found.states), set[tuple[Key, int]]()
        notes, stamp = self.noted.parts[partition], self.chosen.stamp
        begun: dict[str, Prefix] = {}
        batch: list[Incoming] = []
        reopened: set[tuple[str, str]] = set()
        waits = {(w.topic, w.offset) for w in notes.parked}
        for item in self._facts(partition, max(0, millis_of(stamp) - window_ms)):
            envelope, data = item.fact
            applied = self._seq_of(item.topic, partition)
            within = envelope.stamp <= stamp and envelope.seq <= applied
            # the very first too: then nothing of the topic is in the cut
            if item.topic not in begun and (within or envelope.seq == 1):
                begun[item.topic] = Prefix(envelope.seq - 1, 0, item.offset)
            if isinstance(data, EpochOpened) and not within and envelope.seq <= applied:
                reopened.update((item.topic, s.scope) for s in data.scopes)
            if (item.topic, item.offset) in waits:
                continue
            if within:
                batch.append(item)
            elif not isinstance(data, Barrier | EpochOpened):
                seen.update((key, envelope.version) for key in PartitionFold.keys([item]))
        opened = {at: epoch for at, epoch in notes.opened.items() if at not in reopened}
        fold = PartitionFold(partition, begun, opened, [])
        for key in PartitionFold.keys(batch):
            states.setdefault(key, UNKNOWN)
        outcome = fold.fold(batch, states)
        seen.update((k, i.fact.envelope.version) for i in batch for k in PartitionFold.keys([i]))
        if not self._reaches(partition, found, outcome, seen, begun):
            return None
        kept = {key: known for key, known in states.items() if known.version}
        return PartitionCut(
            partition, kept, self._positions(partition, fold.positions), fold.opened,
            [w for w in notes.parked if self._envelope(w).stamp <= stamp],
        )  # fmt: skip

    def _seq_of(self, topic: str, partition: int) -> int:
        found = self.noted.applied.get((topic, partition))
        return found.seq if found else 0

    def _envelope(self, waiting: Waiting) -> Envelope:
        return self._codec.decode_fact(waiting.value).envelope

    def _reaches(
        self,
        partition: int,
        found: Found,
        outcome: Outcome,
        seen: set[tuple[Key, int]],
        begun: Mapping[str, Prefix],
    ) -> bool:
        """Whether the window held every fact that the states lack."""
        if any(wanted not in seen for wanted in found.jumps.items()):
            return False
        stopped = {key for kind, _, _, key in self.noted.problems if kind == "unlawful"}
        stopped |= {self._envelope(w).aggregate_id for w in self.noted.parts[partition].parked}
        if any(p.kind == "version_gap" and p.key not in stopped for p in outcome.problems):
            return False
        return all(
            a.stamp <= self.chosen.stamp or a.topic in begun
            for a in self.noted.applied.values()
            if a.partition == partition
        )

    def _facts(self, partition: int, since_ms: int) -> Iterator[Incoming]:
        starts = self._reader.at_time({(t, partition): since_ms for t in self._topics})
        for batch in self._reader.to_ends(starts, READ_S):
            for raw in batch:
                try:
                    fact = placed(self._codec, raw.topic, raw.key, raw.value)
                except ContractError:
                    continue  # the projector quarantined it
                yield Incoming(raw.topic, raw.offset, fact, raw.value or b"")

    def _positions(self, partition: int, folded: Mapping[str, Prefix]) -> dict[str, Prefix]:
        """Where each topic stands at T: as folded, or as applied where nothing came after."""
        result = {}
        for topic in self._topics:
            applied = self.noted.applied.get((topic, partition))
            if topic in folded:
                result[topic] = folded[topic]
            elif applied is not None:
                result[topic] = Prefix(applied.seq, applied.stamp, 0)
            else:
                result[topic] = Prefix()
        return result


def _foreign(where: str, error: ContractError) -> IntegrityError:
    return IntegrityError(f"{where}: {error.message}", code="foreign_record", hint=NEW_GENERATION)
