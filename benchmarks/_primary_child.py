"""A primary of tasks of whichever build this interpreter has, under load. Run by its path.

It starts a small stack of its build in the folder that is its argument. A line on standard input,
{"round", "commands", "rate", "seconds"}, starts a node, makes it primary, loads it and stops it; a
line of JSON on standard output says what was seen. The end of standard input stops the stack. What
loads the primary is the same for all builds: commands are encoded before, answers decoded after.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from everlode.adapters.kafka_control import ControlLog
from everlode.avro.cloudevents import command_headers
from everlode.avro.codec import Codec, encode_request
from everlode.events import commands as c
from everlode.events.base import Command, CommandHeader
from everlode.events.control import ScopeAssigned
from everlode.stack import NativeStack
from everlode.topics.names import command_topic, reply_topic
from everlode.topics.partition import partition_of

try:
    from everlode.adapters.kafka_follower import ControlFollower
except ImportError:  # where it was in the former build
    from everlode.adapters.kafka_control import ControlFollower  # type: ignore[attr-defined,no-redef]

PARTITIONS = 2
SCOPE = "task-manager/eu"
ME = "bench#1"
"""Where answers are sent to."""
BEHIND = 100
"""A task is asked for again and cancelled when so many have come behind it."""
WARM = 500
WITHIN_S = 120
DIGEST = sha256(b"x").hexdigest()


class Sent(NamedTuple):
    """A command as Kafka takes it."""

    name: str
    key: str
    value: bytes
    headers: list[tuple[str, str | bytes | None]]


def commands(prefix: str, count: int) -> Iterator[Sent]:
    """Submissions; later each is repeated under its id, or cancelled. Some stay open."""
    now = datetime.now(UTC).replace(microsecond=0)
    submit = c.SubmitTask(
        client_id="c", task_type="inference", payload_uri="s3://x", payload_sha256=DIGEST,
        payload_bytes=1, cpu_milli=1, memory_mib=1, gpus=1, gpu_milli=1, base_reward_micro=1000,
        max_attempts=3, deadline_at=now + timedelta(days=30),
    )  # fmt: skip
    cancel = c.CancelTask(reason="bench")

    def sent(name: str, task: int, command: Command) -> Sent:
        key = f"eu/{prefix}-{task}"
        header = CommandHeader(
            command_id=f"{prefix}-{name}-{task}", aggregate_id=key, issued_by="c", reply_to=ME,
            issued_at=now, correlation_id=key,
        )  # fmt: skip
        value = encode_request(header, command)
        named = command_headers(header, type(command).__name__)
        return Sent(header.command_id, key, value, [*named])

    for number in range(count):
        task = number // 2
        if number % 2 == 0 or task < BEHIND:
            yield sent("submit", number, submit)
        elif task % 10 == 0:
            yield sent("submit", 2 * (task - BEHIND), submit)  # again
        else:
            yield sent("cancel", 2 * (task - BEHIND), cancel)


class Load:
    """Sends commands and notes when their answers come."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 2, "log_level": 0})
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "bench", "enable.auto.commit": False,
             "isolation.level": "read_uncommitted", "fetch.wait.max.ms": 50, "log_level": 0}
        )  # fmt: skip
        mine = partition_of(ME, PARTITIONS)
        self._consumer.assign([TopicPartition(reply_topic("eu"), mine, OFFSET_BEGINNING)])
        self._codec = Codec()
        self._topic = command_topic("eu", "tasks")

    def run(self, sent: Sequence[Sent], rate: float | None) -> tuple[float, list[float]]:
        """Send all, at once or so many a second; seconds to the last answer, and each answer's."""
        came: list[tuple[float, bytes]] = []
        reading = threading.Thread(target=self._read, args=(len(sent), came))
        reading.start()
        at: dict[str, list[float]] = {}
        began = time.monotonic()
        for number, command in enumerate(sent):
            if rate:
                time.sleep(max(0.0, began + number / rate - time.monotonic()))
            at.setdefault(command.name, []).append(time.monotonic())
            self._producer.produce(
                self._topic, command.value, command.key, partition_of(command.key, PARTITIONS),
                headers=command.headers,
            )  # fmt: skip
            self._producer.poll(0)
        self._producer.flush(WITHIN_S)
        reading.join()
        if len(came) < len(sent):
            raise RuntimeError(f"{len(came)} answers to {len(sent)} commands in {WITHIN_S} s")
        took = []
        for moment, value in came:
            answer = self._codec.decode_answer(value)
            if answer.outcome == "refused":
                raise RuntimeError(f"refused: {answer}")
            took.append(moment - at[answer.command_id].pop(0))
        return came[-1][0] - began, took

    def _read(self, count: int, came: list[tuple[float, bytes]]) -> None:
        deadline = time.monotonic() + WITHIN_S
        while len(came) < count and time.monotonic() < deadline:
            found = self._consumer.consume(1000, 0.05)
            now = time.monotonic()
            came.extend((now, message.value() or b"") for message in found)

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()


