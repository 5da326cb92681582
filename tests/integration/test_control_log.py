"""The control log's clients: append, follow, time out, halt. On librdkafka's mock broker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import pytest

from everlode.adapters.kafka_control import ControlLog
from everlode.adapters.kafka_follower import ControlFollower
from everlode.avro.codec import encode_fact
from everlode.control.fold import ControlState
from everlode.errors import IntegrityError, Unavailable
from everlode.events.base import Envelope, Fact
from everlode.events.control import LeaseRenewed, NodeJoined, ScopeAssigned
from everlode.events.health import DetectorStarted
from tests.support.facts.poison import BYTES, KEYS, append, mock_broker, spoil
from tests.support.world.region import until

pytestmark = pytest.mark.timeout(60)
SCOPE = "task-manager/eu"


@pytest.fixture
def broker() -> Iterator[str]:
    """Bootstrap address of a broker that lives as long as the test."""
    with mock_broker() as found:
        yield found


def joined(node: str) -> NodeJoined:
    return NodeJoined(
        node_id=node, region="eu", component="task-manager", kind="", endpoint="e", priority=1
    )


def assigned(node: str, epoch: int) -> ScopeAssigned:
    return ScopeAssigned(
        scope_name=SCOPE, new_epoch=epoch, primary_node=node, region="eu", reason="bootstrap",
        based_on=0, based_on_epoch=epoch - 1,
    )  # fmt: skip


def test_appended_records_come_back_in_order_to_every_follower(broker: str) -> None:
    with closing(ControlLog(broker)) as log:
        offsets = [log.append("a", joined(n), node_id=n) for n in "abc"]
        offsets.append(log.append(SCOPE, assigned("a", 1), node_id="co", scope="coordinator/eu"))
        assert offsets == sorted(set(offsets))
        seen: list[tuple[int, str]] = []

        def saw(offset: int, fact: Fact, state: ControlState) -> None:
            assert state.position == offset
            seen.append((offset, type(fact.data).__name__))

        with closing(ControlFollower(broker, saw, wait_ms=10).start()) as first:
            assert first.state.position == offsets[-1]  # level when `start` returns
            until(lambda: [o for o, _ in seen] == offsets, 10, "each was told")
            assert first.state.scopes[SCOPE].primary == "a"
            with closing(ControlFollower(broker, wait_ms=10).start()) as second:
                at = log.append(SCOPE, assigned("b", 1), node_id="co")
                states = [f.wait_for(lambda s: s.position >= at, 20) for f in (first, second)]
                assert states[0] == states[1]
                assert states[0].scopes[SCOPE].primary == "a"
                assert [v.offset for v in states[0].void] == [at]


def test_wait_that_is_not_fulfilled_says_so(broker: str) -> None:
    with (
        closing(ControlLog(broker)) as log,
        closing(ControlFollower(broker, wait_ms=10).start()) as follower,
    ):
        log.append("a", joined("a"), node_id="a")
        with pytest.raises(Unavailable):
            follower.wait_for(lambda s: s.epoch(SCOPE) > 0, 0.5)


def test_append_without_a_broker_is_unavailable_with_the_way_out() -> None:
    with closing(ControlLog("127.0.0.1:1")) as log, pytest.raises(Unavailable) as error:
        log.append("a", joined("a"), node_id="a")
    assert error.value.code == "control_unavailable"
    assert "majority" in error.value.hint


def test_follower_without_a_broker_is_unavailable() -> None:
    with closing(ControlFollower("127.0.0.1:1")) as follower, pytest.raises(Unavailable):
        follower.start(1)


@pytest.mark.parametrize("damage", [*BYTES, *KEYS, "wrong_topic"])
def test_record_that_does_not_belong_halts_the_follower(broker: str, damage: str) -> None:
    envelope = Envelope(
        event_id="e", aggregate_id="c", version=0, origin="control", scope="", epoch=0, seq=0,
        stamp=1, occurred_at=datetime(2026, 1, 1, tzinfo=UTC), correlation_id="c",
    )  # fmt: skip
    with closing(ControlLog(broker)) as log:
        at = log.append("a", joined("a"), node_id="a")
        with closing(ControlFollower(broker, wait_ms=10).start()) as follower:
            bad = (
                (b"c", encode_fact(envelope, DetectorStarted(partition=0, from_offset=0)))
                if damage == "wrong_topic"
                else spoil(damage, "c", encode_fact(envelope, joined("c")))
            )
            append(broker, "control", [bad])
            log.append("b", joined("b"), node_id="b")
            with pytest.raises(IntegrityError) as error:
                follower.wait_for(lambda s: "b" in s.nodes, 20)
            assert f"offset {at + 1}" in error.value.message
            assert (error.value.code, error.value.exit_code) == ("control_damaged", 13)
            assert "find out" in error.value.hint
            assert set(follower.state.nodes) == {"a"}  # it trusts nothing after the damage


def test_append_async_tells_the_offset_and_many_writers_agree(broker: str) -> None:
    with (
        closing(ControlLog(broker)) as log,
        closing(ControlFollower(broker, wait_ms=10).start()) as follower,
    ):
        offsets: list[int | None] = []

        def write(node: str) -> None:
            for epoch in range(1, 6):
                log.append(SCOPE, assigned(node, epoch), node_id=node)

        threads = [threading.Thread(target=write, args=(n,)) for n in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        renewal = LeaseRenewed(scope_name=SCOPE, node_id="a", held_epoch=5, nonce="n")
        log.append_async(SCOPE, renewal, node_id="a", done=offsets.append)
        log.close()  # waits for what is under way
        assert offsets[0] is not None
        at = offsets[0]
        state = follower.wait_for(lambda s: s.position >= at, 20)
        assert state.epoch(SCOPE) == 5
        assert len(state.void) == 5
