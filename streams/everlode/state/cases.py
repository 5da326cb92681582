"""Commands that open and resolve a fraud case: its key, the command, and the rule. Pure."""

from __future__ import annotations

from typing import NamedTuple

from everlode.events import commands as c
from everlode.events.base import Command, Evidence
from everlode.events.snapshots import HandedIn
from everlode.events.states import ValidationState
from everlode.state.formulas import penalty_of
from everlode.state.fraudrules import Record, Sign
from everlode.state.view import Where


def evidence(note: str, where: Where | None) -> tuple[Evidence, ...]:
    """The record that an event was read from; place -1 when it has not been read from a log."""
    topic, partition, offset = where or ("", -1, -1)
    return (Evidence(topic=topic, partition=partition, offset=offset, note=note),)


class Verdict(NamedTuple):
    """How a case ends."""

    confirmed: bool
    severity_ppm: int = 0
    worth_micro: int = 0
    """Base rewards of the wrong entries that it is over, in millionths of a credit."""
    record: Record = Record(0, 0)
    """The record that was weighed, all of it so far."""


def opened(
    sign: Sign, key: str, about: HandedIn, where: Where | None, holds: bool = True
) -> tuple[str, Command, str]:
    """Open the case of a sign; one that does not hold back the reward of `about` names no task."""
    command = c.OpenFraudCase(
        rule=sign.rule,
        suspects=sign.suspects,
        task_id=about.task_id if holds else None,
        validation_id=about.validation_id,
        severity_ppm=sign.severity_ppm,
        evidence=evidence(sign.note, where),
        solver_id=about.miner_id if holds else None,
    )
    return (key, command, f"open-{sign.rule}")


def resolved(
    key: str, verdict: Verdict, state: ValidationState, seen: tuple[Evidence, ...]
) -> tuple[str, Command, str]:
    """Confirm or clear a case, in the name of the last voter of `state`."""
    worth = verdict.worth_micro if verdict.confirmed else 0
    counted = verdict.record if verdict.confirmed else Record(0, 0)
    command = c.ResolveFraudCase(
        confirmed=verdict.confirmed,
        decided_by=state.votes[-1].voter_id if state.votes else "planted",
        penalty_micro=penalty_of(worth, verdict.severity_ppm),
        reason="confirmed" if verdict.confirmed else "cleared",
        evidence=seen,
        record_right=counted.right,
        record_wrong=counted.wrong,
        record_worth_micro=counted.worth_micro,
    )
    return (key, command, "resolve-case")