class Primary:
    """A node of its own for each round, that leads."""

    def __init__(self, folder: Path, control: str) -> None:
        self._folder = folder
        self._log = ControlLog(control)
        self._follower = ControlFollower(control).start()

    def start(self, node_id: str) -> subprocess.Popen[bytes]:
        """Start it, and decide on it once it has joined."""
        arguments = [
            *("-m", "everlode.cli.main", "node", "run", "task-manager", "--region", "eu"),
            *("--node-id", node_id, "--dir", str(self._folder / "stack")),
        ]
        log = self._folder / f"{node_id}.log"
        with log.open("wb") as out:
            node = subprocess.Popen([sys.executable, *arguments], stdout=out, stderr=out)
        self._await(node, log, "ready")
        state = self._follower.state
        epoch = state.epoch(SCOPE)
        decision = ScopeAssigned(
            scope_name=SCOPE, new_epoch=epoch + 1, primary_node=node_id, region="eu",
            reason="forced", based_on=max(0, state.position), based_on_epoch=epoch,
        )  # fmt: skip
        self._log.append(SCOPE, decision, node_id="bench", scope="coordinator/eu")
        return node

    def _await(self, node: subprocess.Popen[bytes], log: Path, word: str) -> None:
        deadline = time.monotonic() + WITHIN_S
        while word not in log.read_text().lower():
            if node.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no {word}: {log.read_text()[-2000:]}")
            time.sleep(0.1)

    def close(self) -> None:
        """Leave the control log."""
        self._follower.close()
        self._log.close()


def one(primary: Primary, load: Load, asked: dict[str, Any]) -> dict[str, float]:
    """A round."""
    name = f"r{asked['round']}"
    count = int(asked["rate"] * asked["seconds"])
    warm, burst, paced = (
        list(commands(f"{name}{kind}", n))
        for kind, n in (("w", WARM), ("b", asked["commands"]), ("p", count))
    )
    node = primary.start(f"eu-tm-{name}")
    try:
        load.run(warm, None)
        watched = psutil.Process(node.pid)
        before = sum(watched.cpu_times()[:2])
        seconds, _ = load.run(burst, None)
        cpu_s = sum(watched.cpu_times()[:2]) - before
        _, took = load.run(paced, asked["rate"])
    finally:
        node.send_signal(signal.SIGTERM)
        node.wait(60)
    return {
        "per_second": len(burst) / seconds,
        "processor_us": cpu_s / len(burst) * 1e6,
        "median_ms": statistics.median(took) * 1000,
        "p95_ms": statistics.quantiles(took, n=20)[-1] * 1000,
    }


def main(folder: Path) -> None:
    """Rounds, as they are asked for."""
    folder.mkdir()
    topology = folder / "topology.yaml"
    topology.write_text(
        f"regions: [eu]\npartitions: {PARTITIONS}\ncontrol_replication: 1\ncontrol_min_insync: 1\n"
    )
    os.environ["EVERLODE_TOPOLOGY"] = str(topology)
    stack = NativeStack.small(folder / "stack")
    try:
        endpoints = stack.up()
        assert endpoints.control_bootstrap is not None
        load = Load(endpoints.regions["eu"].kafka_bootstrap)
        primary = Primary(folder, endpoints.control_bootstrap)
        print("ready", flush=True)
        for line in sys.stdin:
            print(json.dumps(one(primary, load, json.loads(line))), flush=True)
        primary.close()
        load.close()
    finally:
        stack.down()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
