"""Puts a node together: agent, component, runtime, and a validator's work. Shell."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from types import FrameType
from typing import NamedTuple

from everlode.control.scopes import SCOPE_OF, scope_of
from everlode.errors import ConfigError
from everlode.primary.component import Component
from everlode.primary.runtime import Place, Runtime
from everlode.sdk.agent import Identity, NodeAgent
from everlode.sdk.client import MiningClient
from everlode.settings import Settings, settings
from everlode.stack.endpoints import Endpoints
from everlode.topics import Topology

KINDS = {
    "task-manager": "tasks",
    "miner-registry": "miners",
    "validator": "validations",
    "reward-distributor": "rewards",
}
"""Kind of node → component of its topic."""


class NodeSpec(NamedTuple):
    """Which node to run."""

    kind: str
    region: str
    node_id: str
    validator_kind: str = "automatic"
    priority: int = 0


def say(text: str) -> None:
    """One line to stderr."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - the process's own log


def until_signal() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()

    def asked(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, asked)
    signal.signal(signal.SIGINT, asked)
    return stop


def _component(spec: NodeSpec, topology: Topology, cfg: Settings) -> Component:
    """The component of a node; imports only what this kind needs."""
    if spec.kind == "task-manager":
        from everlode.tasks.service import TaskComponent

        lease = timedelta(seconds=cfg.lease_s)
        return TaskComponent(spec.region, topology, spec.node_id, lease, cfg.max_concurrent)
    if spec.kind == "miner-registry":
        from everlode.miners.service import MinerComponent

        return MinerComponent(spec.region, topology)
    if spec.kind == "validator":
        from everlode.validation.service import ValidationComponent

        return ValidationComponent(spec.region, topology)
    from everlode.rewards.service import RewardComponent
    from everlode.rewards.sink import JournalSink

    sink = JournalSink(cfg.payout_dir / f"payouts-{spec.region}.jsonl")
    return RewardComponent(spec.region, topology, sink)


def agent_of(
    identity: Identity, endpoints: Endpoints, topology: Topology, cfg: Settings, **more: object
) -> NodeAgent:
    """A NodeAgent with the settings' timings. Raises: ConfigError: no control cluster."""
    return NodeAgent.of(
        identity,
        endpoints,
        partitions=topology.partitions,
        clock=cfg.clock(),
        beat_ms=cfg.beat_ms,
        renew_ms=cfg.renew_ms,
        fence_after_ms=cfg.fence_after_ms,
        **more,
    )


def run_node(spec: NodeSpec, endpoints: Endpoints, log: Callable[[str], None] = say) -> None:
    """Run a node until SIGTERM or SIGINT.

    Raises: ConfigError: unknown kind or region. IntegrityError: the log is damaged.
    """
    if spec.kind not in KINDS:
        raise ConfigError(f"node kind {spec.kind!r}", hint=f"one of: {', '.join(KINDS)}")
    if spec.region not in endpoints.regions:
        raise ConfigError(
            f"region {spec.region!r} is not in the endpoints",
            hint=f"there are: {', '.join(endpoints.regions)}",
        )
    cfg = settings()
    topology, clock = cfg.load_topology(), cfg.clock()
    component = _component(spec, topology, cfg)
    region = endpoints.regions[spec.region]
    validator = spec.kind == "validator"
    identity = Identity(
        spec.node_id,
        spec.region,
        region.origin,
        SCOPE_OF[component.name],
        spec.validator_kind if validator else "",
        spec.priority,
        topology.task_types,
        cfg.max_concurrent,
    )
    scope = scope_of(component.name, spec.region)
    agent = agent_of(identity, endpoints, topology, cfg, scopes=(scope,), load=component.load)
    place = Place(spec.region, region.origin, region.kafka_bootstrap, topology.partitions)
    runtime = Runtime(component, agent, place, clock, lambda line: log(f"{spec.node_id}: {line}"))
    stop = until_signal()

    def wait() -> None:
        stop.wait()
        runtime.stop()

    threading.Thread(target=wait, name="signal", daemon=True).start()
    agent.start()
    log(f"{spec.node_id}: ready")
    client = worker = None
    if validator:
        from everlode.validation.validator import Validator

        client = MiningClient(
            endpoints, spec.region, spec.node_id, partitions=topology.partitions, clock=clock
        )
        worker = Validator(spec.node_id, spec.validator_kind, component, client, clock)  # type: ignore[arg-type]
        worker.start()
    try:
        runtime.run()
    finally:
        if worker is not None and client is not None:
            worker.stop()
            client.close()
        agent.close()
