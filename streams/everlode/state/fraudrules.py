"""The fraud rules: pure functions of what is judged and a little that was seen before.

- copied-solution: the same solution as another miner's, for another input;
- impossible-speed: less time than it takes to read the input once;
- wrong-planted-answer: a wrong answer to a planted known task; confirmed at the second;
- colluding-votes: reviewers outvoted a truth that an expert found, with all but equal scores.

A rule suspects; what confirms or clears is an expert's decision or the planted answer. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from everlode.events.states import ValidationState, Vote
from everlode.events.tasks import TaskSolved
from everlode.events.types import FraudRule
from everlode.state.view import Planted

READ_BYTES_PER_MS = 100_000_000
"""100 GB/s: no miner reads its input faster."""
COLLUSION_SPREAD_PPM = 20_000
"""Scores this close together are no coincidence when they are wrong together."""
CONFIRMED_AT = 2
"""Wrong planted answers that confirm fraud; the first may be an accident."""
CLEARED_AT = 4
"""Right planted answers for each wrong one that clear a suspicion."""


class Sign(NamedTuple):
    """A sign of fraud: who, how grave, and what it shows."""

    rule: FraudRule
    suspects: tuple[str, ...]
    severity_ppm: int
    note: str


def copied_solution(
    solved: TaskSolved | ValidationState, task_id: str, seen: Sequence[ValidationState]
) -> list[Sign]:
    """The same solution from another miner for another input, seen before.

    The right answer to a planted task is no copy, however often it is given.
    """
    if solved.solution_sha256 == solved.planted_sha256:
        return []
    for other in seen:
        if other.solution_id == solved.solution_id:
            break  # seen in order: what follows came after this one
        same_input = other.payload_sha256 == solved.payload_sha256
        if other.miner_id != solved.miner_id and not same_input:
            note = f"{task_id}: the same solution as {other.key} by {other.miner_id}"
            return [Sign("copied-solution", (solved.miner_id,), 900_000, note)]
    return []


def impossible_speed(solved: TaskSolved, task_id: str) -> list[Sign]:
    """Less time than it takes to read the input once."""
    if solved.work_ms * READ_BYTES_PER_MS >= solved.payload_bytes:
        return []
    note = f"{task_id}: {solved.payload_bytes} bytes of input in {solved.work_ms} ms"
    return [Sign("impossible-speed", (solved.miner_id,), 700_000, note)]


def wrong_planted_answer(state: ValidationState) -> list[Sign]:
    """A decided answer to a planted task that is not the known one."""
    if state.planted_sha256 is None or state.solution_sha256 == state.planted_sha256:
        return []
    note = f"{state.task_id}: solution {state.solution_sha256[:12]} is not the planted answer"
    return [Sign("wrong-planted-answer", (state.miner_id,), 800_000, note)]


def planted_verdict(record: Planted) -> bool | None:
    """True: confirmed; False: cleared; None: not known yet."""
    if record.wrong >= CONFIRMED_AT:
        return True
    return False if record.right >= CLEARED_AT * max(record.wrong, 1) else None


def colluding_votes(state: ValidationState) -> list[Sign]:
    """Peers who voted for an overturned decision together: two or more, scores all but equal."""
    wrong = [v for v in state.votes if v.voter_kind == "peer-review" and v.accept == state.accepted]
    group = _closest(wrong)
    if len(group) < 2:
        return []
    names = ", ".join(v.voter_id for v in group)
    note = f"{state.key}: {names} voted alike and wrong"
    return [Sign("colluding-votes", tuple(sorted(v.voter_id for v in group)), 1_000_000, note)]


def _closest(votes: Sequence[Vote]) -> list[Vote]:
    """The largest group of votes whose scores lie within the spread; the lowest of equals."""
    ordered = sorted(votes, key=lambda v: (v.score_ppm, v.voter_id))
    best: list[Vote] = []
    for i, first in enumerate(ordered):
        near = [v for v in ordered[i:] if v.score_ppm - first.score_ppm <= COLLUSION_SPREAD_PPM]
        if len(near) > len(best):
            best = near
    return best
