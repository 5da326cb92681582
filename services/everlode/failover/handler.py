"""What a leading coordinator does about nodes: notes who is lost or back, and handles each loss.

One pass, in this order:
  1. note in the control log who is lost (a verdict), fenced (a primary whose lease is no longer
     renewed while the log goes on), or back (it beats again);
  2. for each loss, carry out the next planned step;
  3. end what is overtaken, because its node is back.
Everything comes from the logs, and ids are derived, so another coordinator goes on at any point
and a repeat changes nothing. Shell: one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple, Protocol

from everlode.adapters.clock import Clock
from everlode.control.fold import ControlState, NodeState
from everlode.control.scopes import COMPONENT_OF
from everlode.detection.detector import mass_silence
from everlode.events.base import CommandAnswered, Evidence, Fact
from everlode.events.commands import MigrateTask
from everlode.events.control import NodeStatusChanged
from everlode.events.health import NodeLost
from everlode.events.nodes import TRANSITIONS, NodeStatus
from everlode.events.stamp import millis_of
from everlode.failover.limits import Limits
from everlode.failover.operations import Journal, Operation
from everlode.failover.planner import (
    GONE,
    AwaitFence,
    Decide,
    Finish,
    Migrate,
    Stuck,
    View,
    migrate_id,
    operation_id,
    plan,
)
from everlode.failover.watch import ActiveTasks, Beats
from everlode.membership.agent import NodeAgent
from everlode.sdk.client import MiningClient

AGAIN_S = 10.0
"""A record of the control log that did not take effect is written again after this time."""
BACK_S = 3.0
"""A node that beats again for this long is taken back."""


class Decider(Protocol):
    """Appends a decision; see Coordinator.decide."""

    def __call__(
        self, scope: str, primary: str, reason: str, failed: str | None, verdict: str | None
    ) -> None: ...


class Heard(NamedTuple):
    """The last verdict that a node is lost."""

    fact: Fact
    verdict: NodeLost


class Handler:
    """Handles lost nodes of one region. `client` is made when the first task migrates."""

    def __init__(
        self,
        region: str,
        agent: NodeAgent,
        beats: Beats,
        tasks: ActiveTasks,
        client: Callable[[], MiningClient],
        clock: Clock,
        decide: Decider,
        limits: Limits,
        say: Callable[[str], None],
    ) -> None:
        self._region = region
        self._agent = agent
        self._beats, self._tasks = beats, tasks
        self._make_client = client
        self._client: MiningClient | None = None
        self._clock = clock
        self._decide = decide
        self._limits = limits
        self._say = say
        self.journal = Journal(agent, say)
        self._heard: dict[str, Heard] = {}
        self._used: set[str] = set()
        """Verdicts that have been acted on."""
        self._operations: dict[str, Operation] = {}
        self._moves: dict[str, Future[CommandAnswered]] = {}
        self._written: dict[tuple[str, int, str], float] = {}
        self._back: dict[tuple[str, int], float] = {}
        self._stuck: dict[str, float] = {}

    def heard(self, fact: Fact, verdict: NodeLost) -> None:
        """A verdict of the detector."""
        if verdict.actionable:
            self._heard[fact.envelope.aggregate_id] = Heard(fact, verdict)

    def turn(self, epoch: int) -> None:
        """One pass; `epoch` is the coordinator's own. Raises: Unavailable."""
        control = self._agent.control
        for node in list(control.nodes.values()):
            if node.region == self._region:
                self._note(control, node, epoch)
        control = self._agent.control
        for node in list(control.nodes.values()):
            if node.region == self._region and node.status in GONE and _handled(node):
                self._advance(self._operation(control, node), control)
        self._overtaken(control)

    def close(self) -> None:
        """Leave."""
        if self._client is not None:
            self._client.close()

    # -- 1. who is lost, fenced, or back --------------------------------------------------------

    def _note(self, control: ControlState, node: NodeState, epoch: int) -> None:
        heard = self._heard.get(node.node_id)
        if node.status in GONE:
            if heard is not None:
                self._used.add(heard.fact.envelope.event_id)
            self._note_back(control, node, epoch)
        elif heard is not None and self._counts(control, node, heard):
            if self._move(node, NodeStatus.LOST, heard.fact.envelope.event_id, epoch):
                self._used.add(heard.fact.envelope.event_id)
        elif self._cut_off(control, node):
            allowed = TRANSITIONS[NodeStatus(node.status)]
            new = NodeStatus.FENCED if NodeStatus.FENCED in allowed else NodeStatus.LOST
            self._move(node, new, "its lease is not renewed", epoch)
        elif node.status == NodeStatus.REJOINING and self._steady(node):
            self._move(node, NodeStatus.HEALTHY, "it beats", epoch)

    def _counts(self, control: ControlState, node: NodeState, heard: Heard) -> bool:
        """The verdict has not been acted on, the node has not beaten since, and whoever gave it
        saw: by silence alone nobody is lost while most of the region are silent.
        """
        verdict = heard.verdict
        used = heard.fact.envelope.event_id in self._used
        if used or self._beats.since(node.node_id, verdict.evidence):
            return False
        return verdict.rule != "phi" or not self._blind(control)

    def _blind(self, control: ControlState) -> bool:
        known = {
            n.node_id
            for n in control.nodes.values()
            if n.region == self._region and n.status not in GONE
        }
        return mass_silence(len(known - self._beats.fresh().keys()), len(known))

    def _cut_off(self, control: ControlState, node: NodeState) -> bool:
        """It leads, but the log has gone on for longer than its lease without it."""
        if not _handled(node):
            return False
        led = control.scopes.get(f"{node.component}/{self._region}")
        if led is None or led.primary != node.node_id:
            return False
        mark = max(led.renewed_at, led.decided_at, node.joined_at)
        ticks = sum(1 for tick in control.ticks.get(self._region, ()) if tick > mark)
        return ticks > self._limits.silent_ticks

    def _note_back(self, control: ControlState, node: NodeState, epoch: int) -> None:
        """Back once its loss has been handled, or when it leads again because nobody else could."""
        led = control.scopes.get(f"{node.component}/{self._region}")
        if led is not None and led.primary == node.node_id:
            done = led.renewed_at > node.changed_at
        else:
            done = not _handled(node) or operation_id(node) in self.journal.ended
        if done and self._steady(node):
            self._move(node, NodeStatus.REJOINING, "it beats again", epoch)

    def _steady(self, node: NodeState) -> bool:
        key = (node.node_id, node.changed_at)
        if node.node_id not in self._beats.fresh():
            self._back.pop(key, None)
            return False
        return time.monotonic() - self._back.setdefault(key, time.monotonic()) >= BACK_S

    def _move(self, node: NodeState, new: NodeStatus, reason: str, epoch: int) -> bool:
        """Write a status into the control log. True when it is there; whether it counted, the
        fold says: it does not when the node has moved on meanwhile.
        """
        key = (node.node_id, node.changed_at, new.value)
        if time.monotonic() - self._written.get(key, -1e9) < AGAIN_S:
            return False
        self._written[key] = time.monotonic()
        data = NodeStatusChanged.model_validate(
            {
                "node_id": node.node_id,
                "region": self._region,
                "from_status": node.status,
                "to_status": new.value,
                "reason": reason,
            }
        )
        me, scope = self._agent.identity.node_id, f"coordinator/{self._region}"
        at = self._agent.log.append(node.node_id, data, node_id=me, scope=scope, epoch=epoch)
        self._say(f"{new}: {node.node_id}, noted at {at}: {reason}")
        return True

    # -- 2. the next step of a loss --------------------------------------------------------------

    def _operation(self, control: ControlState, node: NodeState) -> Operation:
        made = Operation(node)
        found = self._operations.get(made.id)
        if found is not None:
            return found
        self._operations[made.id] = made
        made.estimate_ms = self.journal.estimate(node.component)
        evidence: tuple[Evidence, ...] = ()
        heard = self._heard.get(node.node_id)
        if heard is not None and node.status == NodeStatus.LOST:
            made.detect_ms, evidence = heard.verdict.silence_ms, heard.verdict.evidence
            made.verdict_id = heard.fact.envelope.event_id
            made.verdict_ms = millis_of(heard.fact.envelope.stamp)
        if made.id not in self.journal.ended:
            epoch = control.epoch(f"{node.component}/{self._region}")
            self.journal.start(made, epoch, evidence)
        return made

    def _view(self, op: Operation, control: ControlState) -> View:
        scope = f"{op.node.component}/{self._region}"
        led = control.scopes.get(scope)
        decided = (
            led is not None
            and led.decision.failed_node == op.node.node_id
            and led.decided_at > op.lost_at
        )
        opened = self._tasks.opened(scope)
        if op.node.component != "task-manager" and led is not None:
            opened = led.epoch if led.renewed_at >= 0 else 0
        return View(
            control,
            op.node,
            self._beats.fresh(),
            {scope: opened},
            self._tasks.of(op.node.node_id),
            self._tasks.loads,
            self._limits.max_concurrent,
            decided,
        )

    def _advance(self, op: Operation, control: ControlState) -> None:
        view = self._view(op, control)
        scope = f"{op.node.component}/{self._region}"
        for step in plan(view):
            match step:
                case Decide():
                    self._decide(
                        step.scope, step.primary, "node-lost", op.node.node_id, op.verdict_id
                    )
                case AwaitFence():
                    self.journal.step(op, "decide", f"{step.primary} epoch {step.epoch}", 0)
                case Migrate():
                    self._promoted(op, view, scope)
                    self._migrate(op, step)
                case Stuck():
                    self._complain(step.reason)
                case Finish():
                    self._promoted(op, view, scope)
                    self._finish(op, step)

    def _promoted(self, op: Operation, view: View, scope: str) -> None:
        """Note the decision, if it was not yet, and the promotion.

        Its time is from the verdict to the epoch that is open everywhere.
        """
        led = view.control.scopes.get(scope)
        if not view.decided or led is None:
            return
        self.journal.step(op, "decide", f"{led.primary} epoch {led.epoch}", 0)
        opened = self._tasks.opened_at.get((scope, led.epoch))
        took = 0 if opened is None else max(0, millis_of(opened) - (op.verdict_ms or 2**62))
        self.journal.step(op, "promote", f"{led.primary} epoch {led.epoch}", took)

    def _migrate(self, op: Operation, step: Migrate) -> None:
        """Send the next moves; what the log then shows says whether they were carried out."""
        for task, future in list(self._moves.items()):
            if future.done():
                del self._moves[task]
        if self._moves:
            return
        if self._client is None:
            self._client = self._make_client()
        lease_until = self._clock.event_now() + self._limits.lease
        for task, node in step.moves:
            move = MigrateTask(from_node=step.from_node, to_node=node, lease_until=lease_until)
            self._moves[task] = self._client.send(
                task, move, command_id=migrate_id(op.id, task, node)
            )
        if op.id not in self.journal.ended:
            detail = f"{len(step.moves)} tasks from {step.moves[0][0]}"
            self.journal.step(op, "migrate", detail, 0)

    def _finish(self, op: Operation, step: Finish) -> None:
        if op.id in self.journal.ended:
            return
        moved = self._tasks.moved(op.node.node_id)
        migrated = {t for t, to, command in moved if command == migrate_id(op.id, t, to)}
        last = self._beats.last.get(op.node.node_id)
        self.journal.end(op, step, len(migrated), last.beat.current_tasks if last else 0)

    def _complain(self, reason: str) -> None:
        if time.monotonic() - self._stuck.get(reason, -1e9) > 5:
            self._stuck[reason] = time.monotonic()
            self._say(f"stuck: {reason}")

    # -- 3. operations whose node is back ---------------------------------------------------------

    def _overtaken(self, control: ControlState) -> None:
        for op_id, started in list(self.journal.open.items()):
            node = control.nodes.get(started.subject)
            if node is None or node.region != self._region or node.status in GONE:
                continue
            op = self._operations.setdefault(op_id, Operation(node, op_id))
            op.node = node
            self._advance(op, control)


def _handled(node: NodeState) -> bool:
    """Coordinators, detectors and projectors lead no scope that is handled here."""
    return node.component in COMPONENT_OF and node.component != "coordinator"
