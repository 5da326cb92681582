"""What a coordinator appends to the control log: who leads, and the status of nodes.

Whether a record counts is known when it has been read back: the first in log order wins. Each is
appended at most once in 10 s, because one that timed out may still land. Shell.
"""

from __future__ import annotations

from everlode.control.fold import NodeState
from everlode.events.control import NodeStatusChanged, ScopeAssigned
from everlode.events.nodes import NodeStatus
from everlode.events.types import AssignReason
from everlode.failover.again import Again
from everlode.membership.agent import NodeAgent
from everlode.telemetry.entries import Decided, NodeNoted
from everlode.telemetry.sink import Sink, silent


class Decisions:
    """Of one coordinator, for its region."""

    def __init__(self, agent: NodeAgent, report: Sink = silent) -> None:
        self._agent = agent
        self._report = report
        self._region = agent.identity.region
        self._scope = f"coordinator/{self._region}"
        self._assigned, self._noted = Again(), Again()

    def assign(
        self,
        scope: str,
        primary: str,
        reason: AssignReason,
        failed: str | None = None,
        verdict: str | None = None,
    ) -> None:
        """Give the scope's next epoch to `primary`, in place of `failed` because of a verdict.

        Raises: Unavailable: it may still land.
        """
        control = self._agent.control
        epoch = control.epoch(scope)
        if not self._assigned.due((scope, epoch)):
            return
        data = ScopeAssigned(
            scope_name=scope, new_epoch=epoch + 1, primary_node=primary, region=self._region,
            reason=reason, failed_node=failed, verdict_id=verdict,
            based_on=max(0, control.position), based_on_epoch=epoch,
        )  # fmt: skip
        me, held = self._agent.identity.node_id, control.epoch(self._scope)
        self._agent.log.append(scope, data, node_id=me, scope=self._scope, epoch=held)
        self._report(Decided(scope, epoch + 1, primary, reason))

    def note(self, node: NodeState, new: NodeStatus, reason: str, epoch: int) -> bool:
        """Note a node's status, in the coordinator's own epoch. True when it was appended now.

        The fold leaves it out when the node has moved on meanwhile. Raises: Unavailable.
        """
        if not self._noted.due((node.node_id, node.changed_at, new)):
            return False
        data = NodeStatusChanged.model_validate(
            {
                "node_id": node.node_id,
                "region": self._region,
                "from_status": node.status,
                "to_status": new.value,
                "reason": reason,
            }
        )
        me = self._agent.identity.node_id
        at = self._agent.log.append(node.node_id, data, node_id=me, scope=self._scope, epoch=epoch)
        self._report(NodeNoted(node.node_id, new.value, at, reason))
        return True
