"""Which votes are asked for, and which decisions an expert looks at again.

Audited are decisions under suspicion, peer reviews that were not unanimous, those of members who
were wrong too often, and one peer review in AUDIT_ONE_IN, chosen by a hash. Pure.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from everlode.events import validations as e
from everlode.events.base import Fact
from everlode.events.states import ValidationState

AUDIT_ONE_IN = 16
JUDGED_BY_EXPERT = frozenset({"copied-solution", "impossible-speed"})
"""Fraud rules that an expert's look at the solution confirms or clears."""


class VoteWanted(NamedTuple):
    """A vote that is asked for; empty `reviewers` means any validator node of this kind."""

    validation_id: str
    kind: str
    reviewers: tuple[str, ...]


def seed_of(key: str, solved_stamp: int | None) -> str:
    """What is drawn by for a validation: who names the solution does not know the stamp."""
    return f"{key}/{solved_stamp or 0}"


def drawn_for_audit(key: str, solved_stamp: int | None) -> bool:
    """True for one validation in AUDIT_ONE_IN, by a hash that nobody chooses.

    The solver names the solution, so its name alone would choose; the stamp is its primary's.
    """
    drawn = int.from_bytes(blake2b(seed_of(key, solved_stamp).encode(), digest_size=8).digest())
    return drawn % AUDIT_ONE_IN == 0


def proved(state: ValidationState) -> bool | None:
    """Whether the solution is good, by an expert or by running it again; None: nobody knows."""
    for vote in reversed(state.votes):
        if vote.voter_kind == "expert":
            return vote.accept
    return state.accepted if state.kind == "automatic" else None


def audit_due(state: ValidationState, suspected: bool, watched: bool = False) -> bool:
    """True when an expert should look at a decision, and none has: see `vote_wanted`.

    `watched`: its solver, or one who voted for it, was wrong too often before.
    """
    if state.status != "decided" or state.kind == "expert":
        return False
    if any(judged.by == "expert" for judged in state.judged):
        return False
    if suspected:
        return True
    split = len({v.accept for v in state.votes if v.voter_kind == state.kind}) > 1
    return state.kind == "peer-review" and (split or watched or _drawn(state))


def _drawn(state: ValidationState) -> bool:
    return drawn_for_audit(state.key, state.solved_stamp)


def vote_wanted(fact: Fact) -> VoteWanted | None:
    """The vote that a fact of `.validations` asks for: a decision, or an expert's audit.

    Audited are decisions under suspicion, peer reviews that were not unanimous, and one peer
    review in AUDIT_ONE_IN, chosen by a hash. Idempotent: a vote cast twice counts once.
    """
    data, key = fact.data, fact.envelope.aggregate_id
    match data:
        case e.ValidationRequested():
            return VoteWanted(key, data.kind, data.reviewers)
        case e.ValidationEscalated():
            return VoteWanted(key, data.to_kind, data.reviewers)
        case e.ValidationDecided():
            split = data.votes_for > 0 and data.votes_against > 0
            if data.kind == "peer-review" and (split or drawn_for_audit(key, data.solved_stamp)):
                return VoteWanted(key, "expert", ())
        case e.FraudSuspected():
            if data.validation_id is not None and data.rule in JUDGED_BY_EXPERT:
                return VoteWanted(data.validation_id, "expert", ())
    return None
