"""Commands that open and resolve a fraud case: its key, the command, and the rule. Pure."""

from __future__ import annotations

from everlode.events import commands as c
from everlode.events.base import Command, Evidence
from everlode.events.states import ValidationState
from everlode.state.formulas import penalty_of
from everlode.state.fraud import case_id
from everlode.state.fraudrules import Sign
from everlode.state.view import Where


def evidence(note: str, where: Where | None) -> tuple[Evidence, ...]:
    """The record that an event was read from; place -1 when it has not been read from a log."""
    topic, partition, offset = where or ("", -1, -1)
    return (Evidence(topic=topic, partition=partition, offset=offset, note=note),)


def opened(
    sign: Sign, subject: str, task: str | None, validation: str, where: Where | None
) -> tuple[str, Command, str]:
    """Open the case of a sign; a case without a task holds no reward back."""
    command = c.OpenFraudCase(
        rule=sign.rule,
        suspects=sign.suspects,
        task_id=task,
        validation_id=validation,
        severity_ppm=sign.severity_ppm,
        evidence=evidence(sign.note, where),
    )
    return (case_id(sign.rule, subject), command, f"open-{sign.rule}")


def resolved(
    key: str,
    severity_ppm: int,
    confirmed: bool,
    state: ValidationState,
    seen: tuple[Evidence, ...],
) -> tuple[str, Command, str]:
    """Confirm or clear a case, in the name of the last voter of `state`."""
    command = c.ResolveFraudCase(
        confirmed=confirmed,
        decided_by=state.votes[-1].voter_id if state.votes else "planted",
        penalty_micro=penalty_of(state.base_reward_micro, severity_ppm) if confirmed else 0,
        reason="confirmed" if confirmed else "cleared",
        evidence=seen,
    )
    return (key, command, "resolve-case")
