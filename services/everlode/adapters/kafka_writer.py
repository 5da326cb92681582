"""Writing to Kafka in transactions, by one holder of a transactional id at a time.

Invariants: `murmur2_random` everywhere and explicit partitions; after any indefinite error of a
transaction the writer is unusable (librdkafka has no KIP-890) and must be thrown away. Shell.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from everlode.adapters.aside import Aside
from everlode.adapters.kafka import Record
from everlode.adapters.kafka_access import explained, identified, new_client
from everlode.errors import (
    ContractError,
    EverlodeError,
    FencedOut,
    OutcomeUnknown,
    Unavailable,
)

PATIENCE_S = 0.1
"""How long a client that takes an id over is waited for before another one tries; then doubled."""
POSITIONS_S = 5.0
"""How long a group's coordinator is waited for. Another client finds the next one: see `aside`."""
MESSAGE_BYTES = 1_048_588
"""What a broker takes by default; the client's own limit is below that of a fact and its key."""
_PUT_OFF = {
    KafkaError._TIMED_OUT,
    KafkaError.CONCURRENT_TRANSACTIONS,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
}
"""With what a client ends whose patience is over while the broker asks it to wait."""
_FENCED = {
    KafkaError._FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.PRODUCER_FENCED,
}


def _translated(cause: KafkaError, bootstrap: str, what: str) -> EverlodeError:
    if cause.code() in _FENCED:
        return FencedOut(f"{what}: another writer has taken over")
    return explained(cause, bootstrap, what) or OutcomeUnknown(f"{what}: {cause.str()}")


def produce(producer: Producer, record: Record, done: Any) -> None:
    """Queue a record; waits while the queue is full. `done(error or None, message)`.

    Raises: ContractError: it can never be written. KafkaException: whoever writes knows its fate.
    """
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
        except ValueError as error:  # U+0000 in a header's name, half of a surrogate pair in a key
            raise ContractError(
                f"{record.topic}: no record: {type(error).__name__}", code="unwritable"
            ) from None
        except KafkaException as error:
            if error.args[0].code() != KafkaError.MSG_SIZE_TOO_LARGE:
                raise
            raise ContractError(
                f"{record.topic}: a record of {len(record.value or b'')} bytes is above what the"
                " client sends",
                code="too_large", hint="store the payload elsewhere",
            ) from None  # fmt: skip
        else:
            return


def send(producer: Producer, record: Record, done: Any) -> None:
    """As `produce`, outside of a transaction.

    Raises: ContractError: as it. Unavailable: this client sends nothing any more.
    """
    try:
        produce(producer, record, done)
    except KafkaException as error:
        what = f"{record.topic}: nothing can be sent: {error.args[0].str()}"
        raise Unavailable(what, code="no_sender") from None


class Writer:
    """A transactional producer; exactly one holder of its transactional id writes."""

    def __init__(self, bootstrap: str, transactional_id: str, *, timeout_ms: int = 10_000) -> None:
        self._bootstrap = bootstrap
        self._timeout_s = timeout_ms / 1000
        self._settings = {
            **identified(bootstrap),
            "transactional.id": transactional_id,
            "transaction.timeout.ms": 30_000,
            "message.timeout.ms": timeout_ms,
            "acks": "all",
            "partitioner": "murmur2_random",
            "linger.ms": 2,
            "message.max.bytes": MESSAGE_BYTES,
            "compression.type": "lz4",
            "reconnect.backoff.max.ms": 1000,
        }
        self._producer = new_client(Producer, self._settings)
        self._aside: Aside | None = None

    def open(self) -> None:
        """Fence whoever held the id before, and abort what it left open.

        While the broker aborts that, it puts the client off, which asks again only after half a
        second; another client is sooner. Raises: Unavailable.
        """
        deadline = time.monotonic() + self._timeout_s
        patience_s = PATIENCE_S
        while True:
            left_s = deadline - time.monotonic()
            try:
                self._producer.init_transactions(max(0.001, min(patience_s, left_s)))
            except KafkaException as error:
                cause = error.args[0]
                if cause.code() not in _PUT_OFF or left_s <= patience_s:
                    what = f"taking the writer {self._settings['transactional.id']} over"
                    raise _translated(cause, self._bootstrap, what) from None
                patience_s *= 2
                self._producer = new_client(Producer, self._settings)
            else:
                return

    def write(
        self,
        records: Sequence[Record],
        read: dict[tuple[str, int], int] | None = None,
        group: Any = None,
    ) -> list[int]:
        """Write all records in one transaction and return their offsets, in order.

        `read` (offsets of the next records to read) becomes the group's committed offsets in the
        same transaction. Raises: FencedOut: another holds the id. OutcomeUnknown. ContractError: a
        record can never be written; none is, and the next ones may be.
        """
        offsets = [-1] * len(records)
        failed: list[KafkaError] = []

        def delivered(index: int) -> Any:
            def callback(error: KafkaError | None, message: Message) -> None:
                if error is not None:
                    failed.append(error)
                else:
                    offsets[index] = message.offset() or 0

            return callback

        queued = ((record, delivered(index)) for index, record in enumerate(records))
        self._transact(queued, read, group)
        if failed:
            raise _translated(failed[0], self._bootstrap, "writing facts")
        return offsets

    def put(self, records: Iterable[Record]) -> None:
        """As `write`, for who does not ask where they stand: librdkafka reports no delivery.

        A record that it cannot deliver fails the commit.
        """
        self._transact((record, None) for record in records)

    def _transact(
        self,
        queued: Iterable[tuple[Record, Any]],
        read: dict[tuple[str, int], int] | None = None,
        group: Any = None,
    ) -> None:
        try:
            self._producer.begin_transaction()
            try:
                for record, done in queued:
                    produce(self._producer, record, done)
            except ContractError:
                self._producer.abort_transaction(self._timeout_s)
                raise
            if read:
                self._send_positions(read, group)
            self._producer.commit_transaction(self._timeout_s)
        except KafkaException as error:
            raise _translated(error.args[0], self._bootstrap, "writing facts") from None

    def _send_positions(self, read: dict[tuple[str, int], int], group: Any) -> None:
        """Raises: OutcomeUnknown: not in time, whatever the client does with its own."""
        positions = [TopicPartition(t, p, o) for (t, p), o in read.items()]
        send = self._producer.send_offsets_to_transaction
        within_s = min(self._timeout_s, POSITIONS_S)
        self._aside = self._aside or Aside()
        try:
            self._aside.call(lambda: send(positions, group, within_s), within_s)
        except TimeoutError:
            raise OutcomeUnknown(
                f"writing facts: the group's coordinator did not answer within {within_s:g} s"
            ) from None

    def abandon(self) -> None:
        """Throw the producer away without waiting: what it holds may or may not be there."""
        self._producer.purge(in_queue=True, in_flight=True, blocking=False)
        del self._producer
