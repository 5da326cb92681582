"""Several regions in one process: the shipped watch, folds and codec; Kafka and mirrors are lists.

Time is whole seconds, moved by `second`. A site has a log, which is its Kafka: its own barriers,
and what the mirrors bring of others' (a link copies in order, without repeats, and goes on where it
was once it is mended). The control log is one list; a site that does not reach it neither reads nor
appends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

from everlode.adapters.kafka import Raw
from everlode.avro.codec import Codec
from everlode.avro.signals import Head, Now, SignalMaker
from everlode.control.fold import ControlState, apply
from everlode.detection.regions import Patience
from everlode.events.barriers import Barrier
from everlode.events.base import Event, Fact
from everlode.events.control import LeaseRenewed, RegionSuspected, ScopeAssigned
from everlode.events.health import LinkStale, RegionLost
from everlode.failover.regions import CANARY, RegionWatch
from everlode.topics.names import fact_topic

BEGAN = datetime(2027, 1, 1, tzinfo=UTC)
FENCE_AFTER_S, RENEW_S = 12, 2
PATIENCE = Patience(5_000, 10_000)


class Said(NamedTuple):
    """What a site's coordinator has said."""

    second: int
    site: str
    data: LinkStale | RegionSuspected | RegionLost
    about: str

    @property
    def text(self) -> str:
        """A line of a transcript."""
        match self.data:
            case RegionLost(observers=observers, over=False):
                more = f" by {' '.join(observers)}"
            case LinkStale(heard=heard, sites=sites, over=False) if 2 * heard <= sites:
                more = " blind"
            case _:
                more = ""
        over = " over" if self.data.over else ""
        return f"{self.second}: {self.site}: {type(self.data).__name__} {self.about}{more}{over}"


class Records:
    """A reader of a site's log, from where it stood when this was made."""

    def __init__(self, log: list[Raw]) -> None:
        self._log, self._at = log, len(log)

    def batch(self, most: int, _timeout_s: float) -> list[Raw]:
        """See `failover.regions.Records`."""
        found = self._log[self._at :][:most]
        self._at += len(found)
        return found

    def close(self) -> None:
        """See `failover.regions.Records`."""


class Site:
    """A region: its log, its coordinator's process, what that has read of the control log."""

    def __init__(self, world: Sites, name: str) -> None:
        self.world, self.name, self.origin = world, name, f"{name}.1"
        self.log: list[Raw] = []
        self.own: list[Raw] = []
        """Of its log, what it wrote itself."""
        self.alive = self.kafka = self.reaches_control = True
        self.skew = timedelta()
        self.control = ControlState()
        self.renewed_s = -FENCE_AFTER_S
        self.maker = SignalMaker(self.origin)
        self.mirrored: dict[str, int] = {}
        """Region → how much of its log has been copied here."""
        self.start()

    @property
    def scope(self) -> str:
        """Its coordinator's."""
        return f"coordinator/{self.name}"

    def start(self) -> None:
        """A new process: it knows nothing but what it reads."""
        agent = SimpleNamespace(
            identity=SimpleNamespace(node_id=f"{self.name}-co", region=self.name,
                                     origin=self.origin),
            signal=self._signal, log=self, leads=self._leads,
        )  # fmt: skip
        topics = {(fact_topic(f"{n}.1", CANARY), 0): n for n in self.world.names}
        self.agent = agent
        self.watch = RegionWatch(cast("Any", agent), Records(self.log), topics, PATIENCE)

    def _leads(self, scope: str) -> int | None:
        good = self.world.now - self.renewed_s < FENCE_AFTER_S
        return self.control.epoch(scope) or None if good else None

    def _signal(self, data: Event, *, key: str, **_: Any) -> None:
        self.world.said.append(Said(self.world.now, self.name, cast("Any", data), key))

    def append_async(self, subject: str, data: Event, **options: Any) -> None:
        """See `ControlLog`."""
        if self.reaches_control:
            self.world.append(subject, data, **options)

    def barrier(self) -> None:
        """Its coordinator leaves one."""
        self.write(Barrier(writer_id=f"{self.name}-co"))

    def write(self, data: Event) -> None:
        """A record that its coordinator writes for others."""
        at = BEGAN + timedelta(seconds=self.world.now) + self.skew
        now = Now(round(at.timestamp() * 1000), at)
        made = self.maker.make(Head(f"{self.name}-co", "e"), data, now)
        topic = fact_topic(self.origin, CANARY)
        self.own.append(Raw(topic, 0, len(self.log), b"k", made.value, [*made.headers]))
        self.log.append(self.own[-1])


