"""Which aggregates have ended: no rule looks for them any more, but by their key. Pure."""

from __future__ import annotations

from everlode.events.states import RewardState, State, TaskState
from everlode.state import task

REWARD_ENDED = frozenset({"paid", "reversed", "repaid", "collected"})


def ended(state: State) -> bool:
    """True for what a primary need not keep at hand.

    Miners stay for as long as they are known, and so do validations and fraud cases: what a miner
    did in earlier ones weighs in the rules.
    """
    match state:
        case TaskState():
            return state.status in task.ENDED
        case RewardState():
            return state.status in REWARD_ENDED
    return False
