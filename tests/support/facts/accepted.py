"""What a validation service writes of an accepted solution, so that a reward becomes due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from everlode.events.base import Event, Evidence
from everlode.events.validations import FraudSuspected, ValidationDecided, ValidationRequested
from everlode.sdk import EventProducer
from everlode.state.reward import reward_id
from everlode.state.validation import validation_id
from tests.support.facts.state_commands import sha256_of


def accepted(task: str, miner: str, base_micro: int = 1000) -> list[Event]:
    """Facts of one validation, in order; the deadline is a day from now."""
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    asked = ValidationRequested(
        task_id=task, task_type="inference", payload_sha256=sha256_of("p"), solution_id="s",
        solution_sha256=sha256_of("s"), miner_id=miner, work_ms=1, base_reward_micro=base_micro,
        kind="automatic", quorum=1, reviewers=(), deadline_at=end,
    )  # fmt: skip
    decided = ValidationDecided(
        task_id=task, task_type="inference", solution_id="s", miner_id=miner, kind="automatic",
        accepted=True, score_ppm=1_000_000, votes_for=1, votes_against=0, work_ms=1,
        base_reward_micro=base_micro,
    )  # fmt: skip
    return [asked, decided]


def suspected(task: str, miner: str = "m") -> FraudSuspected:
    """The fact that opens a case on a task."""
    seen = (Evidence(topic="", partition=-1, offset=-1, note="seen"),)
    return FraudSuspected(
        rule="copied-solution", suspects=(miner,), task_id=task, severity_ppm=1, evidence=seen
    )


def owe(producer: EventProducer, task: str, miner: str = "m", base_micro: int = 1000) -> str:
    """Let a reward be owed, by the facts of its validation; returns its id when they are kept."""
    waiting = [
        producer.emit(validation_id(task, 1), fact) for fact in accepted(task, miner, base_micro)
    ]
    for one in waiting:
        one.result(30)
    return reward_id(task, miner)
