"""Reading from Kafka: records as they came, in batches, of the partitions that are assigned.

Invariant: a reader sees committed records only, but of what strangers write (`uncommitted`). Shell.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, cast

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, Message, TopicPartition

from everlode.adapters.kafka_access import identified, new_client, refused
from everlode.adapters.kafka_offsets import Offsets, within
from everlode.errors import Unavailable

LOOK_S = 0.02
"""How long it waits for a first one before it looks where it stands: the end of a transaction moves
the position, and is no record."""
TAIL_S = 0.03
"""How long a reader to the end waits for more after a batch's first record."""
Headers = list[tuple[str, bytes]]


class Raw(NamedTuple):
    """One record as it came."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    source: Headers | Message
    """Its headers, or the client's message, which is asked for them when they are wanted."""

    @property
    def headers(self) -> Headers:
        """What the record carries beside its value."""
        found = self.source if isinstance(self.source, list) else self.source.headers()
        return cast("Headers", found or [])

    @property
    def written_ms(self) -> int | None:
        """When it was written, by its producer's clock, in ms since 1970; None: not known."""
        if isinstance(self.source, list):
            return None
        kind, at_ms = self.source.timestamp()
        return None if kind == TIMESTAMP_NOT_AVAILABLE else int(at_ms)


class Record(NamedTuple):
    """One record to write."""

    topic: str
    partition: int
    key: str | bytes | None
    """Text is written as UTF-8; a dead letter keeps the bytes that it had, or none."""
    value: bytes | None
    headers: Headers


