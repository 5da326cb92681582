"""A coordinator's hand in a takeover: what it appends, when, and that it never waits for a copy."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from everlode.errors import Unavailable
from everlode.events.base import Event, Position
from everlode.events.catalogue import FACT_COMPONENTS
from everlode.events.control import (
    PrefixReported,
    RegionFenced,
    RegionReturned,
    ScopeAssigned,
)
from everlode.failover import again, taker
from everlode.failover.taker import Leases, Taker
from tests.unit.test_control_fences import SCOPE
from tests.unit.test_takeover_plan import Planned

FENCE_AFTER_S = 12.0


class Clock:
    """Stands for the module `time`."""

    now = 1_000.0

    def monotonic(self) -> float:
        return self.now


class World:
    """A coordinator, ap's, on a control log, whose copies are figures."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, region: str = "ap") -> None:
        self.region = region
        self.ended: list[tuple[str, ...]] = []
        monkeypatch.setattr(taker, "end_writer", lambda *at: self.ended.append(at))
        self.log, self.clock = Planned(), Clock()
        monkeypatch.setattr(taker, "time", self.clock)
        monkeypatch.setattr(again, "time", self.clock)
        monkeypatch.setattr(taker, "reach", self.reach)
        monkeypatch.setattr(taker, "fetch", self.fetch)
        self.seq = 2
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.failing = False
        self.fetched: list[tuple[object, ...]] = []
        self.appended: list[Event] = []
        me = SimpleNamespace(node_id=f"{region}-co", region=region, origin=f"{region}.1")
        agent = SimpleNamespace(
            identity=me, log=self, leads=lambda _: self.log.state.epoch(f"coordinator/{region}")
        )
        parts = {r: SimpleNamespace(origin=f"{r}.1", bootstrap=r, partitions=1)
                 for r in ("ap", "eu", "us")}  # fmt: skip
        endpoints = SimpleNamespace(parts=parts.__getitem__)
        self.agent = agent
        self.taker = Taker(cast("Any", agent), cast("Any", endpoints), int(FENCE_AFTER_S * 1000))

    def append(self, _key: str, data: Event, *, scope: str, epoch: int, **_: object) -> int:
        self.appended.append(data)
        return self.log.append(data, scope, epoch)

    def reach(self, bootstrap: str, *_: object) -> tuple[Position, ...]:
        assert bootstrap == self.region, "its own copy"
        self.may_answer.wait(5)
        if self.failing:
            raise Unavailable("Kafka is away")
        return (Position(topic="us.1.tasks", partition=0, seq=self.seq),)

    def fetch(self, own: str, donor: str, _codec: object, at: object, upto: int) -> int:
        self.fetched.append((own, donor, at, upto))
        self.seq = upto
        return 1

    def turn(self, seconds: float = 0.0) -> list[Event]:
        """What a turn, and its thread's answer in the next, have appended."""
        self.clock.now += seconds
        self.agent.control = self.log.state
        before = len(self.appended)
        self.taker.turn()
        work = self.taker._work
        if work is not None and self.may_answer.is_set():
            work[1].exception(5)
            self.agent.control = self.log.state
            self.taker.turn()
        return self.appended[before:]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_whole_takeover_is_carried_out_step_by_step(world: World) -> None:
    world.turn()
    assert [type(data) for data in world.appended] == [RegionFenced]
    assert world.turn() == [], "leases may be good"
    (report,) = world.turn(FENCE_AFTER_S + 1)
    assert isinstance(report, PrefixReported)
    assert (report.observer, report.fenced_at) == ("ap", world.log.us.offset)
    world.log.report("eu", 3)
    (again_said,) = world.turn(10)
    assert world.fetched == [("ap", "eu", ("us.1.tasks", 0), 3)]
    assert isinstance(again_said, PrefixReported)
    assert world.log.us.level("ap")
    (taken,) = world.turn(10)
    assert isinstance(taken, ScopeAssigned)
    assert (taken.scope_name, taken.primary_node, taken.region) == (SCOPE, "ap-tm-1", "ap")
    assert world.log.state.scopes[SCOPE].primary == "ap-tm-1"
    assert world.turn(10) == []


def test_turn_does_not_wait_for_a_copy_and_asks_once_at_a_time(world: World) -> None:
    world.turn()
    world.may_answer.clear()
    assert world.turn(FENCE_AFTER_S + 1) == []
    work = world.taker._work
    assert work is not None
    assert world.turn(10) == []
    assert world.taker._work is work
    world.may_answer.set()
    assert [type(data) for data in world.turn()] == [PrefixReported]


def test_copy_that_does_not_answer_is_asked_again(world: World) -> None:
    world.turn()
    world.failing = True
    assert world.turn(FENCE_AFTER_S + 1) == []
    world.failing = False
    assert [type(data) for data in world.turn(10)] == [PrefixReported]


def test_fence_is_not_asked_for_again_before_it_could_have_been_read(world: World) -> None:
    world.agent.control = world.log.state
    world.taker.turn()
    world.taker.turn()
    assert len(world.appended) == 1


def test_leases_have_run_out_after_the_last_renewal_that_was_read(world: World) -> None:
    leases, log = Leases(FENCE_AFTER_S), world.log
    leases.observe(log.state)
    world.clock.now += FENCE_AFTER_S - 1
    log.renew("us")
    leases.observe(log.state)
    log.fence()
    leases.observe(log.state)
    world.clock.now += FENCE_AFTER_S - 1
    assert leases.quiet(log.state) == frozenset()
    leases.observe(log.state)
    world.clock.now += 2
    assert leases.quiet(log.state) == {"us"}


def test_successor_that_has_seen_no_renewal_waits_anew(world: World) -> None:
    world.log.fence()
    leases = Leases(FENCE_AFTER_S)
    leases.observe(world.log.state)
    assert leases.quiet(world.log.state) == frozenset()
    world.clock.now += FENCE_AFTER_S + 1
    assert leases.quiet(world.log.state) == {"us"}


def test_region_that_is_back_ends_its_writers_before_it_says_where_its_log_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, "us")
    world.log.taken()
    world.log.assign("us", "coordinator/us", "us-co")
    assert world.turn(10) == [], "it is not heard"
    world.log.suspect("ap", "us", over=True)
    world.seq = 5
    ends = world.reach

    def then(bootstrap: str, *more: object) -> tuple[Position, ...]:
        assert {at[2] for at in world.ended} == set(FACT_COMPONENTS), "first"
        return ends(bootstrap, *more)

    monkeypatch.setattr(taker, "reach", then)
    (returned,) = world.turn(10)
    assert isinstance(returned, RegionReturned)
    assert {at[:2] for at in world.ended} == {("us", "us.1")}
    assert not world.log.us.out
    assert world.turn(10) == []
