"""Decided validations, as states, for tests of what they say of miners."""

from __future__ import annotations

from datetime import UTC, datetime

from everlode.events.states import Judgement, ValidationState, Vote

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def judged(key: str, miner: str, *, good: bool, expert: bool) -> ValidationState:
    """A peer review by `voter`, who was for it; looked at by an expert, or by nobody."""
    votes: tuple[Vote, ...] = (Vote("voter", "peer-review", True, 900_000, NOW),)
    found: tuple[Judgement, ...] = ()
    if expert:
        votes = (*votes, Vote("x", "expert", good, 900_000, NOW))
        found = (Judgement("peer-review", "expert", good),)
    return ValidationState(
        key=key, epoch=1, version=2, stamp=1, fold_version=1, origin="eu.1", partition=0, seq=1,
        status="decided", home="eu", task_id=key, task_type="training", payload_sha256="p",
        solution_id=key, solution_sha256="s" if good else "t", planted_sha256="s", miner_id=miner,
        work_ms=1, base_reward_micro=1, kind="peer-review", quorum=1, reviewers=("voter",),
        deadline_at=NOW, deferrals=0, votes=votes, accepted=True, score_ppm=900_000, judged=found,
        requested_at=NOW, decided_at=NOW,
    )  # fmt: skip
