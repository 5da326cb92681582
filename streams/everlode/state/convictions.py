"""Cases on a record, and what a conviction leaves of the record.

A case on the record of a miner has a number: after a conviction the next one weighs what came
since. The counts of the record up to the conviction are in its facts, so nothing is weighed, or
paid for, twice, and nothing that comes after is forgiven:

    7 wrong, 1 right     case-repeated-bad-work-m     confirmed at 7 wrong, 1 right
    9 wrong, 1 right     case-repeated-bad-work-m|2   weighs 2 wrong, 0 right

Pure.
"""

from __future__ import annotations

from everlode.events.states import FraudState
from everlode.events.types import FraudRule
from everlode.state.fraud import case_id
from everlode.state.fraudrules import Record
from everlode.state.view import View

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
