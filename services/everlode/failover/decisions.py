"""What a coordinator appends to the control log: who leads, and the status of nodes.

A record carries its grounds as they were when it was planned, not when it is written: a process
may be stopped between the two, and the fold voids what has been overtaken. Whether it counts is
known when it has been read back: the first in log order wins. Each is appended at most once in
10 s, because one that timed out may still land.

Invariants: nothing is written in an epoch that the coordinator does not lead in, as far as it
knows; only its own scope is asked for without leading. Shell, but for `decision`.
"""

from __future__ import annotations

from typing import NamedTuple

from everlode.control.fold import ControlState, NodeState
from everlode.events.base import Event
from everlode.events.control import (
    FreezeAsked,
    NodeStatusChanged,
    OperatorAnswered,
    ScopeAssigned,
)
from everlode.events.nodes import NodeStatus
from everlode.events.types import AssignReason, fitting
from everlode.failover.again import Again
from everlode.membership.agent import NodeAgent
from everlode.telemetry.entries import Decided, NodeNoted
from everlode.telemetry.sink import Sink, silent


class Basis(NamedTuple):
    """What a plan is based on."""

    control: ControlState
    """The log as it stood."""
    epoch: int
    """The coordinator's own. For the coordinator's scope itself, the one that is to end."""


class Loss(NamedTuple):
    """Why a primary is replaced."""

    node: NodeState | None
    """The lost one, as it was when the plan was made; None: it was well."""
    verdict: str | None = None
    reason: AssignReason = "node-lost"
    operation: str | None = None
    """The operator's wish that it is for."""


def decision(
    basis: Basis, region: str, scope: str, primary: str, loss: Loss | None
) -> ScopeAssigned:
    """The scope's next epoch, after the one that was planned with, for `primary`. Pure.

    Its reason is `bootstrap`, or that of the loss when the scope has been led.
    """
    control = basis.control
    epoch = control.epoch(scope)
    reason = loss.reason if loss else "node-lost"
    node = loss.node if loss else None
    return ScopeAssigned(
        scope_name=scope, new_epoch=epoch + 1, primary_node=primary, region=region,
        reason=reason if epoch else "bootstrap",
        failed_node=node.node_id if node else None,
        verdict_id=loss.verdict if loss else None,
        based_on=max(0, control.position), based_on_epoch=epoch, coordinator_epoch=basis.epoch,
        lost_at=node.changed_at if node else None,
        operation_id=loss.operation if loss else None,
    )  # fmt: skip


class Decisions:
    """Of one coordinator, for its region."""

    def __init__(self, agent: NodeAgent, report: Sink = silent) -> None:
        self._agent = agent
        self._report = report
        self._region = agent.identity.region
        self._scope = f"coordinator/{self._region}"
        self._assigned, self._noted = Again(), Again()
        self._noted_at = -1
        """Control offset of what was noted last."""

    def assign(self, basis: Basis, scope: str, primary: str, loss: Loss | None = None) -> None:
        """Give the scope's next epoch to `primary`; nothing when this one leads no more.

        Raises: Unavailable: it may still land.
        """
        data = decision(basis, self._region, scope, primary, loss)
        if scope != self._scope and not self.leads(basis.epoch):
            return
        grounds = (data.based_on_epoch, data.coordinator_epoch, data.lost_at, data.operation_id)
        if self._assigned.due((scope, *grounds)):
            self._append(scope, data, basis.epoch)
            self._report(Decided(scope, data.new_epoch, primary, data.reason))

    def note(self, node: NodeState, new: NodeStatus, reason: str, epoch: int) -> bool:
        """Note a node's status, in the coordinator's own epoch. True when it was appended now.

        The fold leaves it out when the node has moved on meanwhile. Raises: Unavailable.
        """
        if not self.leads(epoch) or not self._noted.due((node.node_id, node.changed_at, new)):
            return False
        data = NodeStatusChanged.model_validate(
            {
                "node_id": node.node_id,
                "region": self._region,
                "from_status": node.status,
                "to_status": new.value,
                "reason": fitting(reason),
                "changed_at": node.changed_at,
            }
        )
        self._noted_at = at = self._append(node.node_id, data, epoch)
        self._report(NodeNoted(node.node_id, new.value, at, reason))
        return True

    def read_back(self) -> ControlState:
        """The control log with all that was noted. Raises: Unavailable: it does not come."""
        return self._agent.control_at(self._noted_at)

    def leads(self, epoch: int) -> bool:
        """True while the coordinator leads in this epoch of its own scope."""
        return self._agent.leads(self._scope) == epoch

    def append(self, scope: str, data: FreezeAsked | OperatorAnswered, epoch: int) -> None:
        """A step of an operator's wish about a scope; nothing when this one leads no more.

        Raises: Unavailable: it may still land.
        """
        if self.leads(epoch):
            self._append(scope, data, epoch)

    def _append(self, key: str, data: Event, epoch: int) -> int:
        me = self._agent.identity.node_id
        return self._agent.log.append(key, data, node_id=me, scope=self._scope, epoch=epoch)
