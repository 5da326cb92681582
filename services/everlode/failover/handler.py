"""What a leading coordinator does about nodes: notes who is lost or back, and handles each loss.

    verdict ──► 1. status: lost ──► 2. Decide ─► AwaitFence ─► own steps ─► Finish ──► ended
                                        ▲                                     ▲
                  the logs ─────────────┘           3. the node is back ──────┘

One pass, in this order:
  1. note in the control log who is lost (a verdict), fenced (a primary whose lease is no longer
     renewed while the log goes on), or back (it beats again);
  2. for each loss, carry out the next step of its service's policy, unless an operator has paused
     that, or moves the scope;
  3. end what is overtaken, because its node is back;
  4. publish who leads instead of a primary that was not lost: miners follow their registry;
  5. publish what is known of operations only after their end: how long what waited did so.
Everything comes from the logs, and ids are derived, so another coordinator goes on at any point
and a repeat changes nothing. Shell: one thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from everlode.adapters.clock import WallClock
from everlode.control.cooldown import UNSTEADY
from everlode.control.fold import ControlState, NodeState, ScopeState
from everlode.events.base import Evidence, Fact
from everlode.events.health import NodeLost
from everlode.events.nodes import NodeStatus
from everlode.failover.again import Again
from everlode.failover.decisions import Basis, Decisions, Loss
from everlode.failover.heartbeats import Heartbeats
from everlode.failover.limits import Limits
from everlode.failover.operations import Operation, OperationLog, Verdict
from everlode.failover.orders import Orders
from everlode.failover.planner import (
    GONE,
    AwaitFence,
    AwaitOthers,
    Decide,
    Finish,
    OwnStep,
    Stuck,
    View,
    at_work_beside,
    operation_id,
)
from everlode.failover.policy import Policies, Policy
from everlode.failover.statuses import Statuses
from everlode.membership.agent import NodeAgent
from everlode.telemetry.entries import HandlingStuck
from everlode.telemetry.sink import Sink, silent

STUCK_S = 5.0
"""What cannot be done is reported again after this time."""
WITHOUT_LOSS = ("switchover", UNSTEADY)
"""Reasons of decisions that no operation follows; of any other its own steps tell."""


class Handler:
    """Handles lost nodes of the agent's region, each by the policy of its service."""

    def __init__(
        self,
        agent: NodeAgent,
        heartbeats: Heartbeats,
        policies: Policies,
        orders: Orders,
        limits: Limits,
        *,
        report: Sink = silent,
    ) -> None:
        self._region = agent.identity.region
        self._agent = agent
        self._heartbeats = heartbeats
        self._policies = policies
        self._orders = orders
        self._report = report
        self.decisions = Decisions(agent, report)
        self.log = OperationLog(agent, policies, report)
        self._statuses = Statuses(self._region, heartbeats, self.decisions, policies.keys(), limits)
        self._operations: dict[str, Operation] = {}
        self._stuck = Again(STUCK_S)
        self._clock = WallClock()

    def observe(self, fact: Fact, lost: NodeLost) -> None:
        """Fold a verdict of the detector."""
        self._statuses.observe(fact.envelope.aggregate_id, Verdict.of(fact, lost))

    def turn(self, epoch: int) -> None:
        """One pass; `epoch` is the coordinator's own. Raises: Unavailable."""
        # 1. who is lost, fenced, or back
        control = self._agent.control
        for node in self._nodes(control):
            paused = control.wishes.pause(f"{node.component}/{self._region}", self._clock.wall_ms())
            handled = operation_id(node) in self.log.ended or paused is not None
            self._statuses.begun(node.node_id, self.log.begun.get(node.node_id, ()))
            self._statuses.note(control, node, epoch, handled)
        # 2. the next step of each loss, those that were noted now too
        control = self.decisions.read_back()
        for node in self._nodes(control):
            if node.status in GONE and node.component in self._policies:
                self._handle(self._operation(control, node), Basis(control, epoch))
        # 3. operations whose node is back
        self._end_overtaken(Basis(control, epoch))
        # 4. primaries that were changed without a loss
        for component, policy in self._policies.items():
            led = control.scopes.get(f"{component}/{self._region}")
            if led is not None and led.decision.reason in WITHOUT_LOSS:
                self._publish_change(led, policy, control)
            # 5. what came of those that have ended
            if self.decisions.leads(epoch):
                for found in policy.later():
                    self.log.later(found)

    def _nodes(self, control: ControlState) -> list[NodeState]:
        return [node for node in control.nodes.values() if node.region == self._region]

    # -- 2. the next step of a loss --------------------------------------------------------------

    def _operation(self, control: ControlState, node: NodeState) -> Operation:
        """The operation of this loss, whose start is published, unless it has ended."""
        found = self._operations.get(operation_id(node))
        if found is not None:
            return found
        made = Operation.of(node)
        self._operations[made.id] = made
        made.estimate = self.log.estimate(self._policies[node.component])
        evidence: Sequence[Evidence] = ()
        if node.status == NodeStatus.LOST:
            made.verdict = self._statuses.verdict(node.node_id)
            evidence = made.verdict.lost.evidence if made.verdict else ()
        if made.id not in self.log.ended:
            self.log.start(made, control.epoch(f"{node.component}/{self._region}"), evidence)
        return made

    def _view(self, op: Operation, policy: Policy[Any], control: ControlState) -> View[Any]:
        led = control.scopes.get(f"{op.node.component}/{self._region}")
        return View(
            control,
            op.node,
            self._heartbeats.fresh(),
            policy.opened(led) if led else 0,
            led is not None
            and led.decision.failed_node == op.node.node_id
            and led.decided_at > op.lost_at,
            policy.work(op.node.node_id),
            self.log.done(op),
            self._heartbeats.read_stamp(op.node.node_id),
            self.log.waited_ms(op),
        )

    def _handle(self, op: Operation, basis: Basis) -> None:
        scope = f"{op.node.component}/{self._region}"
        why = basis.control.wishes.holds(scope, self._clock.wall_ms())
        if not why:
            self._advance(op, basis)
        elif op.id not in self.log.ended and self._stuck.due(why):
            self._report(HandlingStuck(op.node.node_id, why))

    def _advance(self, op: Operation, basis: Basis) -> None:
        policy = self._policies[op.node.component]
        view = self._view(op, policy, basis.control)
        step = policy.plan(view)
        match step:
            case Decide():
                loss = Loss(op.node, op.verdict.id if op.verdict else None)
                self.decisions.assign(basis, step.scope, step.primary, loss)
            case AwaitFence() if view.decided:
                self.log.step(op, "decide", f"{step.primary} epoch {step.epoch}")
            case AwaitFence():
                pass  # somebody else's succession
            case AwaitOthers():
                self._waits(op, step.what)
            case Stuck():
                self._waits(op, step.reason)
            case Finish():
                self._promoted(op, policy, view)
                if op.id not in self.log.ended:
                    under_way = self._heartbeats.under_way(op.node.node_id)
                    others = len(at_work_beside(view.control, op.node))
                    self.log.end(op, step, under_way, others)
            case _:
                self._promoted(op, policy, view)
                self._order(op, policy, step, basis)

    def _waits(self, op: Operation, why: str) -> None:
        if self._stuck.due(why):
            self._report(HandlingStuck(op.node.node_id, why))

    def _promoted(self, op: Operation, policy: Policy[Any], view: View[Any]) -> None:
        """Publish the decision, if it was not yet, and the promotion.

        Its time is from the verdict to the epoch that is open everywhere.
        """
        led = view.control.scopes.get(view.scope)
        if not view.decided or led is None:
            return
        detail = f"{led.primary} epoch {led.epoch}"
        self.log.step(op, "decide", detail)
        opened, took = policy.opened_ms(led), 0
        if opened is not None and op.verdict is not None:
            took = max(0, opened - op.verdict.at_ms)
        self.log.step(op, "promote", detail, took)

    def _order(self, op: Operation, policy: Policy[Any], step: OwnStep, basis: Basis) -> None:
        """Send the commands of a step of the service's own, once the last ones are answered; one
        that has none waits for nobody else's."""
        if not self.decisions.leads(basis.epoch):
            return
        orders = iter(policy.orders(step, op.id, self._orders.now()))
        first = next(orders, None)
        if first is not None:
            if not self._orders.free():
                return
            self._orders.send([first, *orders])
        if op.id not in self.log.ended:
            led = basis.control.scopes[f"{op.node.component}/{self._region}"]
            self.log.own(op, step, policy.event(step, led))

    def _publish_change(self, led: ScopeState, policy: Policy[Any], control: ControlState) -> None:
        if policy.opened(led) < led.epoch:
            return  # it does not lead yet
        wish = control.wishes.get(led.decision.operation_id or "")
        asked = wish.freeze.primary_node if wish and wish.freeze else ""
        node = control.nodes.get(led.primary)
        before, endpoint = led.decision.failed_node or asked, node.endpoint if node else ""
        data = policy.changed(led, before, endpoint)
        if data is not None:
            self.log.changed(led, data)

    # -- 3. operations whose node is back ---------------------------------------------------------

    def _end_overtaken(self, basis: Basis) -> None:
        for op_id, started in list(self.log.open.items()):
            node = basis.control.nodes.get(started.subject)
            if node is None or node.region != self._region or node.status in GONE:
                continue
            op = self._operations.setdefault(op_id, Operation(op_id, node, -1))
            op.node = node
            self._advance(op, basis)
