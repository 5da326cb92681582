"""Three to five regions in one process that lose one, seeded: who takes over, and what counts.

Shipped: the fold of the control log, the plan of a takeover, bounds, the fold of projections. A
region's topic and each copy of it is a list; a copy grows by what its mirror brings, in order, and
by what a leveller appends. Everybody reads the control log late, at random, and appends may land
late, twice, or never. The lost region goes on writing while it believes that it leads; its mirrors
come and go, also in the midst of its takeover. All chance is the seed's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime
from random import Random
from typing import NamedTuple

from everlode.control.fences import place, vector
from everlode.control.fold import ControlState, apply
from everlode.events.base import Envelope, Event, Fact, Position
from everlode.events.control import (
    LeaseRenewed,
    PrefixReported,
    RegionFenced,
    RegionSuspected,
    ScopeAssigned,
)
from everlode.failover.takeover import FenceRegion, Level, Report, Step, Take, steps, wanted
from everlode.projection.bounds import bounds
from everlode.projection.fold import Incoming, PartitionFold
from everlode.projection.records import UNKNOWN, Key, Known
from everlode.topics.names import fact_topic
from tests.unit.test_projection_fold import ASSIGNED, SUBMITTED, progressed

NAMES = ("ap", "eu", "sa", "us", "za")
LOST = "us"
SCOPE = f"task-manager/{LOST}"
AT = datetime(2027, 1, 1, tzinfo=UTC)
TASKS = 4


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
        log = self.world.log
        for offset in range(self.control.position + 1, min(len(log), self.control.position + most)):
            self.control = apply(self.control, offset, log[offset])
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

    def restart(self) -> None:
        """Killed and started again: what is stored is left, and the control log is read first."""
        fold, self.asleep = self.fold, False
        self.follow()
        parked = sorted(self.parked.values(), key=lambda item: (item.topic, item.offset))
        self.fold = PartitionFold(0, fold.positions, fold.opened, parked, self.world.names)
        self.fold.fenced_at = dict(self.fenced_at)

    def turn(self, most: int) -> None:
        """Fold some of each topic."""
        if not self.asleep:
            self.follow(most * 8)
        batch: list[Incoming] = []
        for origin in self.world.draw.sample(self.world.names, len(self.world.names)):
            log = self.world.copies[self.region, origin]
            topic = fact_topic(f"{origin}.1", "tasks")
            at = self.fold.positions[topic].next_offset if topic in self.fold.positions else 0
            batch += [Incoming(topic, at + n, f, b"") for n, f in enumerate(log[at : at + most])]
        epochs = {scope: led.epoch for scope, led in self.control.scopes.items()}
        self.fold.bound(bounds(self.control.fences, 0))
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


class Coordinator(View):
    """Of a survivor."""

    def __init__(self, world: Takeover, region: str) -> None:
        super().__init__(world)
        self.region = region
        self.turns = 0
        self.found: PrefixReported | None = None
        """What its thread has found, and what is not written yet."""

    def turn(self) -> None:
        """Read on, say what it hears, take a step."""
        world = self.world
        control = self.follow(world.draw.randrange(1, 40))
        self.turns += 1
        if self.turns % 3 == 1:
            self._speak(control)
        if self.found is not None:
            world.append(self.region, self.found)
            self.found = None
        quiet = {LOST} if world.leases_over(control) else set()
        for step in steps(control, self.region, quiet):
            self._take(step, control)

    def _speak(self, control: ControlState) -> None:
        world, scope = self.world, f"coordinator/{self.region}"
        world.append(self.region, LeaseRenewed(
            scope_name=scope, node_id=f"{self.region}-co", held_epoch=1, nonce="n",
        ))  # fmt: skip
        deaf = (LOST, self.region) in world.cut
        word = RegionSuspected(
            region=LOST, observer=self.region, silence_ms=10_000 * deaf, over=not deaf,
            based_on=max(0, control.position), evidence=(),
        )  # fmt: skip
        world.append(self.region, word)

    def _take(self, step: Step, control: ControlState) -> None:
        world, copy = self.world, self.world.copies[self.region, LOST]
        match step:
            case FenceRegion():
                world.append(self.region, RegionFenced(
                    region=step.region, fenced_origin=f"{LOST}.1", observers=step.observers,
                    sites=step.sites, based_on=control.position,
                ))  # fmt: skip
            case Report():
                self._prefix(step.fence.offset)
            case Level():
                for at, upto in wanted(step).items():
                    seq = copy[-1].envelope.seq if copy else 0
                    donor = world.copies[step.donor(at), LOST]
                    copy += [f for f in donor if seq < f.envelope.seq <= upto]
                    world.counts["levelled"] += 1
                self._prefix(step.fence.offset)
            case Take():
                epoch = control.epoch(step.scope)
                world.append(self.region, ScopeAssigned(
                    scope_name=step.scope, new_epoch=epoch + 1, primary_node=step.primary,
                    region=self.region, reason="takeover", based_on=control.position,
                    based_on_epoch=epoch,
                    coordinator_epoch=control.epoch(f"coordinator/{self.region}"),
                ))  # fmt: skip

    def _prefix(self, fenced_at: int) -> None:
        copy = self.world.copies[self.region, LOST]
        seq = max((f.envelope.seq for f in copy), default=0)
        at = Position(topic=fact_topic(f"{LOST}.1", "tasks"), partition=0, seq=seq)
        self.found = PrefixReported(
            region=LOST, observer=self.region, fenced_at=fenced_at, positions=(at,)
        )


class Primary(View):
    """A region's primary of tasks: decides on what it knows, and appends."""

    def __init__(self, world: Takeover, region: str) -> None:
        super().__init__(world)
        self.region = region
        self.versions: dict[str, int] = {}
        self.epoch = 1 if region == LOST else 0

    def turn(self) -> None:
        """Go on with a task of the lost region, while it leads its scope."""
        control = self.follow(self.world.draw.randrange(1, 40))
        led = control.scopes.get(SCOPE)
        if led is None or led.region != self.region or not led.primary:
            return
        if led.epoch != self.epoch:
            if not self._adopt(control):
                return
            self.epoch = led.epoch
            self.world.counts["takeovers"] += 1
        key = f"{LOST}/t{self.world.draw.randrange(TASKS)}"
        version = self.versions.get(key, 0) + 1
        self.versions[key] = version
        data = (SUBMITTED, ASSIGNED)[version - 1] if version < 3 else progressed(version)
        self.world.write(self.region, key, version, self.epoch, data)

    def reaches(self, have: int, upto: int) -> bool:
        """Whether this region's copy holds all that counts."""
        return have >= upto

    def _adopt(self, control: ControlState) -> bool:
        """As `primary.adopted`: this region's copy, as far as it counts; False: it is too short."""
        upto = (control.fences[LOST].accepted or {})[place(fact_topic(f"{LOST}.1", "tasks"), 0)]
        copy = [f for f in self.world.copies[self.region, LOST] if f.envelope.seq <= upto]
        if not self.reaches(max((f.envelope.seq for f in copy), default=0), upto):
            return False
        self.versions = defaultdict(int)
        for fact in sorted(copy, key=lambda f: f.envelope.seq):  # some of it may be there twice
            self.versions[fact.envelope.aggregate_id] = fact.envelope.version
        return True


