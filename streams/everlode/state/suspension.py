"""Suspensions of a miner: its own, which it lifts itself, and those for fraud. Pure."""

from __future__ import annotations

from everlode.events import commands as c
from everlode.events import miners as e
from everlode.events.base import Event
from everlode.events.states import MinerState
from everlode.state.shape import Context, refuse


def present(state: MinerState) -> None:
    """Raises: Refusal: the miner has left."""
    if state.status == "retired":
        raise refuse("retired", f"miner {state.key} is retired")


def for_fraud(state: MinerState) -> bool:
    """True for a miner that is suspended since a case against it was confirmed."""
    return state.status == "suspended" and (state.reason or "").startswith(c.FRAUD)


def suspend(command: c.SuspendMiner, state: MinerState) -> tuple[Event, ...]:
    """One for fraud takes the place of another, which the miner could lift itself."""
    present(state)
    graver = command.reason.startswith(c.FRAUD) and not for_fraud(state)
    if state.status == "suspended" and not graver:
        return ()
    return (e.MinerSuspended(reason=command.reason),)


def reinstate(command: c.ReinstateMiner, state: MinerState, ctx: Context) -> tuple[Event, ...]:
    """One for fraud is lifted in the name of an operator only."""
    present(state)
    if state.status == "active":
        return ()
    if for_fraud(state) and command.decided_by not in ctx.operators:
        why = f"miner {state.key} is suspended: {state.reason}"
        hint = "an operator that the topology names lifts it (decided_by)"
        raise refuse("operator_needed", why, hint)
    return (e.MinerReinstated(**command.__dict__),)
