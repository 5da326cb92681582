"""Following the control log on Kafka: every record folded, in log order.

It begins with the newest snapshot of the fold, or with the log's beginning where none counts; what
compaction has left out between two records is passed over.
Invariant: a record that cannot be decoded halts the follower for good (`IntegrityError`). Shell.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from everlode.adapters.kafka_access import explained, identified, new_client, refused
from everlode.avro.cloudevents import URGENT_BYTES
from everlode.avro.codec import Codec
from everlode.control.fold import ControlState, apply
from everlode.control.snapshot import begin
from everlode.errors import (
    ContractError,
    EverlodeError,
    IntegrityError,
    Unavailable,
    unforeseen,
)
from everlode.events.base import Fact
from everlode.topics.names import CONTROL_SNAPSHOT_TOPIC, CONTROL_TOPIC
from everlode.topics.place import placed

_NO_TOPIC = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._UNKNOWN_TOPIC,
}


class ControlFollower:
    """Folds the control log in a thread of its own.

    `on_record(offset, fact, state)` is called in that thread, in log order, after the fold step:
    of what is behind the snapshot, or with `whole` of all records that are kept.
    """

    def __init__(
        self,
        bootstrap: str,
        on_record: Callable[[int, Fact, ControlState], None] | None = None,
        *,
        wait_ms: int = 400,
        whole: bool = False,
    ) -> None:
        self._consumer = new_client(
            Consumer,
            {
                **identified(bootstrap),
                "group.id": f"control-follower-{uuid.uuid4()}",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": wait_ms,
                "fetch.min.bytes": URGENT_BYTES,
                "reconnect.backoff.max.ms": 1000,
                "queued.max.messages.kbytes": 4096,
            },
        )
        self._bootstrap = bootstrap
        self._whole = whole
        self._on_record = on_record
        self._codec = Codec()
        self._changed = threading.Condition()
        self._state = ControlState()
        self._stop = threading.Event()
        self.error: EverlodeError | None = None
        self._thread = threading.Thread(target=self._run, name="control-follower", daemon=True)

    @property
    def state(self) -> ControlState:
        """The fold so far; immutable."""
        return self._state

    def start(self, timeout_s: float = 30) -> ControlFollower:
        """Start, and return once the log has been read to its present end.

        Raises: Unavailable: the log cannot be read within `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        # before the thread: the client is for one thread at a time
        high = self._end(TopicPartition(CONTROL_TOPIC, 0), deadline)
        self._state = self._kept(high, deadline)
        first = self._state.position + 1
        self._consumer.assign([TopicPartition(CONTROL_TOPIC, 0, first)])
        self._thread.start()
        self.wait_for(lambda s: s.position >= high - 1, deadline - time.monotonic())
        return self

    def _kept(self, high: int, deadline: float) -> ControlState:
        """What the newest snapshot of this log says; else nothing. Raises: Unavailable."""
        where = TopicPartition(CONTROL_SNAPSHOT_TOPIC, 0)
        end = self._end(where, deadline)
        found, position = ControlState(), 0
        self._consumer.assign([TopicPartition(CONTROL_SNAPSHOT_TOPIC, 0, 0)] if end else [])
        while position < end:
            if time.monotonic() > deadline:
                raise Unavailable("the control log's snapshot cannot be read")
            for message in self._consumer.consume(100, timeout=0.5):
                if message.error() is None:
                    found = begin(message.value(), high, whole=self._whole) or found
            (at,) = self._consumer.position([where])
            position = max(position, at.offset)
        return found

    def _end(self, partition: TopicPartition, deadline: float) -> int:
        """End of a topic as of now; an election is waited for. Raises: Unavailable.

        0 for a snapshot's topic that is not there: the stack is of an older build.
        """
        name, asked = partition.topic, False
        while True:
            try:
                # the client must have heard of the topic before it can be asked for its ends
                found = self._consumer.list_topics(name, timeout=5).topics[name]
                missing = found.error is not None and found.error.code() in _NO_TOPIC
                if missing and name != CONTROL_TOPIC:
                    return 0
                _, high = self._consumer.get_watermark_offsets(partition, timeout=5)
            except KafkaException as error:
                over, what = time.monotonic() > deadline, "the control log cannot be read"
                # at once, too: who is not let in now is not let in by waiting
                if (over or not asked) and (
                    told := explained(error.args[0], self._bootstrap, what)
                ):
                    raise told from None
                if over:
                    raise Unavailable(
                        f"{what}: {error.args[0].str()}", code="control_unavailable"
                    ) from None
                asked = True
                time.sleep(0.2)
            else:
                return high

    def wait_for(self, predicate: Callable[[ControlState], bool], timeout_s: float) -> ControlState:
        """Wait until the fold satisfies `predicate`; returns that state.

        Raises: Unavailable: not within `timeout_s`. IntegrityError, ContractError: it has halted.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not predicate(self._state):
                if self.error is not None:
                    raise self.error
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Unavailable("the control log did not get there in time", code="timeout")
                self._changed.wait(min(left, 1.0))
            return self._state

    def close(self) -> None:
        """Stop; the thread leaves by itself within half a second, and nobody waits for it."""
        self._stop.set()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                # one at first: asked for many, the client waits out its time for as many
                for most, timeout in ((1, 0.5), (500, 0.0)):
                    for message in self._consumer.consume(most, timeout=timeout):
                        if self._stop.is_set():
                            return
                        self._one(message)
        except EverlodeError as error:
            self._halt(error)
        except Exception as error:  # noqa: BLE001 - a thread that ended in silence would lead on
            self._halt(unforeseen("following the control log", error))
        finally:
            self._consumer.close()

    def _halt(self, error: EverlodeError) -> None:
        with self._changed:
            self.error = error
            self._changed.notify_all()

    def _one(self, message: Message) -> None:
        failed = message.error()
        if failed is not None:
            if told := refused(failed, self._bootstrap, "following the control log"):
                raise told
            return  # the client retries by itself
        offset = message.offset() or 0
        try:
            fact = placed(self._codec, CONTROL_TOPIC, message.key(), message.value())
        except ContractError as error:
            raise IntegrityError(
                f"control log, offset {offset}: {error.message}",
                code="control_damaged",
                hint="do not go on: find out who wrote it",
            ) from None
        with self._changed:
            self._state = apply(self._state, offset, fact)
            self._changed.notify_all()
        if self._on_record is not None:
            self._on_record(offset, fact, self._state)
