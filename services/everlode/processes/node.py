"""`everlode node run`: agent, component, runtime, and a validator's work. Shell."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from everlode.adapters.clock import Clock
from everlode.control.scopes import SCOPE_OF, Scope
from everlode.errors import ConfigError
from everlode.events.services import BY_NODE
from everlode.log.folds import AtHand
from everlode.membership.agent import Identity, NodeAgent
from everlode.membership.hand import NOTHING, Hands, InHand
from everlode.miners.component import MinerComponent
from everlode.primary.component import Component
from everlode.primary.runtime import Runtime
from everlode.primary.standstill import stood
from everlode.processes.host import Host, agent_of, hosted, until_signal
from everlode.rewards.component import RewardComponent
from everlode.rewards.sink import JournalSink
from everlode.sdk.client import MiningClient
from everlode.sdk.reference import reference_judge
from everlode.settings.endpoints import Endpoints
from everlode.settings.environment import Settings
from everlode.stack.services import SPECIAL
from everlode.tasks.component import TaskComponent
from everlode.telemetry.entries import Note, ProcessReady
from everlode.telemetry.sink import Sink
from everlode.topics import Topology
from everlode.validations.component import ValidationComponent
from everlode.validations.limited import LimitedJudge
from everlode.validations.validator import Validator, judges_of

IN_HAND = "in-hand"
"""Folder of a stack in which its nodes mark what they work on."""


class NodeSpec(NamedTuple):
    """Which node to run."""

    kind: str
    region: str
    node_id: str
    validator_kind: str = "automatic"
    priority: int = 0
    specialties: tuple[str, ...] = ()
    """Types of tasks that it gets before others."""


def component_of(spec: NodeSpec, topology: Topology, cfg: Settings, payouts: Path) -> Component:
    """What a node of this kind decides with; it has read nothing yet."""
    made = _kind(spec, topology, cfg, payouts)
    made.folds.keep(AtHand(cfg.ended_at_hand, cfg.answers_at_hand))
    return made


def _kind(spec: NodeSpec, topology: Topology, cfg: Settings, payouts: Path) -> Component:
    match spec.kind:
        case "task-manager":
            lease = timedelta(seconds=cfg.lease_s)
            return TaskComponent(spec.region, topology, spec.node_id, lease, cfg.max_concurrent)
        case "miner-registry":
            return MinerComponent(spec.region, topology)
        case "validator":
            return ValidationComponent(spec.region, topology)
        case _:
            sink = JournalSink(payouts / f"payouts-{spec.region}.jsonl")
            return RewardComponent(spec.region, topology, sink)


def _specialties(spec: NodeSpec, topology: Topology) -> tuple[str, ...]:
    reviews = spec.kind == "validator" and spec.validator_kind == "peer-review"
    if spec.specialties and (spec.kind not in SPECIAL or reviews):
        raise ConfigError(
            f"--specialty: no {spec.kind}{' of peer review' if reviews else ''} is chosen by it",
            hint=f"of nodes that are: {', '.join(SPECIAL)}, automatic or expert",
        )
    for name in spec.specialties:
        if name not in topology.task_types:
            types = ", ".join(topology.task_types)
            raise ConfigError(f"--specialty {name}: no such type of task", hint=f"one of: {types}")
    return spec.specialties


class Judging(NamedTuple):
    """What a validator has of its node."""

    agent: NodeAgent
    hands: InHand
    judge: LimitedJudge


def _hands(folder: Path, agent: NodeAgent, report: Sink) -> InHand:
    """A node that can mark nothing, e.g. in a folder that is only read, works all the same."""
    try:
        return Hands(folder, agent)
    except OSError as error:
        report(Note("node", f"what it works on is not marked: {folder}: {error.strerror}"))
        return NOTHING


@contextmanager
def _judging(
    spec: NodeSpec, component: Component, by: Judging, endpoints: Endpoints, clock: Clock
) -> Iterator[None]:
    """A validator votes while its node runs; other kinds of node have nothing beside it."""
    if not isinstance(component, ValidationComponent):
        yield
        return
    with MiningClient(endpoints, spec.region, spec.node_id, clock=clock) as client:
        worker = Validator(
            spec.node_id, spec.validator_kind, component, client, clock,
            judges=lambda: judges_of(by.agent.control, spec.region, spec.validator_kind),
            hand=by.hands, judge=by.judge,
        )  # fmt: skip
        worker.start()
        try:
            yield
        finally:
            worker.stop()


def run_node(spec: NodeSpec, stack: Path) -> None:
    """Run a node of the stack in the folder `stack` until SIGTERM or SIGINT.

    Raises: NotFound: there is no stack. ConfigError: unknown kind or region. IntegrityError: the
    log is damaged.
    """
    endpoints = Endpoints.load(stack)
    with hosted(spec.node_id) as host:
        _run(spec, endpoints, host, stack)


def _run(spec: NodeSpec, endpoints: Endpoints, host: Host, stack: Path) -> None:
    if spec.kind not in BY_NODE:
        raise ConfigError(f"node kind {spec.kind!r}", hint=f"one of: {', '.join(BY_NODE)}")
    region = endpoints.region(spec.region)
    cfg, report = host
    topology, clock = cfg.topology_of(endpoints), cfg.clock()
    component = component_of(spec, topology, cfg, cfg.payouts(stack))
    identity = Identity(
        spec.node_id,
        spec.region,
        region.origin,
        SCOPE_OF[component.name],
        spec.validator_kind if spec.kind == "validator" else "",
        spec.priority,
        _specialties(spec, topology),
        cfg.max_concurrent,
    )
    homes = [home for home in topology.regions if home != spec.region and cfg.takeover]
    scopes = tuple(Scope(component.name, home) for home in (spec.region, *homes))
    texts = tuple(map(str, scopes))
    runtime: Runtime
    judge = LimitedJudge(reference_judge, cfg.judge_s)
    agent = agent_of(
        identity, endpoints, cfg, scopes=texts, load=lambda: stood(runtime.load(), judge.stands())
    )
    hands = _hands(stack / IN_HAND, agent, report)
    parts = endpoints.parts(spec.region)
    runtime = Runtime(component, agent, parts, clock, scopes, hand=hands, report=report)
    stop = until_signal()

    def wait() -> None:
        stop.wait()
        runtime.stop()

    threading.Thread(target=wait, name="signal", daemon=True).start()
    with agent:
        report(ProcessReady())
        with _judging(spec, component, Judging(agent, hands, judge), endpoints, clock):
            runtime.run()
    hands.close()
