"""The dead letters of a region, what became of each, and the one who decides what becomes of one.

Theory of operation. A letter stays where its consumer wrote it, until retention takes it; what
became of it is an event on `<origin>.recovery`, under the letter's id. So a letter has a fate once:

    dlt.primary.eu.commands.tasks   x            the record, its place, the error
    eu.commands.tasks               ...  x'      put back, as it was          } one transaction
    eu.1.recovery                   DeadLetterReplayed primary/eu.commands... }

  1. whoever decides takes the region's transactional id: another one is fenced, and what it left
     open is aborted;
  2. letters and fates are read to their ends (must come after 1: no fate can be added unseen);
  3. the rules of `fates` are asked (pure);
  4. record and fate are written together.
Killed before 4, nothing is there for readers of committed records. A primary reads commands that
are not committed too, and may take one up that is then put back again: its id makes it one
command, as any that is sent twice.

Nothing here removes a letter. Shell.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Any

from everlode.adapters.clock import Clock
from everlode.adapters.kafka import Raw, Reader, Record
from everlode.adapters.kafka_writer import Writer
from everlode.avro.codec import Codec
from everlode.avro.signals import Head, Now, SignalMaker
from everlode.errors import ContractError, FencedOut, Locked, NotFound
from everlode.events.recovery import DeadLetterDiscarded, DeadLetterReplayed
from everlode.log.fates import (
    DISCARDED,
    REPLAYED,
    Fate,
    Kept,
    Wish,
    judged,
    require_discardable,
    require_replayable,
)
from everlode.settings.endpoints import Endpoints
from everlode.topics.catalogue import catalogue
from everlode.topics.letters import DeadLetter, own_headers, read
from everlode.topics.names import dead_letter_topic, fact_topic
from everlode.topics.place import placed

STILL_S = 30.0
MOST = 100_000
"""Letters of one topic that are looked at, the newest; strangers can make any number of them."""
_FATES = {DeadLetterReplayed: REPLAYED, DeadLetterDiscarded: DISCARDED}
REPLAY_OF = "dlt-replay-of"
"""Header of a record that was put back: the id of its letter."""


def letter_topics(endpoints: Endpoints, region: str) -> list[str]:
    """The topics of dead letters of a region, sorted; each has one partition."""
    specs = catalogue(endpoints.topology)
    return [s.name for s in specs if s.cluster == region and s.name.startswith("dlt.")]


def letters(reader: Reader, endpoints: Endpoints, region: str) -> list[Kept]:
    """The letters that a region keeps, in the order of their topics; each once.

    Of each topic the newest `MOST`, and none that is older than the retention: the broker may have
    removed its fate before it. Raises: Unavailable.
    """
    oldest_ms = time.time_ns() // 1_000_000 - endpoints.topology.retention_ms
    fates = _fates(reader, fact_topic(endpoints.regions[region].origin, "recovery"))
    bounds = reader.bounds([(topic, 0) for topic in letter_topics(endpoints, region)])
    starts = {at: max(begin, end - MOST) for at, (begin, end) in bounds.items()}
    found: dict[str, DeadLetter] = {}
    for batch in reader.to_bounds(starts, bounds, STILL_S):
        for raw in batch:
            letter = read(raw.topic, raw.offset, raw.headers, raw.written_ms)
            if letter.kept_at_ms is None or letter.kept_at_ms >= oldest_ms:
                found.setdefault(letter.id, letter)
    ordered = sorted(found.values(), key=lambda x: (x.consumer, x.topic, x.letter_offset))
    return [Kept(letter, fates.get(letter.id)) for letter in ordered]


def _fates(reader: Reader, topic: str) -> dict[str, Fate]:
    """Letter → its first fate."""
    codec, found = Codec(), dict[str, Fate]()
    for batch in reader.to_ends({(topic, 0): 0}, STILL_S):
        for raw in batch:
            try:
                envelope, data = placed(codec, raw.topic, raw.key, raw.value)
            except ContractError:
                continue  # its coordinator has a letter of it
            if isinstance(data, DeadLetterReplayed | DeadLetterDiscarded):
                fate = Fate(_FATES[type(data)], envelope.occurred_at, data.operator, data.reason)
                found.setdefault(envelope.aggregate_id, fate)
    return found


def content(reader: Reader, letter: DeadLetter) -> Raw:
    """The letter's record: key, value and headers. Raises: NotFound: it is gone; Unavailable."""
    topic = dead_letter_topic(letter.consumer, letter.topic)
    at = (topic, 0), letter.letter_offset
    for batch in reader.to_bounds({at[0]: at[1]}, {at[0]: (at[1], at[1] + 1)}, STILL_S):
        for raw in batch:
            if raw.offset == letter.letter_offset:
                return raw
    raise NotFound(f"the dead letter {letter.id!r} is no longer kept")


