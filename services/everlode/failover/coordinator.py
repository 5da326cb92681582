"""The coordinator of a region: barriers, probes, decisions, and the handling of lost nodes.

A region has one leading coordinator, which holds the scope coordinator/<region>; others stand by
and take the scope when its renewals have stopped. One turn while leading, in this order:
  1. read heartbeats, task facts, verdicts and the recovery stream;
  2. probe who was suspected (its answer goes to the node's heartbeat partition);
  3. give scopes without a primary one (bootstrap);
  4. handle who is lost (see `handler`).
Everything it knows comes from the logs, so it can be killed at any step. Shell: one thread, and one
for probes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from everlode.adapters.clock import Clock
from everlode.adapters.dead_letters import DeadLetters
from everlode.adapters.kafka import Raw, Reader
from everlode.adapters.kafka_sender import Sender
from everlode.avro.codec import Codec
from everlode.control.fold import ControlState
from everlode.control.scopes import COMPONENT_OF, Scope
from everlode.errors import ContractError, Unavailable
from everlode.events.barriers import Barrier
from everlode.events.control import ScopeAssigned
from everlode.events.health import NodeLost, NodeSuspected
from everlode.events.heartbeats import ProbeAnswered
from everlode.failover.handler import Handler
from everlode.failover.limits import Limits
from everlode.failover.watch import ActiveTasks, Beats
from everlode.membership.agent import NodeAgent
from everlode.membership.probe import probe
from everlode.sdk.client import MiningClient
from everlode.settings.endpoints import RegionParts
from everlode.topics.catalogue import DEAD_LETTER_CONSUMERS
from everlode.topics.names import fact_topic
from everlode.topics.partition import partition_of
from everlode.topics.place import placed

BARRIER_S = 1.0
LETTERS_S = 1.0
BOOTSTRAP_WAIT_S = 1.5
DECIDE_AGAIN_S = 10.0
PAUSE_S = 3.0
"""A turn that comes this late: this process was stopped, and has not seen what went on."""
OWN_S = 3.0
"""Holding the scope without a lease for this long: decide for oneself anew."""
LEVEL_S = 3.0
"""Nothing more to read for this long: all has been read that can be."""
HEARTBEATS_KEPT = 20_000
FEW = 65_536
"""Bytes that beats come in: the broker is not asked for each of them."""


class Coordinator:
    """Runs turns; `say` gets one line at each thing that it decides."""

    def __init__(
        self,
        place: RegionParts,
        agent: NodeAgent,
        client: Callable[[], MiningClient],
        clock: Clock,
        limits: Limits,
        *,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.region = place.region
        self.scope = str(Scope("coordinator", place.region))
        self._partitions = place.partitions
        self._agent = agent
        self._limits = limits
        self._say = say
        self._codec = Codec()
        self.beats = Beats()
        self.tasks = ActiveTasks(place.partitions)
        self.handler = Handler(
            place.region, agent, self.beats, self.tasks, client, clock, self.decide, limits, say
        )
        self._topics = {
            c: fact_topic(place.origin, c) for c in ("heartbeats", "tasks", "health", "recovery")
        }
        name = f"coordinator-{agent.identity.node_id}"
        self._reader = Reader(place.bootstrap, name, wait_ms=200, min_bytes=FEW)
        one = DEAD_LETTER_CONSUMERS["coordinator"]
        self._alone = {self._topics[c] for c in one}
        self._sender = Sender(place.bootstrap)
        self._letters = DeadLetters(self._sender, "coordinator")
        places = [
            (t, p)
            for c, t in self._topics.items()
            for p in range(1 if c in one else place.partitions)
        ]
        self._ends = self._reader.ends(places)
        self._reader.assign({at: self._start(*at) for at in places})
        self._behind = {at for at in places if self._ends[at] > 0}
        self._probes: dict[str, tuple[str, Future[tuple[str, int]]]] = {}
        """Node → (endpoint asked, its answer)."""
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="probe")
        self._waited: dict[str, float] = {}
        self._decided_at: dict[tuple[str, int], float] = {}
        self._renewed = (-1, time.monotonic())
        self._turned = time.monotonic()
        self._read_at = time.monotonic()
        self._barrier_at = 0.0

    def _start(self, topic: str, partition: int) -> int:
        """Of heartbeats only the last ones say anything; all else is read from its beginning."""
        end = self._ends[topic, partition]
        return max(0, end - HEARTBEATS_KEPT) if topic == self._topics["heartbeats"] else 0

    # -- turns -------------------------------------------------------------------------------

    def turn(self) -> None:
        """One turn. Raises: Unavailable: a log did not answer; nothing is lost by that."""
        paused = time.monotonic() - self._turned > PAUSE_S
        self._turned = time.monotonic()
        self._read()
        if self._behind:
            return  # what was not read yet may say otherwise
        control = self._agent.control
        epoch = self._agent.leads(self.scope)
        if epoch is None:
            self._stand_by(control, paused)
            return
        self._answer_probes()
        now = time.monotonic()
        if now >= self._barrier_at:
            self._barrier_at = now + BARRIER_S
            barrier = Barrier(writer_id=self._agent.identity.node_id)
            for partition in range(self._partitions):
                self._agent.signal(barrier, partition=partition)
        self._bootstrap(control)
        self.handler.turn(epoch)

    def close(self) -> None:
        """Leave."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.handler.close()
        self._sender.flush(2)
        self._reader.close()

    def _read(self) -> None:
        batch = self._reader.batch(2000, 0.1)
        for raw in batch:
            self._one(raw)
        try:
            self._letters.settle(LETTERS_S)
        except Unavailable as error:  # a failover must not wait for them; they are sent again
            self._say(error.message)
        if not self._behind:
            return
        if batch:
            self._read_at = time.monotonic()
        at = self._reader.positions(self._behind)
        self._behind = {key for key in self._behind if at[key] < self._ends[key]}
        if time.monotonic() - self._read_at > LEVEL_S:
            self._behind = set()  # an open transaction of a dead primary ends what can be read

    def _one(self, raw: Raw) -> None:
        behind = raw.offset < self._ends.get((raw.topic, raw.partition), 0)
        try:
            fact = placed(self._codec, raw.topic, raw.key, raw.value)
        except ContractError as error:
            if not behind and raw.topic in self._alone:
                self._dead(raw, error)
            return  # of the others, the projector and the detector keep it
        if raw.topic == self._topics["heartbeats"]:
            self.beats.saw(fact, raw.partition, raw.offset, behind)
        elif raw.topic == self._topics["tasks"]:
            self.tasks.saw(raw.partition, fact)
        elif raw.topic == self._topics["recovery"]:
            self.handler.journal.saw(fact)
        elif isinstance(fact.data, NodeLost):
            self.handler.heard(fact, fact.data)
        elif isinstance(fact.data, NodeSuspected) and not behind:
            self._suspect(fact.envelope.aggregate_id, fact.data)

    def _dead(self, raw: Raw, error: ContractError) -> None:
        """Keep what nobody else would, once: the leading coordinator does."""
        self._say(f"{raw.topic}/{raw.partition}@{raw.offset} is left out: {error.message}")
        if self._agent.leads(self.scope) is None:
            return
        self._letters.add(raw, error)

    # -- decisions ---------------------------------------------------------------------------

    def _stand_by(self, control: ControlState, paused: bool) -> None:
        """Take the scope when nobody has it, or its holder's renewals have stopped.

        The silence counts from what this process has seen: after a pause of its own, anew.
        """
        held = control.scopes.get(self.scope)
        me = self._agent.identity.node_id
        mark = -1 if held is None else max(held.renewed_at, held.decided_at)
        if mark != self._renewed[0] or paused:
            self._renewed = (mark, time.monotonic())
        quiet = time.monotonic() - self._renewed[1]
        if held is None:
            self.decide(self.scope, me, "bootstrap", None, None)
        elif quiet > (OWN_S if held.primary == me else self._limits.takeover_s):
            self.decide(self.scope, me, "node-lost", None, None)

    def decide(
        self, scope: str, primary: str, reason: str, failed: str | None, verdict: str | None
    ) -> None:
        """Append a decision; whether it counts is known when it has been read back.

        At most once in 10 s for one epoch. Raises: Unavailable: it may still land.
        """
        control = self._agent.control
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
        held = control.epoch(self.scope)
        self._agent.log.append(scope, data, node_id=me, scope=self.scope, epoch=held)
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
                self.decide(scope, nodes[0].node_id, "bootstrap", None, None)

    # -- probes ------------------------------------------------------------------------------

    def _suspect(self, node: str, verdict: NodeSuspected) -> None:
        if node in self._probes or self._agent.leads(self.scope) is None:
            return
        if not self.beats.since(node, verdict.evidence):
            endpoint = verdict.endpoint
            self._probes[node] = (endpoint, self._pool.submit(probe, endpoint))

    def _answer_probes(self) -> None:
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
