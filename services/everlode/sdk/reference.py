"""The reference solution and its judge: what stands for real work where no payload is stored.

A good solution's SHA-256 is derived from task and miner; whoever knows both can judge it. A user
of Everlode puts a `Judge` of its own in its place. Pure.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple, Protocol


class Verdict(NamedTuple):
    """A judge's opinion; the score is in millionths."""

    accept: bool
    score_ppm: int


class Solution(NamedTuple):
    """What is judged."""

    task_id: str
    miner_id: str
    solution_sha256: str
    planted_sha256: str | None


class Judge(Protocol):
    """Judges one solution; must give the same verdict whenever it is asked."""

    def __call__(self, solution: Solution) -> Verdict:
        """The verdict."""


def solution_hash(task_id: str, miner_id: str, good: bool = True) -> str:
    """SHA-256 that a miner hands in for a task: the right one, or a wrong one of its own."""
    return hashlib.sha256(f"{task_id}|{miner_id}|{'good' if good else 'bad'}".encode()).hexdigest()


def planted_hash(task_id: str) -> str:
    """Known answer of a planted task: the same for every miner."""
    return hashlib.sha256(f"{task_id}|planted".encode()).hexdigest()


def score_of(solution_sha256: str) -> int:
    """Quality of a good solution: 700000 to 1000000 millionths, by its hash."""
    return 700_000 + int(solution_sha256[:8], 16) % 300_001


def reference_judge(solution: Solution) -> Verdict:
    """Accept the planted answer, or the right hash for task and miner."""
    if solution.planted_sha256 is not None:
        good = solution.solution_sha256 == solution.planted_sha256
    else:
        good = solution.solution_sha256 == solution_hash(solution.task_id, solution.miner_id)
    return Verdict(good, score_of(solution.solution_sha256) if good else 0)
