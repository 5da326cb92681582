"""The coordinator of a region: barriers, probes, decisions, and the handling of lost nodes.

    heartbeats ─┐                         ┌─► probe answers, barriers ─► heartbeats ─► detector
    facts ──────┤                         │
    verdicts ───┼─► leading coordinator ──┼─► decisions, statuses ─────► control log ─► all nodes
    operations ─┘      ▲                  │
                  its lease               └─► operations ──────────────► recovery stream

A region has one leading coordinator, which holds the scope coordinator/<region>; others stand by
and take the scope when its renewals have stopped. One turn, in this order:
  1. read heartbeats, facts, verdicts and the recovery stream;
  2. stand by, unless it leads; while leading:
  3. watch the nodes that beat: one whose process ends is probed at once, as a suspected one is,
     and the answer is published (to the node's heartbeat partition);
  4. publish a barrier each second;
  5. give scopes without a primary one (bootstrap);
  6. carry on what operators asked for (see `carrier`);
  7. handle the nodes that are lost (see `handler`), tell of takeovers (see `milestones`);
  8. replace primaries that live and do not do their work (see `unsteady`);
  9. write a snapshot of the control log's fold, now and then.
Everything it knows comes from the logs, so it can be killed at any step. Shell: one thread, and
some for probes.
"""

from __future__ import annotations

import time

from everlode.control.fold import ControlState
from everlode.control.scopes import Scope
from everlode.control.snapshot import EVERY
from everlode.errors import ContractError, unforeseen
from everlode.events.barriers import Barrier
from everlode.events.health import NodeDegraded, NodeFlapping, NodeLost, NodeSuspected
from everlode.failover.carrier import Carrier, Parts
from everlode.failover.copies import Look, nobody_looks
from everlode.failover.decisions import Basis
from everlode.failover.handler import Handler
from everlode.failover.heartbeats import Heartbeats
from everlode.failover.inbox import Inbox, Read
from everlode.failover.limits import Limits
from everlode.failover.milestones import milestones
from everlode.failover.orders import Orders
from everlode.failover.planner import GONE
from everlode.failover.policy import Policies
from everlode.failover.probes import Probes
from everlode.failover.regions import CANARY
from everlode.failover.unsteady import Unsteady
from everlode.membership.agent import NodeAgent
from everlode.settings.endpoints import RegionParts
from everlode.telemetry.entries import Note
from everlode.telemetry.sink import Sink, silent

BARRIER_S = 1.0
BOOTSTRAP_WAIT_S = 1.5
PAUSE_S = 3.0
"""A turn that comes this late: this process was stopped, and has not seen what went on."""
IDLE_S, BUSY_S = 0.1, 0.01
"""For so long a turn waits for a record; while a wish is open, for the control log's sake."""
OWN_S = 3.0
"""Holding the scope without a lease for this long: decide for oneself anew."""


