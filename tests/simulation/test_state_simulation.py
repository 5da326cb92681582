"""A whole region in one process, without Kafka: four primaries that crash at any moment.

Clients, miners, reviewers and experts act on the facts they see; commands are repeated; batches
are lost before their commit, nodes after it; the payout sink times out after paying. At the end
everything lawful has happened once. Seeded.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from everlode.control.fold import ControlState
from everlode.errors import Unavailable
from everlode.events import commands as c
from everlode.events import rewards as re
from everlode.events import tasks as te
from everlode.events import validations as ve
from everlode.events.base import Command, CommandHeader, Envelope, Event, Fact
from everlode.events.ids import own_id
from everlode.events.miners import MinerRegistered
from everlode.events.stamp import HybridClock
from everlode.events.states import FraudState, MinerState, RewardState, TaskState, ValidationState
from everlode.log.facts import LoggedFact
from everlode.miners.component import MinerComponent
from everlode.primary.batch import Batch, Source
from everlode.primary.component import Component, Owed
from everlode.primary.inputs import Tick
from everlode.primary.pending import Answer
from everlode.rewards.component import RewardComponent
from everlode.rewards.sink import Fence
from everlode.sdk.reference import solution_hash
from everlode.state.auditing import vote_wanted
from everlode.state.expected import is_expected
from everlode.state.formulas import reward_of
from everlode.state.reward import reward_id
from everlode.state.validation import validation_id
from everlode.state.view import Where
from everlode.tasks.component import TaskComponent
from everlode.topics import Topology
from everlode.validations.component import ValidationComponent
from tests.support.facts.state_commands import ANYBODY, DEADLINE, NOW, register, solution, submit

LONG = bool(os.environ.get("LONG_TESTS"))
OPERATOR = "op"
TOPOLOGY = Topology(partitions=1, operators=(OPERATOR,))
HOMES = ("eu", "us")
MINERS = {home: tuple(f"{home}/m{n}" for n in range(12)) for home in HOMES}
LIARS = frozenset(miner for miners in MINERS.values() for miner in miners[:5])
"""They hand in wrong solutions or copies, and as reviewers they let each other's pass."""
COMPONENTS = ("tasks", "miners", "validations", "rewards")


class Log:
    """The one partition of a component, and what a batch needs of it."""

    def __init__(self, home: str, component: str) -> None:
        self.origin, self.topic, self.partitions = f"{home}.1", f"{home}.1.{component}", 1
        self.facts: list[Fact] = []
        self.clock = HybridClock()

    @property
    def seqs(self) -> list[int]:
        return [len(self.facts)]

    def partition_of(self, _: str) -> int:
        return 0


