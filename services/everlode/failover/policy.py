"""The port of a service to its failover: what it looks at, the steps it takes, how it ends.

                 observe                   plan                    orders
    fact topic ───────────► work(node) ───────────► next step ───────────► commands to the primary
                                                        │ Finish
                                                        └──────► ended ──► the recovery stream

Each service gives one policy, in its own package; a coordinator is given all of them (see
`processes.policies`). Who leads next is the same for every service (`planner.succession`); a new
service, or a new step of one, is an addition here: nothing else names a service.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from everlode.control.fold import NodeState, ScopeState
from everlode.events.base import Command, Event, Fact
from everlode.events.services import Service
from everlode.events.types import RecoveryAction
from everlode.failover.estimates import Estimate
from everlode.failover.planner import OwnStep, Planner, Step, View, W, finish, succession
from everlode.snapshots.read import Snapshot


class Order(NamedTuple):
    """A command to the service's primary. Its id is derived: sent again, it is carried out once."""

    key: str
    command: Command
    command_id: str


class End(NamedTuple):
    """What a coordinator knows at the end of an operation."""

    operation: str
    node: NodeState
    action: RecoveryAction
    new_primary: str | None
    success: bool
    under_way: int
    """What the node's last heartbeat had under way, in the unit of its service."""
    detect_ms: int
    took_ms: int
    estimate: Estimate
    others: int
    """Nodes of its component and kind that work beside it."""


class Later(NamedTuple):
    """What follows the end of an operation; one at most does."""

    operation: str
    node_id: str
    data: Event


class Policy(Planner[W], Protocol[W]):
    """One service's failover. `restore`, `observe` and `observe_operation` alone change it."""

    @property
    def service(self) -> Service:
        """Whose failover it is; `ended` gives an event of its type `ended`."""

    @property
    def facts(self) -> str | None:
        """Fact topic of the home region that it observes, e.g. tasks."""

    def restore(self, snapshot: Snapshot) -> None:
        """Begin with a snapshot of these facts; those from before its marks on are observed."""

    def observe(self, partition: int, fact: Fact) -> None:
        """Fold one record of the fact topic, in order within its partition."""

    def observe_operation(self, fact: Fact) -> None:
        """Fold one record of the region's recovery stream, once."""

    def later(self) -> Iterable[Later]:
        """What is known only now of operations that have ended; until it is read back."""

    def opened(self, led: ScopeState) -> int:
        """Lowest epoch of the scope that is open in every partition."""

    def opened_ms(self, led: ScopeState) -> int | None:
        """Wall milliseconds at which the scope's epoch was open everywhere; None: not known."""

    def work(self, node_id: str) -> W:
        """What a node leaves to do if it is lost now."""

    def orders(self, step: OwnStep, operation: str, now: datetime) -> Iterable[Order]:
        """The commands of a step of its own; `now` in event time."""

    def event(self, step: OwnStep, led: ScopeState) -> Event | None:
        """What a step of its own publishes on the recovery stream beside its record, or None."""

    def changed(self, led: ScopeState, before: str, endpoint: str) -> Event | None:
        """What others hear of a primary that leads instead of one that was not lost, or None.

        `before`: the node that led; `endpoint`: of the one that leads now; empty: not known.
        """

    def ended(self, end: End) -> Event:
        """The event that tells the end of an operation."""


Policies = Mapping[str, Policy[Any]]
"""Component of a scope's name → the policy of its service."""


def of_all(policies: Iterable[Policy[Any]]) -> Policies:
    """The registry of these policies."""
    return {policy.service.scope: policy for policy in policies}


class Succession:
    """A service whose lost node leaves nothing but its scope, unless it adds steps of its own.

    Its primary leads once it has opened its epoch and then renewed its lease.
    """

    facts: str | None = None

    def restore(self, snapshot: Snapshot) -> None:
        """See Policy."""

    def observe(self, partition: int, fact: Fact) -> None:
        """See Policy."""

    def observe_operation(self, fact: Fact) -> None:
        """See Policy."""

    def later(self) -> Iterable[Later]:
        """See Policy: nothing."""
        return ()

    def opened(self, led: ScopeState) -> int:
        """See Policy."""
        return led.epoch if led.renewed_at >= 0 else 0

    def opened_ms(self, _led: ScopeState) -> int | None:
        """See Policy: a renewal does not say when."""
        return None

    def work(self, _node_id: str) -> Any:
        """See Policy: none."""

    def plan(self, view: View[Any]) -> Step:
        """See Policy."""
        return succession(view) or finish(view)

    def awaited(self, view: View[Any]) -> View[Any]:
        """See Policy: it waits for nothing."""
        return view

    def after(self, work: Any, _step: OwnStep) -> Any:
        """See Policy: its steps leave the work as it is."""
        return work

    def orders(self, _step: OwnStep, _operation: str, _now: datetime) -> Iterable[Order]:
        """See Policy: its steps ask for nothing."""
        return ()

    def event(self, _step: OwnStep, _led: ScopeState) -> Event | None:
        """See Policy: none."""
        return None

    def changed(self, _led: ScopeState, _before: str, _endpoint: str) -> Event | None:
        """See Policy: nothing."""
        return None