class Reader(Offsets):
    """Reads assigned partitions in batches. Not thread-safe."""

    def __init__(
        self,
        bootstrap: str,
        group: str,
        *,
        wait_ms: int = 100,
        min_bytes: int = 1,
        uncommitted: bool = False,
        prompt: Reader | None = None,
    ) -> None:
        """The broker answers once it has `min_bytes`, or after `wait_ms`.

        Whoever only follows asks for many, so that the broker is not asked for each record; what
        it needs at once it is given by `prompt`, another client without such a wait: a client
        that fetches has its questions answered after the fetch.
        `uncommitted`: for topics that strangers write to (commands, answers, heartbeats). One of
        them who leaves a transaction open would hold all readers of committed records up; what
        such a topic holds counts from when it is there, also when it is aborted later.
        """
        self._prompt = prompt or self
        super().__init__(
            new_client(
                Consumer,
                {
                    **identified(bootstrap),
                    "group.id": group,
                    "enable.auto.commit": False,
                    "auto.offset.reset": "earliest",
                    "isolation.level": "read_uncommitted" if uncommitted else "read_committed",
                    "fetch.wait.max.ms": wait_ms,
                    "fetch.min.bytes": min_bytes,
                    "queued.max.messages.kbytes": 8192,
                    "fetch.message.max.bytes": 2_000_000,
                    "reconnect.backoff.max.ms": 1000,
                },
            ),
            bootstrap,
        )

    def assign(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Read exactly these partitions, each from its offset."""
        self._consumer.assign([TopicPartition(t, p, o) for (t, p), o in positions.items()])

    def positions(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Offsets of the next records to be handed out; below zero where none was yet."""
        found = self._consumer.position([TopicPartition(t, p) for t, p in partitions])
        return {(f.topic, f.partition): f.offset for f in found}

    def others(self, most: int, mine: set[tuple[int, int]]) -> list[Raw]:
        """What can be had at once of up to `most` records, without those at `mine`.

        `mine` holds (partition, offset)s of the one topic that is read; they are taken out of it.
        """
        found = []
        for message in self._consumer.consume(most, timeout=0):
            at = (message.partition() or 0, message.offset() or 0)
            if at in mine:
                mine.discard(at)
            elif message.error() is None:
                found.append(_raw(message))
        return found

    def batch(self, most: int, timeout_s: float, linger_s: float | None = None) -> list[Raw]:
        """Up to `most` records, in order within each partition.

        Waits `timeout_s` for as many, or fewer; with `linger_s`, waits `timeout_s` for the first
        record and then only `linger_s` for more. Raises: Refusal: this process may not read them.
        """
        if linger_s is None:
            messages = self._consumer.consume(most, timeout=timeout_s)
        else:
            messages = self._consumer.consume(1, timeout=timeout_s)
            if messages and most > 1:
                messages += self._consumer.consume(most - 1, timeout=linger_s)
        return [_raw(message) for message in messages if self._is_record(message)]

    def _is_record(self, message: Message) -> bool:
        """Else an error that the client retries by itself. Raises: Refusal: it would for ever."""
        error = message.error()
        if error is None:
            return True
        if told := refused(error, self._bootstrap, f"reading {message.topic() or 'as a group'}"):
            raise told
        return False

    def to_ends(
        self,
        starts: Mapping[tuple[str, int], int],
        still_s: float,
        most: int = 2000,
        *,
        go_on: bool = False,
    ) -> Iterator[list[Raw]]:
        """Batches from these offsets to the partitions' ends as of now.

        With `go_on` all of them stay assigned, to read what comes later, also when it fails; else
        none does. Raises: Unavailable: nothing came for `still_s`; see `until`.
        """
        if self._prompt is not self:
            yield from self._promptly(starts, still_s, most, go_on)
            return
        self.assign({})
        try:
            todo = self.unread(starts)
        except BaseException:
            self.assign(starts if go_on else {})
            raise
        self.assign({k: at for k, at in starts.items() if go_on or k in todo})
        yield from self.until(todo, still_s, most)
        if not go_on:
            self.assign({})

    def _promptly(
        self, starts: Mapping[tuple[str, int], int], still_s: float, most: int, go_on: bool
    ) -> Iterator[list[Raw]]:
        """What fails leaves this client where it began: what was handed out comes again."""
        self.assign(starts if go_on else {})
        todo = self._prompt.unread(starts)
        self._prompt.assign({k: starts[k] for k in todo})
        yield from self._prompt.until(todo, still_s, most)
        there = self._prompt.positions(todo)
        self._prompt.assign({})
        if go_on:
            self.assign({**starts, **there})

    def to_bounds(
        self,
        starts: Mapping[tuple[str, int], int],
        bounds: Mapping[tuple[str, int], tuple[int, int]],
        still_s: float,
    ) -> Iterator[list[Raw]]:
        """As `to_ends`, to the ends that `bounds` gave some time before.

        Raises: Unavailable: nothing came for `still_s`; see `until`.
        """
        todo = within(starts, bounds)
        self.assign({k: starts[k] for k in todo})
        yield from self.until(todo, still_s)
        self.assign({})

    def until(
        self, ends: dict[tuple[str, int], int], still_s: float, most: int = 2000
    ) -> Iterator[list[Raw]]:
        """Batches of at most `most` until each partition has been handed out up to its end.

        However long that takes, as long as it goes on; what is done with a batch does not count.
        Raises: Unavailable: nothing came for `still_s`, and no position moved.
        """
        todo = {key: end for key, end in ends.items() if end > 0}
        before: dict[tuple[str, int], int] = {}
        moved = time.monotonic()
        while todo:
            batch = self.batch(most, LOOK_S, TAIL_S)
            there = self.positions(todo)
            if batch:
                yield batch
            if batch or there != before:
                before, moved = there, time.monotonic()
            todo = {key: end for key, end in todo.items() if there[key] < end}
            if todo and time.monotonic() - moved > still_s:
                topic, partition = min(todo)
                raise Unavailable(
                    f"reading to the end: nothing came for {still_s:.0f} s, {len(todo)} partitions"
                    f" are not there yet, e.g. {topic}/{partition}"
                )

    def first_times(
        self, starts: Mapping[tuple[str, int], int], timeout_s: float = 15
    ) -> dict[tuple[str, int], int]:
        """When the first record from each offset on was written, in ms; absent where none is.

        Raises: Unavailable: not within `timeout_s`.
        """
        self.assign({})
        todo, found = self.unread(starts), dict[tuple[str, int], int]()
        deadline = time.monotonic() + timeout_s
        while todo:
            self.assign({at: starts[at] for at in todo})
            for message in self._consumer.consume(500, timeout=0.2):
                if message.error() is None:
                    at = (message.topic() or "", message.partition() or 0)
                    found.setdefault(at, message.timestamp()[1])
            there = self.positions(todo)
            todo = {k: end for k, end in todo.items() if k not in found and there[k] < end}
            if todo and time.monotonic() > deadline:
                raise Unavailable(f"first records of {len(todo)} partitions do not come")
        self.assign({})
        return found

    def group_metadata(self) -> Any:
        """For `Writer.commit`."""
        return self._consumer.consumer_group_metadata()

    def close(self) -> None:
        """Leave."""
        self._consumer.close()


def _raw(message: Message) -> Raw:
    return Raw(
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        message.key(),
        message.value(),
        message,
    )