def opened(kept: Kept, raw: Raw) -> dict[str, Any]:
    """A letter with its record, as it is printed and answered. Pure.

    `decoded`: the record as its schema has it, in terms of JSON; None when it cannot be read.
    """
    decoded = None
    with suppress(ContractError):
        name, fields = Codec().decode_dict(raw.value)
        plain = json.dumps({"type": name, "fields": fields}, default=str)
        decoded = json.loads(plain, parse_constant=str)
    return kept.shown() | {
        "key": None if raw.key is None else raw.key.decode("utf-8", "backslashreplace"),
        "headers": {
            n: (v or b"").decode("utf-8", "backslashreplace") for n, v in own_headers(raw.headers)
        },
        "value_hex": None if raw.value is None else raw.value.hex(),
        "decoded": decoded,
    }


class Decider:
    """Replays and discards letters of one region; `close` it. Not thread-safe."""

    def __init__(self, endpoints: Endpoints, region: str, clock: Clock) -> None:
        """1. Raises: ConfigError: no such region. Unavailable."""
        place = endpoints.parts(region)
        self._region, self._clock = region, clock
        self._maker = SignalMaker(place.origin)
        self._recovery = fact_topic(place.origin, "recovery")
        self._writer = Writer(place.bootstrap, f"dead-letters-{region}")
        self._writer.open()
        self._reader = Reader(place.bootstrap, f"dead-letters-{region}", wait_ms=20)
        self._found = letters(self._reader, endpoints, region)  # 2.

    def replay(self, wishes: Sequence[Wish]) -> list[Kept]:
        """Put commands back into their topics; of one that was put back nothing happens.

        Nothing is done unless all may be. Raises: NotFound; Refusal: see `require_replayable`;
        Locked: another one decides now; OutcomeUnknown: ask again, each happens once.
        """
        kept = judged(self._found, wishes, require_replayable, self._region)
        return [self._replayed(*each) for each in zip(kept, wishes, strict=True)]

    def discard(self, wishes: Sequence[Wish]) -> list[Kept]:
        """Record that letters will not be replayed; of one that was discarded nothing happens.

        Nothing is done unless all may be. Raises: NotFound; Refusal: see `require_discardable`;
        Locked; OutcomeUnknown.
        """
        kept = judged(self._found, wishes, require_discardable, self._region)
        return [
            self._decided(*each, DeadLetterDiscarded, []) for each in zip(kept, wishes, strict=True)
        ]

    def _replayed(self, kept: Kept, wish: Wish) -> Kept:
        if kept.fate is not None:
            return kept
        letter, raw = kept.letter, content(self._reader, kept.letter)
        headers = [*own_headers(raw.headers), (REPLAY_OF, letter.id.encode())]
        record = Record(letter.topic, letter.partition, raw.key, raw.value, headers)
        return self._decided(kept, wish, DeadLetterReplayed, [record])

    def _decided(
        self,
        kept: Kept,
        wish: Wish,
        event: type[DeadLetterReplayed | DeadLetterDiscarded],
        records: list[Record],
    ) -> Kept:
        letter = kept.letter
        if kept.fate is not None:
            return kept
        data = event(
            consumer=letter.consumer, topic=letter.topic, partition=letter.partition,
            offset=letter.offset, code=letter.code, letter_offset=letter.letter_offset,
            operator=wish.operator, reason=wish.reason,
        )  # fmt: skip
        status, now = _FATES[event], Now(self._clock.wall_ms(), self._clock.event_now())
        made = self._maker.make(Head(letter.id, f"{letter.id}/{status}"), data, now)
        fate = Record(self._recovery, 0, letter.id, made.value, made.headers)
        try:
            self._writer.write([*records, fate])  # 4.
        except FencedOut:
            raise Locked("another replay or discard has begun", hint="ask again") from None
        return kept._replace(fate=Fate(status, now.at, wish.operator, wish.reason))

    def close(self) -> None:
        """Leave."""
        with closing(self._reader):
            self._writer.abandon()
