"""Commands and facts for tests of the state machines, with defaults for what does not matter."""

from __future__ import annotations

import hashlib
from collections.abc import Container
from datetime import UTC, datetime, timedelta
from typing import Any

from everlode.events import commands as c
from everlode.events.base import Envelope, Event, Fact
from everlode.events.tasktypes import DEFAULT_TASK_TYPES

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DEADLINE = NOW + timedelta(days=30)


def sha256_of(text: str) -> str:
    """A hash that nothing else has."""
    return hashlib.sha256(text.encode()).hexdigest()


def fact_of(data: Event, key: str = "v", n: int = 1, **more: Any) -> Fact:
    """The `n`-th fact of eu; `more`: fields of the envelope, and `at`."""
    values = {
        "event_id": f"e{n}",
        "aggregate_id": key,
        "version": 1,
        "origin": "eu.1",
        "scope": "validation/eu",
        "epoch": 1,
        "seq": n,
        "stamp": n,
        "occurred_at": more.pop("at", NOW),
        "correlation_id": "c",
    }
    return Fact(Envelope.model_validate(values | more), data)


class Anybody(Container[tuple[str, str]]):
    """Everybody is a validator of every kind."""

    def __contains__(self, _: object) -> bool:
        return True


ANYBODY = Anybody()


def register(**more: Any) -> c.RegisterMiner:
    """A miner that takes every type."""
    values = {
        "operator_id": "o",
        "endpoint": "e",
        "specialties": DEFAULT_TASK_TYPES,
        "gpus": 1,
        "gpu_model": "A",
        "cpu_milli": 1,
        "memory_mib": 1,
        "max_concurrent": 9,
    }
    return c.RegisterMiner.model_validate(values | more)


def submit(**more: Any) -> c.SubmitTask:
    """An inference with three attempts."""
    values = {
        "client_id": "c",
        "task_type": "inference",
        "payload_uri": "u",
        "payload_sha256": sha256_of("input"),
        "payload_bytes": 1,
        "cpu_milli": 1,
        "memory_mib": 1,
        "gpus": 1,
        "gpu_milli": 1,
        "base_reward_micro": 1_000_000,
        "max_attempts": 3,
        "deadline_at": DEADLINE,
    }
    return c.SubmitTask.model_validate(values | more)


def solution(
    miner_id: str,
    attempt: int,
    solution_id: str,
    sha256: str,
    work_ms: int = 1000,
    size: int = 4096,
) -> c.SubmitSolution:
    """A solution, too large to be equal to another by accident."""
    return c.SubmitSolution(
        miner_id=miner_id,
        attempt=attempt,
        solution_id=solution_id,
        solution_uri="u",
        solution_sha256=sha256,
        solution_bytes=size,
        work_ms=work_ms,
    )
