"""Reactions of the validation primary: which kind judges, who reviews, what fraud is suspected.

Honeypots and cheap types are judged automatically; training and fine-tuning, and types
that the topology adds, by peers; what shows signs of fraud, comes from a miner that was wrong too
often, or has too few reviewers, by an expert. Reviewers are drawn by a hash of the validation and
of its solution's stamp, which nobody knows beforehand, never among the solver's operator's miners.

Equal solutions: what is run again is judged by that, so an equal one is suspected only once it is
found bad; what is not, at once. Small ones are alike by accident, and say nothing. Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence, Set
from hashlib import blake2b

from everlode.events import commands as c
from everlode.events import validations as ve
from everlode.events.base import Command, Fact
from everlode.events.snapshots import HandedIn
from everlode.events.states import ValidationState
from everlode.events.tasks import TaskSolved
from everlode.events.types import ValidatorKind
from everlode.state.auditing import JUDGED_BY_EXPERT, seed_of
from everlode.state.cases import Verdict, evidence, opened, resolved
from everlode.state.convictions import Caused, over_time, reviews_since
from everlode.state.fraud import case_id, solution_case_id
from everlode.state.fraudrules import (
    GUILTY,
    SMALL_BYTES,
    colluding_votes,
    copied_solution,
    handed_in,
    impossible_speed,
    together,
)
from everlode.state.validation import deadline, validation_id
from everlode.state.view import View, Where

CHEAP = frozenset({"inference", "evaluation", "data-processing"})
"""Types that are judged by running them again."""
PEER_QUORUM = 3


def choose_reviewers(seed: str, candidates: Sequence[str], partial: Set[str]) -> tuple[str, ...]:
    """PEER_QUORUM of the sorted `candidates` without the `partial` ones, by a hash of `seed`.

    Those are the solver and its operator's other miners. Deterministic; each candidate is as
    likely as another. Empty when there are too few.
    """
    wanted = PEER_QUORUM
    others = len(candidates) - sum(_among(candidates, name) for name in partial)
    if others < wanted:
        return ()
    chosen: list[str] = []
    count = 0
    while len(chosen) < wanted:
        digest = blake2b(f"{seed}/{count}".encode(), digest_size=8).digest()
        name = candidates[int.from_bytes(digest, "big") % len(candidates)]
        count += 1
        if name not in partial and name not in chosen:
            chosen.append(name)
    return tuple(sorted(chosen))


def _among(candidates: Sequence[str], name: str) -> bool:
    at = bisect_left(candidates, name)
    return at < len(candidates) and candidates[at] == name


def on_solved(fact: Fact, data: TaskSolved, view: View, where: Where | None) -> Caused:
    """Ask for a validation of the right kind; open a case for each sign of fraud."""
    task = fact.envelope.aggregate_id
    key = validation_id(task, data.attempt)
    one = HandedIn(
        fact.envelope.stamp,
        data.solution_id,
        data.solution_sha256,
        data.payload_sha256,
        data.planted_sha256,
        data.miner_id,
        task,
        key,
    )
    large = data.solution_bytes >= SMALL_BYTES
    signs = impossible_speed(data, task)
    if large and data.task_type not in CHEAP:
        signs = [*copied_solution(one, view.firsts(data.solution_sha256)), *signs]
    kind: ValidatorKind
    reviewers: tuple[str, ...] = ()
    if signs:
        kind = "expert"
    elif data.planted_sha256 is not None or data.task_type in CHEAP:
        kind = "automatic"
    else:
        if not view.watched(data.miner_id):
            seed = seed_of(key, fact.envelope.stamp)
            partial = view.of_same_operator(data.miner_id)
            reviewers = choose_reviewers(seed, view.reviewers(), partial)
        kind = "peer-review" if reviewers else "expert"
    request = c.RequestValidation(
        task_id=task,
        task_type=data.task_type,
        payload_sha256=data.payload_sha256,
        solution_id=data.solution_id,
        solution_sha256=data.solution_sha256,
        planted_sha256=data.planted_sha256,
        miner_id=data.miner_id,
        work_ms=data.work_ms,
        base_reward_micro=data.base_reward_micro,
        kind=kind,
        quorum=PEER_QUORUM if kind == "peer-review" else 1,
        reviewers=reviewers,
        deadline_at=deadline(kind, fact.envelope.occurred_at),
        solved_stamp=fact.envelope.stamp,
        solution_bytes=data.solution_bytes,
    )
    cases = [opened(sign, _case_key(sign.rule, one, view), one, where) for sign in signs]
    later = _later_copies(fact, one, view, where) if large else ()
    return ((key, request, "task-solved"), *cases, *later)


def _later_copies(fact: Fact, one: HandedIn, view: View, where: Where | None) -> Caused:
    """Copies of this solution that were read before it: suspected now, judged by an expert."""
    found: list[tuple[str, Command, str]] = []
    for other in view.after(one):
        state = view.validation(other.validation_id)
        if state is None or not _tells(state):
            continue
        for sign in copied_solution(other, [one]):
            key = _case_key(sign.rule, other, view)
            if view.case(key) is not None:
                continue
            found.append(opened(sign, key, other, where))
            judged = c.EscalateValidation(
                to_kind="expert",
                reason="suspected",
                quorum=1,
                reviewers=(),
                deadline_at=deadline("expert", fact.envelope.occurred_at),
            )
            found.append((other.validation_id, judged, "escalate-copy"))
    return tuple(found)


def _case_key(rule: str, about: HandedIn, view: View) -> str:
    """Of the case on a solution. Older builds named it by the solution's id; such a one goes on."""
    older = view.case(case_id(rule, about.solution_id))
    if older is not None and older.validation_id == about.validation_id:
        return older.key
    return solution_case_id(rule, about.validation_id)


