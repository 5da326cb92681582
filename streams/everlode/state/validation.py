"""The validation of one solution: pending, then decided; later audited by a higher kind.

Rules: nobody votes on their own solution; a vote counts once a voter; only named reviewers
vote, when there are any; automatic and expert votes are those of nodes that the control log knows
as validators of that kind. Automatic: the first vote decides; peer review: once the quorum has
voted, two thirds of it decide, and anything less goes to an expert; an expert decides alone.
A decision that contradicts a honeypot's known answer is not taken: it is audited as wrong and goes
to an expert. The quorum of a kind is never lowered. An expert may vote on what is decided; that is
an audit and changes no decision. Peers vote in the panel that was drawn, while it is asked, and
nowhere else: a record is no sample that its subject chooses. From outside a validation goes to an
expert alone, once it is late. Pure.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import assert_never

from everlode.events import commands as c
from everlode.events import validations as e
from everlode.events.base import Event
from everlode.events.identity import named_after
from everlode.events.states import ValidationState, Vote
from everlode.state.shape import (
    Context,
    Decide,
    Table,
    deciding,
    folding,
    missing,
    refuse,
    rule,
)
from everlode.state.validationfolds import FOLDS

ValidationCommand = c.RequestValidation | c.CastVote | c.EscalateValidation | c.DeferValidation
RANK = {"automatic": 0, "peer-review": 1, "expert": 2}
TIME_ALLOWED = {
    "automatic": timedelta(minutes=10),
    "peer-review": timedelta(hours=2),
    "expert": timedelta(hours=8),
}
"""Event time from the request, or the escalation, to the deadline."""
TRANSITIONS: Table = {
    (e.ValidationRequested, ""): rule([None], "pending"),
    (e.VoteCast, ""): rule(["pending", "decided"]),
    (e.ValidationEscalated, ""): rule(["pending"], "pending"),
    (e.ValidationDeferred, ""): rule(["pending"], "pending"),
    (e.ValidationDecided, ""): rule(["pending"], "decided"),
    (e.ValidationAudited, ""): rule(["pending", "decided"]),
}


def validation_id(task_id: str, attempt: int) -> str:
    """The key of a solution's validation: its miner names the solution as it likes, even twice."""
    return named_after(task_id, "v-", f"-{attempt}")


def deadline(kind: str, at: datetime) -> datetime:
    """Deadline of a validation of `kind` that begins at `at`."""
    return at + TIME_ALLOWED[kind]


def _decide(
    command: ValidationCommand, state: ValidationState | None, ctx: Context
) -> tuple[Event, ...]:
    if isinstance(command, c.RequestValidation):
        return _request(command, state)
    if state is None:
        raise missing("validation", ctx.aggregate_id)
    match command:
        case c.CastVote():
            return _vote(command, state, ctx)
        case c.EscalateValidation():
            return _escalate(command, state, ctx)
        case c.DeferValidation():
            return _defer(command, state)
        case _:
            assert_never(command)


decide: Decide[ValidationState] = deciding(TRANSITIONS, _decide)
"""Events that a command causes on a validation: see `shape.deciding`."""


def _check_panel(kind: str, quorum: int, reviewers: tuple[str, ...], solver: str) -> None:
    if solver in reviewers:
        raise refuse("own_solution", "the solver is among the reviewers")
    if quorum < 1 or (kind != "peer-review" and quorum != 1):
        raise refuse("bad_quorum", f"{kind}: {quorum} is no quorum")
    if len(set(reviewers)) != len(reviewers):
        raise refuse("bad_reviewers", "a reviewer is named twice")
    few = len(reviewers) < quorum
    if few and (kind == "peer-review" or reviewers):
        raise refuse("bad_quorum", f"{len(reviewers)} reviewers cannot give {quorum} votes")


def _request(command: c.RequestValidation, state: ValidationState | None) -> tuple[Event, ...]:
    if state is not None:
        have = (state.solution_id, state.miner_id, state.solution_sha256)
        if have == (command.solution_id, command.miner_id, command.solution_sha256):
            return ()
        raise refuse("exists", f"validation {state.key} exists")
    _check_panel(command.kind, command.quorum, command.reviewers, command.miner_id)
    return (e.ValidationRequested(**command.__dict__),)


def _vote(command: c.CastVote, state: ValidationState, ctx: Context) -> tuple[Event, ...]:
    if command.voter_id == state.miner_id:
        raise refuse("own_solution", "nobody votes on their own solution")
    for vote in state.votes:
        if vote.voter_id == command.voter_id:
            same = (vote.voter_kind, vote.accept, vote.score_ppm)
            if same == (command.voter_kind, command.accept, command.score_ppm):
                return ()
            raise refuse("already_voted", f"{command.voter_id} has voted")
    judge = (command.voter_id, command.voter_kind)
    if command.voter_kind != "peer-review" and judge not in ctx.validators:
        raise refuse(
            "not_a_validator",
            f"{command.voter_id} is no {command.voter_kind} validator",
            "run a node of that kind: everlode node run validator",
        )
    cast = e.VoteCast(**command.__dict__)
    if state.status == "decided":
        return _audit(command, cast, state)
    if command.voter_kind != state.kind:
        raise refuse("wrong_kind", f"a {state.kind} vote is asked for")
    asked = state.reviewers or state.kind == "peer-review"
    if asked and command.voter_id not in state.reviewers:
        raise refuse("not_a_reviewer", f"{command.voter_id} is no reviewer here")
    new = Vote(command.voter_id, command.voter_kind, command.accept, command.score_ppm, ctx.at)
    votes = [*(v for v in state.votes if v.voter_kind == state.kind), new]
    if len(votes) < state.quorum:
        return (cast,)
    return (cast, *_conclude(state, votes, ctx))


