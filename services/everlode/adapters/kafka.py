"""Kafka clients as the rest needs them: plain settings, batches in, errors translated.

Invariants: `murmur2_random` everywhere and explicit partitions; readers see committed records
only; after any OutcomeUnknown of a transaction the writer is unusable (librdkafka has no
KIP-890) and must be thrown away. Shell.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from everlode.errors import FencedOut, OutcomeUnknown, Unavailable

_MOVING = {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE}
_AWAY = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT}
TAIL_S = 0.03
"""How long a reader to the end waits for more after a batch's first record."""
MESSAGE_BYTES = 1_048_588
"""What a broker takes by default; the client's own limit is below that of a fact and its key."""
Headers = list[tuple[str, bytes]]
_FENCED = {
    KafkaError._FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.PRODUCER_FENCED,
}


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
        """What was said beside the value."""
        found = self.source if isinstance(self.source, list) else self.source.headers()
        return cast("Headers", found or [])


class Record(NamedTuple):
    """One record to write."""

    topic: str
    partition: int
    key: str | bytes | None
    """Text is written as UTF-8; a dead letter keeps the bytes that it had, or none."""
    value: bytes | None
    headers: Headers


def _translated(error: KafkaException, what: str) -> Unavailable | FencedOut:
    cause = error.args[0]
    if cause.code() in _FENCED:
        return FencedOut(f"{what}: another writer has taken over")
    return OutcomeUnknown(f"{what}: {cause.str()}")