class Sink:
    """Pays a key once; sometimes the answer is lost."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.paid: dict[str, int] = {}

    def pay(self, payout_key: str, miner_id: str, amount_micro: int, fence: Fence) -> str:
        assert self.paid.setdefault(payout_key, amount_micro) == amount_micro
        if self.random.random() < 0.2:
            raise Unavailable("no answer")
        return f"ref-{payout_key}"

    def find(self, payout_key: str, fence: Fence) -> str | None:
        return f"ref-{payout_key}" if payout_key in self.paid else None


class Region:
    """Logs and command topics, and the nodes that may forget everything else."""

    def __init__(self, seed: int, crashes: float, home: str = "eu") -> None:
        self.home, self.miners = home, MINERS[home]
        self.others: list[Region] = []
        """Regions whose facts are mirrored here."""
        self.random = Random(seed)
        self.crashes = crashes
        self.logs: dict[str, Any] = {name: Log(home, name) for name in COMPONENTS}
        self.commands: dict[str, list[tuple[CommandHeader, Command]]] = {
            name: [] for name in COMPONENTS
        }
        self.tasks: dict[str, c.SubmitTask] = {}
        self.positions: Counter[tuple[str, str]] = Counter()
        self.sink = Sink(self.random)
        self.now = NOW
        self.turns = 0
        """How often a primary had its turn: a clock of its own for what is tried again."""
        self.acted: Counter[str] = Counter()
        self.owed: dict[str, Owed] = {}
        """Assignments that are not in the log yet."""
        self.seen: Counter[str] = Counter()
        self.epochs: Counter[str] = Counter()
        self.answers: list[Answer] = []
        self.good: dict[str, bool] = {}
        """Validation → whether its solution is right."""
        self.nodes: dict[str, Component] = {name: self.start(name) for name in COMPONENTS}

    def start(self, name: str) -> Component:
        """A node that knows nothing but its log."""
        self.epochs[name] += 1
        self.seen[name] = 0
        node: Component
        if name == "tasks":
            node = TaskComponent(self.home, TOPOLOGY, "n1", timedelta(hours=1), 9)
        elif name == "miners":
            node = MinerComponent(self.home, TOPOLOGY)
        elif name == "validations":
            node = ValidationComponent(self.home, TOPOLOGY)
        else:
            node = RewardComponent(self.home, TOPOLOGY, self.sink, lambda: float(self.turns))
        node.validators = ANYBODY
        for offset, fact in enumerate(self.logs[name].facts):
            node.folds.fold(LoggedFact(fact, 0, offset))
        return node

    def send(self, key: str, command: Command, by: str = "c") -> None:
        """A command, now and then twice."""
        self.now += timedelta(seconds=1)
        header = CommandHeader(
            command_id=f"command-{self.now.timestamp():.0f}",
            aggregate_id=key,
            issued_by=by,
            reply_to="",
            issued_at=self.now,
            correlation_id="c",
        )
        queue = self.commands[type(command).component]
        queue.append((header, command))
        if self.random.random() < 0.2:
            at = self.random.randrange(self.positions[header.issued_by, ""], len(queue) + 1)
            queue.insert(max(at, len(queue) - 3), (header, command))

    def queues(self, name: str) -> dict[str, list[Any]]:
        """Topic → all records in it, of all that a component's primary carries out."""
        there = {log.topic: log for one in (self, *self.others) for log in one.logs.values()}
        causes = [topic for topic in self.nodes[name].cause_topics() if topic in there]
        return {"commands": self.commands[name], **{t: there[t].facts for t in causes}}

    def unread(self) -> bool:
        """True while a primary has something to carry out."""
        return any(
            self.positions[name, topic] < len(queue)
            for name in COMPONENTS
            for topic, queue in self.queues(name).items()
        )

    def inputs(self, name: str) -> Iterator[tuple[str, Any]]:
        """A few records, in order in each topic, the topics in any order. Not committed yet."""
        positions, queues = Counter(self.positions), self.queues(name)
        for _ in range(self.random.randrange(1, 8)):
            topic = self.random.choice([*queues])
            queue = queues[topic]
            if positions[name, topic] < len(queue):
                yield topic, queue[positions[name, topic]]
                positions[name, topic] += 1
        self.read = positions

    def look(self, name: str) -> None:
        """What a node only looks at, it has seen to the end."""
        node = self.nodes[name]
        for other in node.sees:
            for fact in self.logs[other].facts[self.seen[name] :]:
                node.observe(fact)
            self.seen[name] = len(self.logs[other].facts)

    def due(self, name: str, node: Component) -> Iterable[Owed]:
        """What a primary owes by time; this world has a balancer of its own."""
        if name == "rewards":
            return node.due(self.now, ControlState())
        if name != "tasks":
            return ()
        done = node.folds.answers
        self.owed = {n: o for n, o in self.owed.items() if (o.aggregate_id, n) not in done}
        return list(self.owed.values())

    def turn(self, name: str) -> None:
        """One batch of one primary, unless it crashes."""
        node, log = self.nodes[name], self.logs[name]
        self.turns += 1
        self.look(name)
        epochs = {self.home: self.epochs[name]}
        batch = Batch(node, log, epochs, "n", Tick(self.now, 1_000, 0.0))
        node.peek = batch.peek
        try:
            for topic, item in self.inputs(name):
                if topic == "commands":
                    header, command = item
                    first = node.before(header.aggregate_id, command, header.issued_at)
                    batch.command(header, command, Source("commands", 0, 0), first)
                else:
                    for owed in node.react(item, Where(topic, 0, 0)):
                        batch.owed(owed, None, item.envelope)
            for owed in self.due(name, node):
                batch.owed(owed, None)
        except Unavailable:
            self.nodes[name] = self.start(name)
            return
        if self.random.random() < self.crashes:  # before the commit: as if it had never been
            self.nodes[name] = self.start(name)
            return
        for owed, error in batch.dropped:
            assert is_expected(name, owed.rule, error.code), (owed, error.code)
        before = len(log.facts)
        log.facts.extend(Fact(envelope, data) for _, envelope, data in batch.facts)
        self.positions = self.read
        self.answers += batch.answers
        if self.random.random() < self.crashes:  # after it: the log knows all
            self.nodes[name] = self.start(name)
        else:
            batch.committed(list(range(before, len(log.facts))))

    # -- those outside -----------------------------------------------------------------------

    def act(self) -> bool:
        """Everybody outside does what the new facts ask of them. True when something was new."""
        busy = False
        for name in COMPONENTS:
            facts = self.logs[name].facts
            for fact in facts[self.acted[name] :]:
                busy = True
                self.answer(fact.envelope.aggregate_id, fact.data, fact)
            self.acted[name] = len(facts)
        return busy

    def answer(self, key: str, data: Event, fact: Fact) -> None:
        waits = isinstance(data, te.TaskSubmitted) or (
            isinstance(data, te.TaskAttemptFailed | te.TaskSolutionRejected) and not data.final
        )
        if waits:
            miner = self.random.choice(self.miners)
            given = c.AssignTask(miner_id=miner, manager_node="n1", lease_until=DEADLINE)
            name = own_id("assign", key, str(fact.envelope.version))
            self.owed[name] = Owed(name, key, given, self.now, rule="assign")
        elif isinstance(data, te.TaskAssigned):
            self.work(key, data)
        elif isinstance(data, MinerRegistered):
            self.send(key, c.DepositStake(amount_micro=50_000_000))
        wanted = vote_wanted(fact)
        if wanted is not None:
            voters = wanted.reviewers or (f"node-{wanted.kind}",)
            for voter in voters:
                self.send(wanted.validation_id, self.vote(wanted.validation_id, voter, wanted.kind))

    def is_honest(self, miner_id: str) -> bool:
        """Whether a miner does this piece of work."""
        return miner_id not in LIARS

    def work(self, key: str, data: te.TaskAssigned) -> None:
        if self.random.random() < 0.15:
            self.send(
                key,
                c.ReportFailure(
                    miner_id=data.miner_id, attempt=data.attempt, reason="oom", permanent=False
                ),
            )
            return
        good = self.good[validation_id(key, data.attempt)] = self.is_honest(data.miner_id)
        found = solution_hash(key, data.miner_id, good)
        if good and self.tasks[key].planted_sha256 is not None:
            found = self.tasks[key].planted_sha256 or found
        if not good and self.random.random() < 0.3:
            found = "c" * 64
        self.send(
            key,
            solution(data.miner_id, data.attempt, f"{key}-{data.attempt}", found),
        )

    def vote(self, about: str, voter: str, kind: str) -> c.CastVote:
        accept = self.good[about] or voter in LIARS
        score = 800_000 if voter in LIARS else 700_000 + 100_000 * (len(voter) % 2)
        return c.CastVote.model_validate(
            {
                "voter_id": voter,
                "voter_kind": kind,
                "accept": accept,
                "score_ppm": score if accept else 0,
            }
        )

    def run(self, tasks: int) -> None:
        """All tasks in, and on until nothing moves."""
        for miner in self.miners:
            self.send(miner, register(operator_id=miner, specialties=TOPOLOGY.task_types))
        for n in range(tasks):
            kind = self.random.choice(TOPOLOGY.task_types)
            self.tasks[f"eu/t{n}"] = submit(
                task_type=kind,
                payload_sha256=solution_hash(f"eu/t{n}", "input"),
                planted_sha256=solution_hash(f"eu/t{n}", "planted") if n % 5 == 0 else None,
                base_reward_micro=1_000_003,
            )
            self.send(f"eu/t{n}", self.tasks[f"eu/t{n}"])
        quiet = 0
        while quiet < 60:
            for name in self.random.sample(COMPONENTS, 4):
                self.turn(name)
            quiet = 0 if self.act() or self.unread() else quiet + 1

    def all(self, component: str) -> dict[str, Any]:
        name = "validations" if component == "fraud" else component
        return self.nodes[name].folds.states[component]


