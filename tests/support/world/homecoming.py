"""A takeover's history that goes on: us comes back with its disks, and its scope goes home.

Shipped, beside what `taking` has: the coordinator's hand in wishes with its planner, the owner's
freeze, what a node at home takes over, the return. An operator asks until the scope is at home;
meanwhile the control log loses, repeats and delays what is appended, mirrors stand, the owner's
primary fails, coordinators and projections are killed.
"""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

from everlode.control.fences import place
from everlode.control.fold import ControlState
from everlode.errors import Unavailable
from everlode.events.base import Event, Fact
from everlode.events.control import (
    FreezeAsked,
    LeaseRenewed,
    NodeJoined,
    OperatorAnswered,
    OperatorAsked,
    RegionReturned,
    ScopeAssigned,
)
from everlode.failover.carrier import Carrier, Parts
from everlode.failover.decisions import Basis, Decisions
from everlode.failover.eligible import Copy
from everlode.failover.planner import Beating
from everlode.failover.policy import Succession
from everlode.log.facts import LoggedFact
from everlode.log.folds import Folds
from everlode.primary.adopted import Adoption
from everlode.primary.freeze import Freeze
from everlode.settings.endpoints import RegionParts
from tests.support.world.taking import (
    LOST,
    MOST_S,
    SCOPE,
    TOPICS,
    Coordinator,
    Found,
    Primary,
    Projection,
    Takeover,
)

AT_HOME = "us-tm-home"
PATIENCE_S = 15
"""Within so long a wish is decided, or all is as before."""
CHAOS_S = 40
"""For so long things go wrong once the region is back."""
SINCE_S = 8
"""For so long it works on at home."""


class Owner(Primary):
    """Of a survivor: it is frozen when that is asked for."""

    def __init__(self, world: Takeover, region: str) -> None:
        super().__init__(world, region)
        self.log = self
        self.freeze: Freeze | None = None

    @property
    def identity(self) -> Any:
        """See NodeAgent."""
        return SimpleNamespace(node_id=self.control.scopes[SCOPE].primary)

    def append_async(self, _key: str, data: Event, *, scope: str, epoch: int, **_: object) -> None:
        """See ControlLog."""
        self.world.append(self.region, data, scope, epoch)

    def rests(self, epoch: int) -> bool:
        """See Primary. A process that has led no such epoch yet is another one."""
        serves = epoch == self.epoch
        if not serves or self.freeze is None:
            self.freeze = Freeze(cast("Any", self))
        log = self.world.copies[self.region, self.region]
        return self.freeze.holds(
            {SCOPE: epoch}, TOPICS[self.region], [len(log)] if serves else None
        )


class AtHome(Primary):
    """Of us once it is back: a process that was started anew."""

    def __init__(self, world: Takeover) -> None:
        super().__init__(world, LOST)
        self.epoch = self.read = 0
        self.folds = Folds(("tasks",), lambda *_: None)
        component: Any = SimpleNamespace(name="tasks", states=("tasks",), folds=self.folds)
        parts = RegionParts(LOST, f"{LOST}.1", LOST, 1)
        self.adoption = Adoption(component, parts, lambda: self.control)
        self.states = cast("Any", self.folds.states["tasks"])
        self.follow()  # as a process does that starts

    def _leased(self, _led: Any) -> bool:
        return True

    def _fold(self, fact: Fact) -> None:
        self.adoption.fold(LoggedFact(fact, 0, self.read))
        self.read += 1

    def _adopt(self, _control: ControlState) -> bool:
        """As a promotion does: its log to its end, then what was made elsewhere."""
        if self.adoption.fenced():
            return False
        log = self.world.copies[LOST, LOST]
        with suppress(Unavailable):
            while self.read < len(log):
                self._fold(log[self.read])
            self.adoption.bring_home()
            return True
        return False


class Home(Coordinator):
    """Of us once it is back."""

    def __init__(self, world: Homecoming) -> None:
        super().__init__(world, LOST)
        self.follow()  # as a process does that starts
        policy: Any = Succession()
        policy.service = SimpleNamespace(facts="tasks")
        policy.opened = lambda _: world.at_home.epoch
        beats: Any = SimpleNamespace(fresh=lambda: {AT_HOME: Beating(0, 0)})
        agent = cast("Any", self)
        parts = Parts(
            agent, beats, {"task-manager": policy}, cast("Any", None), Decisions(agent), self._copy
        )
        self.carrier = Carrier(parts, ())

    def _copy(self, owner: str, _component: str) -> Copy:
        have = max((f.envelope.seq for f in self.world.copies[LOST, owner]), default=0)
        behind = len(self.world.copies[owner, owner]) - have
        return Copy({place(TOPICS[owner], 0): have}, (self.world.now - behind) * 1000)

    def turn(self) -> None:
        """Read on, renew, return, and carry on what is asked for."""
        control, epoch = self.follow(self.world.some(40)), self.control.epoch(self.scope)
        self.turns += 1
        if self.turns % 3 == 1:
            renewed = LeaseRenewed(
                scope_name=self.scope, node_id="us-co", held_epoch=epoch, nonce="n"
            )
            self.world.append(LOST, renewed, epoch=epoch)
        with suppress(Unavailable):
            self.taker.turn()
            self.carrier.turn(Basis(control, epoch))


