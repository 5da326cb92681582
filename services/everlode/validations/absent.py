"""What the primary owes while no node of a kind that once worked does: nobody's case is stuck.

    automatic, peer review   late ──► EscalateValidation: an expert decides, if one works
    expert                   at once, and when late again ──► DeferValidation, DEFER_MOST times;
                             late once more: an operator's (`WorkWaits` at once, see `waits`)

A kind that no node of the region has ever had is the network's choice, and nothing is owed for it.
All follows from the state: a successor owes the same, by the same ids. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from everlode.balancing.assign import MANAGING
from everlode.control.fold import ControlState
from everlode.events.base import Command
from everlode.events.commands import DeferValidation, EscalateValidation
from everlode.events.ids import own_id
from everlode.events.states import ValidationState
from everlode.primary.component import JUDGES, Owed
from everlode.state.validation import deadline

DEFER_MOST = 3
AT_ONCE = 200
"""Commands in one look; the next look goes on."""


def absent_kinds(control: ControlState, region: str) -> frozenset[str]:
    """Kinds of validator of which a node has joined in the region, and none works."""
    joined = frozenset(n.kind for n in control.nodes_of(region, JUDGES))
    return joined - working_kinds(control, region)


def working_kinds(control: ControlState, region: str) -> frozenset[str]:
    """Kinds of validator of which a node of the region works."""
    nodes = control.nodes_of(region, JUDGES)
    return frozenset(n.kind for n in nodes if n.status in MANAGING)


def owed_for(state: ValidationState, now: datetime, *, experts: bool) -> Command | None:
    """What is owed for a validation that waits for an absent kind; None: nothing now.

    `experts`: whether one works.
    """
    late = now >= state.deadline_at
    if state.kind != "expert":
        if not late or not experts:
            return None
        return EscalateValidation(
            to_kind="expert", reason=f"no {state.kind} validator works", quorum=1, reviewers=(),
            deadline_at=deadline("expert", now),
        )  # fmt: skip
    if state.deferrals >= DEFER_MOST or (state.deferrals and not late):
        return None
    until = deadline("expert", max(now, state.deadline_at))
    return DeferValidation(reason="no expert validator works", deadline_at=until)


def is_forsaken(state: ValidationState, now: datetime) -> bool:
    """True for what waits for an absent expert, was deferred as often as it may be, and is late."""
    return state.kind == "expert" and state.deferrals >= DEFER_MOST and now >= state.deadline_at


def all_owed(states: Iterable[ValidationState], now: datetime, *, experts: bool) -> Iterator[Owed]:
    """What is owed for these, of absent kinds; AT_ONCE at most."""
    left = AT_ONCE
    for state in states:
        command = owed_for(state, now, experts=experts)
        if command is None:
            continue
        yield Owed(own_id("absent", state.key, str(state.version)), state.key, command, now)
        left -= 1
        if not left:
            return