def check_logs(region: Region) -> None:
    """Each log is one story: no event twice, versions and seq without gaps, stamps rising."""
    ids: set[str] = set()
    for log in region.logs.values():
        versions: Counter[str] = Counter()
        stamp = 0
        for n, fact in enumerate(log.facts):
            envelope: Envelope = fact.envelope
            assert envelope.event_id not in ids
            ids.add(envelope.event_id)
            assert envelope.seq == n + 1
            versions[envelope.aggregate_id] += 1
            assert envelope.version == versions[envelope.aggregate_id]
            assert envelope.stamp > stamp
            stamp = envelope.stamp
    stamps = {f.envelope.event_id: f.envelope.stamp for g in region.logs.values() for f in g.facts}
    for log in region.logs.values():
        for fact in log.facts:
            if fact.envelope.causation_id is not None:
                assert stamps[fact.envelope.causation_id] < fact.envelope.stamp


def check_money(region: Region) -> None:
    """Every accepted solution is paid by the formula, once; nothing else is."""
    decided = [
        fact.data
        for fact in region.logs["validations"].facts
        if isinstance(fact.data, ve.ValidationDecided) and fact.data.accepted
    ]
    due: dict[str, int] = {}
    for data in decided:
        key = reward_id(data.task_id, data.miner_id)
        due.setdefault(key, reward_of(data.base_reward_micro, data.score_ppm))
    rewards: dict[str, RewardState] = region.all("rewards")
    given = {k: s for k, s in rewards.items() if s.status != "collected"}
    assert {k: s.amount_micro for k, s in given.items()} == due
    assert {s.status for s in given.values()} <= {"paid", "reversed"}
    assert region.sink.paid == {k: s.amount_micro for k, s in given.items() if s.status == "paid"}
    paid = Counter(
        f.envelope.aggregate_id
        for f in region.logs["rewards"].facts
        if isinstance(f.data, re.RewardPaid)
    )
    assert max(paid.values(), default=1) == 1
    assert sum(e.amount_micro for s in rewards.values() for e in s.entries) == 0
    slashed = sum(s.amount_micro for s in rewards.values() if s.status == "collected")
    miners: dict[str, MinerState] = region.all("miners")
    assert sum(s.stake_slashed_micro for s in miners.values()) == slashed
    for state in miners.values():
        assert state.locks == {}
        total = state.stake_free_micro + state.stake_slashed_micro
        assert total == 50_000_000


