"""Reactions of the validation primary: which kind judges, who reviews, what fraud is suspected.

Honeypots and cheap types are judged automatically; training and fine-tuning, and types
that the topology adds, by peers; what shows signs of fraud, comes from a miner that was wrong too
often, or has too few reviewers, by an expert. Reviewers are chosen by a hash of the validation, so
nobody chooses them. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from everlode.events import commands as c
from everlode.events import validations as ve
from everlode.events.base import Command, Fact
from everlode.events.snapshots import HandedIn
from everlode.events.states import ValidationState
from everlode.events.tasks import TaskSolved
from everlode.events.types import ValidatorKind
from everlode.state.auditing import JUDGED_BY_EXPERT, proved
from everlode.state.cases import evidence, opened, resolved
from everlode.state.fraud import case_id
from everlode.state.fraudrules import (
    GUILTY,
    INNOCENT,
    SUSPICIOUS,
    Record,
    Sign,
    colluding_votes,
    copied_solution,
    handed_in,
    honeypots_cleared,
    impossible_speed,
    together,
    weight,
    wrong_honeypot_answer,
)
from everlode.state.validation import deadline, validation_id
from everlode.state.view import View, Where

CHEAP = frozenset({"inference", "evaluation", "data-processing"})
"""Types that are judged by running them again."""
PEER_QUORUM = 3

Caused = tuple[tuple[str, Command, str], ...]


def choose_reviewers(seed: str, candidates: Sequence[str], solver: str) -> tuple[str, ...]:
    """PEER_QUORUM of the sorted `candidates` without the solver, by a hash of `seed`; or none.

    Deterministic; each candidate is as likely as another. Empty when there are too few.
    """
    wanted = PEER_QUORUM
    others = len(candidates) - (solver in candidates)
    if others < wanted:
        return ()
    chosen: list[str] = []
    count = 0
    while len(chosen) < wanted:
        digest = blake2b(f"{seed}/{count}".encode(), digest_size=8).digest()
        name = candidates[int.from_bytes(digest, "big") % len(candidates)]
        count += 1
        if name != solver and name not in chosen:
            chosen.append(name)
    return tuple(sorted(chosen))


def on_solved(fact: Fact, data: TaskSolved, view: View, where: Where | None) -> Caused:
    """Ask for a validation of the right kind; open a case for each sign of fraud."""
    task = fact.envelope.aggregate_id
    key = validation_id(data.solution_id)
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
    others = view.same_solution(data.solution_sha256)
    signs = [*copied_solution(one, others), *impossible_speed(data, task)]
    kind: ValidatorKind
    reviewers: tuple[str, ...] = ()
    if signs:
        kind = "expert"
    elif data.planted_sha256 is not None or data.task_type in CHEAP:
        kind = "automatic"
    else:
        if not view.watched(data.miner_id):
            reviewers = choose_reviewers(key, view.reviewers(), data.miner_id)
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
    )
    cases = [opened(sign, data.solution_id, task, key, where) for sign in signs]
    return ((key, request, "task-solved"), *cases, *_later_copies(fact, one, others, view, where))


def _later_copies(
    fact: Fact, one: HandedIn, others: Sequence[HandedIn], view: View, where: Where | None
) -> Caused:
    """Copies of this solution that were read before it: suspected now, judged by an expert."""
    found: list[tuple[str, Command, str]] = []
    for other in others:
        key = other.validation_id
        for sign in copied_solution(other, [one]):
            if view.case(case_id(sign.rule, other.solution_id)) is not None:
                continue
            found.append(opened(sign, other.solution_id, other.task_id, key, where))
            judged = c.EscalateValidation(
                to_kind="expert",
                reason="suspected",
                quorum=1,
                reviewers=(),
                deadline_at=deadline("expert", fact.envelope.occurred_at),
            )
            found.append((key, judged, "escalate-copy"))
    return tuple(found)


def on_decided(
    data: ve.ValidationDecided, state: ValidationState, view: View, where: Where | None
) -> Caused:
    """Resolve what was suspected of this solution; judge an answer to a honeypot.

    Copies are looked for again: two solved in one batch do not see each other before.
    """
    found: list[tuple[str, Command, str]] = []
    cases = {key: case for key in view.open_cases(state.key) if (case := view.case(key))}
    suspected = {case.rule: case.severity_ppm for case in cases.values()}
    others = view.same_solution(state.solution_sha256)
    for sign in copied_solution(handed_in(state), others):
        if view.case(case_id(sign.rule, state.solution_id)) is None:
            found.append(opened(sign, state.solution_id, state.task_id, state.key, where))
            suspected[sign.rule] = sign.severity_ppm
    for rule, severity in sorted(suspected.items()):
        # only an expert clears
        if rule in JUDGED_BY_EXPERT and (data.kind == "expert" or not data.accepted):
            note = f"{data.kind} {'accepted' if data.accepted else 'rejected'} {state.key}"
            key = case_id(rule, state.solution_id)
            found.append(resolved(key, severity, not data.accepted, state, evidence(note, where)))
    return (*found, *_over_time(state, view, where))


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
            found.append(resolved(key, case.severity_ppm, not good, state, evidence(note, where)))
    if not data.upheld and data.judged_kind == "peer-review":
        for sign in colluding_votes(state):
            if together([view.reviews(suspect) for suspect in sign.suspects]) < GUILTY:
                continue
            key = case_id(sign.rule, state.solution_id)
            found.append(opened(sign, state.solution_id, state.task_id, state.key, where))
            found.append(resolved(key, sign.severity_ppm, True, state, evidence(note, where)))
    return (*found, *_over_time(state, view, where))


def _over_time(state: ValidationState, view: View, where: Where | None) -> Caused:
    """What the records say of the solver and the reviewers, now that this solution is proved."""
    if proved(state) is None:
        return ()
    found = [*_solver(state, view, where)]
    for voter in sorted({v.voter_id for v in state.votes if v.voter_kind == "peer-review"}):
        seen = view.reviews(voter)
        note = f"accepted {seen.wrong} of {seen.wrong + seen.right} that an expert found bad"
        sign = Sign("colluding-votes", (voter,), 1_000_000, note)
        found += _by_record(sign, seen, state, view, where)
    return tuple(found)


def _solver(state: ValidationState, view: View, where: Where | None) -> Caused:
    """The solver's case: for wrong answers to honeypots or for bad work over time, not for both."""
    miner = state.miner_id
    work, honeypots = view.work(miner), view.honeypots(miner)
    note = f"{work.wrong} of {work.wrong + work.right} proved solutions are bad"
    repeated = Sign("repeated-bad-work", (miner,), 800_000, note)
    key = case_id("wrong-planted-answer", miner)
    case, other = view.case(key), view.case(case_id(repeated.rule, miner))
    guilty = weight(work) >= GUILTY
    if case is not None and case.status == "suspected":
        if guilty or honeypots_cleared(honeypots):
            return (resolved(key, case.severity_ppm, guilty, state, evidence(note, where)),)
        return ()
    signs = wrong_honeypot_answer(state)
    if signs and (other is None or other.status == "cleared"):
        begun = opened(signs[0], miner, state.task_id, state.key, where)
        if guilty:
            return (begun, resolved(key, signs[0].severity_ppm, True, state, evidence(note, where)))
        return (begun,)
    return _by_record(repeated, work, state, view, where)


def _by_record(
    sign: Sign,
    record: Record,
    state: ValidationState,
    view: View,
    where: Where | None,
) -> Caused:
    """Open, confirm or clear the case of one whose record weighs so much.

    It names no task: it may stay open for long, and no reward is to wait for that.
    """
    (subject,) = sign.suspects
    key, weighs = case_id(sign.rule, subject), weight(record)
    case = view.case(key)
    status = None if case is None else case.status
    if status == "confirmed" or (status == "suspected" and INNOCENT < weighs < GUILTY):
        return ()
    if weighs >= SUSPICIOUS:
        begun = opened(sign, subject, None, state.key, where)
        if weighs < GUILTY:
            return (begun,)
        return (begun, resolved(key, sign.severity_ppm, True, state, evidence(sign.note, where)))
    if status == "suspected":
        return (resolved(key, sign.severity_ppm, False, state, evidence(sign.note, where)),)
    return ()
