"""Who does what in the demo: planned from a trace and a seed, with the truth kept for the report.

Pods of phase Running and Succeeded are solved at their deletion time, Failed ones fail then.
Pending ones never found a node in the trace: here they ask for more GPUs than any miner has, wait,
and are cancelled at their deletion time. What the trace lacks is drawn by seed: 10 % of the solved
tasks are planted with a known answer; 2 % of the miners hand in wrong work, 1 % copy another's, 1 %
hand in rubbish at impossible speed; 10 % of the miners, as reviewers, vote for any dishonest work.
There is at least one of each vice, and three colluders a region. Three miners of each region, among
its largest, are always honest and take every type; no task asks for more GPUs than they have, so
every task that should be solved can be, whoever is suspended. Pure.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import NamedTuple

from everlode.errors import ConfigError
from everlode.events.identity import qualified
from everlode.events.tasktypes import DEFAULT_TASK_TYPES
from everlode.workload.trace import Pod, Trace

ZERO = datetime(2023, 1, 1, tzinfo=UTC)
"""Event time of the trace's zero."""
VICES = {"wrong": 0.02, "copier": 0.01, "hasty": 0.01}
"""Vice → share of the miners."""
COLLUDERS = 0.10
PLANTED = 0.10
RELIABLE = 3
"""Miners of each region that are honest and take every type."""
PAYLOAD_BYTES = (2**30, 2**36)
"""Least and most input of a task: an eighth of its memory between them."""
NEVER_FITS = 1000
"""GPUs that a task asks for which no miner can take."""
DEADLINE = timedelta(days=3650)
MAX_ATTEMPTS = 5
LASTING_MS = 60_000
"""Of wall time: for so long a run waits for a failover, so a task that goes on longer outlives it.

The work stands still meanwhile, behind its limit: so there are such tasks, however slow it is."""


class MinerPlan(NamedTuple):
    """One miner. `vice`: honest, wrong, copier, hasty; `colludes` as a reviewer."""

    miner_id: str
    region: str
    gpus: int
    model: str
    cpu_milli: int
    memory_mib: int
    specialties: tuple[str, ...]
    max_concurrent: int
    stake_micro: int
    vice: str
    colludes: bool


class TaskPlan(NamedTuple):
    """One task. `fate`: solve, fail or cancel. Times in milliseconds since 1970, event time."""

    task_id: str
    region: str
    task_type: str
    fate: str
    gpus: int
    gpu_milli: int
    cpu_milli: int
    memory_mib: int
    reward_micro: int
    created_ms: int
    ended_ms: int
    planted: bool
    payload_sha256: str
    payload_bytes: int


class Workload(NamedTuple):
    """The whole plan. Tasks by creation time."""

    source: str
    seed: int
    miners: tuple[MinerPlan, ...]
    tasks: tuple[TaskPlan, ...]

    def dishonest(self) -> frozenset[str]:
        """Miners that cheat as solvers."""
        return frozenset(m.miner_id for m in self.miners if m.vice != "honest")

    def colluders(self) -> frozenset[str]:
        """Miners that cheat as reviewers."""
        return frozenset(m.miner_id for m in self.miners if m.colludes)


class _Cast(NamedTuple):
    """Who plays what, by index of the node."""

    reliable: frozenset[int]
    vices: dict[int, str]
    colluders: frozenset[int]
    most_gpus: tuple[int, ...]
    """By region: GPUs that its reliable miners have, all of them."""


def plan(trace: Trace, seed: int, regions: tuple[str, ...]) -> Workload:
    """The plan of a trace. Deterministic by trace, seed and regions.

    Raises: ConfigError: too few nodes for the regions.
    """
    rng = random.Random(f"everlode/{seed}")  # noqa: S311 - a workload, not a secret
    cast = _cast(trace, len(regions), rng)
    miners = tuple(_miner(i, trace, regions, cast, rng) for i in range(len(trace.nodes)))
    tasks = tuple(_task(i, pod, regions, cast, rng) for i, pod in enumerate(trace.pods))
    return Workload(trace.source, seed, miners, tasks)


def _cast(trace: Trace, regions: int, rng: random.Random) -> _Cast:
    least = regions * (RELIABLE + 4)
    if len(trace.nodes) < least:
        raise ConfigError(
            f"the trace has {len(trace.nodes)} nodes; {least} are needed for {regions} regions",
            code="trace",
            hint="a trace with more nodes",
        )
    reliable: set[int] = set()
    most = []
    for region in range(regions):
        here = range(region, len(trace.nodes), regions)
        chosen = sorted(here, key=lambda i: (-trace.nodes[i].gpus, i))[:RELIABLE]
        reliable.update(chosen)
        most.append(min(trace.nodes[i].gpus for i in chosen))
    others = [i for i in range(len(trace.nodes)) if i not in reliable]
    rng.shuffle(others)
    vices = {}
    for vice, share in VICES.items():
        for _ in range(max(1, round(share * len(trace.nodes)))):
            vices[others.pop()] = vice
    colluders: set[int] = set()
    for region in range(regions):
        here_honest = [i for i in others if i % regions == region]
        wanted = max(3, round(COLLUDERS * len(trace.nodes) / regions))
        colluders.update(here_honest[:wanted])
    return _Cast(frozenset(reliable), vices, frozenset(colluders), tuple(most))


def _miner(
    i: int, trace: Trace, regions: tuple[str, ...], cast: _Cast, rng: random.Random
) -> MinerPlan:
    node, home = trace.nodes[i], regions[i % len(regions)]
    count = rng.randint(3, len(DEFAULT_TASK_TYPES))
    some = tuple(sorted(rng.sample(DEFAULT_TASK_TYPES, count)))
    return MinerPlan(
        qualified(home, f"miner-{node.name}"), home, node.gpus, node.model, node.cpu_milli,
        node.memory_mib, tuple(sorted(DEFAULT_TASK_TYPES)) if i in cast.reliable else some,
        max(8, 8 * node.gpus), rng.randint(50, 500) * 1_000_000,
        cast.vices.get(i, "honest"), i in cast.colluders,
    )  # fmt: skip


def _task(i: int, pod: Pod, regions: tuple[str, ...], cast: _Cast, rng: random.Random) -> TaskPlan:
    home = regions[i % len(regions)]
    fate = {"Failed": "fail", "Pending": "cancel"}.get(pod.phase, "solve")
    hours = (pod.deleted_s - pod.created_s) / 3600
    reward = 100_000 + int(min(hours, 1000) * 10_000) * max(1, pod.gpus)
    created = ZERO + timedelta(seconds=pod.created_s)
    ended = ZERO + timedelta(seconds=max(pod.deleted_s, pod.created_s + 2))
    gpus = min(pod.gpus, cast.most_gpus[i % len(regions)])
    least, most = PAYLOAD_BYTES
    return TaskPlan(
        qualified(home, f"task-{pod.name}"), home, pod.task_type, fate,
        NEVER_FITS if fate == "cancel" else gpus, pod.gpu_milli, pod.cpu_milli,
        pod.memory_mib, reward, round(created.timestamp() * 1000),
        round(ended.timestamp() * 1000), fate == "solve" and rng.random() < PLANTED,
        sha256(pod.name.encode()).hexdigest(),
        min(most, max(least, pod.memory_mib * 2**20 // 8)),
    )  # fmt: skip