class Coordinator:
    """Runs turns, and closes what it was given: `orders`, but not `agent`."""

    def __init__(
        self,
        place: RegionParts,
        agent: NodeAgent,
        policies: Policies,
        orders: Orders,
        limits: Limits,
        *,
        copy_of: Look = nobody_looks,
        report: Sink = silent,
    ) -> None:
        self.region = place.region
        self.scope = str(Scope("coordinator", place.region))
        self._me = agent.identity.node_id
        self._partitions = place.partitions
        self._agent = agent
        self._policies = policies
        self._orders = orders
        self._takeover_s = limits.takeover_s
        self._heartbeats = Heartbeats()
        self._report = report
        self._handler = Handler(agent, self._heartbeats, policies, orders, limits, report=report)
        parts = Parts(agent, self._heartbeats, policies, orders, self._handler.decisions, copy_of)
        self._carrier = Carrier(parts, self._handler.log.ended, report)
        self._unsteady = Unsteady(
            place.region, self._heartbeats, self._handler.decisions, policies, report
        )
        self._probes = Probes(agent, place.partitions, report)
        followed = [policy.facts for policy in policies.values() if policy.facts]
        self._inbox = Inbox(place, self._me, followed, self._leads, report)
        for policy in policies.values():
            if policy.facts:
                policy.restore(self._inbox.snapshots[policy.facts])
        self._waited: dict[str, float] = {}
        """Scope without a primary → since when a node could have it."""
        self._renewed = (-1, time.monotonic())
        """(control offset of the scope's last sign of life, when it was seen)."""
        self._turned = time.monotonic()
        self._barrier_at = 0.0
        self._kept_at, self._kept_late = -1, 0
        """Of the snapshot that this process wrote last: its control offset, and late decisions."""

    def turn(self) -> None:
        """One turn. Raises: Unavailable: a log did not answer; nothing is lost by that."""
        paused = time.monotonic() - self._turned > PAUSE_S
        self._turned = time.monotonic()
        # 1. read
        for record in self._inbox.read(BUSY_S if self._carrier.open() else IDLE_S):
            self._take(record)
        if not self._inbox.caught_up:
            return  # what was not read yet may say otherwise
        control = self._agent.control
        epoch = self._agent.leads(self.scope)
        # 2. stand by
        if epoch is None:
            self._probes.watch({})
            self._stand_by(control, paused)
            return
        # 3. nodes that end
        self._probes.watch(self._watched(control))
        # 4. barriers
        self._publish_barriers()
        # 5. scopes without a primary
        self._bootstrap(Basis(control, epoch))
        # 6. operators' wishes
        self._carrier.turn(Basis(control, epoch))
        # 7. lost nodes, and regions
        self._handler.turn(epoch)
        for step in milestones(control, self.region):
            self._handler.log.publish(step)
        # 8. primaries that do not do their work
        self._unsteady.turn(Basis(self._agent.control, epoch))
        # 9. the control log's snapshot
        self._keep(control)

    def close(self) -> None:
        """Leave."""
        self._probes.close()
        self._orders.close()
        self._inbox.close()

    def _leads(self) -> bool:
        return self._agent.leads(self.scope) is not None

    def _take(self, record: Read) -> None:
        """What goes wrong follows from the record, so each coordinator would end by it in turn."""
        try:
            self._observe(record)
        except Exception as error:  # noqa: BLE001 - see above
            what = f"{type(record.fact.data).__name__} cannot be observed"
            self._inbox.leave_out(record, unforeseen(what, error))

    def _observe(self, record: Read) -> None:
        fact, raw = record.fact, record.raw
        match record.component:
            case "heartbeats":
                self._heartbeats.observe(fact, raw.partition, raw.offset, record.behind)
            case "recovery":
                self._handler.log.observe(fact)
            case "health":
                if isinstance(fact.data, NodeLost):
                    self._handler.observe(fact, fact.data)
                elif isinstance(fact.data, NodeDegraded | NodeFlapping):
                    self._unsteady.observe(fact, fact.data)
                elif isinstance(fact.data, NodeSuspected) and not record.behind:
                    self._suspect(fact.envelope.aggregate_id, fact.data)
            case facts:
                for policy in self._policies.values():
                    if policy.facts == facts:
                        policy.observe(raw.partition, fact)

    def _watched(self, control: ControlState) -> dict[str, str]:
        """Node → endpoint, of those whose end would be news."""
        return {
            node: self._heartbeats.last[node].beat.endpoint
            for node in self._heartbeats.fresh()
            if node != self._me and node in control.nodes
            and control.nodes[node].status not in GONE
        }  # fmt: skip

    def _suspect(self, node: str, verdict: NodeSuspected) -> None:
        """Probe a node, unless it has beaten since it was suspected."""
        if self._leads() and not self._heartbeats.since(node, verdict.evidence):
            self._probes.ask(node, verdict.endpoint)

    def _stand_by(self, control: ControlState, paused: bool) -> None:
        """Take the scope when nobody has it, or its holder's renewals have stopped.

        The silence counts from what this process has seen: after a pause of its own, anew. Nor does
        one whose clock is wrong take it: it could not lead.
        """
        held = control.scopes.get(self.scope)
        mark = -1 if held is None else max(held.renewed_at, held.decided_at)
        if mark != self._renewed[0] or paused or not self._agent.may_lead:
            self._renewed = (mark, time.monotonic())
        if not self._agent.may_lead:
            return
        quiet = time.monotonic() - self._renewed[1]
        waits_s = OWN_S if held is not None and held.primary == self._me else self._takeover_s
        if held is None or quiet > waits_s:
            basis = Basis(control, control.epoch(self.scope))
            self._handler.decisions.assign(basis, self.scope, self._me)

    def _keep(self, control: ControlState) -> None:
        """A late decision is kept long before compaction may leave out what made it late."""
        late = len(control.late)
        if late > self._kept_late or control.position >= self._kept_at + EVERY:
            try:
                self._agent.log.keep(control)
            except ContractError as error:  # whoever starts reads more of the log
                self._report(Note("control", f"its snapshot is not kept: {error.message}"))
            self._kept_at, self._kept_late = control.position, late

    def _publish_barriers(self) -> None:
        now = time.monotonic()
        if now < self._barrier_at:
            return
        self._barrier_at = now + BARRIER_S
        barrier = Barrier(writer_id=self._me)
        for partition in range(self._partitions):
            self._agent.signal(barrier, partition=partition)
        self._agent.signal(barrier, topic=CANARY, partition=0)  # for other regions, and our watch

    def _bootstrap(self, basis: Basis) -> None:
        beating = self._heartbeats.fresh()
        for component in self._policies:
            scope = f"{component}/{self.region}"
            if scope in basis.control.scopes:
                continue
            nodes = [
                n for n in basis.control.nodes_of(self.region, component) if n.node_id in beating
            ]
            if not nodes:
                continue
            since = self._waited.setdefault(scope, time.monotonic())
            if time.monotonic() - since >= BOOTSTRAP_WAIT_S:
                self._handler.decisions.assign(basis, scope, nodes[0].node_id)
