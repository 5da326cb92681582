"""Which aggregates have ended: no rule looks for them any more, but by their key. Pure."""

from __future__ import annotations

from everlode.events.states import FraudState, RewardState, State, TaskState, ValidationState
from everlode.state import task

REWARD_ENDED = frozenset({"paid", "reversed", "repaid", "collected"})


def ended(state: State) -> bool:
    """True for what a primary need not keep at hand.

    Miners stay for as long as they are known. Of a decided validation sums stay (see `testimony`),
    and who handed the solution in first. A peer review that no expert has looked at stays itself:
    when one who had a part in it turns out to be wrong too often, an expert looks at it.
    """
    match state:
        case TaskState():
            return state.status in task.ENDED
        case RewardState():
            return state.status in REWARD_ENDED
        case FraudState():
            return state.status != "suspected"
        case ValidationState():
            audited = any(judged.by == "expert" for judged in state.judged)
            return state.status == "decided" and (state.kind != "peer-review" or audited)
    return False
