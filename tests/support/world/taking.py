"""Three to five regions in one process that lose one, seeded: who takes over, and what counts.

Shipped: the fold of the control log, a coordinator's hand in a takeover with its planner, leases
and decisions, decide and evolve of tasks, bounds, the fold of projections. Replaced, by `adapters`:
what reads and writes copies, its thread, the clock. A region's topic and each copy of it is a list;
a copy grows by what its mirror brings, in order, and by what a leveller appends. Everybody reads
the control log late, at random, and appends may land late, twice, or never. The lost region goes on
writing while it believes that it leads; its mirrors come and go, also in the midst of its takeover;
the heir's own primary may fail. All chance is the seed's. A step of time is a second.

The control log is folded once, record by record, and whoever reads it is given the state up to
where he has come: the fold is pure, so everybody's own would be the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar, cast

import pytest

from everlode.adapters.kafka import Raw
from everlode.control.fences import Fences, place
from everlode.control.fold import ControlState, apply
from everlode.errors import Unavailable
from everlode.events.base import Command, Envelope, Event, Fact, Position
from everlode.events.commands import AssignTask, ReportProgress
from everlode.events.control import LeaseRenewed, RegionSuspected, ScopeAssigned
from everlode.events.states import TaskState
from everlode.failover import again, carrier, taker
from everlode.failover.decisions import Basis, Loss, decision
from everlode.failover.taker import Taker
from everlode.log import copied
from everlode.primary import freeze
from everlode.projection.bounds import Bounds, bounds
from everlode.projection.fold import Incoming, PartitionFold
from everlode.projection.records import UNKNOWN, Key, Known
from everlode.state.dispatch import decide, evolve
from everlode.state.shape import Context
from everlode.topics.names import fact_topic
from everlode.topics.place import TopicPartition
from tests.support.facts.state_commands import submit

_T = TypeVar("_T")
NAMES = ("ap", "eu", "sa", "us", "za")
LOST = "us"
SCOPE = f"task-manager/{LOST}"
AT = datetime(2027, 1, 1, tzinfo=UTC)
LEASE = timedelta(days=1)
TOPICS = {name: fact_topic(f"{name}.1", "tasks") for name in NAMES}
TASKS = 4
FENCE_AFTER_S, RENEW_S = 4, 2
SINCE_S = 12
"""For so long things go on happening after a takeover."""
MOST_S = 60
"""Within so long a lost region's scope is taken once the control log is reached by all."""


class Found(NamedTuple):
    """A law that does not hold."""

    law: str
    what: str


class View:
    """Somebody who reads the control log, as far as it has come to him."""

    def __init__(self, world: Takeover) -> None:
        self.world, self.control = world, ControlState()

    def follow(self, most: int = 1_000_000) -> ControlState:
        """Read on."""
        states = self.world.states
        end = min(len(states), self.control.position + most) - 1
        if end > self.control.position:
            self.control = states[end]
        return self.control


