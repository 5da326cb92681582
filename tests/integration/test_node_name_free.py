"""Who has a node's name: who answers or renews lives; a closed port here is gone; else wait."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from everlode.adapters.clock import instant
from everlode.control.fold import ControlState, apply
from everlode.errors import Locked
from everlode.events.base import Envelope, Event, Fact
from everlode.events.control import LeaseRenewed, NodeJoined, ScopeAssigned
from everlode.membership.name import await_free
from everlode.membership.probe import ProbeEndpoint

pytestmark = pytest.mark.timeout(30)
SCOPE = "rewards/eu"


class Log:
    """A control log, folded."""

    def __init__(self, endpoint: str, incarnation: str = "old", host: str = "here") -> None:
        self.state = ControlState()
        self.incarnation = incarnation
        self.append(
            NodeJoined(
                node_id="n", region="eu", component="rewards", kind="", endpoint=endpoint,
                priority=0, incarnation=incarnation, host=host, process_id="41",
            )
        )  # fmt: skip
        self.append(
            ScopeAssigned(
                scope_name=SCOPE, new_epoch=1, primary_node="n", region="eu", reason="forced",
                based_on=0, based_on_epoch=0,
            )
        )  # fmt: skip

    def append(self, data: Event) -> None:
        envelope = Envelope(
            event_id="e", aggregate_id="a", version=0, origin="control", scope="", epoch=0, seq=0,
            stamp=0, occurred_at=instant(0), correlation_id="c",
        )  # fmt: skip
        self.state = apply(self.state, self.state.position + 1, Fact(envelope, data))

    def renew(self) -> ControlState:
        self.append(
            LeaseRenewed(
                scope_name=SCOPE, node_id="n", held_epoch=1, nonce="x",
                incarnation=self.incarnation,
            )
        )  # fmt: skip
        return self.state


@pytest.fixture
def closed() -> str:
    """An endpoint on which nobody listens."""
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{unused.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[str]:
    """An endpoint that accepts and says nothing, as a stopped process does."""
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def living() -> Iterator[Callable[[str], str]]:
    """Makes endpoints of living processes, by incarnation."""
    made: list[ProbeEndpoint] = []

    def make(incarnation: str) -> str:
        made.append(ProbeEndpoint(incarnation))
        return made[-1].endpoint

    yield make
    for endpoint in made:
        endpoint.close()


def free(log: Log, wait_s: float = 20) -> tuple[str, bool]:
    return await_free("n", "here", lambda: log.state, wait_s)


def test_name_that_nobody_has_is_free() -> None:
    assert await_free("n", "here", ControlState, 20) == ("", True)


@pytest.mark.parametrize("incarnation", ["old", ""], ids=["this build", "an older build"])
def test_name_of_one_that_answers_is_refused_with_its_place_and_the_way_out(
    living: Callable[[str], str], incarnation: str
) -> None:
    endpoint = living("old")
    with pytest.raises(Locked) as caught:
        free(Log(endpoint, incarnation))
    assert caught.value.message == (
        f"n runs already, in eu on here as process 41 ({endpoint}): it answers"
    )
    assert (caught.value.code, caught.value.exit_code) == ("name_taken", 11)
    assert "--node-id" in caught.value.hint


def test_name_of_one_whose_port_is_closed_is_free_at_once(closed: str) -> None:
    assert free(Log(closed)) == ("old", True)
    assert free(Log(closed, "", "")) == ("", True)


def test_port_that_another_node_has_meanwhile_is_as_good_as_closed(
    living: Callable[[str], str],
) -> None:
    assert free(Log(living("another"))) == ("old", True)


def test_port_of_another_machine_proves_nothing(
    closed: str, caplog: pytest.LogCaptureFixture
) -> None:
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        assert free(Log(closed, host="elsewhere"), 0.6) == ("old", False)
    assert time.monotonic() - began >= 0.6
    assert "does not answer: waiting" in caplog.text


def test_one_that_is_silent_is_waited_for_as_long_as_a_lease_lasts(silent: str) -> None:
    assert free(Log(silent), 1.5) == ("old", False)


def test_one_that_does_not_answer_but_renews_lives(silent: str) -> None:
    log = Log(silent)
    with pytest.raises(Locked, match="it renews its lease"):
        await_free("n", "here", log.renew, 20)
