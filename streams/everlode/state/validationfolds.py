"""The validation's folds, one an event. Pure."""

from __future__ import annotations

from everlode.events import validations as e
from everlode.events.base import Fact
from everlode.events.states import Judgement, ValidationState, Vote
from everlode.state.shape import Folds, Head, home_of, step


def _on_requested(_: ValidationState | None, fact: Fact, head: Head) -> ValidationState:
    data: e.ValidationRequested = fact.data  # type: ignore[assignment]
    return ValidationState(
        *head,
        home=home_of(fact.envelope),
        **data.__dict__,
        deferrals=0,
        votes=(),
        accepted=None,
        score_ppm=0,
        judged=(),
        requested_at=fact.envelope.occurred_at,
        decided_at=None,
    )


def _on_vote(state: ValidationState, fact: Fact, head: Head) -> ValidationState:
    data: e.VoteCast = fact.data  # type: ignore[assignment]
    vote = Vote(
        data.voter_id, data.voter_kind, data.accept, data.score_ppm, fact.envelope.occurred_at
    )
    return step(state, head, votes=(*state.votes, vote))


def _on_escalated(state: ValidationState, fact: Fact, head: Head) -> ValidationState:
    data: e.ValidationEscalated = fact.data  # type: ignore[assignment]
    return step(
        state,
        head,
        kind=data.to_kind,
        quorum=data.quorum,
        reviewers=data.reviewers,
        deadline_at=data.deadline_at,
    )


def _on_deferred(state: ValidationState, fact: Fact, head: Head) -> ValidationState:
    data: e.ValidationDeferred = fact.data  # type: ignore[assignment]
    return step(
        state,
        head,
        deadline_at=data.deadline_at,
        deferrals=state.deferrals + 1,
    )


def _on_decided(state: ValidationState, fact: Fact, head: Head) -> ValidationState:
    data: e.ValidationDecided = fact.data  # type: ignore[assignment]
    return step(
        state,
        head,
        accepted=data.accepted,
        score_ppm=data.score_ppm,
        decided_at=fact.envelope.occurred_at,
    )


def _on_audited(state: ValidationState, fact: Fact, head: Head) -> ValidationState:
    data: e.ValidationAudited = fact.data  # type: ignore[assignment]
    judged = Judgement(data.judged_kind, data.by, data.upheld)
    return step(state, head, judged=(*state.judged, judged))


FOLDS: Folds[ValidationState] = {
    e.ValidationRequested: _on_requested,
    e.VoteCast: _on_vote,
    e.ValidationEscalated: _on_escalated,
    e.ValidationDeferred: _on_deferred,
    e.ValidationDecided: _on_decided,
    e.ValidationAudited: _on_audited,
}
"""With fraud.FOLDS total over the facts of `.validations`; a test compares with the catalogue."""
