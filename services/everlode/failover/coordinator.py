"""The coordinator of a region: barriers, probes, decisions, and the handling of lost nodes.

A region has one leading coordinator, which holds the scope coordinator/<region>; others stand by
and take the scope when its renewals have stopped. One turn while leading, in this order:
  1. read heartbeats, task facts, verdicts and the recovery stream;
  2. probe who was suspected (its answer goes to the node's heartbeat partition);
  3. give scopes without a primary one (bootstrap);
  4. note lost nodes in the control log;
  5. for each lost node, carry out the next planned step.
Everything it knows comes from the logs, so it can be killed at any step. Shell: one thread, and one
for probes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid5

from everlode.adapters.kafka import Raw, Reader
from everlode.avro.codec import Codec
from everlode.control.fold import ControlState, NodeState
from everlode.control.scopes import COMPONENT_OF, scope_of
from everlode.errors import ContractError
from everlode.events.barriers import Barrier
from everlode.events.base import CommandAnswered, Evidence, Fact
from everlode.events.commands import MigrateTask
from everlode.events.control import NodeStatusChanged, ScopeAssigned
from everlode.events.health import NodeLost, NodeSuspected
from everlode.events.heartbeats import ProbeAnswered
from everlode.events.stamp import millis_of
from everlode.failover.operations import Journal, Operation
from everlode.failover.planner import (
    NAMESPACE,
    AwaitFence,
    Decide,
    Finish,
    Migrate,
    Stuck,
    View,
    plan,
)
from everlode.failover.probe import probe
from everlode.failover.watch import ActiveTasks, Beats
from everlode.sdk.agent import NodeAgent
from everlode.sdk.client import MiningClient
from everlode.sdk.clock import Clock
from everlode.topics.names import fact_topic
from everlode.topics.partition import partition_of

BARRIER_S = 1.0
BOOTSTRAP_WAIT_S = 1.5
DECIDE_AGAIN_S = 10.0


class Coordinator:
    """Runs turns; `say` gets one line at each thing that it decides."""

    def __init__(
        self,
        region: str,
        origin: str,
        bootstrap: str,
        partitions: int,
        agent: NodeAgent,
        client: Callable[[], MiningClient],
        clock: Clock,
        *,
        fence_after_ms: int,
        max_concurrent: int,
        lease: timedelta,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.region = region
        self.scope = scope_of("coordinator", region)
        self._partitions = partitions
        self._agent = agent
        self._make_client = client
        self._client: MiningClient | None = None
        self._clock = clock
        self._takeover_s = fence_after_ms / 1000 + 1
        self._max = max_concurrent
        self._lease = lease
        self._say = say
        self._codec = Codec()
        self.beats = Beats()
        self.tasks = ActiveTasks(partitions)
        self.journal = Journal(agent)
        self._topics = {
            c: fact_topic(origin, c) for c in ("heartbeats", "tasks", "health", "recovery")
        }
        self._reader = Reader(bootstrap, f"coordinator-{agent.identity.node_id}", wait_ms=50)
        one = ("health", "recovery")
        self._places = {
            (t, p): 0 for c, t in self._topics.items() for p in range(1 if c in one else partitions)
        }
        self._ends = self._reader.ends(self._places)
        self._reader.assign(self._places)
        self._lost: dict[str, tuple[Fact, NodeLost]] = {}
        self._heard: dict[str, float] = {}
        """Node → when its verdict was read (monotonic seconds; 0 for old news)."""
        self._operations: dict[str, Operation] = {}
        self._probes: dict[str, tuple[str, Future[tuple[str, int]]]] = {}
        """Node → (endpoint asked, its answer)."""
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="probe")
        self._moves: dict[str, Future[CommandAnswered]] = {}
        self._waited: dict[str, float] = {}
        self._decided_at: dict[tuple[str, int], float] = {}
        self._renewed = (-1, time.monotonic())
        self._barrier_at = 0.0

    # -- turns -------------------------------------------------------------------------------

    def turn(self) -> None:
        """One turn. Raises: Unavailable: a log did not answer; nothing is lost by that."""
        self._read()
        control = self._agent.control
        if self._agent.leads(self.scope) is None:
            self._stand_by(control)
            return
        self._probe_suspects()
        now = time.monotonic()
        if now >= self._barrier_at:
            self._barrier_at = now + BARRIER_S
            for partition in range(self._partitions):
                self._agent.signal(
                    Barrier(writer_id=self._agent.identity.node_id), partition=partition
                )
        self._bootstrap(control)
        self._note_lost(control)
        self._handle(self._agent.control)

    def close(self) -> None:
        """Leave."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            self._client.close()
        self._reader.close()

    def _read(self) -> None:
        for raw in self._reader.batch(2000, 0.1):
            self._one(raw)

    def _one(self, raw: Raw) -> None:
        try:
            fact = self._codec.decode_fact(raw.value)
        except ContractError:
            return  # the projection quarantines it
        behind = raw.offset < self._ends.get((raw.topic, raw.partition), 0)
        if raw.topic == self._topics["heartbeats"]:
            self.beats.saw(fact, behind)
        elif raw.topic == self._topics["tasks"]:
            self.tasks.saw(raw.partition, fact)
        elif raw.topic == self._topics["recovery"]:
            self.journal.saw(fact)
        elif isinstance(fact.data, NodeLost):
            if fact.data.actionable:
                self._lost[fact.envelope.aggregate_id] = (fact, fact.data)
                self._heard[fact.envelope.aggregate_id] = 0.0 if behind else time.monotonic()
        elif isinstance(fact.data, NodeSuspected) and not behind:
            self._suspect(fact.envelope.aggregate_id, fact.data.endpoint)

    # -- the scope of the coordinator itself ---------------------------------------------------

    def _stand_by(self, control: ControlState) -> None:
        """Take the scope when nobody has it, or its holder's renewals have stopped."""
        held = control.scopes.get(self.scope)
        mark = -1 if held is None else max(held.renewed_at, held.decided_at)
        if mark != self._renewed[0]:
            self._renewed = (mark, time.monotonic())
        quiet = time.monotonic() - self._renewed[1]
        if held is None or (held.primary == self._agent.identity.node_id and quiet > 3):
            wait = 0.0
        else:
            wait = self._takeover_s
        if held is not None and held.primary == self._agent.identity.node_id and quiet <= 3:
            return
        if quiet >= wait:
            reason = "bootstrap" if held is None else "node-lost"
            self._assign(control, self.scope, self._agent.identity.node_id, reason, None, None)

    def _assign(
        self,
        control: ControlState,
        scope: str,
        primary: str,
        reason: str,
        failed: str | None,
        verdict: str | None,
    ) -> None:
        """Append a decision, and wait until it has been read back, to count or not."""
        epoch = control.epoch(scope)
        key = (scope, epoch + 1)
        if time.monotonic() - self._decided_at.get(key, -1e9) < DECIDE_AGAIN_S:
            return
        self._decided_at[key] = time.monotonic()
        data = ScopeAssigned.model_validate(
            {
                "scope_name": scope,
                "new_epoch": epoch + 1,
                "primary_node": primary,
                "region": self.region,
                "reason": reason,
                "failed_node": failed,
                "verdict_id": verdict,
                "based_on": max(0, control.position),
                "based_on_epoch": epoch,
            }
        )
        me = self._agent.identity.node_id
        self._agent.log.append(scope, data, node_id=me, scope=self.scope)
        self._say(f"decided: {scope} epoch {epoch + 1} -> {primary} ({reason})")

    def _bootstrap(self, control: ControlState) -> None:
        beating = self.beats.fresh()
        for name in COMPONENT_OF:
            scope = f"{name}/{self.region}"
            if name == "coordinator" or scope in control.scopes:
                continue
            nodes = [n for n in control.nodes_of(self.region, name) if n.node_id in beating]
            if not nodes:
                continue
            since = self._waited.setdefault(scope, time.monotonic())
            if time.monotonic() - since >= BOOTSTRAP_WAIT_S:
                self._assign(control, scope, nodes[0].node_id, "bootstrap", None, None)

    # -- probes ------------------------------------------------------------------------------

    def _suspect(self, node: str, endpoint: str) -> None:
        if node not in self._probes and self._agent.leads(self.scope) is not None:
            self._probes[node] = (endpoint, self._pool.submit(probe, endpoint))

    def _probe_suspects(self) -> None:
        for node, (endpoint, future) in list(self._probes.items()):
            if not future.done():
                continue
            del self._probes[node]
            answer, took = future.result()
            data = ProbeAnswered.model_validate(
                {"endpoint": endpoint, "answer": answer, "elapsed_ms": took}
            )
            self._agent.signal(data, key=node, partition=partition_of(node, self._partitions))
            self._say(f"probe: {node} {answer} after {took} ms")

    # -- lost nodes --------------------------------------------------------------------------

    def _note_lost(self, control: ControlState) -> None:
        for node_id, (fact, _) in list(self._lost.items()):
            node = control.nodes.get(node_id)
            if node is None or node.status in ("lost", "fenced") or self._beats_again(node):
                if node is None or node.status not in ("lost", "fenced"):
                    del self._lost[node_id]
                continue
            key = (f"lost/{node_id}", node.joined_at)
            if time.monotonic() - self._decided_at.get(key, -1e9) < DECIDE_AGAIN_S:
                continue
            self._decided_at[key] = time.monotonic()
            data = NodeStatusChanged.model_validate(
                {
                    "node_id": node_id,
                    "region": self.region,
                    "from_status": node.status,
                    "to_status": "lost",
                    "reason": fact.envelope.event_id,
                }
            )
            me = self._agent.identity.node_id
            at = self._agent.log.append(node_id, data, node_id=me, scope=self.scope)
            self._say(f"lost: {node_id}, noted at {at}")

    def _beats_again(self, node: NodeState) -> bool:
        """True when the verdict is overtaken."""
        beat = self.beats.last.get(node.node_id)
        return beat is not None and beat[1] > self._heard[node.node_id]

    def _handle(self, control: ControlState) -> None:
        for node in list(control.nodes.values()):
            if node.region != self.region or node.status != "lost":
                continue
            if node.component not in COMPONENT_OF or node.component == "coordinator":
                continue
            operation = self._operation(node)
            if operation.ended or operation.id in self.journal.ended:
                continue
            self._advance(operation, control)

    def _operation(self, node: NodeState) -> Operation:
        key = f"{node.node_id}/{node.joined_at}"
        found = self._operations.get(key)
        if found is None:
            found = self._operations[key] = Operation(node)
            found.estimate_ms = self.journal.estimate(node.component)
            evidence: tuple[Evidence, ...] = ()
            if node.node_id in self._lost:
                verdict = self._lost[node.node_id][1]
                found.detect_ms, evidence = verdict.silence_ms, verdict.evidence
            self.journal.start(found, evidence)
        return found

    def _advance(self, op: Operation, control: ControlState) -> None:
        scope = f"{op.node.component}/{self.region}"
        led = control.scopes.get(scope)
        op.decided = led is not None and led.decision.failed_node == op.node.node_id
        opened = {scope: self.tasks.opened(scope)}
        if op.node.component != "task-manager" and led is not None:
            opened = {scope: led.epoch if led.renewed_at >= 0 else 0}
        view = View(
            control, op.node, self.beats.fresh(), opened, self.tasks.of(op.node.node_id),
            self.tasks.loads, self._max, op.decided,
        )  # fmt: skip
        for step in plan(view):
            match step:
                case Decide():
                    verdict = self._lost.get(op.node.node_id)
                    self._assign(
                        control, step.scope, step.primary, "node-lost", op.node.node_id,
                        verdict[0].envelope.event_id if verdict else None,
                    )  # fmt: skip
                case AwaitFence():
                    self.journal.step(op, "decide", f"{step.primary} epoch {step.epoch}", 0)
                case Migrate():
                    self._promoted(op, scope)
                    self._migrate(op, step)
                case Stuck():
                    self._complain(step.reason)
                case Finish():
                    self._promoted(op, scope)
                    self._finish(op, step)

    def _promoted(self, op: Operation, scope: str) -> None:
        """Note how long the promotion took: from the verdict to the epoch open everywhere."""
        led = self._agent.control.scopes.get(scope)
        verdict = self._lost.get(op.node.node_id)
        if not op.decided or led is None:
            return
        opened = self.tasks.opened_at.get((scope, led.epoch))
        took = 0
        if opened is not None and verdict is not None:
            took = max(0, millis_of(opened) - millis_of(verdict[0].envelope.stamp))
        self.journal.step(op, "promote", f"{led.primary} epoch {led.epoch}", took)

    def _migrate(self, op: Operation, step: Migrate) -> None:
        if self._client is None:
            self._client = self._make_client()
        for task, future in list(self._moves.items()):
            if future.done():
                del self._moves[task]
                if future.exception() is None and future.result().outcome == "done":
                    op.migrated.add(task)
        if self._moves:
            return
        began = time.monotonic()
        for task, node in step.moves:
            command = MigrateTask(
                from_node=step.from_node,
                to_node=node,
                lease_until=self._clock.event_now() + self._lease,
            )
            name = f"{op.id}/migrate/{task}/{node}"
            self._moves[task] = self._client.send(
                task, command, command_id=str(uuid5(NAMESPACE, name))
            )
        took = round((time.monotonic() - began) * 1000)
        self.journal.step(op, "migrate", f"{len(step.moves)} tasks from {step.moves[0][0]}", took)

    def _finish(self, op: Operation, step: Finish) -> None:
        for task, future in list(self._moves.items()):
            if future.done() and future.exception() is None:
                del self._moves[task]
                if future.result().outcome in ("done", "repeated"):
                    op.migrated.add(task)
        beat = self.beats.last.get(op.node.node_id)
        affected = beat[0].current_tasks if beat else 0
        self.journal.end(op, step.action, step.new_primary, affected)
        self._say(f"ended: {op.node.node_id} {step.action} {step.new_primary or ''}")

    def _complain(self, reason: str) -> None:
        last = self._waited.get(f"stuck/{reason}", -1e9)
        if time.monotonic() - last > 5:
            self._waited[f"stuck/{reason}"] = time.monotonic()
            self._say(f"stuck: {reason}")
