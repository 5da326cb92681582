"""Facts that have no effect because their region or epoch was over, and their commands given again.

    us.1.tasks/2@41      a fact above what counts of us: noted by each projection, folded by none
    us.commands.tasks/2  the command that it came of, where it still is
      └─► eu.commands.tasks/2, under the same id: whoever serves us's scope now carries it out once

A fenced fact stays in its log and in the copies of it. It is not repaired: what it was to do may be
asked for again, and whoever has carried out its command meanwhile says so again. Of what followed
from another fact, or was written without a command, nothing can be given again: its cause is there.
Shell.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import NamedTuple

from everlode.adapters.clock import Clock
from everlode.adapters.kafka import Raw, Reader, Record
from everlode.adapters.kafka_writer import Writer
from everlode.adapters.postgres_read import Generation
from everlode.avro.codec import Codec
from everlode.avro.signals import Head, Now, SignalMaker
from everlode.control.fold import ControlState
from everlode.errors import ContractError, FencedOut, Locked, NotFound, Refusal
from everlode.events.base import Fact
from everlode.events.recovery import DeadLetterReplayed
from everlode.log.fates import Wish
from everlode.settings.endpoints import Endpoints
from everlode.topics.letters import own_headers
from everlode.topics.names import command_topic, fact_topic, split_fact_topic
from everlode.topics.place import TopicPartition, placed

READ_S = 30.0
REISSUE_OF = "reissue-of"
"""Header of a command that was given again: the id of the fenced fact that it had come to."""
CODE = "fenced"
_NOTED = (
    "select kind, topic, part, at_offset, event_id from {g}.problems"
    " where kind in ('above_vector', 'fenced') order by topic, part, at_offset"
)


class Fenced(NamedTuple):
    """A fact that has no effect, and where it and its command are."""

    event_id: str
    kind: str
    """above_vector: beyond what counts of a lost region; fenced: of an epoch that was over."""
    event_type: str
    aggregate_id: str
    version: int
    scope: str
    epoch: int
    topic: str
    partition: int
    seq: int
    offset: int
    """In the log, or copy, of the region that was asked."""
    occurred_at: str
    command_id: str | None
    command_topic: str | None
    """Where its command was read; None: it followed from a fact, or from none."""
    command_partition: int | None
    command_offset: int | None


def fenced(endpoints: Endpoints, region: str) -> list[Fenced]:
    """All that a region's projection has noted, by topic, partition and offset.

    One whose record retention has removed is not listed. Raises: NotFound: there is no projection.
    Unavailable.
    """
    place = endpoints.region(region)
    with closing(Generation.current(place.postgres_conninfo())) as db:
        noted = {(t, p, o): str(kind) for kind, t, p, o, _ in db.query(_NOTED)}
    codec, found = Codec(), []
    with closing(Reader(place.kafka_bootstrap, "fenced", wait_ms=20)) as reader:
        for raw in _records(reader, noted):
            try:
                fact = placed(codec, raw.topic, raw.key, raw.value)
            except ContractError:
                continue  # it is a dead letter
            found.append(_shown(endpoints, noted[raw.topic, raw.partition, raw.offset], raw, fact))
    return sorted(found, key=lambda f: (f.topic, f.partition, f.offset))


def _shown(endpoints: Endpoints, kind: str, raw: Raw, fact: Fact) -> Fenced:
    e = fact.envelope
    _, component = split_fact_topic(raw.topic)
    of_command = e.source_topic in {command_topic(r, component) for r in endpoints.regions}
    source = (e.source_topic, e.source_partition, e.source_position) if of_command else (None,) * 3
    return Fenced(
        e.event_id, kind, type(fact.data).__name__, e.aggregate_id, e.version, e.scope, e.epoch,
        raw.topic, raw.partition, e.seq, raw.offset, e.occurred_at.isoformat(), e.command_id,
        *source,
    )  # fmt: skip


def _records(reader: Reader, wanted: Iterable[tuple[str, int, int]]) -> Iterable[Raw]:
    """The records at these places, of those that are still there. Raises: Unavailable."""
    offsets: dict[TopicPartition, set[int]] = defaultdict(set)
    for topic, partition, offset in wanted:
        offsets[topic, partition].add(offset)
    there = reader.bounds(offsets)
    bounds = {
        at: (max(there[at][0], min(found)), min(there[at][1], max(found) + 1))
        for at, found in offsets.items()
    }
    bounds = {at: (first, end) for at, (first, end) in bounds.items() if first < end}
    starts = {at: first for at, (first, _) in bounds.items()}
    for batch in reader.to_bounds(starts, bounds, READ_S) if bounds else ():
        for raw in batch:
            if raw.offset in offsets[raw.topic, raw.partition]:
                yield raw


class Reissued(NamedTuple):
    """A command that was given again, or would be."""

    event_id: str
    command_id: str
    scope: str
    owner: str
    """Region that serves the scope now."""
    topic: str
    partition: int


class _Writers:
    """One of each region while it is asked for; opening one fences, and so takes its time."""

    def __init__(self) -> None:
        self._opened: dict[str, Writer] = {}

    def of(self, owner: str, bootstrap: str) -> Writer:
        """Raises: Unavailable."""
        if owner not in self._opened:
            writer = self._opened[owner] = Writer(bootstrap, f"reissue-{owner}")
            writer.open()
        return self._opened[owner]

    def close(self) -> None:
        """Leave; it may be asked again."""
        while self._opened:
            self._opened.popitem()[1].abandon()


class Reissuer:
    """Gives the commands of fenced facts again. Not thread-safe."""

    def __init__(self, endpoints: Endpoints, control: ControlState, clock: Clock) -> None:
        self._endpoints, self._control, self._clock = endpoints, control, clock
        self._codec = Codec()
        self._writers = _Writers()

    def reissue(
        self, found: Iterable[Fenced], wishes: Iterable[Wish], *, dry_run: bool = False
    ) -> list[Reissued]:
        """Append the commands to the topics of whoever serves their scopes now, as they were.

        All may be given again, or nothing is done. Again is harmless: a command is carried out once
        by its id. Each is recorded on the `.recovery` of the region that gets it. Raises: NotFound:
        no such fact, or its command is not kept any more. Refusal: it came of no command, or nobody
        serves its scope. Locked; Unavailable: its home, which has the command, does not answer.
        """
        known: Mapping[str, Fenced] = {fact.event_id: fact for fact in found}
        asked = [(_one(known, wish.id), wish) for wish in wishes]
        ready = [(fact, wish, self._owner(fact), self._command(fact)) for fact, wish in asked]
        done = []
        with closing(self._writers):
            for fact, wish, owner, raw in ready:
                _, component = split_fact_topic(fact.topic)
                topic = command_topic(owner, component)
                if not dry_run:
                    self._append(fact, wish, owner, Record(
                        topic, raw.partition, raw.key, raw.value,
                        [*own_headers(raw.headers), (REISSUE_OF, fact.event_id.encode())],
                    ))  # fmt: skip
                command_id = fact.command_id or ""
                done.append(
                    Reissued(fact.event_id, command_id, fact.scope, owner, topic, raw.partition)
                )
        return done

    def _owner(self, fact: Fenced) -> str:
        led = self._control.scopes.get(fact.scope)
        if led is None or not led.primary:
            raise Refusal(
                f"{fact.event_id}: nobody serves {fact.scope}", code="no_owner",
                hint=f"everlode scope explain {fact.scope}",
            )  # fmt: skip
        return led.region

    def _command(self, fact: Fenced) -> Raw:
        if fact.command_topic is None:
            raise Refusal(
                f"{fact.event_id} came of no command", code="not_reissuable",
                hint="it followed from another fact, which has led to the same again if it counts",
            )  # fmt: skip
        home = fact.command_topic.partition(".")[0]
        where = fact.command_topic, fact.command_partition or 0, fact.command_offset or 0
        place = self._endpoints.parts(home)
        with closing(Reader(place.bootstrap, "fenced", wait_ms=20, uncommitted=True)) as reader:
            for raw in _records(reader, [where]):
                header, _ = self._codec.decode_request(raw.value)
                if header.command_id == fact.command_id:
                    return raw
        topic, partition, offset = where
        raise NotFound(
            f"{fact.event_id}: its command is not at {topic}/{partition}@{offset} any more",
            hint="ask for what is due by a new command",
        )

    def _append(self, fact: Fenced, wish: Wish, owner: str, record: Record) -> None:
        place = self._endpoints.parts(owner)
        data = DeadLetterReplayed(
            consumer=CODE, topic=fact.command_topic or "", partition=fact.command_partition or 0,
            offset=fact.command_offset or 0, code=fact.kind, letter_offset=fact.offset,
            operator=wish.operator, reason=wish.reason,
        )  # fmt: skip
        now = Now(self._clock.wall_ms(), self._clock.event_now())
        head = Head(f"{CODE}/{fact.event_id}", f"{CODE}/{fact.event_id}/reissued")
        made = SignalMaker(place.origin).make(head, data, now)
        told = Record(fact_topic(place.origin, "recovery"), 0, head.key, made.value, made.headers)
        try:
            self._writers.of(owner, place.bootstrap).write([record, told])
        except FencedOut:
            raise Locked("another reissue has begun", hint="ask again") from None


def _one(known: Mapping[str, Fenced], event_id: str) -> Fenced:
    if event_id in known:
        return known[event_id]
    raise NotFound(f"no fenced fact is named {event_id!r}", hint="everlode dlt fenced shows all")
