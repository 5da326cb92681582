"""Who does what in the demo: planned from a trace and a seed, with the truth kept for the report.

Pods of phase Running and Succeeded are solved at their deletion time, Failed ones fail then.
Pending ones never found a node in the trace: here they ask for more GPUs than any miner has, wait,
and are cancelled at their deletion time. What the trace lacks is drawn by seed: 2 % of the solved
tasks are planted with a known answer, 3 % of the miners are dishonest (they hand in wrong work,
copy another's, or claim impossible speed), 4 % of the reviewers vote for any dishonest work. Pure.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import NamedTuple

from everlode.demo.trace import Pod, Trace
from everlode.events.tasktypes import DEFAULT_TASK_TYPES

ZERO = datetime(2023, 1, 1, tzinfo=UTC)
"""Event time of the trace's zero."""
NEVER_FITS = 1000
"""GPUs that a task asks for which no miner can take."""
DEADLINE = timedelta(days=3650)
MAX_ATTEMPTS = 5


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


def plan(trace: Trace, seed: int, regions: tuple[str, ...]) -> Workload:
    """The plan of a trace. Deterministic by trace, seed and regions."""
    rng = random.Random(f"everlode/{seed}")  # noqa: S311 - a workload, not a secret
    miners = tuple(_miner(i, trace, regions, rng) for i in range(len(trace.nodes)))
    tasks = tuple(_task(i, pod, regions, rng) for i, pod in enumerate(trace.pods))
    return Workload(trace.source, seed, miners, tasks)


def _miner(i: int, trace: Trace, regions: tuple[str, ...], rng: random.Random) -> MinerPlan:
    node = trace.nodes[i]
    draw = rng.random()
    vice = "honest"
    if draw < 0.03:
        vice = ("wrong", "copier", "hasty")[int(draw * 100)]
    count = rng.randint(3, len(DEFAULT_TASK_TYPES))
    specialties = tuple(sorted(rng.sample(DEFAULT_TASK_TYPES, count)))
    return MinerPlan(
        f"miner-{node.name}", regions[i % len(regions)], node.gpus, node.model, node.cpu_milli,
        node.memory_mib, specialties, max(8, 8 * node.gpus), rng.randint(50, 500) * 1_000_000,
        vice, rng.random() < 0.04,
    )  # fmt: skip


def _task(i: int, pod: Pod, regions: tuple[str, ...], rng: random.Random) -> TaskPlan:
    fate = {"Failed": "fail", "Pending": "cancel"}.get(pod.phase, "solve")
    hours = (pod.deleted_s - pod.created_s) / 3600
    reward = 100_000 + int(min(hours, 1000) * 10_000) * max(1, pod.gpus)
    created = ZERO + timedelta(seconds=pod.created_s)
    ended = ZERO + timedelta(seconds=max(pod.deleted_s, pod.created_s + 2))
    return TaskPlan(
        f"task-{pod.name}", regions[i % len(regions)], pod.task_type, fate,
        NEVER_FITS if fate == "cancel" else pod.gpus, pod.gpu_milli, pod.cpu_milli,
        pod.memory_mib, reward, round(created.timestamp() * 1000),
        round(ended.timestamp() * 1000), fate == "solve" and rng.random() < 0.02,
        sha256(pod.name.encode()).hexdigest(),
    )  # fmt: skip


def knots(
    workload: Workload, start_wall_ms: int, duration_ms: int, count: int = 60
) -> list[tuple[int, int]]:
    """Knots (wall_ms, event_ms) of a clock under which the plan's load is even over `duration_ms`.

    Creations and ends weigh the same; event time stays the trace's own.
    """
    times = sorted(t for task in workload.tasks for t in (task.created_ms, task.ended_ms))
    points = [(start_wall_ms, times[0] - 1)]
    for i in range(1, count + 1):
        event = times[min(len(times) - 1, i * len(times) // count)]
        wall = start_wall_ms + duration_ms * i // count
        if event > points[-1][1]:
            points.append((wall, event))
    return points