class Homecoming(Takeover):
    """One history. Its laws are a takeover's, and `not_home`, `away_lost`, `two_owners`."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.primaries = [
            one if one.region == LOST else Owner(self, one.region) for one in self.primaries
        ]
        self.at_home = AtHome(self)
        self.asked = 0
        self.isback = False

    def _land(self, fact: Fact, sent: int = 0) -> None:
        before = self.states[-1] if self.states else ControlState()
        super()._land(fact, sent)
        after = self.states[-1]
        if LOST in after.fences and after.fences[LOST].home and not before.fences[LOST].home:
            self.counts["went home"] += 1
        for kind in (FreezeAsked, RegionReturned):
            if isinstance(fact.data, kind) and (after.wishes, after.fences) != (
                before.wishes, before.fences,
            ):  # fmt: skip
                self.counts[f"{kind.__name__}s that count"] += 1
        if isinstance(fact.data, OperatorAnswered) and after.wishes is not before.wishes:
            self.counts[f"wishes {fact.data.outcome}"] += 1

    def comes_back(self) -> None:
        """us's processes start with its disks; whatever it was doing has ended."""
        self.isback, self.alive = True, True
        self.cut.clear()
        self.primaries = [one for one in self.primaries if one.region != LOST]
        self.at_home = AtHome(self)
        self.primaries.append(self.at_home)
        scope = f"coordinator/{LOST}"
        epoch = self.states[-1].epoch(scope)
        leads = ScopeAssigned(
            scope_name=scope, new_epoch=epoch + 1, primary_node="us-co", region=LOST,
            reason="bootstrap", based_on=len(self.log) - 1, based_on_epoch=epoch,
        )  # fmt: skip
        self._land(Fact(self._envelope(scope, scope, epoch), leads))
        self._join(AT_HOME, LOST)
        self.coordinators[LOST] = Home(self)
        self.projections[LOST] = Projection(self, LOST)

    def _join(self, node: str, region: str) -> None:
        if node not in self.states[-1].nodes:
            self._land(Fact(self._envelope(node, "", 0), NodeJoined(
                node_id=node, region=region, component="task-manager", kind="", endpoint="",
                priority=0,
            )))  # fmt: skip

    def ask(self) -> None:
        """An operator asks for what is not so yet, unless it is asked for."""
        control = self.states[-1]
        led, fence = control.scopes[SCOPE], control.fences[LOST]
        if fence.out or led.region == LOST or control.wishes.of(SCOPE) is not None:
            return
        self._join(led.primary, led.region)
        self.asked += 1
        self.append(LOST, OperatorAsked(
            operation_id=f"op-{self.asked}", verb="failback", scope_name=SCOPE, node_id="",
            operator="ann", reason="", expires_ms=(self.now + PATIENCE_S) * 1000,
            based_on=control.position, based_on_epoch=control.epoch(SCOPE),
        ), SCOPE)  # fmt: skip

    def _goes_home(self, within_s: int) -> int:
        """Whether it has worked at home for a while; what can go wrong does, unless all heals."""
        since = 0
        for _ in range(within_s):
            if self.draw.random() < 0.3 or self.healing:
                self.ask()
            if not self.healing:
                self._trouble()
            self.step()
            since += bool(self.at_home.epoch)
            if since > SINCE_S:
                break
        return since

    def _mirror(self) -> None:
        for _ in range(4 if self.healing and self.isback else 1):  # else it may never be level
            super()._mirror()

    def _trouble(self) -> None:
        names = [name for name in self.names if name != LOST]
        link = self.draw.choice([(name, LOST) for name in names] + [(LOST, n) for n in names])
        if self.draw.random() < 0.1:
            self.cut.symmetric_difference_update({link})
        if self.draw.random() < 0.05:
            self.projections[self.draw.choice(self.names)].restart()
        if self.draw.random() < 0.05:
            self.coordinators[LOST] = Home(self)
            self.counts["coordinators of the home killed"] += 1

    def _heal(self) -> list[Found]:
        """As a takeover heals; then us comes back, and all goes on before it is looked at."""
        self._until_taken()
        self.comes_back()
        self.healing = False
        self._goes_home(CHAOS_S)
        self.healing = True
        self.cut.clear()
        self._goes_home(MOST_S)
        self.survivors = list(self.names)  # us is one of them now
        return self._ends()

    def check(self) -> list[Found]:
        """All laws that do not hold."""
        control = self.states[-1]
        fence = control.fences[LOST]
        if SCOPE not in fence.home or not self.at_home.epoch:
            return [Found("not_home", f"{control.scopes[SCOPE]}, {control.wishes}")]
        back = fence.home[SCOPE]
        found = super().check()
        upto = back.upto[place(back.topic, 0)]
        for name in self.names:
            late = [f for f in self.copies[name, name] if f.envelope.seq > upto]
            if TOPICS[name] == back.topic and late:
                found.append(Found("away_lost", f"{name} went on to {late[-1].envelope}"))
        owners: dict[int, set[str]] = {}
        for name in self.names:
            for fact in self.copies[name, name]:
                owners.setdefault(fact.envelope.epoch, set()).add(name)
        if any(len(names) > 1 for names in owners.values()):
            found.append(Found("two_owners", str(owners)))
        return found

    def counting(self, seq: int, upto: int) -> bool:
        """Also what us has written since it is back."""
        ended = (self.states[-1].fences[LOST].ended or {}).get(place(TOPICS[LOST], 0))
        return seq <= upto or (ended is not None and seq > ended)
