"""Cases on a record, and what a conviction leaves of the record.

A case on the record of a miner has a number: after a conviction the next one weighs what came
since. The counts of the record up to the conviction are in its facts, so nothing is weighed, or
paid for, twice, and nothing that comes after is forgiven:

    7 wrong, 1 right     case-repeated-bad-work-m     confirmed at 7 wrong, 1 right
    9 wrong, 1 right     case-repeated-bad-work-m|2   weighs 2 wrong, 0 right

Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from everlode.events.base import Command
from everlode.events.states import FraudState, ValidationState
from everlode.events.types import FraudRule
from everlode.state.auditing import proved
from everlode.state.cases import Verdict, evidence, opened, resolved
from everlode.state.fraud import case_id
from everlode.state.fraudrules import (
    GUILTY,
    INNOCENT,
    SUSPICIOUS,
    Record,
    Sign,
    handed_in,
    honeypots_cleared,
    weight,
    wrong_honeypot_answer,
)
from everlode.state.view import View, Where

Caused = tuple[tuple[str, Command, str], ...]

ON_WORK: tuple[FraudRule, ...] = ("wrong-planted-answer", "repeated-bad-work")
"""Rules that weigh the record of a miner's work; a conviction by one is one by all."""
ON_REVIEWS: tuple[FraudRule, ...] = ("colluding-votes",)


def weighed_now(rule: FraudRule, subject: str, view: View) -> tuple[str, FraudState | None]:
    """Key and state of the case to open or decide now: the one after the last conviction.

    A conviction by an older build, which kept no counts, is the last one there is.
    """
    number = 1
    while True:
        key = case_id(rule, subject, number)
        case = view.case(key)
        if case is None or case.status != "confirmed" or not case.record_wrong:
            return key, case
        number += 1


def since(record: Record, rules: tuple[FraudRule, ...], subject: str, view: View) -> Record:
    """What the record has had since the last conviction by one of these rules."""
    counted = Record(0, 0)
    for rule in rules:
        number = 1
        while (case := view.case(case_id(rule, subject, number))) is not None:
            counted = max(counted, _counted(case), key=lambda found: found.wrong)
            number += 1
    return Record(*(max(0, now - then) for now, then in zip(record, counted, strict=True)))


def _counted(case: FraudState) -> Record:
    return Record(case.record_right, case.record_wrong, case.record_worth_micro)


def reviews_since(voter: str, view: View) -> Record:
    """A reviewer's record since its last conviction."""
    return since(view.reviews(voter), ON_REVIEWS, voter, view)


def over_time(state: ValidationState, view: View, where: Where | None) -> Caused:
    """What the records say of the solver and the reviewers, now that this solution is proved."""
    if proved(state) is None:
        return ()
    found = [*_solver(state, view, where)]
    for voter in sorted({v.voter_id for v in state.votes if v.voter_kind == "peer-review"}):
        seen = reviews_since(voter, view)
        note = f"accepted {seen.wrong} of {seen.wrong + seen.right} that an expert found bad"
        sign = Sign("colluding-votes", (voter,), 1_000_000, note)
        weighed = Weighed(sign, seen, view.reviews(voter))
        found += _by_record(weighed, state, view, where)
    return tuple(found)


class Weighed(NamedTuple):
    """What a record says of the one whom it is about."""

    sign: Sign
    record: Record
    """Since the last conviction."""
    whole: Record

    def verdict(self, confirmed: bool, severity_ppm: int) -> Verdict:
        """The end of its case: the penalty is over the wrong entries since the last one."""
        return Verdict(confirmed, severity_ppm, self.record.worth_micro, self.whole)


def _solver(state: ValidationState, view: View, where: Where | None) -> Caused:
    """The solver's case: for wrong answers to honeypots or for bad work over time, not for both."""
    miner = state.miner_id
    whole, honeypots = view.work(miner), view.honeypots(miner)
    work = since(whole, ON_WORK, miner, view)
    note = f"{work.wrong} of {work.wrong + work.right} proved solutions are bad"
    weighed = Weighed(Sign("repeated-bad-work", (miner,), 800_000, note), work, whole)
    key, case = weighed_now("wrong-planted-answer", miner, view)
    _, other = weighed_now("repeated-bad-work", miner, view)
    guilty = weight(work) >= GUILTY
    if case is not None and case.status == "suspected":
        if guilty or honeypots_cleared(honeypots):
            verdict = weighed.verdict(guilty, case.severity_ppm)
            return (resolved(key, verdict, state, evidence(note, where)),)
        return ()
    signs = wrong_honeypot_answer(state)
    if signs and (other is None or other.status == "cleared"):
        begun = opened(signs[0], key, handed_in(state), where)
        if guilty:
            verdict = weighed.verdict(True, signs[0].severity_ppm)
            return (begun, resolved(key, verdict, state, evidence(note, where)))
        return (begun,)
    return _by_record(weighed, state, view, where)


def _by_record(weighed: Weighed, state: ValidationState, view: View, where: Where | None) -> Caused:
    """Open, confirm or clear the case of one whose record weighs so much.

    It names no task: it may stay open for long, and no reward is to wait for that.
    """
    sign, weighs = weighed.sign, weight(weighed.record)
    (subject,) = sign.suspects
    key, case = weighed_now(sign.rule, subject, view)
    status = None if case is None else case.status
    if status == "confirmed" or (status == "suspected" and INNOCENT < weighs < GUILTY):
        return ()
    seen = evidence(sign.note, where)
    if weighs >= SUSPICIOUS:
        begun = opened(sign, key, handed_in(state), where, holds=False)
        if weighs < GUILTY:
            return (begun,)
        return (begun, resolved(key, weighed.verdict(True, sign.severity_ppm), state, seen))
    if status == "suspected":
        return (resolved(key, weighed.verdict(False, sign.severity_ppm), state, seen),)
    return ()
