"""Questions to Kafka about partitions: where they begin and end, what a group has committed.

An end is an offset after the last committed record. Shell.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from everlode.adapters.kafka_access import explained
from everlode.errors import EverlodeError, Unavailable

_MOVING = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError._UNKNOWN_PARTITION,  # of a topic that the client has just heard of
}
_AWAY = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._DESTROY_BROKER,  # it has left the cluster's metadata: another one is asked
}

QUESTION_S = 4.0


def within(
    starts: Mapping[tuple[str, int], int], bounds: Mapping[tuple[str, int], tuple[int, int]]
) -> dict[tuple[str, int], int]:
    """Ends of the partitions that have something from these offsets on. Pure."""
    return {k: bounds[k][1] for k, at in starts.items() if bounds[k][1] > max(at, bounds[k][0])}


def is_place(partition: int, offset: int) -> bool:
    """Whether a log of Kafka could have it: what a client is asked for beyond that it cannot say.

    Pure.
    """
    return 0 <= partition < 2**31 and 0 <= offset < 2**63


class Offsets:
    """What one consumer can ask without reading. Not thread-safe."""

    def __init__(self, consumer: Consumer, bootstrap: str) -> None:
        self._consumer = consumer
        self._bootstrap = bootstrap

    def cluster_id(self, timeout_s: float = 15) -> str:
        """Id of the cluster. Raises: Unavailable."""
        try:
            return str(self._consumer.list_topics(timeout=timeout_s).cluster_id)
        except KafkaException as error:
            raise self._failed(error.args[0], "cluster id") from None

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
            raise self._failed(error.args[0], "committed offsets") from None
        return {(f.topic, f.partition): max(0, f.offset) for f in found}

    def commit(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Keep the group's next offsets; not waited for, and a hint: see `committed`."""
        places = [TopicPartition(t, p, o) for (t, p), o in positions.items()]
        self._consumer.commit(offsets=places, asynchronous=True)

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

        Not of one that retention has emptied: the client hands nothing out there and never
        reports that it has come to the end. Raises: Unavailable.
        """
        return within(starts, self.bounds(starts))

    def bounds(
        self, partitions: Iterable[tuple[str, int]], timeout_s: float = 15
    ) -> dict[tuple[str, int], tuple[int, int]]:
        """`beginnings` and `ends`. One after the other: two questions to one client at a time end
        in `Unknown partition` on a client that has just heard of the topic. Raises: Unavailable.
        """
        places = list(partitions)
        ends, begins = self.ends(places, timeout_s), self.beginnings(places, timeout_s)
        return {k: (begins[k], end) for k, end in ends.items()}

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
        """Asks again while a leader moves or is not known yet, and while no broker answers.

        The client keeps what it has heard of a topic: one that it was told of while its partitions
        had no leader would be unknown to it for minutes, unless it asks for its metadata anew. One
        question must not take all of the time: it waits to its end for a leader of what is unknown.
        """
        deadline = time.monotonic() + timeout_s
        found: dict[tuple[str, int], int] = {}
        while left := [TopicPartition(*k, asked[k]) for k in asked if k not in found]:
            try:
                within_s = max(0.1, min(deadline - time.monotonic(), QUESTION_S))
                answers = self._consumer.offsets_for_times(left, timeout=within_s)
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
                    raise self._failed(cause, f"offsets of {named}")
                time.sleep(pause)  # a client that is asked at once fails at once, and spins
                if cause.code() in _MOVING:
                    self._hear_of({topic for topic, _ in asked.keys() - found.keys()}, deadline)
        return found

    def _failed(self, error: KafkaError, what: str) -> EverlodeError:
        told = explained(error, self._bootstrap, what)
        return told or Unavailable(f"{what}: {error.str()}")

    def _hear_of(self, topics: set[str], deadline: float) -> None:
        """Fetch the topics' metadata; without an answer the next question is what fails."""
        for topic in topics:
            with contextlib.suppress(KafkaException):
                self._consumer.list_topics(topic, max(0.1, deadline - time.monotonic()))