@pytest.mark.parametrize("crashes", [0.0, 0.15, 0.4])
@pytest.mark.parametrize("seed", range(3 if LONG else 1))
def test_region_whose_primaries_crash_does_everything_once(seed: int, crashes: float) -> None:
    region = Region(seed, crashes)
    region.run(tasks=30)
    check_logs(region)
    tasks: dict[str, TaskState] = region.all("tasks")
    assert len(tasks) == 30
    assert {s.status for s in tasks.values()} <= {"rewarded", "failed", "validated"}
    validations: dict[str, ValidationState] = region.all("validations")
    assert {s.status for s in validations.values()} == {"decided"}
    outcomes = Counter(s.accepted for s in validations.values())
    miners: dict[str, MinerState] = region.all("miners")
    assert sum(s.accepted for s in miners.values()) == outcomes[True]
    assert sum(s.rejected for s in miners.values()) == outcomes[False]
    check_money(region)
    reversed_ = {s.task_id for s in region.all("rewards").values() if s.status == "reversed"}
    assert {s.key for s in tasks.values() if s.status == "validated"} == reversed_
    cases: dict[str, FraudState] = region.all("fraud")
    assert {suspect for s in cases.values() for suspect in s.suspects} <= LIARS
    for name in COMPONENTS:  # the log alone gives the same
        assert region.start(name).folds.states == region.nodes[name].folds.states
    assert cases
    assert outcomes[True] >= 20
    if crashes:
        assert min(region.epochs[name] for name in COMPONENTS) > 3