class Sites:
    """The network."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.now = 0
        self.codec = Codec()
        self.control: list[Fact] = []
        self._maker = SignalMaker("control")
        self.said: list[Said] = []
        self._suspected: dict[tuple[str, str], bool] = {}
        self.cut: set[tuple[str, str]] = set()
        """(from, to): links that carry nothing."""
        self.sites = {name: Site(self, name) for name in names}
        for site in self.sites.values():
            self.assign(site.name)

    def assign(self, name: str) -> None:
        """A region's coordinator begins its next epoch."""
        scope = f"coordinator/{name}"
        epoch = self.folded().epoch(scope)
        decided = ScopeAssigned(
            scope_name=scope, new_epoch=epoch + 1, primary_node=f"{name}-co", region=name,
            reason="bootstrap", based_on=max(0, len(self.control) - 1), based_on_epoch=epoch,
        )  # fmt: skip
        self.append(scope, decided, scope=scope, epoch=epoch)

    def append(self, subject: str, data: Event, **options: Any) -> None:
        """A record of the control log."""
        at = BEGAN + timedelta(seconds=self.now)
        head = Head(subject, f"c{len(self.control)}", options["scope"], options["epoch"])
        made = self._maker.make(head, data, Now(round(at.timestamp() * 1000), at))
        if isinstance(data, RegionSuspected):
            self._note(data)
        self.control.append(self.codec.decode_fact(made.value))

    def _note(self, data: RegionSuspected) -> None:
        """Whoever suspects says so again and again: that is no line of its own."""
        key = data.observer, data.region
        if self._suspected.get(key, False) is not data.over:
            return
        self._suspected[key] = not data.over
        self.said.append(Said(self.now, data.observer, data, data.region))

    def folded(self, state: ControlState | None = None) -> ControlState:
        """The whole control log, from a state on."""
        state = state or ControlState()
        for offset in range(state.position + 1, len(self.control)):
            state = apply(state, offset, self.control[offset])
        return state

    def second(self) -> None:
        """One second: renewals, barriers, mirrors, then each coordinator's turn."""
        self.now += 1
        for site in self.sites.values():
            if site.alive and site.reaches_control:
                self._renew(site)
            if site.alive and site.kafka:
                site.barrier()
        for site in self.sites.values():
            self._mirror(site)
        for site in self.sites.values():
            if site.alive:
                site.watch.turn()

    def _renew(self, site: Site) -> None:
        if self.now - site.renewed_s >= RENEW_S:
            epoch = self.folded(site.control).epoch(site.scope)
            renewed = LeaseRenewed(
                scope_name=site.scope, node_id=f"{site.name}-co", held_epoch=epoch, nonce="n"
            )
            self.append(site.scope, renewed, scope=site.scope, epoch=epoch)
            site.renewed_s = self.now
        site.control = self.folded(site.control)
        site.agent.control = site.control

    def _mirror(self, site: Site) -> None:
        for other in self.sites.values():
            if other is site or (other.name, site.name) in self.cut or not site.kafka:
                continue
            if not (site.alive and other.alive and other.kafka):
                continue
            new = other.own[site.mirrored.get(other.name, 0) :]
            site.mirrored[other.name] = site.mirrored.get(other.name, 0) + len(new)
            for raw in new:
                site.log.append(raw._replace(offset=len(site.log)))

    # -- faults, by name --------------------------------------------------------------------------

    def do(self, what: str) -> None:
        """A line of a transcript: what happens now."""
        verb, *names = what.split()
        FAULTS[verb](self, names)


def _both(names: list[str]) -> set[tuple[str, str]]:
    """`us->eu` one way, `us--eu` both."""
    found = set()
    for name in names:
        one, arrow, other = name.partition("->" if "->" in name else "--")
        found |= {(one, other)} | ({(other, one)} if arrow == "--" else set())
    return found


def _set(**values: Any) -> Callable[[Sites, list[str]], None]:
    def done(world: Sites, names: list[str]) -> None:
        for name in names:
            vars(world.sites[name]).update(values)

    return done


def _start(world: Sites, names: list[str]) -> None:
    for name in names:
        site = world.sites[name]
        site.alive = True
        site.start()
        world.assign(name)


FAULTS: Mapping[str, Callable[[Sites, list[str]], None]] = {
    "dies": _set(alive=False),
    "starts": _start,
    "cut": lambda world, names: world.cut.update(_both(names)),
    "mend": lambda world, names: world.cut.difference_update(_both(names)),
    "kafka-stands": _set(kafka=False),
    "kafka-goes-on": _set(kafka=True),
    "off-control": _set(reaches_control=False),
    "on-control": _set(reaches_control=True),
    "hour-ahead": _set(skew=timedelta(hours=1)),
    "hour-behind": _set(skew=timedelta(hours=-1)),
}