class Takeover:
    """One history."""

    def __init__(self, seed: int) -> None:
        self.draw = Random(seed)
        self.names = tuple(sorted({LOST, *self.draw.sample(NAMES, self.draw.randrange(3, 6))}))
        self.names = self.names if len(self.names) > 2 else NAMES[:4]
        self.counts: Counter[str] = Counter()
        self.log: list[Fact] = []
        self.late: list[tuple[int, Fact]] = []
        self.copies: defaultdict[tuple[str, str], list[Fact]] = defaultdict(list)
        """(Region, whose topic) → that region's copy; its own topic, where both are the same."""
        self.mirrored: Counter[tuple[str, str]] = Counter()
        self.cut: set[tuple[str, str]] = set()
        self.now = self.fenced_at = 0
        self.held_at_fence = 0
        self.alive = True
        self.seen_fence: dict[str, int] = {}
        self.healing = False
        self.judge = View(self)
        for name in self.names:
            self._lead(f"coordinator/{name}", f"{name}-co", name)
            self._lead(f"task-manager/{name}", f"{name}-tm", name)
        self.survivors = [name for name in self.names if name != LOST]
        self.projections = {name: Projection(self, name) for name in self.survivors}
        self.coordinators = {name: Coordinator(self, name) for name in self.survivors}
        self.primaries = [Primary(self, name) for name in self.names]

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

    def append(self, region: str, data: Event) -> None:
        """On the control log: at once, late, twice, or never."""
        scope = f"coordinator/{region}"
        fact = Fact(self._envelope(region, scope, 1), data)
        luck = 1.0 if self.healing else self.draw.random()
        if luck > 0.1:
            self._land(fact)
        if luck < 0.15:
            self.late.append((self.now + self.draw.randrange(1, 40), fact))

    def _land(self, fact: Fact) -> None:
        self.log.append(fact)
        before = self.judge.control
        after = self.judge.follow()
        if LOST in after.fences and LOST not in before.fences:
            self.fenced_at = len(self.log) - 1
            copies = [self.copies[name, LOST] for name in self.survivors]
            self.held_at_fence = max(f.envelope.seq for c in copies for f in (*c, _NOTHING))
            self.counts["fences"] += 1

    def leases_over(self, control: ControlState) -> bool:
        """Whether the lost region's primary may lead no more: it has read of the fence."""
        fence = control.fences.get(LOST)
        return (
            fence is not None
            and self.primaries[self.names.index(LOST)].control.position >= fence.offset
        )

    def write(self, region: str, key: str, version: int, epoch: int, data: Event) -> None:
        """A fact on a region's own topic."""
        log = self.copies[region, region]
        seq = len(log) + 1
        envelope = Envelope(
            event_id=f"{region}-{seq}", aggregate_id=key, version=version, origin=f"{region}.1",
            scope=SCOPE, epoch=epoch, seq=seq, stamp=sum(map(len, self.copies.values())) + 1,
            occurred_at=AT, correlation_id="c",
        )  # fmt: skip
        log.append(Fact(envelope, data))
        self.counts["facts of the lost" if region == LOST else "facts of the heir"] += 1

    # -- time --------------------------------------------------------------------------------

    def step(self) -> None:
        """Something happens, and everybody may have a turn."""
        self.now += 1
        for at, fact in [one for one in self.late if one[0] <= self.now]:
            self.late.remove((at, fact))
            self._land(fact)
        self._mirror()
        turns: list[Primary | Coordinator | Projection] = [
            *self.primaries,
            *self.coordinators.values(),
            *self.projections.values(),
        ]
        for one in self.draw.sample(turns, len(turns)):
            if self.draw.random() < 0.3 and not self.healing:
                continue
            if isinstance(one, Projection):
                one.turn(self.draw.randrange(1, 6))
            elif not isinstance(one, Primary) or one.region != LOST or self.alive:
                one.turn()

    def _mirror(self) -> None:
        for source in self.names:
            for target in self.names:
                if source == target or (source, target) in self.cut:
                    continue
                at = self.mirrored[target, source]
                new = self.copies[source, source][at : at + self.draw.randrange(0, 4)]
                self.mirrored[target, source] += len(new)
                self.copies[target, source] += new  # also what a leveller has brought already

    def run(self) -> list[Found]:
        """A history: it works, us is lost, it may come back in the midst, all is mended."""
        for _ in range(10):
            self.step()
        links = [(LOST, name) for name in self.survivors]
        self.draw.shuffle(links)
        for link in links:  # one after the other: copies end at different places
            self.cut.add(link)
            for _ in range(self.draw.randrange(0, 4)):
                self.step()
        self.alive = self.draw.random() < 0.5
        self.counts["killed" if not self.alive else "cut off"] += 1
        for _ in range(60):
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
            if self.fenced_at and not self.alive:
                self.primaries[self.names.index(LOST)].follow()  # its leases run out
            self.step()
        return self._heal()

    def _flap(self, link: tuple[str, str]) -> None:
        self.cut.symmetric_difference_update({link})
        self.counts["links that came back"] += link not in self.cut

    def _sleep(self, name: str) -> None:
        self.projections[name].asleep = not self.projections[name].asleep
        self.counts["projections asleep"] += self.projections[name].asleep

    def _heal(self) -> list[Found]:
        """The control log is reached by all; us stays lost until it is taken over."""
        self.healing = True
        self.cut |= {(LOST, name) for name in self.survivors}
        for _ in range(60):
            self.primaries[self.names.index(LOST)].follow()
            self.step()
            led = self.judge.control.scopes[SCOPE]
            if led.region != LOST and led.primary and self.counts["takeovers"]:
                break
        self.cut.clear()
        self.alive = False
        for projection in self.projections.values():
            projection.asleep = False
        for primary in self.primaries:
            primary.turn = lambda: None  # type: ignore[method-assign]
        for coordinator in self.coordinators.values():
            coordinator.turn = lambda: None  # type: ignore[method-assign]
        for _ in range(80):
            self.step()
        return self.check()

    # -- laws --------------------------------------------------------------------------------

    def check(self) -> list[Found]:
        """All laws that do not hold."""
        control = self.judge.control
        fence, led = control.fences.get(LOST), control.scopes[SCOPE]
        if fence is None or fence.accepted is None or led.region == LOST:
            return [Found("not_taken", str(fence))]
        (upto,) = vector(
            Position(topic=k.rpartition("/")[0], partition=0, seq=v)
            for k, v in fence.accepted.items()
        ).values()
        found = [] if upto >= self.held_at_fence else [
            Found("mirrored_lost", f"{upto} counts, {self.held_at_fence} had come")
        ]  # fmt: skip
        beyond = {f.envelope.event_id for f in self.copies[LOST, LOST] if f.envelope.seq > upto}
        self.counts["lost by name"] += len(beyond)
        heirs = [n for n in self.survivors if self.copies[n, n]]
        if len(heirs) > 1:
            found.append(Found("two_heirs", str(heirs)))
        expected = self._expected(upto, heirs)
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

    def _expected(self, upto: int, heirs: list[str]) -> dict[str, int]:
        """Task → its version: what counts of the lost region, then all of the heir's."""
        counts = [f for f in self.copies[LOST, LOST] if f.envelope.seq <= upto]
        for heir in heirs:
            counts += self.copies[heir, heir]
        return {f.envelope.aggregate_id: f.envelope.version for f in counts}


_NOTHING = Fact(
    Envelope(
        event_id="0", aggregate_id="0", version=0, origin="0", scope="", epoch=0, seq=0, stamp=1,
        occurred_at=AT, correlation_id="0",
    ),
    SUBMITTED,
)  # fmt: skip
