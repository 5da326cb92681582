"""NodeAgent tells roles in order, fences itself, and ends in the open. On librdkafka's broker."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from confluent_kafka import Producer

from everlode.adapters.kafka_control import ControlLog
from everlode.avro.codec import Codec
from everlode.control.roles import Role, RoleChange
from everlode.errors import IntegrityError, Refusal
from everlode.events.control import BackupReleased, ScopeAssigned
from everlode.events.heartbeats import NodeBeat
from everlode.sdk import AsyncNodeAgent, Identity, Load, NodeAgent
from tests.support.facts.whole_topic import records
from tests.support.world.region import until

pytestmark = pytest.mark.timeout(60)
SCOPE = "rewards/eu"
BEATS = "eu.1.heartbeats"
PRIMARY, SECONDARY, FENCED = Role.PRIMARY, Role.SECONDARY, Role.FENCED
CHOSEN = [(SECONDARY, 0), (FENCED, 1), (PRIMARY, 1)]
Made = Callable[..., NodeAgent]


@pytest.fixture
def broker() -> Iterator[str]:
    """Bootstrap address of a broker that lives as long as the test."""
    holder = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    found = holder.list_topics("control", timeout=10).brokers
    yield ",".join(f"{b.host}:{b.port}" for b in found.values())
    holder.flush(1)


@pytest.fixture
def made(broker: str) -> Iterator[Made]:
    """Makes agents that are closed at the end."""
    agents = []

    def make(**options: object) -> NodeAgent:
        agent = NodeAgent(
            Identity("me", "eu", "eu.1", "rewards"),
            bootstrap=broker,
            control_bootstrap=broker,
            partitions=1,
            scopes=(SCOPE,),
            beat_ms=50,
            **options,  # type: ignore[arg-type]
        )
        agents.append(agent)
        return agent

    yield make
    for agent in agents:
        agent.close()


class Seen:
    """An `on_role` that keeps what it is told, and fails at one role."""

    def __init__(self, fails_at: Role | None = None) -> None:
        self.changes: list[tuple[Role, int]] = []
        self.fails_at = fails_at
        self.threads: set[int] = set()

    def __call__(self, change: RoleChange) -> None:
        assert change.scope == SCOPE
        self.threads.add(threading.get_ident())
        self.changes.append((change.role, change.epoch))
        if change.role is self.fails_at:
            raise ValueError("the user's own mistake")

    def wait(self, changes: list[tuple[Role, int]]) -> None:
        """Until it has been told these, from the first on; more may have followed."""
        until(lambda: len(self.changes) >= len(changes), 20, f"{changes}: {self.changes}")
        assert self.changes[: len(changes)] == changes


def assign(broker: str, node: str, epoch: int) -> None:
    decision = ScopeAssigned(
        scope_name=SCOPE, new_epoch=epoch, primary_node=node, region="eu", reason="forced",
        based_on=0, based_on_epoch=epoch - 1,
    )  # fmt: skip
    with closing(ControlLog(broker)) as log:
        log.append(SCOPE, decision, node_id="test", scope="coordinator/eu")


def alive(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{endpoint}/livez", timeout=2) as answer:
            return answer.status == 200  # type: ignore[no-any-return]
    except (urllib.error.URLError, OSError):
        return False


def test_agent_tells_its_way_to_primary_and_away_each_once(broker: str, made: Made) -> None:
    seen = Seen()
    agent = made(on_role=seen).start()
    assign(broker, "me", 1)
    seen.wait(CHOSEN)
    assert agent.leads(SCOPE) == 1
    assign(broker, "other", 2)
    seen.wait([*CHOSEN, (SECONDARY, 2)])
    assert agent.leads(SCOPE) is None
    agent.close()
    seen.wait([*CHOSEN, (SECONDARY, 2), (FENCED, 2)])
    assert len(seen.threads) == 1
    assert agent.failed is None


def test_agent_fences_itself_when_its_lease_ends_and_comes_back_with_a_renewal(
    broker: str, made: Made
) -> None:
    seen = Seen()
    agent = made(on_role=seen, fence_after_ms=400, renew_ms=2_000).start()
    assign(broker, "me", 1)
    until(lambda: seen.changes.count((PRIMARY, 1)) == 2, 20, f"{seen.changes}")
    assert seen.changes[:5] == [*CHOSEN, (FENCED, 1), (PRIMARY, 1)]
    assert agent.failed is None


def test_agent_whose_follower_stands_still_beats_degraded_until_it_moves(
    broker: str, made: Made
) -> None:
    load = [Load(stands_still=True)]
    made(load=lambda: load[0]).start()

    def beats(status: str) -> bool:
        found = [Codec().decode_fact(raw.value).data for raw in records(broker, BEATS)]
        return bool(found) and isinstance(found[-1], NodeBeat) and found[-1].status == status

    until(lambda: beats("degraded"), 20, "it says so")
    load[0] = Load()
    until(lambda: beats("healthy"), 20, "it moves again")


def test_slow_callback_delays_neither_renewals_nor_beats(broker: str, made: Made) -> None:
    go_on, told = threading.Event(), list[Role]()

    def slow(change: RoleChange) -> None:
        told.append(change.role)
        go_on.wait(20)

    agent = made(on_role=slow, renew_ms=200).start()
    assign(broker, "me", 1)
    until(lambda: agent.leads(SCOPE) == 1, 20, "leads")
    renewals, beats = set[int](), len(records(broker, BEATS))

    def renewed() -> bool:
        renewals.add(agent.control.scopes[SCOPE].renewed_at)
        return len(renewals) > 5

    until(renewed, 20, "the lease is renewed again and again")
    until(lambda: len(records(broker, BEATS)) > beats + 5, 20, "it beats on")
    assert told == [SECONDARY], "the callback has not returned yet"
    go_on.set()
    until(lambda: told == [SECONDARY, FENCED, PRIMARY], 5, f"{told}")


@pytest.mark.parametrize("what", ["on_role", "load"])
def test_failing_callback_fences_the_node_for_good_and_says_so(
    broker: str, made: Made, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    broken = threading.Event()

    def load() -> Load:
        if broken.is_set():
            raise ValueError("the user's own mistake")
        return Load()

    seen = Seen(PRIMARY if what == "on_role" else None)
    agent = made(on_role=seen, load=load, renew_ms=100).start()
    endpoint = agent.control.nodes["me"].endpoint
    assert alive(endpoint)
    with caplog.at_level(logging.ERROR):
        assign(broker, "me", 1)
        seen.wait(CHOSEN) if what == "on_role" else until(
            lambda: agent.leads(SCOPE) == 1, 20, "leads"
        )
        broken.set()
        until(lambda: agent.failed is not None, 20, f"{seen.changes}")
        seen.wait([*CHOSEN, (FENCED, 1)])
    assert isinstance(agent.failed, ValueError)
    assert "the user's own mistake" in caplog.text
    assert "Traceback" in caplog.text
    until(lambda: not alive(endpoint), 10, "the probe does not answer")
    assert agent.leads(SCOPE) is None
    with closing(ControlLog(broker)) as log:
        mark = BackupReleased(region="eu", operation_id="none")

        def alone() -> bool:
            """Nobody writes between two records of ours that are several renewals apart."""
            first = log.append("eu", mark, node_id="test")
            time.sleep(0.4)
            return log.append("eu", mark, node_id="test") == first + 1

        until(alone, 10, "no more renewals")


def test_damaged_control_log_fences_the_node(broker: str, made: Made) -> None:
    seen = Seen()
    agent = made(on_role=seen).start()
    assign(broker, "me", 1)
    seen.wait(CHOSEN)
    writer = Producer({"bootstrap.servers": broker, "log_level": 0})
    writer.produce("control", b"\x00random", partition=0)
    assert writer.flush(10) == 0
    seen.wait([*CHOSEN, (FENCED, 1)])
    assert isinstance(agent.failed, IntegrityError)
    assert agent.leads(SCOPE) is None


def test_async_agent_awaits_each_callback_before_the_next(broker: str, made: Made) -> None:
    agent, told = made(), list[tuple[str, Role]]()

    async def story() -> None:
        primary = asyncio.Event()

        async def on_role(change: RoleChange) -> None:
            told.append(("begin", change.role))
            await asyncio.sleep(0.1)
            told.append(("end", change.role))
            if change.role is PRIMARY:
                primary.set()

        async with AsyncNodeAgent(agent, on_role) as node:
            await asyncio.to_thread(assign, broker, "me", 1)
            await asyncio.wait_for(primary.wait(), 20)
            assert node.leads(SCOPE) == 1

    asyncio.run(story())
    roles = (SECONDARY, FENCED, PRIMARY, FENCED)
    assert told == [(what, role) for role in roles for what in ("begin", "end")]
    with pytest.raises(Refusal, match="before the start"):
        agent.listen(lambda _: None)


def test_async_callback_that_fails_fences_the_node(broker: str, made: Made) -> None:
    agent = made()

    async def story() -> None:
        async def on_role(change: RoleChange) -> None:
            if change.role is PRIMARY:
                raise ValueError("the user's own mistake")

        async with AsyncNodeAgent(agent, on_role):
            await asyncio.to_thread(assign, broker, "me", 1)
            while agent.failed is None:
                await asyncio.sleep(0.02)
            while agent.leads(SCOPE) is not None:
                await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(story(), 30))
    assert isinstance(agent.failed, ValueError)
