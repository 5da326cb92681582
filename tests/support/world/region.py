"""A small region for tests: one broker, one control node, nodes as processes, no coordinator.

The test decides who leads, by `assign`; so a failover happens when the test wants it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from everlode.adapters.kafka import Raw
from everlode.adapters.kafka_control import ControlLog
from everlode.adapters.kafka_follower import ControlFollower
from everlode.avro.codec import Codec
from everlode.control.scopes import Scope
from everlode.events.base import Fact
from everlode.events.control import ScopeAssigned
from everlode.sdk import MiningClient
from everlode.stack import NativeStack
from everlode.stack.native.supervisor import save_options
from everlode.topics import Topology
from everlode.topics.names import fact_topic
from tests.support.facts.whole_topic import records
from tests.support.processes.entries import await_entry, entries, matching
from tests.support.processes.forked import CLI, started

TOPOLOGY = Topology(
    regions=("eu",), control_replication=1, control_min_insync=1, operators=("judge",)
)
PARTITIONS = TOPOLOGY.partitions

MARKED_S = 30.0
"""A transaction's marks are in all of its partitions by then."""


def until(true: Callable[[], bool], within_s: float, what: str) -> None:
    """Wait for a condition, or fail naming it. What takes long to look at is looked at less."""
    deadline = time.monotonic() + within_s
    while True:
        began = time.monotonic()
        if true():
            return
        now = time.monotonic()
        assert now < deadline, f"not within {within_s} s: {what}"
        time.sleep(max(0.05, now - began))


class Node:
    """A node's process; its output is in `log`."""

    def __init__(self, module: str, words: list[str], log: Path, env: dict[str, str]) -> None:
        self.log = log
        self.process = started(module, words, log, {**os.environ, **env})

    def reports(self, kind: str = "", **fields: Any) -> bool:
        """True when it has reported such an entry; of `text` a part is enough."""
        return bool(matching(entries(self.log), kind, **fields))

    def await_entry(self, kind: str = "", within_s: float = 40, **fields: Any) -> None:
        """Wait for an entry in its log; fails when it ends without."""
        await_entry(self.log, kind, within_s, lambda: self.process.poll() is not None, **fields)

    def ready(self, within_s: float = 40) -> None:
        """Wait until it has joined."""
        self.await_entry("ProcessReady", within_s)

    def leads(self, epoch: int) -> None:
        """Wait until it leads in this epoch."""
        self.await_entry("Led", epoch=epoch)

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and reap."""
        self.process.kill()
        self.process.wait(10)


def region_of(node_id: str) -> str:
    """`ap` of ap-mr-1; `eu` of one that is named after no region."""
    first = node_id.partition("-")[0]
    return first if first in ("us", "ap") else "eu"


class Region:
    """`eu` on a small stack of its own. Use as a context manager."""

    def __init__(self, folder: Path, *, s3: str | None = None) -> None:
        self.folder = folder
        self.dir = folder / "stack"
        """Where its processes look for endpoints."""
        self.stack = NativeStack(TOPOLOGY, folder / "stack", mirrors=False, control_nodes=1, s3=s3)
        self.nodes: list[Node] = []

    def __enter__(self) -> Region:
        self.endpoints = self.stack.up()
        save_options(self.stack.data_dir, TOPOLOGY)  # as `everlode stack up` does
        self.bootstrap = self.endpoints.regions["eu"].kafka_bootstrap
        self._env: dict[str, str] = {}
        assert self.endpoints.control_bootstrap is not None
        self.control = ControlLog(self.endpoints.control_bootstrap)
        self.follower = ControlFollower(self.endpoints.control_bootstrap).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for node in self.nodes:
            if node.process.poll() is None:
                node.process.send_signal(signal.SIGCONT)
                node.kill()
        self.follower.close()
        self.control.close()
        self.stack.down(at_once=True)

    def node(
        self, kind: str, node_id: str, *more: str, module: str | None = None, die: str = ""
    ) -> Node:
        """Start a node; with `module` another program with the same arguments, and its fault."""
        words = ("node", "run", kind, *more)
        return self._start(words, node_id, module or CLI, die)

    def coordinator(self, node_id: str) -> Node:
        """Start a coordinator."""
        return self.process("coordinator", node_id)

    def process(self, noun: str, node_id: str, *, module: str | None = None) -> Node:
        """Start a process of the region: coordinator, projector or detector; see `node`."""
        return self._start((noun, "run"), node_id, module or CLI, "")

    def _start(self, words: tuple[str, ...], node_id: str, module: str, die: str) -> Node:
        where = ["--region", region_of(node_id), "--node-id", node_id, "--dir", str(self.dir)]
        log = self.folder / f"{node_id}-{len(self.nodes)}.log"
        node = Node(module, [*words, *where], log, {**self._env, "DYING_NODE_AT": die})
        self.nodes.append(node)
        return node

    def assign(self, component: str, node_id: str) -> int:
        """Decide that `node_id` leads the component's scope; returns the epoch."""
        scope = str(Scope(component, region_of(node_id)))
        state = self.follower.state
        epoch = state.epoch(scope)
        decision = ScopeAssigned(
            scope_name=scope,
            new_epoch=epoch + 1,
            primary_node=node_id,
            region=region_of(node_id),
            reason="forced",
            based_on=max(0, state.position),
            based_on_epoch=epoch,
        )
        at = self.control.append(scope, decision, node_id="test", scope="coordinator/eu")
        self.follower.wait_for(lambda s: s.position >= at, 20)
        return epoch + 1

    def leader(
        self, kind: str, component: str, node_id: str, module: str | None = None, die: str = ""
    ) -> Node:
        """Start a node, make it primary, and wait until it leads."""
        node = self.node(kind, node_id, module=module, die=die)
        node.ready()
        epoch = self.assign(component, node_id)
        node.leads(epoch)
        return node

    def client(self, name: str, **options: float) -> MiningClient:
        """A client of the region."""
        return MiningClient(self.endpoints, "eu", name, **options)  # type: ignore[arg-type]

    def records(self, topic: str, partitions: int = PARTITIONS) -> list[Raw]:
        """All committed records of a topic, by partition."""
        return records(self.bootstrap, topic, partitions)

    def facts(self, component: str) -> list[Fact]:
        """All facts of a component, marks included, by partition."""
        codec = Codec()
        return [codec.decode_fact(raw.value) for raw in self.records(fact_topic("eu.1", component))]
