"""Three regions in one process, seeded: the shipped code decides, what it talks to is lists.

Shipped: the coordinator (with its inbox, handler, decisions, statuses, carrier, region watch), the
detector, roles and leases, the fold of the control log, the task component with its batch, the
policy and planner of its failover, the projection's fold. Replaced, by `adapters`: Kafka's readers
and senders, the clock, probes (sockets), the node agent's threads. All chance is the seed's.

The control log is folded once and each record decoded once, for all who read it: both are pure.
Time moves by STEP_MS; in each step everybody who lives has a turn, in an order that is drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple, cast
from uuid import UUID

import pytest

from everlode.adapters.kafka import Raw
from everlode.avro.codec import Codec, encode_fact
from everlode.avro.signals import Head, Now, SignalMaker
from everlode.control.fold import ControlState, apply
from everlode.control.roles import Roles
from everlode.control.sites import STANDS_TICKS, losses
from everlode.detection.detector import Detector
from everlode.detection.regions import Patience
from everlode.errors import Unavailable
from everlode.events import tasks as te
from everlode.events.base import Command, CommandHeader, Envelope, Event, Fact
from everlode.events.commands import AssignTask
from everlode.events.control import LeaseRenewed, NodeJoined, RegionSuspected, ScopeAssigned
from everlode.events.heartbeats import NodeBeat, ProbeAnswered
from everlode.events.ids import own_id
from everlode.events.recovery import TaskManagerRecoveryEnded
from everlode.events.stamp import HybridClock
from everlode.failover import (
    again,
    coordinator,
    heartbeats,
    inbox,
    operations,
    regions,
    statuses,
)  # fmt: skip
from everlode.failover.coordinator import Coordinator
from everlode.failover.limits import Limits
from everlode.failover.orders import Orders
from everlode.failover.policy import of_all
from everlode.failover.regions import CANARY, RegionWatch
from everlode.log.facts import LoggedFact
from everlode.primary.batch import Batch, Source
from everlode.primary.component import Owed
from everlode.primary.inputs import Tick
from everlode.projection.fold import PartitionFold
from everlode.projection.records import UNKNOWN, Incoming, Key, Known
from everlode.settings.endpoints import RegionParts
from everlode.tasks import policy as task_policy
from everlode.tasks.component import TaskComponent
from everlode.tasks.policy import TaskPolicy
from everlode.topics import Topology
from everlode.topics.names import fact_topic
from tests.support.facts.state_commands import ANYBODY, submit

STEP_MS = 250
FENCE_MS, RENEW_MS, BEAT_MS = 12_000, 2_000, 1_000
PATIENCE = Patience(5_000, 10_000)
DEAF_MS = PATIENCE.suspected_ms - 2_000
"""By stamps, which are the sender's: a suspicion is of a silence of at least so long."""
STANDS_MS = (STANDS_TICKS + 1) * 2_000 + 5_000
"""A suspicion may outlive its reason so long: until its maker takes it back, or is not heard."""
BEGAN_MS = 1_800_000_000_000
REGIONS = ("eu", "us", "ap")
TOPOLOGY = Topology(regions=REGIONS, partitions=1)
MIRRORED = (CANARY, "tasks")
NODES = 3
FAULTS = (
    "kill", "kill", "pause", "cut", "cut-both", "control", "region", "primary-kill",
    "primary-sleep", "observers-off-control",
)  # fmt: skip
LEASE = timedelta(days=1)


class SimulatedTime:
    """Stands for the module `time`."""

    ms = 0

    def monotonic(self) -> float:
        """Seconds."""
        return self.ms / 1000

    def time(self) -> float:
        """Seconds since 1970."""
        return (BEGAN_MS + self.ms) / 1000

    def time_ns(self) -> int:
        """Nanoseconds since 1970."""
        return (BEGAN_MS + self.ms) * 1_000_000


TIME = SimulatedTime()


class Kafka:
    """The broker of a region: topics of one partition."""

    def __init__(self) -> None:
        self.topics: dict[str, list[Raw]] = {}

    def topic(self, name: str) -> list[Raw]:
        """All its records."""
        return self.topics.setdefault(name, [])

    def append(self, topic: str, key: str, value: bytes) -> None:
        """One record more."""
        log = self.topic(topic)
        log.append(Raw(topic, 0, len(log), key.encode(), value, []))


