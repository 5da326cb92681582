"""The fraud case: suspected, then confirmed or cleared.

A cleared case may be opened again on new evidence; a confirmed one is closed for good. Every
statement carries evidence. The rules that open cases are in `fraudrules`. Pure.
"""

from __future__ import annotations

from typing import assert_never

from everlode.events import commands as c
from everlode.events import validations as e
from everlode.events.base import Event, Evidence, Fact
from everlode.events.identity import named_after
from everlode.events.states import FraudState
from everlode.state.shape import (
    Context,
    Decide,
    Folds,
    Head,
    Table,
    deciding,
    folding,
    home_of,
    missing,
    refuse,
    rule,
    step,
)

FraudCommand = c.OpenFraudCase | c.ResolveFraudCase
TRANSITIONS: Table = {
    (e.FraudSuspected, ""): rule([None, "cleared"], "suspected"),
    (e.FraudConfirmed, ""): rule(["suspected"], "confirmed"),
    (e.FraudCleared, ""): rule(["suspected"], "cleared"),
}


def case_id(rule_name: str, subject: str, number: int = 1) -> str:
    """The key of a case on a record: one a rule and member, one more after each conviction.

    `subject` begins with its home, but for one of an older log.
    """
    key = named_after(subject, f"case-{rule_name}-")
    return key if number == 1 else f"{key}|{number}"


def solution_case_id(rule_name: str, validation_id: str) -> str:
    """The key of the case of a rule on a solution, by its validation: solvers choose solution ids.

    No member has a name with `|`, so it is no member's case either.
    """
    return named_after(validation_id, f"case-{rule_name}|")


def _decide(command: FraudCommand, state: FraudState | None, ctx: Context) -> tuple[Event, ...]:
    match command:
        case c.OpenFraudCase():
            return _open(command, state)
        case c.ResolveFraudCase():
            if state is None:
                raise missing("case", ctx.aggregate_id)
            return _resolve(command, state)
        case _:
            assert_never(command)


decide: Decide[FraudState] = deciding(TRANSITIONS, _decide)
"""Events that a command causes on a case: see `shape.deciding`."""


def _open(command: c.OpenFraudCase, state: FraudState | None) -> tuple[Event, ...]:
    if state is not None and state.status != "cleared":
        return ()
    if state is not None and all(item in state.evidence for item in command.evidence):
        return ()  # nothing new since it was cleared
    if not command.suspects or not command.evidence:
        raise refuse("no_evidence", "a case names its suspects and its evidence")
    suspects = tuple(sorted(set(command.suspects)))
    return (e.FraudSuspected(**{**command.__dict__, "suspects": suspects}),)


def _resolve(command: c.ResolveFraudCase, state: FraudState) -> tuple[Event, ...]:
    wanted = "confirmed" if command.confirmed else "cleared"
    if state.status == wanted:
        return ()
    if state.status != "suspected":
        raise refuse("already_resolved", f"case {state.key} is {state.status}")
    if not command.evidence:
        raise refuse("no_evidence", f"a case is {wanted} on evidence")
    if not command.confirmed:
        return (
            e.FraudCleared(
                rule=state.rule,  # type: ignore[arg-type]
                suspects=state.suspects,
                decided_by=command.decided_by,
                reason=command.reason,
                evidence=command.evidence,
            ),
        )
    return (
        e.FraudConfirmed(
            rule=state.rule,  # type: ignore[arg-type]
            suspects=state.suspects,
            task_id=state.task_id,
            decided_by=command.decided_by,
            penalty_micro=command.penalty_micro,
            evidence=command.evidence,
            solver_id=state.solver_id,
            record_right=command.record_right,
            record_wrong=command.record_wrong,
            record_worth_micro=command.record_worth_micro,
        ),
    )


def _on_suspected(state: FraudState | None, fact: Fact, head: Head) -> FraudState:
    data: e.FraudSuspected = fact.data  # type: ignore[assignment]
    return FraudState(
        *head,
        home=state.home if state else home_of(fact.envelope),
        rule=data.rule,
        suspects=data.suspects,
        task_id=data.task_id,
        validation_id=data.validation_id,
        severity_ppm=data.severity_ppm,
        penalty_micro=0,
        decided_by=None,
        evidence=data.evidence,
        suspected_at=fact.envelope.occurred_at,
        decided_at=None,
        solver_id=data.solver_id,
    )


def _more(state: FraudState, evidence: tuple[Evidence, ...]) -> tuple[Evidence, ...]:
    return (*state.evidence, *(item for item in evidence if item not in state.evidence))


def _on_confirmed(state: FraudState, fact: Fact, head: Head) -> FraudState:
    data: e.FraudConfirmed = fact.data  # type: ignore[assignment]
    return step(
        state,
        head,
        suspects=data.suspects,
        penalty_micro=data.penalty_micro,
        decided_by=data.decided_by,
        evidence=_more(state, data.evidence),
        decided_at=fact.envelope.occurred_at,
        record_right=data.record_right,
        record_wrong=data.record_wrong,
        record_worth_micro=data.record_worth_micro,
    )


def _on_cleared(state: FraudState, fact: Fact, head: Head) -> FraudState:
    data: e.FraudCleared = fact.data  # type: ignore[assignment]
    return step(
        state,
        head,
        decided_by=data.decided_by,
        evidence=_more(state, data.evidence),
        decided_at=fact.envelope.occurred_at,
    )


FOLDS: Folds[FraudState] = {
    e.FraudSuspected: _on_suspected,
    e.FraudConfirmed: _on_confirmed,
    e.FraudCleared: _on_cleared,
}


evolve = folding(FOLDS, TRANSITIONS)
"""The case after a fact: see `shape.folding`."""
