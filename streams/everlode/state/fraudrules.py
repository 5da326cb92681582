"""The fraud rules: pure functions of what is judged and a little that was seen before.

- copied-solution: the same solution as another miner's earlier one, for another input;
- impossible-speed: less time than it takes to read the input once;
- wrong-planted-answer: a wrong answer to a honeypot, a planted task whose answer is known;
- repeated-bad-work: again and again a solution that was proved bad;
- colluding-votes: one reviewer voted again and again for what an expert found bad; or several
  outvoted the truth together, with all but equal scores.

A rule suspects; what confirms or clears is an expert's decision, a honeypot's answer, or the record
over time. A record is weighed by Wald's sequential test (Ann. Math. Stat. 16, 1945) of "wrong four
times in five" against "wrong once in twenty", the honest at their worst: whoever is no worse than
that is ever confirmed with a probability of at most 1 in 4,096, however long the record, and who is
wrong once in fifty with at most 1 in 64,000 (the weights lean to the innocent). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from everlode.events.snapshots import HandedIn
from everlode.events.states import ValidationState, Vote
from everlode.events.tasks import TaskSolved
from everlode.events.types import FraudRule

READ_BYTES_PER_MS = 100_000_000
"""100 GB/s: no miner reads its input faster."""
SMALL_BYTES = 256
"""Answers below this are alike by accident: yes and no, labels, numbers. Equal ones say nothing."""
COLLUSION_SPREAD_PPM = 20_000
"""Scores this close together are no coincidence when they are wrong together."""
CLEARED_AT = 4
"""Right answers to honeypots for each wrong one that clear a suspicion."""

WRONG, RIGHT = 7, -4
"""What a wrong and a right one weigh: ln 16 and ln (1/0.21) in units of ln 16 / 7, rounded down."""
ALIKE = 5
"""What each score weighs that is all but equal to another's: ln 7.5, of 40,000 in 300,000."""
INNOCENT, SUSPICIOUS, GUILTY = 0, 14, 21
"""Weight of a record that clears (at most), suspects and confirms (16³ to 1; at least)."""


class Record(NamedTuple):
    """How often somebody was right, and how often wrong."""

    right: int
    wrong: int
    worth_micro: int = 0
    """Base rewards of the wrong ones, in millionths of a credit."""


class Sign(NamedTuple):
    """A sign of fraud: who, how grave, and what it shows."""

    rule: FraudRule
    suspects: tuple[str, ...]
    severity_ppm: int
    note: str


def handed_in(state: ValidationState) -> HandedIn:
    """The solution that a validation is about."""
    return HandedIn(
        state.solved_stamp or 0,
        state.solution_id,
        state.solution_sha256,
        state.payload_sha256,
        state.planted_sha256,
        state.miner_id,
        state.task_id,
        state.key,
    )


def copied_solution(one: HandedIn, others: Iterable[HandedIn]) -> list[Sign]:
    """The same solution as another miner's for another input, which was handed in before.

    Before is by stamp: in whatever order the two are read, the later one is the copy. The right
    answer to a honeypot is no copy, however often it is given.
    """
    if one.solution_sha256 == one.planted_sha256:
        return []
    earlier = [
        other
        for other in others
        if other[:2] < one[:2]
        and other.solution_sha256 == one.solution_sha256
        and other.miner_id != one.miner_id
        and other.payload_sha256 != one.payload_sha256
    ]
    if not earlier:
        return []
    first = min(earlier)
    note = f"{one.task_id}: the same solution as {first.validation_id} by {first.miner_id}"
    return [Sign("copied-solution", (one.miner_id,), 900_000, note)]


def firsts(handed: Iterable[HandedIn]) -> tuple[HandedIn, ...]:
    """Those of one solution that `copied_solution` can ever find, earliest first: five at most.

    It looks for the earliest by another miner for another input. That is the earliest of all (a),
    unless it is a's miner who asks, or for a's input: then the earliest without that, (b), unless
    it is b's input, or b's miner: then the earliest without both.
    """
    ordered = sorted(set(handed))
    found: set[HandedIn] = set()

    def first(miners: tuple[str, ...], payloads: tuple[str, ...]) -> HandedIn | None:
        for one in ordered:
            if one.miner_id not in miners and one.payload_sha256 not in payloads:
                found.add(one)
                return one
        return None

    a = first((), ())
    if a is not None:
        b = first((a.miner_id,), ())
        if b is not None:
            first((a.miner_id,), (b.payload_sha256,))
        b = first((), (a.payload_sha256,))
        if b is not None:
            first((b.miner_id,), (a.payload_sha256,))
    return tuple(sorted(found))


def impossible_speed(solved: TaskSolved, task_id: str) -> list[Sign]:
    """Less time than it takes to read the input once."""
    if solved.work_ms * READ_BYTES_PER_MS >= solved.payload_bytes:
        return []
    note = f"{task_id}: {solved.payload_bytes} bytes of input in {solved.work_ms} ms"
    return [Sign("impossible-speed", (solved.miner_id,), 700_000, note)]


def wrong_honeypot_answer(state: ValidationState) -> list[Sign]:
    """A decided answer to a honeypot that is not the known one, and that nobody found good.

    Who plants a wrong answer accuses nobody by it.
    """
    if state.planted_sha256 is None or state.solution_sha256 == state.planted_sha256:
        return []
    if state.accepted:
        return []
    note = f"{state.task_id}: solution {state.solution_sha256[:12]} is not the planted answer"
    return [Sign("wrong-planted-answer", (state.miner_id,), 800_000, note)]


def honeypots_cleared(record: Record) -> bool:
    """True when enough right answers to honeypots show that the wrong ones were accidents."""
    return record.right >= CLEARED_AT * max(record.wrong, 1)


def weight(record: Record) -> int:
    """How much a record speaks for dishonesty; above INNOCENT whoever it is about is watched."""
    return WRONG * record.wrong + RIGHT * record.right


def together(records: Sequence[Record]) -> int:
    """How much the records of a group speak for it, who were wrong together just now, and alike."""
    return sum(map(weight, records)) + ALIKE * (len(records) - 1)


def colluding_votes(state: ValidationState) -> list[Sign]:
    """Peers who voted together for what was overturned: two or more, scores all but equal.

    Only of what was accepted: who rejects gives no score that could be alike.
    """
    if not state.accepted:
        return []
    wrong = [v for v in state.votes if v.voter_kind == "peer-review" and v.accept]
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
