"""What MirrorMaker 2 reports of its flows, read from its status topic on the target cluster.

Its layout (`mm2-status.<source>.internal`, compacted, JSON) is Connect's, no public contract:
tested against a running MirrorMaker. Invariant: an unreadable record is an error, never "running".
Shell: confluent_kafka's consumer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from everlode.adapters.kafka_access import explained, identified, new_client
from everlode.errors import ContractError, Unavailable

READ_S = 10.0
_ABSENT = "absent"


class FlowState(NamedTuple):
    """One flow: what `target` copies from `source`."""

    source: str
    target: str
    connector: str
    """RUNNING, PAUSED, FAILED, UNASSIGNED, RESTARTING, or absent."""
    tasks: tuple[str, ...]
    """States of its tasks, in their order."""
    trace: str = ""
    """First line of the failure, if a part has failed."""
    stands_still: bool = False
    """It has records to copy, and was seen to copy none: what it reports of itself may be old."""

    @property
    def runs(self) -> bool:
        """True when connector and tasks (at least one) report it, and what comes is copied."""
        reported = self.connector == "RUNNING" and set(self.tasks) == {"RUNNING"}
        return reported and not self.stands_still


def flow_state(bootstrap: str, source: str, target: str) -> FlowState:
    """The state of a flow, from the target's cluster at `bootstrap`.

    Raises: Unavailable: the cluster does not answer. ContractError: a record does not fit.
    """
    latest = read_all(bootstrap, f"mm2-status.{source}.internal")
    connector, trace = _ABSENT, ""
    tasks: dict[int, str] = {}
    for key, value in latest.items():
        if value is None or not key.startswith(("status-connector-", "status-task-")):
            continue
        task = key.startswith("status-task-")
        try:
            record = json.loads(value)
            state, number = str(record["state"]), int(key.rpartition("-")[2]) if task else 0
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            raise ContractError(f"mm2-status.{source}.internal: {key}: {exc!r}") from exc
        if key == "status-connector-MirrorSourceConnector":
            connector = state
        elif key.startswith("status-task-MirrorSourceConnector-"):
            if state == "DESTROYED":
                continue
            tasks[number] = state
        else:
            continue
        if record.get("trace"):
            trace = str(record["trace"]).partition("\n")[0]
    ordered = tuple(tasks[n] for n in sorted(tasks))
    return FlowState(source, target, connector, ordered, trace)


def read_all(bootstrap: str, topic: str) -> dict[str, bytes | None]:
    """Newest committed value of every key of a compacted topic; empty when there is no such topic.

    Raises: Unavailable: the cluster does not answer, or the topic cannot be read to its end.
    """
    latest: dict[str, bytes | None] = {}
    consumer = reader(bootstrap)
    try:
        metadata = consumer.list_topics(topic, timeout=READ_S).topics[topic]
        if metadata.error is None:
            starts = {(topic, partition): 0 for partition in metadata.partitions}
            for message in to_end(consumer, starts, bootstrap):
                key = message.key()
                if key is not None:
                    latest[key.decode(errors="replace")] = message.value()
    except KafkaException as exc:
        what = f"{bootstrap}: {topic}"
        told = explained(exc.args[0], bootstrap, what)
        raise told or Unavailable(f"{what}: {exc.args[0].str()}") from exc
    finally:
        consumer.close()
    return latest


def reader(bootstrap: str) -> Consumer:
    """A consumer of committed records, in no group, that is notified where a partition ends."""
    return new_client(
        Consumer,
        {
            **identified(bootstrap),
            "group.id": "everlode-mirror-status",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 20,
            "isolation.level": "read_committed",
        },
    )


def to_end(
    consumer: Consumer, starts: Mapping[tuple[str, int], int], bootstrap: str
) -> Iterator[Message]:
    """Records from each (topic, partition) → offset to the partition's end as it is now.

    The client reports the end; offsets do not show it: transaction markers are no records.

    Raises: Unavailable: an end is not reached in time.
    """
    waiting = set(starts)
    consumer.assign([TopicPartition(t, p, offset) for (t, p), offset in starts.items()])
    deadline = time.monotonic() + READ_S
    while waiting:
        if time.monotonic() > deadline:
            topic, partition = min(waiting)
            raise Unavailable(f"{bootstrap}: {topic}/{partition} cannot be read to its end in time")
        for message in consumer.consume(500, 0.1):
            error = message.error()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                waiting.discard((str(message.topic()), int(message.partition() or 0)))
            elif error.fatal():
                raise KafkaException(error)