class Projection(View):
    """A region's projection of one partition number."""

    def __init__(self, world: Takeover, region: str) -> None:
        super().__init__(world)
        self.region = region
        self.states: dict[Key, Known] = {}
        self.fold = PartitionFold(0, {}, {}, [], world.names)
        self.fold.bound(bounds({}, 0))
        self.above: set[str] = set()
        self.kinds: Counter[str] = Counter()
        self.parked: dict[tuple[str, int], Incoming] = {}
        self.fenced_at: dict[str, int] = {}
        self.hasty = False
        """It folded something of the fenced region before it knew what counts."""
        self.asleep = False
        """It folds what comes, and reads nothing of the control log."""

    def level(self) -> bool:
        """Whether it has folded all that its region has, knowing all of the control log."""
        copies, at = self.world.copies, self.fold.positions
        return self.control is self.world.states[-1] and all(
            at[TOPICS[name]].next_offset >= len(copies[self.region, name])
            for name in self.world.names if copies[self.region, name]
        )  # fmt: skip

    def restart(self) -> None:
        """Killed and started again: what is stored is left, and the control log is read first."""
        fold, self.asleep = self.fold, False
        self.follow()
        parked = sorted(self.parked.values(), key=lambda item: (item.topic, item.offset))
        self.fold = PartitionFold(0, fold.positions, fold.opened, parked, self.world.names)
        self.fold.fenced_at = dict(self.fenced_at)

    def turn(self, most: int) -> None:
        """Fold some of each topic."""
        before = self.control
        if not self.asleep:
            self.follow(most * 8)
        batch: list[Incoming] = []
        for origin in self.world.shuffled(self.world.names):
            log = self.world.copies[self.region, origin]
            topic = TOPICS[origin]
            at = self.fold.positions[topic].next_offset if topic in self.fold.positions else 0
            if at < len(log):
                new = log[at : at + most]
                batch += [Incoming(topic, at + n, f, b"") for n, f in enumerate(new)]
        if not batch and self.control is before and not self.parked:
            return  # nothing has changed
        epochs = {scope: led.epoch for scope, led in self.control.scopes.items()}
        self.fold.bound(self.world.bounds_of(self.control.fences))
        keys = PartitionFold.keys(batch) | self.fold.releasable(epochs)
        out = self.fold.fold(batch, {k: self.states.get(k, UNKNOWN) for k in keys}, epochs)
        fence = self.control.fences.get(LOST)
        if fence is not None and any(item.topic.startswith(f"{LOST}.") for item in out.steps):
            self.hasty |= fence.accepted is None
        self.states.update(out.changed)
        self.kinds.update(problem.kind for problem in out.problems)
        self.above |= {p.event_id for p in out.problems if p.kind == "above_vector"}
        self.parked |= {(item.topic, item.offset): item for item in out.parked}
        for item in out.released:
            self.parked.pop((item.topic, item.offset), None)
        self.fenced_at |= {p.topic: p.found for p in out.problems if p.kind == "fence_known"}


class Hands:
    """Stands for a pool of threads: what is asked of it is done by the next turn."""

    def __init__(self, *_: object, **__: object) -> None:
        """See ThreadPoolExecutor."""

    def submit(self, work: Callable[[], Any]) -> Future[Any]:
        """See ThreadPoolExecutor."""
        done: Future[Any] = Future()
        done.set_result(work())
        return done