def _audit(command: c.CastVote, cast: e.VoteCast, state: ValidationState) -> tuple[Event, ...]:
    if RANK[command.voter_kind] <= RANK[state.kind] or state.accepted is None:
        raise refuse("already_decided", f"validation {state.key} is decided")
    if command.voter_kind != "expert":
        raise refuse("not_a_reviewer", "peers vote in the panel that was drawn, while it is asked")
    if any(j.by == command.voter_kind for j in state.judged):
        raise refuse("already_audited", f"{command.voter_kind} has audited {state.key}")
    audited = e.ValidationAudited(
        judged_kind=state.kind,  # type: ignore[arg-type]
        by=command.voter_kind,
        upheld=command.accept == state.accepted,
    )
    return (cast, audited)


def _conclude(state: ValidationState, votes: list[Vote], ctx: Context) -> tuple[Event, ...]:
    """Decision, or escalation, once the quorum has voted."""
    won = sum(v.accept for v in votes)
    lost = len(votes) - won
    if 3 * max(won, lost) < 2 * len(votes):
        return (_to_expert(state, "split_vote", ctx),)
    accepted = won > lost
    audit: tuple[Event, ...] = ()
    if state.planted_sha256 is not None:
        right = accepted == (state.solution_sha256 == state.planted_sha256)
        audit = (
            e.ValidationAudited(
                judged_kind=state.kind,  # type: ignore[arg-type]
                by="planted",
                upheld=right,
            ),
        )
        if not right and state.kind != "expert":
            return (*audit, _to_expert(state, "planted_mismatch", ctx))
    scores = sorted(v.score_ppm for v in votes if v.accept)
    decided = e.ValidationDecided(
        task_id=state.task_id,
        task_type=state.task_type,
        solution_id=state.solution_id,
        miner_id=state.miner_id,
        kind=state.kind,  # type: ignore[arg-type]
        accepted=accepted,
        # the lower median: a whole vote's score, and no single high one lifts it
        score_ppm=scores[(len(scores) - 1) // 2] if accepted else 0,
        votes_for=won,
        votes_against=lost,
        work_ms=state.work_ms,
        base_reward_micro=state.base_reward_micro,
        solved_stamp=state.solved_stamp,
    )
    return (decided, *audit)


def _to_expert(state: ValidationState, reason: str, ctx: Context) -> Event:
    return e.ValidationEscalated(
        from_kind=state.kind,  # type: ignore[arg-type]
        to_kind="expert",
        reason=reason,
        quorum=1,
        reviewers=(),
        deadline_at=deadline("expert", ctx.at),
    )


def _escalate(
    command: c.EscalateValidation, state: ValidationState, ctx: Context
) -> tuple[Event, ...]:
    if state.status == "decided" or state.kind == command.to_kind:
        return ()
    if RANK[command.to_kind] < RANK[state.kind]:
        raise refuse("lower_kind", f"{state.kind} does not go down to {command.to_kind}")
    _check_panel(command.to_kind, command.quorum, command.reviewers, state.miner_id)
    if not ctx.own:
        _check_escalation(command, state, ctx.at)
    return (
        e.ValidationEscalated(
            from_kind=state.kind,  # type: ignore[arg-type]
            to_kind=command.to_kind,
            reason=command.reason,
            quorum=command.quorum,
            reviewers=command.reviewers,
            deadline_at=command.deadline_at,
        ),
    )


def _check_escalation(command: c.EscalateValidation, state: ValidationState, at: datetime) -> None:
    """Refuse one that nobody outside may ask for: who is judged would choose its judges by it."""
    if command.to_kind != "expert" or command.reviewers:
        why = "a panel is drawn, and never chosen"
        raise refuse("bad_reviewers", why, "ask for an expert, and name no reviewers")
    if at < state.deadline_at:
        until = state.deadline_at.isoformat()
        raise refuse("not_late", f"{state.kind} has time until {until}", "wait for its votes")


def _defer(command: c.DeferValidation, state: ValidationState) -> tuple[Event, ...]:
    if state.status == "decided" or command.deadline_at == state.deadline_at:
        return ()
    if command.deadline_at < state.deadline_at:
        raise refuse("earlier", "a deferral does not make the deadline earlier")
    return (e.ValidationDeferred(reason=command.reason, deadline_at=command.deadline_at),)


evolve = folding(FOLDS, TRANSITIONS)
"""The validation after a fact: see `shape.folding`."""