class Reader:
    """See `adapters.kafka_mixed.MixedReader`."""

    def __init__(self, kafka: Kafka, *_: Any, **__: Any) -> None:
        self._kafka = kafka
        self._at: dict[tuple[str, int], int] = {}

    def assign(self, positions: Mapping[tuple[str, int], int]) -> None:
        """See Reader."""
        self._at = dict(positions)

    def ends(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """See Reader."""
        return {at: len(self._kafka.topic(at[0])) for at in partitions}

    def beginnings(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """See Reader: nothing is removed."""
        return dict.fromkeys(partitions, 0)

    def at_time(self, times: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], int]:
        """See Reader: all of it is recent."""
        return dict.fromkeys(times, 0)

    def positions(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """See Reader."""
        return {at: self._at[at] for at in partitions}

    def batch(self, most: int, _timeout_s: float) -> list[Raw]:
        """See Reader."""
        found: list[Raw] = []
        for (topic, partition), at in self._at.items():
            new = self._kafka.topic(topic)[at : at + most]
            self._at[topic, partition] = at + len(new)
            found += new
        return found

    def close(self) -> None:
        """See Reader."""


class OnceDecoded(Codec):
    """See Codec: who reads a record after others is given what they were."""

    def __init__(self) -> None:
        super().__init__()
        self._facts: dict[bytes, Fact] = {}

    def decode_fact(self, data: bytes | None) -> Fact:
        """See Codec."""
        value = data or b""
        found = self._facts.get(value)
        if found is None:
            found = self._facts[value] = super().decode_fact(data)
        return found


class Probes:
    """See `failover.probes.Probes`: the world knows who lives."""

    def __init__(self, agent: Any, _partitions: int, _report: Any) -> None:
        self._agent: Agent = agent
        self._asked: dict[tuple[str, bool], int] = {}

    def watch(self, endpoints: Mapping[str, str]) -> None:
        """See Probes."""
        for node, endpoint in endpoints.items():
            if self._agent.region.world.answer(endpoint) == "refused":
                self.ask(node, endpoint, ended=True)

    def ask(self, node: str, endpoint: str, *, ended: bool = False) -> None:
        """See Probes: at most twice a second."""
        if TIME.ms - self._asked.get((node, ended), -STEP_MS * 2) < STEP_MS * 2:
            return
        self._asked[node, ended] = TIME.ms
        answer = self._agent.region.world.answer(endpoint)
        data = ProbeAnswered.model_validate(
            {"endpoint": endpoint, "answer": answer, "elapsed_ms": 1, "connection_ended": ended}
        )
        self._agent.signal(data, key=node)

    def close(self) -> None:
        """See Probes."""


def loud(_: inbox.Inbox, __: inbox.Read, error: Exception) -> None:
    """A record that cannot be observed is what a simulation is to find."""
    raise AssertionError(error) from error


@contextmanager
def adapters(seed: int) -> Iterator[None]:
    """Nothing but what talks to the outside is replaced, and what is drawn."""
    draws, codec = Random(seed), OnceDecoded()
    empty = SimpleNamespace(entries=tuple, marks={}, next_offset=lambda _: 0)
    letters = SimpleNamespace(deliver=lambda _: None, add=lambda *_: None)
    with pytest.MonkeyPatch.context() as patch:
        for module in (again, coordinator, heartbeats, inbox, operations, statuses):
            patch.setattr(module, "time", TIME)
        for module in (inbox, regions):
            patch.setattr(module, "Codec", lambda: codec)
        patch.setattr(inbox, "MixedReader", Reader)
        patch.setattr(inbox, "Sender", lambda _: SimpleNamespace(flush=lambda _: 0))
        patch.setattr(inbox, "DeadLetters", lambda *_: letters)
        patch.setattr(inbox, "read_snapshot", lambda *_: empty)
        patch.setattr(inbox.Inbox, "leave_out", loud)
        patch.setattr(coordinator, "Probes", Probes)
        patch.setattr(task_policy, "uuid4", lambda: UUID(int=draws.getrandbits(128), version=4))
        yield


class Agent:
    """See `membership.agent.NodeAgent`: its roles and leases are the shipped ones."""

    def __init__(self, region: Region, node_id: str, component: str) -> None:
        self.region, self.log = region, self
        self.identity = SimpleNamespace(
            node_id=node_id, region=region.name, origin=region.origin, component=component
        )
        self.scope = f"{component}/{region.name}"
        self.incarnation = f"{node_id}#{region.world.count('incarnation')}"
        self.control = ControlState()
        self.control_at = lambda _offset: self.follow()
        self.may_lead = True
        self.joined = self.replaced = False
        self._roles = Roles(node_id, (self.scope,), FENCE_MS, self.incarnation)
        self._renew_at = self._beat_at = 0

    @property
    def endpoint(self) -> str:
        """Where it answers probes."""
        return self.incarnation

    def leads(self, scope: str) -> int | None:
        """See NodeAgent."""
        epoch = self._roles.leads(scope, TIME.ms)
        return epoch if epoch is not None and epoch == self.control.epoch(scope) else None

    def follow(self) -> ControlState:
        """Read the control log, as far as it can be reached."""
        if self.region.off_control:
            return self.control
        log = self.region.world.control
        for offset in range(self.control.position + 1, len(log)):
            self.control = self.region.world.after[offset]
            if self._roles.observe(log[offset].data, self.control, TIME.ms):
                self._renew_at = 0
        return self.control

    def live(self) -> bool:
        """Join, follow, beat, renew. False until it has joined, and when it was replaced."""
        self.follow()
        me = self.identity.node_id
        holder = self.control.incarnation(me)
        if not self.joined:
            if holder == self.incarnation:
                self.joined = True
                self._roles.gone(self.region.world.before.get(self.incarnation, ""), TIME.ms)
                self._roles.caught_up(TIME.ms)
            elif self.control.position >= 0 or not self.region.world.control:
                self._join(holder)
            return self.joined
        if holder != self.incarnation:
            self.replaced = True
            self._roles.end(TIME.ms)
            return False
        if TIME.ms >= self._beat_at:
            self._beat_at = TIME.ms + BEAT_MS
            self.signal(self._beat())
        if TIME.ms >= self._renew_at:
            self._renew_at = TIME.ms + RENEW_MS
            self._renew()
        return True

    def _join(self, before: str) -> None:
        self.region.world.before[self.incarnation] = before
        data = NodeJoined(
            node_id=self.identity.node_id, region=self.region.name,
            component=self.identity.component, kind="", endpoint=self.endpoint, priority=1,
            incarnation=self.incarnation, replaces=before,
        )  # fmt: skip
        self.append_async(self.identity.node_id, data, node_id=self.identity.node_id)

    def _renew(self) -> None:
        for scope, epoch in self._roles.renewable().items():
            nonce = str(self.region.world.count("nonce"))
            self._roles.sent(scope, nonce, TIME.ms)
            data = LeaseRenewed(
                scope_name=scope, node_id=self.identity.node_id, held_epoch=epoch, nonce=nonce,
                incarnation=self.incarnation,
            )  # fmt: skip
            self.append_async(scope, data, scope=scope, epoch=epoch)

    def _beat(self) -> NodeBeat:
        held = dict(self._roles.held)
        return NodeBeat.model_validate(
            {
                "component": self.identity.component, "kind": "",
                "role": "primary" if held else "secondary",
                "held_epoch": held.get(self.scope, 0), "endpoint": self.endpoint,
                "status": "healthy", "load_ppm": 0, "current_tasks": 0, "max_concurrent": 10,
                "work_done": TIME.ms, "queue_size": 0, "specialties": (), "interval_ms": BEAT_MS,
            }
        )  # fmt: skip

    # -- the control log, and signals ------------------------------------------------------------

    def append(self, key: str, data: Event, **options: Any) -> int:
        """See ControlLog: what is not acknowledged may land all the same, also later."""
        offset = self.region.world.propose(self.region, key, data, options)
        if offset is None:
            raise Unavailable("not acknowledged", code="control_unavailable")
        return offset

    def append_async(self, key: str, data: Event, **options: Any) -> None:
        """See ControlLog."""
        self.region.world.propose(self.region, key, data, options)

    def keep(self, _state: ControlState) -> None:
        """See ControlLog: nobody begins with a snapshot here."""

    def signal(
        self, data: Event, *, topic: str = "heartbeats", key: str | None = None,
        partition: int = 0, event_id: str | None = None,
    ) -> None:  # fmt: skip
        """See NodeAgent."""
        self.region.signal(topic, key or self.identity.node_id, data, event_id)


class Process:
    """Something that is killed, paused and started again."""

    paused_until = -1
    alive = True

    def __init__(self, region: Region, name: str) -> None:
        self.region, self.name = region, name

    def turn(self) -> None:
        """What it does when it has the processor."""
        raise NotImplementedError


class CoordinatorProcess(Process):
    """See `processes.coordinator`."""

    def __init__(self, region: Region, name: str) -> None:
        super().__init__(region, name)
        self.agent = Agent(region, name, "coordinator")
        self._made: tuple[Coordinator, RegionWatch] | None = None

    def _make(self) -> tuple[Coordinator, RegionWatch]:
        agent, region = cast("Any", self.agent), self.region
        clock = cast("Any", SimpleNamespace(event_now=region.world.at))
        place = RegionParts(region.name, region.origin, cast("Any", region.kafka), 1)
        orders = Orders(lambda: cast("Any", Client(region, self.name)), clock)
        policies = of_all((TaskPolicy(1, 1_000, LEASE),))
        made = Coordinator(place, agent, policies, orders, Limits(FENCE_MS, RENEW_MS))
        watched = {(fact_topic(f"{n}.1", CANARY), 0): n for n in REGIONS}
        watched |= {(fact_topic(f"{n}.1", "tasks"), 0): n for n in REGIONS if n != region.name}
        records = Reader(region.kafka)
        records.assign(records.ends(watched))
        return made, RegionWatch(agent, records, watched, PATIENCE)

    def turn(self) -> None:
        """See Process."""
        if not self.agent.live():
            return
        self._made = self._made or self._make()
        made, watch = self._made
        try:
            watch.turn()
            made.turn()
        except Unavailable:
            pass


class DetectorProcess(Process):
    """See `agents.detection`: it begins a little before its start."""

    def __init__(self, region: Region, name: str) -> None:
        super().__init__(region, name)
        topic = fact_topic(region.origin, "heartbeats")
        self._detector = Detector(topic, 0)
        self._reader = Reader(region.kafka)
        self._reader.assign({(topic, 0): max(0, len(region.kafka.topic(topic)) - 40)})

    def turn(self) -> None:
        """See Process."""
        for raw in self._reader.batch(500, 0):
            for found in self._detector.observe(raw.offset, self.region.world.decoded(raw)):
                self.region.signal("health", found.node_id, found.data, found.event_id)


class NodeProcess(Process):
    """A task manager: see `primary.runtime`. It may sleep between a decision and its commit."""

    def __init__(self, region: Region, name: str) -> None:
        super().__init__(region, name)
        self.agent = Agent(region, name, "task-manager")
        self.epoch = 0
        self.producer = -1
        self.component: TaskComponent | None = None
        self.staged: tuple[Batch, int] | None = None

    def turn(self) -> None:
        """See Process."""
        if self.staged is not None:
            self._commit(*self.staged)
            return
        epoch = self.agent.leads(self.agent.scope) if self.agent.live() else None
        if epoch is None:
            self.component = None
        elif self.component is None or self.epoch != epoch:
            self._promote(epoch)
        else:
            self._serve()

    def _promote(self, epoch: int) -> None:
        """Fence, read to the end, open the epoch."""
        region = self.region
        self.epoch, self.producer = epoch, region.next_producer()
        self.component = TaskComponent(region.name, TOPOLOGY, self.name, LEASE, 1_000)
        self.component.validators = ANYBODY
        for offset, fact in enumerate(region.facts):
            self.component.folds.fold(LoggedFact(fact, 0, offset))
        batch = self._batch()
        batch.open_epoch()
        self.staged = batch, region.read

    def _batch(self) -> Batch:
        assert self.component is not None
        tick = Tick(self.region.world.at(), BEGAN_MS + TIME.ms, TIME.ms / 1000)
        end = cast("Any", self.region)
        return Batch(self.component, end, {self.region.name: self.epoch}, self.name, tick)

    def _serve(self) -> None:
        region, batch = self.region, self._batch()
        read = min(len(region.commands), region.read + region.world.random.randrange(1, 6))
        for header, command in region.commands[region.read : read]:
            batch.command(header, command, Source("commands", 0, 0))
        if region.world.random.random() < 0.5:
            batch.barrier()
        for owed in self._assignments():
            batch.owed(owed, None)
        self.staged = batch, read
        if region.world.rules.answers_before_the_commit():
            region.read = read
            for answer in batch.answers:
                region.answered(answer)

    def _assignments(self) -> Iterator[Owed]:
        """The balancer's part: any node of the region manages."""
        assert self.component is not None
        waiting = [s for s in self.component.folds.states["tasks"].values()
                   if s.status == "submitted"]  # fmt: skip
        for state in waiting[:3]:
            manager = f"{self.region.name}-tm-{self.region.world.random.randrange(NODES)}"
            command = AssignTask(miner_id="m", manager_node=manager,
                                 lease_until=self.region.world.at() + LEASE)  # fmt: skip
            name = own_id("assign", state.key, str(state.version))
            yield Owed(name, state.key, command, self.region.world.at(), rule="assign")

    def _commit(self, batch: Batch, read: int) -> None:
        """The broker takes nothing of a producer that another one has ended."""
        self.staged, region = None, self.region
        if not region.world.rules.commits(self, region):
            region.world.counts["fenced at the broker"] += 1
            self.component = None
            return
        before = len(region.facts)
        region.commit([Fact(envelope, data) for _, envelope, data in batch.facts], read)
        batch.committed(list(range(before, len(region.facts))))
        for answer in batch.answers:
            region.answered(answer)


class Client:
    """See `sdk.MiningClient`: an answer that does not come is given up."""

    def __init__(self, region: Region, name: str) -> None:
        self._region, self._name = region, name

    def send(self, key: str, command: Command, *, command_id: str) -> Future[Any]:
        """See MiningClient."""
        done: Future[Any] = Future()
        self._region.waiting.append((command_id, TIME.ms + 10_000, done))
        self._region.send(key, command, command_id, self._name)
        return done

    def close(self) -> None:
        """See MiningClient."""


class Projector(Process):
    """Folds all regions' facts, from its own region's Kafka; a crash reads some of them again."""

    def __init__(self, region: Region, name: str) -> None:
        super().__init__(region, name)
        self.fold = PartitionFold(0, {}, {}, [], REGIONS)
        self.known: dict[Key, Known] = {}
        self.control = ControlState()
        self._read: Counter[str] = Counter()
        self.problems: Counter[str] = Counter()

    def turn(self) -> None:
        """See Process."""
        world, region = self.region.world, self.region
        if not region.off_control:
            self.control = world.folded(self.control)
        origins = [f"{name}.1" for name in REGIONS]
        world.random.shuffle(origins)
        batch: list[Incoming] = []
        for origin in origins:
            topic = fact_topic(origin, "tasks")
            at = self._read[topic]
            if at and world.random.random() < 0.05:  # as after a crash: some come again
                at = max(0, at - world.random.randrange(1, 8))
            new = region.kafka.topic(topic)[at : at + world.random.randrange(1, 30)]
            self._read[topic] = max(self._read[topic], at + len(new))
            batch += [Incoming(topic, r.offset, world.decoded(r), r.value or b"") for r in new]
        epochs = {name: scope.epoch for name, scope in self.control.scopes.items()}
        for key in PartitionFold.keys(batch):
            self.known.setdefault(key, UNKNOWN)
        out = self.fold.fold(batch, self.known, epochs)
        self.known |= out.changed
        self.problems.update(p.kind for p in out.problems)


class Region:
    """One region's broker, processes, clients. It is its fact log's end too, see `LogEnd`."""

    partitions = 1

    def __init__(self, world: Network, name: str) -> None:
        self.world, self.name, self.origin = world, name, f"{name}.1"
        self.kafka = Kafka()
        self.topic, self.clock = fact_topic(self.origin, "tasks"), HybridClock()
        self.facts: list[Fact] = []
        self.commands: list[tuple[CommandHeader, Command]] = []
        self.read = 0
        """Commands that are carried out: it moves with the facts."""
        self.producer = 0
        self.off_control = False
        self.waiting: list[tuple[str, int, Future[Any]]] = []
        self.acknowledged: dict[str, str] = {}
        """Command → task, of clients' commands that were answered as done."""
        self.sent: dict[str, str] = {}
        self._maker = SignalMaker(self.origin)
        self.mirrored: Counter[tuple[str, str]] = Counter()
        self.processes: dict[str, Process] = {}
        for name_, make in self.kinds().items():
            self.processes[name_] = make(self, name_)

    def kinds(self) -> dict[str, Callable[[Region, str], Process]]:
        """Name → what it is."""
        nodes = {f"{self.name}-tm-{n}": NodeProcess for n in range(NODES)}
        return {
            f"{self.name}-co-1": CoordinatorProcess, f"{self.name}-co-2": CoordinatorProcess,
            f"{self.name}-det": DetectorProcess, f"{self.name}-proj": Projector, **nodes,
        }  # fmt: skip

    @property
    def seqs(self) -> list[int]:
        """See LogEnd."""
        return [len(self.facts)]

    def partition_of(self, _key: str) -> int:
        """See LogEnd."""
        return 0

    def next_producer(self) -> int:
        """`InitProducerId`: who had it before writes no more."""
        self.producer += 1
        return self.producer

    def commit(self, facts: list[Fact], read: int) -> None:
        """A transaction: facts, and up to where commands are carried out."""
        for fact in facts:
            self.facts.append(fact)
            self.kafka.append(self.topic, fact.envelope.aggregate_id, encode_fact(*fact))
        self.read = max(self.read, read)

    def signal(self, topic: str, key: str, data: Event, event_id: str | None) -> None:
        """A record of one of its signal topics."""
        now = Now(BEGAN_MS + TIME.ms, self.world.at())
        made = self._maker.make(Head(key, event_id or "s"), data, now)
        self.kafka.append(fact_topic(self.origin, topic), key, made.value)

    def send(self, key: str, command: Command, command_id: str, by: str) -> None:
        """A command; now and then it comes twice."""
        header = CommandHeader(
            command_id=command_id, aggregate_id=key, issued_by=by, reply_to="",
            issued_at=self.world.at(), correlation_id="c",
        )  # fmt: skip
        for _ in range(2 if self.world.random.random() < 0.2 else 1):
            self.commands.append((header, command))

    def answered(self, answer: Any) -> None:
        """The answer to a command, after its commit."""
        command = answer.to.command_id
        for _, _, done in [w for w in self.waiting if w[0] == command]:
            if not done.done():
                done.set_result(answer)
        self.waiting = [w for w in self.waiting if w[0] != command]
        if command in self.sent and answer.outcome in ("done", "repeated"):
            self.acknowledged[command] = self.sent[command]


class Rules:
    """What a planted bug breaks."""

    def commits(self, node: NodeProcess, region: Region) -> bool:
        """Whether the broker takes a transaction."""
        return node.producer == region.producer

    def copies(self, _raw: Raw) -> bool:
        """Whether a mirror copies a record."""
        return True

    def answers_before_the_commit(self) -> bool:
        """Whether a primary does, and notes how far it has read."""
        return False


class Found(NamedTuple):
    """A law that was broken, and when."""

    law: str
    detail: str


class Network:
    """All regions: `run` lets things happen, `heal` ends that, `check` says what broke."""

    def __init__(self, seed: int, rules: Rules | None = None) -> None:
        self.random, self.rules = Random(seed), rules or Rules()
        self.counts: Counter[str] = Counter()
        """What really happened."""
        self.control: list[Fact] = []
        self.after: list[ControlState] = []
        """After each record of it: the fold is pure, so it is done once for all who read."""
        self.late: list[tuple[int, Fact]] = []
        self.before: dict[str, str] = {}
        self.cut: dict[tuple[str, str], int] = {}
        self._counters: Counter[str] = Counter()
        self._codec = OnceDecoded()
        self._folded = ControlState()
        self._deaf_at: dict[tuple[str, str], int] = {}
        self.broken: list[Found] = []
        self.healing = False
        TIME.ms = 0
        self.regions = {name: Region(self, name) for name in REGIONS}

    def count(self, what: str) -> int:
        """The next number."""
        self._counters[what] += 1
        return self._counters[what]

    def at(self) -> datetime:
        """Event time."""
        return datetime.fromtimestamp((BEGAN_MS + TIME.ms) / 1000, UTC)

    def decoded(self, raw: Raw) -> Fact:
        """A fact, decoded once for all readers."""
        return self._codec.decode_fact(raw.value)

    # -- the control log ---------------------------------------------------------------------

    def propose(self, region: Region, key: str, data: Event, options: dict[str, Any]) -> int | None:
        """An append; None: it is not known whether it lands."""
        envelope = Envelope(
            event_id=f"c{self.count('control')}", aggregate_id=key, version=0, origin="control",
            scope=options.get("scope", ""), epoch=options.get("epoch", 0), seq=0, stamp=1,
            occurred_at=self.at(), correlation_id="c",
        )  # fmt: skip
        fact = Fact(envelope, data)
        if region.off_control or (self.random.random() < 0.02 and not self.healing):
            if self.random.random() < 0.5:
                self.late.append((TIME.ms + self.random.randrange(1_000, 30_000), fact))
                self.counts["appends that landed late"] += 1
            return None
        return self._land(fact)

    def _land(self, fact: Fact) -> int:
        before = self._folded
        self.control.append(fact)
        self._folded = apply(before, len(self.control) - 1, fact)
        self.after.append(self._folded)
        if isinstance(fact.data, ScopeAssigned):
            counts = self._folded.epoch(fact.data.scope_name) > before.epoch(fact.data.scope_name)
            self.counts["decisions" if counts else "void decisions"] += 1
            if counts and fact.data.scope_name.startswith("task-manager"):
                self.counts["failovers"] += fact.data.reason != "bootstrap"
        for region in losses(self._folded).keys() - losses(before).keys():
            self.counts["regions lost"] += 1
            self._lost(region)
        for key in self._folded.suspicions.keys() if isinstance(fact.data, RegionSuspected) else ():
            old = before.suspicions.get(key)
            now = self._folded.suspicions[key]
            self.counts["suspicions"] += not now.over and (old is None or old.over)
        return len(self.control) - 1

    def folded(self, _state: ControlState) -> ControlState:
        """The whole of it."""
        return self._folded

    # -- what happens ------------------------------------------------------------------------

    def answer(self, endpoint: str) -> str:
        """What a probe of a process finds."""
        for region in self.regions.values():
            for process in region.processes.values():
                agent = getattr(process, "agent", None)
                if agent is not None and agent.endpoint == endpoint and process.alive:
                    return "no-answer" if process.paused_until > TIME.ms else "alive"
        return "refused"

    def step(self, chaos: float) -> None:
        """A quarter of a second."""
        TIME.ms += STEP_MS
        if self.random.random() < chaos:
            self._fault()
        if chaos and self.random.random() < 0.25:
            self._submit()
        for at, fact in [one for one in self.late if one[0] <= TIME.ms]:
            self.late.remove((at, fact))
            self._land(fact)
        self._mirror()
        self._listen()
        turns = [p for r in self.regions.values() for p in r.processes.values() if p.alive]
        self.random.shuffle(turns)
        for process in turns:
            if process.paused_until <= TIME.ms:
                process.turn()
                self._ended(process)
        for region in self.regions.values():
            for _, until, done in region.waiting:
                if until <= TIME.ms and not done.done():
                    done.cancel()

    def _ended(self, process: Process) -> None:
        agent = getattr(process, "agent", None)
        if agent is not None and agent.replaced:
            process.alive = False

    def _submit(self) -> None:
        region = self.regions[self.random.choice(REGIONS)]
        number = self.count("task")
        key, command = f"{region.name}/t{number}", f"submit-{number}"
        region.sent[command] = key
        region.send(key, submit(payload_uri=f"u{number}", deadline_at=self.at() + LEASE),
                    command, "c")  # fmt: skip

    def _mirror(self) -> None:
        for source in self.regions.values():
            for target in self.regions.values():
                if source is target or self.cut.get((source.name, target.name), -1) > TIME.ms:
                    continue
                for name in self.random.sample(MIRRORED, len(MIRRORED)):
                    self._copy(source, target, fact_topic(source.origin, name))

    def _copy(self, source: Region, target: Region, topic: str) -> None:
        at = target.mirrored[source.name, topic]
        new = source.kafka.topic(topic)[at : at + self.random.randrange(1, 40)]
        target.mirrored[source.name, topic] = at + len(new)
        log = target.kafka.topic(topic)
        for raw in new:
            if self.rules.copies(raw):
                log.append(raw._replace(offset=len(log)))

    def _fault(self) -> None:
        region = self.regions[self.random.choice(REGIONS)]
        for_ms = self.random.randrange(2_000, 25_000)
        what = self.random.choice(FAULTS)
        if what.startswith("cut"):
            other = self.random.choice(REGIONS)
            self._cut(region.name, other, for_ms)
            if what == "cut-both":
                self._cut(other, region.name, for_ms)
        elif what.endswith("control"):
            self._control_lost(region, what)
        else:
            self._to_processes(region, what, for_ms)
        for name, process in list(region.processes.items()):
            if not process.alive and self.random.random() < 0.4:
                self._start(region, name)

    def _control_lost(self, region: Region, what: str) -> None:
        """A region is cut off from the control log, or is no more; or all who suspect are."""
        words = self._folded.suspicions.values()
        observers = sorted({word.observer for word in words if not word.over})
        region.off_control = not region.off_control and what == "control"
        for name in observers if what == "observers-off-control" else ():
            self.regions[name].off_control = True
        self.counts["cut off from the control log"] += region.off_control

    def _to_processes(self, region: Region, what: str, for_ms: int) -> None:
        names = sorted(region.processes)
        match what:
            case "kill":
                self._kill(region, self.random.choice(names))
            case "pause":
                region.processes[self.random.choice(names)].paused_until = TIME.ms + for_ms
                self.counts["pauses"] += 1
            case "region":
                for name in names:
                    self._kill(region, name, again=False)
                self.counts["regions killed"] += 1
            case _:
                self._primary(region, what, for_ms)

    def _primary(self, region: Region, what: str, for_ms: int) -> None:
        """One that has decided, and not committed."""
        for name, process in sorted(region.processes.items()):
            if isinstance(process, NodeProcess) and process.alive and process.staged is not None:
                if what == "primary-kill":
                    self._kill(region, name, again=False)
                    self.counts["primaries killed before a commit"] += 1
                else:
                    process.paused_until = TIME.ms + for_ms
                    self.counts["primaries that slept before a commit"] += 1

    def _cut(self, source: str, target: str, for_ms: int) -> None:
        if source != target:
            self.cut[source, target] = TIME.ms + for_ms
            self.counts["links cut"] += 1

    def _kill(self, region: Region, name: str, *, again: bool = True) -> None:
        process = region.processes[name]
        self.counts["kills"] += process.alive
        process.alive = False
        if again and self.random.random() < 0.3:
            self._start(region, name)

    def _start(self, region: Region, name: str) -> None:
        old = region.processes[name]
        if isinstance(old, Projector):  # its rows and positions are one transaction
            old.alive = True
            return
        region.processes[name] = region.kinds()[name](region, name)
        self.counts["starts"] += 1

    def _lost(self, region: str) -> None:
        """A region may be lost only when two others have not had a record of it for long."""
        since = TIME.ms - STANDS_MS
        deaf = [name for name in REGIONS if self._deaf_at.get((region, name), -STANDS_MS) > since]
        if len(deaf) < 2:
            self.broken.append(Found("lost_though_heard", f"{region} at {TIME.ms}: {deaf}"))

    def _listen(self) -> None:
        """Note who has not had a record of whom for long."""
        for source in REGIONS:
            for target in REGIONS:
                if source != target and self._deaf_for(source, target) >= DEAF_MS:
                    self._deaf_at[source, target] = TIME.ms

    def _deaf_for(self, source: str, target: str) -> int:
        kafka = self.regions[target].kafka
        logs = [kafka.topic(fact_topic(f"{source}.1", name)) for name in MIRRORED]
        stamps = [self.decoded(log[-1]).envelope.stamp >> 16 for log in logs if log]
        return BEGAN_MS + TIME.ms - max(stamps, default=BEGAN_MS)

    # -- the end -----------------------------------------------------------------------------

    def run(self, seconds: int, chaos: float) -> None:
        """Let things happen."""
        for _ in range(seconds * 1000 // STEP_MS):
            self.step(chaos)

    def heal(self, within_s: int = 120) -> None:
        """Everything works again; nothing more is asked. Ends once all is done."""
        self.cut.clear()
        self.healing = True
        for region in self.regions.values():
            region.off_control = False
            for name, process in region.processes.items():
                process.paused_until = -1
                if not process.alive:
                    self._start(region, name)
        ends = TIME.ms + within_s * 1000
        while TIME.ms < ends and not self._done():
            self.step(0.0)
            for region in self.regions.values():
                for name, process in region.processes.items():
                    if not process.alive:
                        self._start(region, name)

    def _done(self) -> bool:
        if self.late or losses(self._folded):
            return False
        for region in self.regions.values():
            led = self._folded.scopes.get(f"task-manager/{region.name}")
            primary = region.processes.get(led.primary) if led else None
            if not isinstance(primary, NodeProcess) or primary.component is None:
                return False
            if region.read < len(region.commands) or not self._level(region):
                return False
        return True

    def _level(self, region: Region) -> bool:
        projector = next(p for p in region.processes.values() if isinstance(p, Projector))
        ends = {o.topic: len(o.facts) for o in self.regions.values()}
        return all(
            (projector.fold.positions.get(topic) or SimpleNamespace(seq=0)).seq >= end
            for topic, end in ends.items()
        )

    def states(self, region: Region) -> dict[Key, Known]:
        """What its projection knows."""
        projector = next(p for p in region.processes.values() if isinstance(p, Projector))
        return {key: known for key, known in projector.known.items() if known.version}

    def check(self) -> list[Found]:
        """All laws that do not hold."""
        found = list(self.broken)
        if not self._done():
            found.append(Found("not_live", f"not done {TIME.ms} ms after the beginning"))
        primaries: dict[tuple[str, int], str] = {}
        for region in self.regions.values():
            found += _one_writer(region, primaries)
            found += _kept(region)
        first, *rest = (self.states(region) for region in self.regions.values())
        found += [Found("folds_differ", "") for other in rest if other != first]
        for region in self.regions.values():
            tasks = {k[1]: s for k, s in self.states(region).items() if s.state is not None}
            lost = set(region.acknowledged.values()) - tasks.keys()
            found += [Found("acknowledged_lost", ", ".join(sorted(lost)))] if lost else []
        self.counts["handled losses"] = len(
            {f.envelope.aggregate_id for r in self.regions.values()
             for f in map(self.decoded, r.kafka.topic(fact_topic(r.origin, "recovery")))
             if isinstance(f.data, TaskManagerRecoveryEnded)}
        )  # fmt: skip
        return found


def _one_writer(region: Region, primaries: dict[tuple[str, int], str]) -> list[Found]:
    """Epochs of a fact topic never fall, and each has one node, the one that was decided."""
    found, opened = [], 0
    for fact in region.facts:
        epoch = fact.envelope.epoch
        if epoch < opened:
            found.append(Found("stale_write", f"{fact.envelope.event_id} of {epoch} in {opened}"))
        opened = max(opened, epoch)
        by = getattr(fact.data, "node_id", None) or getattr(fact.data, "writer_id", None)
        if by and primaries.setdefault((region.name, epoch), by) != by:
            found.append(Found("two_primaries", f"{region.name} epoch {epoch}: {by}"))
    return found


def _kept(region: Region) -> list[Found]:
    """Every acknowledged command has one fact of its own in its home's log."""
    done = Counter(
        fact.envelope.command_id for fact in region.facts if isinstance(fact.data, te.TaskSubmitted)
    )
    found = [
        Found("acknowledged_lost", command) for command in region.acknowledged if not done[command]
    ]
    return found + [Found("done_twice", str(c)) for c, times in done.items() if times > 1]
