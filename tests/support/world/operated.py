"""A region whose operators ask for something, while a client submits tasks."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from itertools import count, pairwise
from pathlib import Path
from typing import Any, NamedTuple, cast

from everlode.adapters.kafka_follower import ControlFollower
from everlode.control.fold import ControlState
from everlode.events import commands as c
from everlode.events.base import CommandAnswered
from everlode.sdk import MiningClient
from tests.support.processes.forked import CLI
from tests.support.processes.outputs import fitting, printed_by
from tests.support.world.one_region import ACKNOWLEDGED, SCOPE, Network, check, submit

MANAGERS = ("eu-tm-1", "eu-tm-2", "eu-tm-3")
RATE = 50


class Answered(NamedTuple):
    """What a command of the CLI came to."""

    code: int
    document: dict[str, Any]


class Load(threading.Thread):
    """Submits tasks at a steady rate, and keeps what was answered, and when."""

    def __init__(self, client: MiningClient) -> None:
        super().__init__(daemon=True)
        self.client = client
        self.stop = threading.Event()
        self.waiting: list[tuple[str, Future[CommandAnswered]]] = []
        self.answered_at: list[float] = []
        self.command = c.SubmitTask(
            client_id="c", task_type="inference", payload_uri="s3://x", payload_sha256="a" * 64,
            payload_bytes=1, cpu_milli=1, memory_mib=1, gpus=1, gpu_milli=1,
            base_reward_micro=1000, max_attempts=3,
            deadline_at=client._clock.event_now() + timedelta(days=365),
        )  # fmt: skip

    def run(self) -> None:
        begun = time.monotonic()
        for number in count():
            if self.stop.wait(max(0.0, begun + number / RATE - time.monotonic())):
                return
            name = f"eu/load{id(self)}-{number}"
            answer = self.client.send(name, self.command)
            answer.add_done_callback(lambda _: self.answered_at.append(time.monotonic()))
            self.waiting.append((name, answer))

    def end(self) -> list[str]:
        """The tasks that were acknowledged; all were, without an error.

        One that a primary has carried out and died before it answered is `repeated`.
        """
        self.stop.set()
        self.join()
        answers = [(name, future.result(60)) for name, future in self.waiting]
        assert [a for _, a in answers if a.outcome not in ACKNOWLEDGED] == []
        return [name for name, _ in answers]

    def outage_s(self) -> float:
        """The longest time without an answer."""
        at = sorted(self.answered_at)
        return max(b - a for a, b in pairwise(at))


class Operated(Network):
    """A network with operators."""

    acknowledged: list[str]
    coordinators: Iterator[int]
    client: MiningClient

    def led(self) -> None:
        """Wait until both services that are there are led for the first time."""
        self.until(lambda s: s.epoch(SCOPE) == 1 and s.epoch("miner-registry/eu") == 1)

    def coordinator(self, *, module: str = CLI, die: str = "") -> str:
        """Start one more, and give its name; see `start`."""
        node = f"eu-co-{next(self.coordinators)}"
        self.start(node, "coordinator", "run", module=module, die=die)
        return node

    def asked(self, *words: str, by: str = "ann") -> subprocess.Popen[bytes]:
        """A command of the CLI that runs."""
        command = [sys.executable, "-m", "everlode.cli.main", *words, "--json"]
        env = {**self.env(), "EVERLODE_OPERATOR": by}
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def answer(self, running: subprocess.Popen[bytes]) -> Answered:
        out, err = running.communicate(timeout=100)
        assert b"Traceback" not in err, err.decode()
        words = [str(word) for word in cast(list[str], running.args)[3:]]
        return Answered(running.returncode, fitting(words, out.decode()))

    def scope(self, *words: str, by: str = "ann") -> Answered:
        code, out = printed_by(["scope", *words], {**self.env(), "EVERLODE_OPERATOR": by})
        return Answered(code, fitting(["scope", *words], out))

    def status(self) -> Answered:
        """The one look. It has no projector here, which is always degraded."""
        code, out = printed_by(["status"], self.env())
        found = Answered(code, fitting(["status"], out))
        assert found.code == 20
        return found

    @property
    def state(self) -> ControlState:
        return self.control.state

    @property
    def primary(self) -> str:
        return self.state.scopes[SCOPE].primary

    def others(self) -> list[str]:
        return [node for node in MANAGERS if node != self.primary]

    def manager(self, node: str) -> None:
        priority = str(10 - int(node[-1]))
        self.start(node, "node", "run", "task-manager", "--priority", priority)

    @contextmanager
    def without_coordinators(self) -> Iterator[None]:
        """They stand still: what is asked meanwhile is open, and not carried out."""
        nodes = [n for n in self.processes if n.startswith("eu-co-")]
        for node in nodes:
            self.signal(node, signal.SIGSTOP)
        try:
            yield
        finally:
            for node in nodes:
                self.signal(node, signal.SIGCONT)

    def steady(self) -> None:
        """All are healthy, nothing is open, and the primary answers."""
        self.until(
            lambda s: (
                not s.wishes.open
                and all(s.nodes[n].status == "healthy" for n in MANAGERS)
                and s.scopes[SCOPE].renewed_at >= 0
            ),
            90,
        )
        self.acknowledged += submit(self.client, [f"eu/steady{time.monotonic_ns()}"])

    def of_control(self, kind: type) -> list[Any]:
        """All records of a type in the control log, with their offsets left out."""
        found: list[Any] = []
        follower = ControlFollower(
            self.endpoints.control(),
            lambda _, fact, __: found.append(fact.data) if isinstance(fact.data, kind) else None,
            whole=True,
        )
        follower.start().close()
        return found


@contextmanager
def operated(folder: Path, start: Callable[[Operated], None]) -> Iterator[Operated]:
    """A region that `start` has brought to where both services are led; a client has tasks there.

    For a fixture of a module; of each test, `well_before_and_after` makes another.
    """
    with Operated(folder) as network:
        network.coordinators = count(1)
        start(network)
        with MiningClient(network.endpoints, "eu", "c1") as network.client:
            network.acknowledged = submit(network.client, [f"eu/t{i:03}" for i in range(30)])
            yield network


def well_before_and_after(shared: Operated) -> Iterator[Operated]:
    """For one test: it begins and ends with all well, and its end is checked."""
    shared.steady()
    yield shared
    shared.steady()
    check(shared, shared.acknowledged)