def _tells(state: ValidationState) -> bool:
    """True when an equal solution by another is a sign of fraud."""
    large = (state.solution_bytes or 0) >= SMALL_BYTES
    return large and (state.task_type not in CHEAP or state.accepted is False)


def on_decided(
    data: ve.ValidationDecided, state: ValidationState, view: View, where: Where | None
) -> Caused:
    """Resolve what was suspected of this solution; judge an answer to a honeypot.

    Copies are looked for again: two solved in one batch do not see each other before.
    """
    found: list[tuple[str, Command, str]] = []
    about = handed_in(state)
    cases = ((key, view.case(key)) for key in view.open_cases(state.key))
    suspected = {key: (case.rule, case.severity_ppm) for key, case in cases if case is not None}
    signs = copied_solution(about, view.firsts(state.solution_sha256)) if _tells(state) else []
    for sign in signs:
        key = _case_key(sign.rule, about, view)
        if view.case(key) is None:
            found.append(opened(sign, key, about, where))
            suspected[key] = sign.rule, sign.severity_ppm
    for key, (rule, severity) in sorted(suspected.items()):
        # only an expert clears
        if rule in JUDGED_BY_EXPERT and (data.kind == "expert" or not data.accepted):
            note = f"{data.kind} {'accepted' if data.accepted else 'rejected'} {state.key}"
            verdict = Verdict(not data.accepted, severity, state.base_reward_micro)
            found.append(resolved(key, verdict, state, evidence(note, where)))
    return (*found, *over_time(state, view, where))


def on_audited(
    data: ve.ValidationAudited, state: ValidationState, view: View, where: Where | None
) -> Caused:
    """An expert looked at a decision: resolve suspicions; who is wrong too often, or together?"""
    if data.by != "expert":
        return ()
    found: list[tuple[str, Command, str]] = []
    good = data.upheld == state.accepted
    note = f"an expert found {state.key} {'rightly' if data.upheld else 'wrongly'} decided"
    for key in view.open_cases(state.key):
        case = view.case(key)
        if case is not None and case.rule in JUDGED_BY_EXPERT:
            verdict = Verdict(not good, case.severity_ppm, state.base_reward_micro)
            found.append(resolved(key, verdict, state, evidence(note, where)))
    if not data.upheld and data.judged_kind == "peer-review":
        for sign in colluding_votes(state):
            if together([reviews_since(suspect, view) for suspect in sign.suspects]) < GUILTY:
                continue
            about = handed_in(state)
            key = _case_key(sign.rule, about, view)
            found.append(opened(sign, key, about, where))
            verdict = Verdict(True, sign.severity_ppm, state.base_reward_micro)
            found.append(resolved(key, verdict, state, evidence(note, where)))
    return (*found, *over_time(state, view, where))