@contextmanager
def adapters(world: Takeover) -> Iterator[None]:
    """Nothing but what talks to the outside is replaced."""

    def reach(region: str, *_: object) -> tuple[Position, ...]:
        seq = max((f.envelope.seq for f in world.copies[region, LOST]), default=0)
        return (Position(topic=TOPICS[LOST], partition=0, seq=seq),)

    def fetch(own: str, donor: str, _codec: object, _at: TopicPartition, upto: int) -> int:
        copy = world.copies[own, LOST]
        seq = max((f.envelope.seq for f in copy), default=0)
        copy += [f for f in world.copies[donor, LOST] if seq < f.envelope.seq <= upto]
        world.counts["levelled"] += 1
        return upto - seq

    class Copied:
        """Reads a region's copy; a record's value is its fact."""

        def __init__(self, region: str, *_: object, **__: object) -> None:
            self.region = region

        def beginnings(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
            return dict.fromkeys(places, 0)

        def to_ends(self, starts: Iterable[TopicPartition], *_: object, **__: object) -> Any:
            for topic, partition in starts:
                log = world.copies[self.region, topic.partition(".")[0]]
                yield [
                    Raw(topic, partition, n, None, cast("Any", f), []) for n, f in enumerate(log)
                ]

        def close(self) -> None:
            pass

    def wall() -> Any:
        return SimpleNamespace(wall_ms=lambda: world.now * 1000)

    clock = SimpleNamespace(monotonic=lambda: float(world.now))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(again, "time", clock)
        patch.setattr(taker, "time", clock)
        patch.setattr(taker, "Codec", lambda: None)  # what reads copies here needs none
        patch.setattr(taker, "ThreadPoolExecutor", Hands)
        patch.setattr(taker, "reach", reach)
        patch.setattr(taker, "fetch", fetch)
        patch.setattr(taker, "end_writer", lambda *_: None)
        patch.setattr(carrier, "WallClock", wall)
        patch.setattr(freeze, "time", clock)
        patch.setattr(copied, "Codec", lambda: None)
        patch.setattr(copied, "Reader", Copied)
        patch.setattr(copied, "placed", lambda _codec, _topic, _key, fact: fact)
        yield


class Coordinator(View):
    """Of a survivor: the agent of a shipped `Taker`, and its log."""

    def __init__(self, world: Takeover, region: str) -> None:
        super().__init__(world)
        self.region, self.scope = region, f"coordinator/{region}"
        self.identity = SimpleNamespace(node_id=f"{region}-co", region=region)
        self.log = self
        self.turns = 0
        parts = SimpleNamespace(parts=world.parts)
        self.taker = Taker(cast("Any", self), cast("Any", parts), FENCE_AFTER_S * 1000)

    def leads(self, scope: str) -> int | None:
        """See NodeAgent."""
        return self.control.epoch(scope) or None

    def append(self, _key: str, data: Event, *, epoch: int, **_: object) -> int:
        """See ControlLog: what is not acknowledged may land all the same, also later."""
        if not self.world.append(self.region, data, epoch=epoch):
            raise Unavailable("not acknowledged")
        return len(self.world.log) - 1

    def turn(self) -> None:
        """Read on, say what it hears, take the steps that are due."""
        world = self.world
        control = self.follow(world.some(40))
        self.turns += 1
        if self.turns % 3 == 1:
            self._speak(control)
        if world.draw.random() < 0.02 and not world.healing:
            self._fail_over(control)
        with suppress(Unavailable):
            self.taker.turn()

    def _speak(self, control: ControlState) -> None:
        world, me = self.world, self.identity.node_id
        world.append(self.region, LeaseRenewed(
            scope_name=self.scope, node_id=me, held_epoch=1, nonce="n",
        ))  # fmt: skip
        deaf = (LOST, self.region) in world.cut
        word = RegionSuspected(
            region=LOST, observer=self.region, silence_ms=10_000 * deaf, over=not deaf,
            based_on=max(0, control.position), evidence=(),
        )  # fmt: skip
        world.append(self.region, word)

    def _fail_over(self, control: ControlState) -> None:
        """Its region's own primary is replaced; what it has taken is to follow."""
        scope = f"task-manager/{self.region}"
        if control.epoch(scope) and control.epoch(self.scope):
            other = f"{self.region}-tm{control.epoch(scope)}"
            basis = Basis(control, control.epoch(self.scope))
            self.world.append(self.region, decision(basis, self.region, scope, other, Loss(None)))


class Primary(View):
    """A region's primary of tasks: decides on what it knows, and appends."""

    def __init__(self, world: Takeover, region: str) -> None:
        super().__init__(world)
        self.region = region
        self.states: dict[str, TaskState] = {}
        self.epoch = 1 if region == LOST else 0
        self._good_until = FENCE_AFTER_S

    def turn(self) -> None:
        """Go on with a task of the lost region, while it leads its scope."""
        control = self.follow(self.world.some(40))
        led = control.scopes.get(SCOPE)
        if led is None or led.region != self.region or not led.primary or not self._leased(led):
            return
        if self.rests(led.epoch):
            return
        if led.epoch != self.epoch:
            if not self._adopt(control):
                return
            self.world.counts["failovers" if self.epoch else "takeovers"] += 1
            self.epoch = led.epoch
        key = f"{LOST}/t{self.world.draw.randrange(TASKS)}"
        state = self.states.get(key)
        context = Context(at=AT + timedelta(seconds=self.world.now), aggregate_id=key, home=LOST)
        for data in decide("tasks", self._next(state), state, context):
            version = state.version + 1 if state else 1
            self._fold(self.world.write(self.region, key, version, self.epoch, data))

    def rests(self, _epoch: int) -> bool:
        """Whether it is frozen."""
        return False

    def _leased(self, led: Any) -> bool:
        """Of the lost region, whose leases count: it leads for so long after what it has read."""
        if self.region != LOST:
            return True
        world = self.world
        if (LOST, "control") not in world.cut and world.now % RENEW_S == 0:
            world.append(LOST, LeaseRenewed(
                scope_name=SCOPE, node_id=led.primary, held_epoch=led.epoch, nonce="n",
            ), SCOPE)  # fmt: skip
        if led.renewed_at >= 0:
            self._good_until = max(self._good_until, world.sent[led.renewed_at] + FENCE_AFTER_S)
        return world.now < self._good_until

    def _next(self, state: TaskState | None) -> Command:
        """What is asked of it next."""
        if state is None:
            return submit(deadline_at=AT + LEASE)
        if state.status == "submitted":
            return AssignTask(miner_id="m", manager_node="n", lease_until=AT + LEASE)
        done = state.progress_ppm + 1
        return ReportProgress(miner_id="m", attempt=1, progress_ppm=done, lease_until=AT + LEASE)

    def _fold(self, fact: Fact) -> None:
        key = fact.envelope.aggregate_id
        state = evolve("tasks", self.states.get(key), fact, 0)
        assert isinstance(state, TaskState)
        self.states[key] = state

    def reaches(self, have: int, upto: int) -> bool:
        """Whether this region's copy holds all that counts."""
        return have >= upto

    def _adopt(self, control: ControlState) -> bool:
        """As `primary.adopted`: this region's copy, as far as it counts; False: it is too short.

        What an own predecessor has made of it since comes behind it.
        """
        upto = (control.fences[LOST].accepted or {})[place(TOPICS[LOST], 0)]
        copy = {f.envelope.seq: f for f in self.world.copies[self.region, LOST]}
        if not self.reaches(max(copy, default=0), upto):
            return False
        self.states = {}
        for seq in sorted(copy):  # some of it may be there twice
            if seq <= upto:
                self._fold(copy[seq])
        for fact in self.world.copies[self.region, self.region]:
            self._fold(fact)
        return True


class Takeover:
    """One history."""

    def __init__(self, seed: int) -> None:
        self.draw = Random(seed)
        self.names = tuple(sorted({LOST, *self.draw.sample(NAMES, self.draw.randrange(3, 6))}))
        self.names = self.names if len(self.names) > 2 else NAMES[:4]
        self.counts: Counter[str] = Counter()
        self.log: list[Fact] = []
        self.states: list[ControlState] = []
        """After each record of it."""
        self.sent: dict[int, int] = {}
        """Control offset of a renewal → when it was sent."""
        self._bounds: tuple[Fences, Bounds] | None = None
        self.late: list[tuple[int, int, Fact]] = []
        """(When it lands, when it was sent, the record)."""
        self.copies: defaultdict[tuple[str, str], list[Fact]] = defaultdict(list)
        """(Region, whose topic) → that region's copy; its own topic, where both are the same."""
        self.mirrored: Counter[tuple[str, str]] = Counter()
        self.cut: set[tuple[str, str]] = set()
        self.now = self.fenced_at = 0
        self.held_at_fence = 0
        self.alive = True
        self.seen_fence: dict[str, int] = {}
        self.healing = False
        for name in self.names:
            self._lead(f"coordinator/{name}", f"{name}-co", name)
            self._lead(f"task-manager/{name}", f"{name}-tm", name)
        self.survivors = [name for name in self.names if name != LOST]
        self.projections = {name: Projection(self, name) for name in self.survivors}
        self.coordinators: dict[str, Coordinator] = {}
        self.primaries: list[Primary] = [Primary(self, name) for name in self.names]

    def _lead(self, scope: str, node: str, region: str) -> None:
        self._land(Fact(self._envelope(scope, "", 0), ScopeAssigned(
            scope_name=scope, new_epoch=1, primary_node=node, region=region, reason="bootstrap",
            based_on=max(0, len(self.log) - 1), based_on_epoch=0,
        )))  # fmt: skip

    def _envelope(self, key: str, scope: str, epoch: int) -> Envelope:
        return Envelope(
            event_id=f"c{len(self.log)}", aggregate_id=key, version=0, origin="control",
            scope=scope, epoch=epoch, seq=0, stamp=1, occurred_at=AT, correlation_id="c",
        )  # fmt: skip

    def shuffled(self, of: Sequence[_T]) -> list[_T]:
        """Each once, in an order that is drawn."""
        return sorted(of, key=lambda _: self.draw.random())

    def some(self, below: int) -> int:
        """At least one."""
        return 1 + int(self.draw.random() * (below - 1))

    def append(self, region: str, data: Event, scope: str = "", epoch: int = 1) -> bool:
        """On the control log: at once, late, twice, or never; False: its maker is not told."""
        fact = Fact(self._envelope(region, scope or f"coordinator/{region}", epoch), data)
        luck = 1.0 if self.healing else self.draw.random()
        if luck > 0.1:
            self._land(fact, self.now)
        if luck < 0.15:
            self.late.append((self.now + self.draw.randrange(1, 40), self.now, fact))
            self.counts["appends that landed late, or twice"] += 1
        return luck > 0.1

    def _land(self, fact: Fact, sent: int = 0) -> None:
        before = self.states[-1] if self.states else ControlState()
        self.log.append(fact)
        after = apply(before, len(self.log) - 1, fact)
        self.states.append(after)
        if isinstance(fact.data, LeaseRenewed):
            self.sent[len(self.log) - 1] = sent
        if isinstance(fact.data, ScopeAssigned) and fact.data.reason != "bootstrap":
            self.counts["decisions" if after.void is before.void else "void decisions"] += 1
        if LOST in after.fences and LOST not in before.fences:
            self.fenced_at = len(self.log) - 1
            copies = [self.copies[name, LOST] for name in self.survivors]
            self.held_at_fence = max((f.envelope.seq for c in copies for f in c), default=0)
            self.counts["fences"] += 1

    @staticmethod
    def parts(region: str) -> Any:
        """See Endpoints.parts."""
        return SimpleNamespace(origin=f"{region}.1", bootstrap=region, partitions=1)

    def bounds_of(self, fences: Fences) -> Bounds:
        """As projections have them; made once for what does not change."""
        if self._bounds is None or self._bounds[0] is not fences:
            self._bounds = fences, bounds(fences, 0)
        return self._bounds[1]

    def write(self, region: str, key: str, version: int, epoch: int, data: Event) -> Fact:
        """A fact on a region's own topic."""
        log = self.copies[region, region]
        seq = len(log) + 1
        envelope = Envelope(
            event_id=f"{region}-{seq}", aggregate_id=key, version=version, origin=f"{region}.1",
            scope=SCOPE, epoch=epoch, seq=seq, stamp=sum(map(len, self.copies.values())) + 1,
            occurred_at=AT, correlation_id="c",
        )  # fmt: skip
        fact = Fact(envelope, data)
        log.append(fact)
        self.counts["facts of the lost" if region == LOST else "facts of the heir"] += 1
        return fact

    # -- time --------------------------------------------------------------------------------

    def step(self) -> None:
        """Something happens, and everybody may have a turn."""
        self.now += 1
        for due in [late for late in self.late if late[0] <= self.now]:
            self.late.remove(due)
            self._land(due[2], due[1])
        self._mirror()
        turns: list[Primary | Coordinator | Projection] = [
            *self.primaries,
            *self.coordinators.values(),
            *self.projections.values(),
        ]
        for one in self.shuffled(turns):
            if self.draw.random() < 0.3 and not self.healing:
                continue
            if isinstance(one, Projection):
                one.turn(self.some(6))
            elif not isinstance(one, Primary) or one.region != LOST or self.alive:
                one.turn()

    def _mirror(self) -> None:
        for source in self.names:
            for target in self.names:
                if source == target or (source, target) in self.cut:
                    continue
                at = self.mirrored[target, source]
                if at >= len(self.copies[source, source]):
                    continue
                new = self.copies[source, source][at : at + int(self.draw.random() * 4)]
                self.mirrored[target, source] += len(new)
                self.copies[target, source] += new  # also what a leveller has brought already

    def run(self) -> list[Found]:
        """A history: it works, us is lost, it may come back in the midst, all is mended."""
        with adapters(self):
            return self._run()

    def _run(self) -> list[Found]:
        self.coordinators = {name: Coordinator(self, name) for name in self.survivors}
        for _ in range(10):
            self.step()
        links = [(LOST, name) for name in self.survivors]
        self.draw.shuffle(links)
        for link in links:  # one after the other: copies end at different places
            self.cut.add(link)
            self.counts["links cut"] += 1
            for _ in range(self.draw.randrange(0, 4)):
                self.step()
        self.alive = self.draw.random() < 0.5
        self.counts["killed" if not self.alive else "cut off"] += 1
        if self.draw.random() < 0.5:
            self.cut.add((LOST, "control"))
        taken = 0
        for _ in range(MOST_S):
            taken += bool(self.counts["takeovers"])
            if taken > SINCE_S:
                break
            self._happen(links)
            self.step()
        return self._heal()

    def _happen(self, links: list[tuple[str, str]]) -> None:
        """What goes wrong meanwhile, now and then."""
        if self.draw.random() < 0.03:
            self._flap(self.draw.choice(links))
        if self.draw.random() < 0.03:
            self._sleep(self.draw.choice(self.survivors))
        if self.draw.random() < 0.05:
            self.projections[self.draw.choice(self.survivors)].restart()
            self.counts["projections killed"] += 1
        if self.draw.random() < 0.05:
            name = self.draw.choice(self.survivors)
            self.coordinators[name] = Coordinator(self, name)
            self.counts["coordinators killed"] += 1

    def _flap(self, link: tuple[str, str]) -> None:
        self.cut.symmetric_difference_update({link})
        self.counts["links that came back"] += link not in self.cut

    def _sleep(self, name: str) -> None:
        self.projections[name].asleep = not self.projections[name].asleep
        self.counts["projections asleep"] += self.projections[name].asleep

    def _until_taken(self) -> None:
        """The control log is reached by all; us stays lost until it is taken over."""
        self.healing = True
        self.cut |= {(LOST, name) for name in self.survivors}
        for _ in range(MOST_S):
            self.step()
            led = self.states[-1].scopes[SCOPE]
            if led.region != LOST and led.primary and self.counts["takeovers"]:
                break
        for projection in self.projections.values():
            projection.asleep = False

    def _heal(self) -> list[Found]:
        """It is taken over, and stays lost."""
        self._until_taken()
        self.cut.clear()
        self.alive = False
        return self._ends()

    def _ends(self) -> list[Found]:
        """Nobody decides or writes any more; what there is comes everywhere, and is looked at."""
        for primary in self.primaries:
            primary.turn = lambda: None  # type: ignore[method-assign]
        for coordinator in self.coordinators.values():
            coordinator.turn = lambda: None  # type: ignore[method-assign]
        for _ in range(80):
            self.step()
            if self._settled():
                self.step()  # what waited for the last record goes on with the next one
                break
        return self.check()

    def _settled(self) -> bool:
        """Whether everything has come everywhere, and all projections have seen it come."""
        ends = {source: len(self.copies[source, source]) for source in self.names}
        return not self.late and all(
            self.mirrored[name, source] >= end or name == source
            for name in self.survivors for source, end in ends.items()
        ) and all(one.level() for one in self.projections.values())  # fmt: skip

    # -- laws --------------------------------------------------------------------------------

    def check(self) -> list[Found]:
        """All laws that do not hold."""
        control = self.states[-1]
        fence, led = control.fences.get(LOST), control.scopes[SCOPE]
        if fence is None or fence.accepted is None or (led.region == LOST and not fence.home):
            return [Found("not_taken", str(fence))]
        upto = fence.accepted[place(TOPICS[LOST], 0)]
        found = [] if upto >= self.held_at_fence else [
            Found("mirrored_lost", f"{upto} counts, {self.held_at_fence} had come")
        ]  # fmt: skip
        mine = self.copies[LOST, LOST]
        counts = [f for f in mine if self.counting(f.envelope.seq, upto)]
        beyond = {f.envelope.event_id for f in mine} - {f.envelope.event_id for f in counts}
        self.counts["lost by name"] += len(beyond)
        heirs = [n for n in self.names if self.copies[n, n] and n != LOST]
        if len(heirs) > 1:
            found.append(Found("two_heirs", str(heirs)))
        expected = self._expected(counts, heirs)
        for name, projection in self.projections.items():
            if projection.hasty:
                found.append(Found("hasty", name))
            if projection.kinds["folded_above"]:  # it slept, and says so
                self.counts["projections to be built anew"] += 1
                continue
            have = {key[1]: known.version for key, known in projection.states.items()}
            if have != expected:
                found.append(Found("folds_differ", f"{name}: {have}, not {expected}"))
            if projection.parked:
                found.append(Found("waits_for_ever", f"{name}: {projection.parked.keys()}"))
            if projection.above != beyond:
                found.append(Found("loss_not_listed", f"{name}: {projection.above ^ beyond}"))
            if projection.kinds["conflict"] or projection.kinds["version_gap"]:
                found.append(Found("conflict", f"{name}: {projection.kinds}"))
        return found

    def counting(self, seq: int, upto: int) -> bool:
        """Whether a fact on the lost region's topic counts."""
        return seq <= upto

    def _expected(self, counts: list[Fact], heirs: list[str]) -> dict[str, int]:
        """Task → its version: what counts of the lost region, and all of the heir's."""
        found: Counter[str] = Counter()
        for fact in [*counts, *(f for heir in heirs for f in self.copies[heir, heir])]:
            envelope = fact.envelope
            found[envelope.aggregate_id] = max(found[envelope.aggregate_id], envelope.version)
        return dict(found)