class Reader:
    """Reads assigned partitions in batches. Not thread-safe."""

    def __init__(
        self, bootstrap: str, group: str, *, wait_ms: int = 100, min_bytes: int = 1
    ) -> None:
        """The broker answers once it has `min_bytes`, or after `wait_ms`.

        Whoever only follows asks for many, so that the broker is not asked for each record.
        """
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": wait_ms,
                "fetch.min.bytes": min_bytes,
                "queued.max.messages.kbytes": 8192,
                "fetch.message.max.bytes": 2_000_000,
                "reconnect.backoff.max.ms": 1000,
                "log_level": 0,
            }
        )

    def assign(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Read exactly these partitions, each from its offset."""
        self._consumer.assign([TopicPartition(t, p, o) for (t, p), o in positions.items()])

    def committed(
        self, partitions: Iterable[tuple[str, int]], timeout_s: float = 15
    ) -> dict[tuple[str, int], int]:
        """The group's committed offsets; 0 where there is none. A hint, not a truth.

        Raises: Unavailable.
        """
        asked = [TopicPartition(t, p) for t, p in partitions]
        try:
            found = self._consumer.committed(asked, timeout=timeout_s)
        except KafkaException as error:
            raise Unavailable(f"committed offsets: {error.args[0].str()}") from None
        return {(f.topic, f.partition): max(0, f.offset) for f in found}

    def ends(
        self, partitions: Iterable[tuple[str, int]], timeout_s: float = 15
    ) -> dict[tuple[str, int], int]:
        """Offsets after the last committed record of each partition, asked for in one request.

        Ask before `assign`: behind a fetch that waits for records the answer waits too. Raises:
        Unavailable.
        """
        return self._offsets(dict.fromkeys(partitions, OFFSET_END), timeout_s)

    def beginnings(
        self, partitions: Iterable[tuple[str, int]], timeout_s: float = 15
    ) -> dict[tuple[str, int], int]:
        """Offsets of the first records that are still there; see `ends`. Raises: Unavailable."""
        return self._offsets(dict.fromkeys(partitions, OFFSET_BEGINNING), timeout_s)

    def unread(self, starts: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], int]:
        """Ends of the partitions that have something from these offsets on.

        Not of one that retention has emptied: the client hands nothing out there and never says
        that it has come to the end. Raises: Unavailable.
        """
        ends, begins = self.ends(starts), self.beginnings(starts)
        return {k: end for k, end in ends.items() if end > max(starts[k], begins[k])}

    def at_time(
        self, times_ms: Mapping[tuple[str, int], int], timeout_s: float = 15
    ) -> dict[tuple[str, int], int]:
        """Offsets of the first records from a time on; the end where there is none.

        Raises: Unavailable.
        """
        found = self._offsets({k: max(0, ms) for k, ms in times_ms.items()}, timeout_s)
        late = self.ends([k for k, offset in found.items() if offset < 0], timeout_s)
        return found | late

    def _offsets(
        self, asked: Mapping[tuple[str, int], int], timeout_s: float
    ) -> dict[tuple[str, int], int]:
        """Asks again while a leader moves or is not known yet, and while nobody answers."""
        deadline = time.monotonic() + timeout_s
        found: dict[tuple[str, int], int] = {}
        while left := [TopicPartition(*k, asked[k]) for k in asked if k not in found]:
            try:
                answers = self._consumer.offsets_for_times(left, timeout=timeout_s)
            except KafkaException as error:
                answers, cause, where = [], error.args[0], left[0]
            for answer in answers:
                if answer.error is None:
                    found[answer.topic, answer.partition] = answer.offset
                else:
                    cause, where = answer.error, answer
            if len(found) < len(asked):
                pause = 0.1 if cause.code() in _MOVING else 0.5
                if cause.code() not in _MOVING | _AWAY or time.monotonic() + pause > deadline:
                    named = f"{where.topic}/{where.partition}"
                    raise Unavailable(f"offsets of {named}: {cause.str()}")
                time.sleep(pause)  # a client that is asked at once fails at once, and spins
        return found

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
        record and then only `linger_s` for more.
        """
        if linger_s is None:
            messages = self._consumer.consume(most, timeout=timeout_s)
        else:
            messages = self._consumer.consume(1, timeout=timeout_s)
            if messages and most > 1:
                messages += self._consumer.consume(most - 1, timeout=linger_s)
        return [_raw(message) for message in messages if message.error() is None]

    def cluster_id(self, timeout_s: float = 15) -> str:
        """Id of the cluster. Raises: Unavailable."""
        try:
            return str(self._consumer.list_topics(timeout=timeout_s).cluster_id)
        except KafkaException as error:
            raise Unavailable(f"cluster id: {error.args[0].str()}") from None

    def to_ends(
        self,
        starts: Mapping[tuple[str, int], int],
        timeout_s: float,
        most: int = 2000,
        *,
        go_on: bool = False,
    ) -> Iterator[list[Raw]]:
        """Batches from these offsets to the partitions' ends as of now.

        With `go_on` all of them stay assigned, to read what comes later; else none does. Raises:
        Unavailable: not within `timeout_s`.
        """
        self.assign({})
        todo = self.unread(starts)
        self.assign({k: at for k, at in starts.items() if go_on or k in todo})
        yield from self.until(todo, timeout_s, most)
        if not go_on:
            self.assign({})

    def until(
        self, ends: dict[tuple[str, int], int], timeout_s: float, most: int = 2000
    ) -> Iterator[list[Raw]]:
        """Batches of at most `most` until each partition has been handed out up to its end.

        Raises: Unavailable: not within `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        todo = {key: end for key, end in ends.items() if end > 0}
        while todo:
            batch = self.batch(most, 0.2, TAIL_S)
            if batch:
                yield batch
            for key, position in self.positions(todo).items():
                if position >= todo[key]:
                    del todo[key]
            if todo and time.monotonic() > deadline:
                raise Unavailable(f"reading to the end: {len(todo)} partitions are not there yet")

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


def produce(producer: Producer, record: Record, done: Any) -> None:
    """Queue a record; waits while the queue is full. `done(error or None, message)`."""
    while True:
        try:
            producer.produce(
                record.topic,
                key=record.key,
                value=record.value,
                headers=[*record.headers],
                partition=record.partition,
                on_delivery=done,
            )
        except BufferError:
            producer.poll(0.1)
        else:
            return


class Writer:
    """A transactional producer; exactly one holder of its transactional id writes."""

    def __init__(self, bootstrap: str, transactional_id: str, *, timeout_ms: int = 10_000) -> None:
        self._timeout_s = timeout_ms / 1000
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "transactional.id": transactional_id,
                "transaction.timeout.ms": 30_000,
                "message.timeout.ms": timeout_ms,
                "acks": "all",
                "partitioner": "murmur2_random",
                "linger.ms": 2,
                "message.max.bytes": MESSAGE_BYTES,
                "compression.type": "lz4",
                "reconnect.backoff.max.ms": 1000,
                "log_level": 0,
            }
        )

    def open(self) -> None:
        """Fence whoever held the id before, and abort what it left open.

        Raises: Unavailable.
        """
        try:
            self._producer.init_transactions(self._timeout_s)
        except KafkaException as error:
            raise _translated(error, "taking the writer over") from None

    def write(
        self,
        records: Sequence[Record],
        read: dict[tuple[str, int], int] | None = None,
        group: Any = None,
    ) -> list[int]:
        """Write all records in one transaction and return their offsets, in order.

        `read` (offsets of the next records to read) becomes the group's committed offsets in the
        same transaction. Raises: FencedOut: another holds the id. OutcomeUnknown.
        """
        offsets = [-1] * len(records)
        failed: list[str] = []

        def delivered(index: int) -> Any:
            def callback(error: KafkaError | None, message: Message) -> None:
                if error is not None:
                    failed.append(error.str())
                else:
                    offsets[index] = message.offset() or 0

            return callback

        try:
            self._producer.begin_transaction()
            for index, r in enumerate(records):
                produce(self._producer, r, delivered(index))
            if read:
                positions = [TopicPartition(t, p, o) for (t, p), o in read.items()]
                self._producer.send_offsets_to_transaction(positions, group, self._timeout_s)
            self._producer.commit_transaction(self._timeout_s)
        except KafkaException as error:
            raise _translated(error, "writing facts") from None
        if failed:
            raise OutcomeUnknown(f"writing facts: {failed[0]}")
        return offsets

    def abandon(self) -> None:
        """Throw the producer away without waiting: what it holds may or may not be there."""
        self._producer.purge(in_queue=True, in_flight=True, blocking=False)
        del self._producer
