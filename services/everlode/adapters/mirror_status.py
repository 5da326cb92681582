"""What MirrorMaker 2 says of its flows, read from its status topic on the target cluster.

Its layout (`mm2-status.<source>.internal`, compacted, JSON) is Connect's, no public contract:
tested against a running MirrorMaker. Invariant: an unreadable record is an error, never "running".
Shell: confluent_kafka's consumer.
"""

from __future__ import annotations

import json
import time
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from everlode.errors import ContractError, Unavailable

_READ_S = 10.0
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

    @property
    def runs(self) -> bool:
        """True when the connector and at least one task run, and none is in another state."""
        return self.connector == "RUNNING" and set(self.tasks) == {"RUNNING"}


def flow_state(bootstrap: str, source: str, target: str) -> FlowState:
    """The state of a flow, from the target's cluster at `bootstrap`.

    Raises: Unavailable: the cluster does not answer. ContractError: a record does not fit.
    """
    latest = _read_all(bootstrap, f"mm2-status.{source}.internal")
    connector, trace = _ABSENT, ""
    tasks: dict[int, str] = {}
    for key, value in latest.items():
        if value is None or not key.startswith(("status-connector-", "status-task-")):
            continue
        try:
            record = json.loads(value)
            state = str(record["state"])
        except (ValueError, KeyError, TypeError) as exc:
            raise ContractError(f"mm2-status.{source}.internal: {key}: {exc!r}") from exc
        if key == "status-connector-MirrorSourceConnector":
            connector = state
        elif key.startswith("status-task-MirrorSourceConnector-"):
            if state == "DESTROYED":
                continue
            tasks[int(key.rpartition("-")[2])] = state
        else:
            continue
        if record.get("trace"):
            trace = str(record["trace"]).partition("\n")[0]
    ordered = tuple(tasks[n] for n in sorted(tasks))
    return FlowState(source, target, connector, ordered, trace)


def _read_all(bootstrap: str, topic: str) -> dict[str, bytes | None]:
    """Newest value of every key; empty when the topic does not exist."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "everlode-mirror-status",
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )
    deadline = time.monotonic() + _READ_S
    latest: dict[str, bytes | None] = {}
    try:
        metadata = consumer.list_topics(topic, timeout=_READ_S).topics[topic]
        if metadata.error is not None:
            return {}
        ends: dict[int, int] = {}
        for partition in metadata.partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), _READ_S)
            if high > low:
                ends[partition] = high
        consumer.assign([TopicPartition(topic, p, 0) for p in ends])
        while ends:
            if time.monotonic() > deadline:
                raise Unavailable(f"{bootstrap}: {topic} cannot be read to its end in time")
            for message in consumer.consume(500, 0.1):
                if message.error() is None:
                    _keep(latest, message)
            done = {p.partition: p.offset for p in consumer.position(_parts(topic, ends))}
            ends = {p: end for p, end in ends.items() if done[p] < end}
    except KafkaException as exc:
        raise Unavailable(f"{bootstrap}: {topic}: {exc.args[0].str()}") from exc
    finally:
        consumer.close()
    return latest


def _parts(topic: str, ends: dict[int, int]) -> list[TopicPartition]:
    return [TopicPartition(topic, p) for p in ends]


def _keep(latest: dict[str, bytes | None], message: Any) -> None:
    key = message.key()
    if key is not None:
        latest[key.decode(errors="replace")] = message.value()
