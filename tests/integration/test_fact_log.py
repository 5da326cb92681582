"""Of two writers of a fact topic the later one has all that the earlier one wrote, and ends it.

Each test once more with the bug planted that it should find, as in `faults/test_planted_bugs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from itertools import count

import pytest
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from everlode.adapters.clock import millis
from everlode.adapters.kafka_admin import admin_client
from everlode.adapters.kafka_writer import Writer
from everlode.errors import FencedOut
from everlode.events.barriers import Barrier, Marker
from everlode.log.facts import FactLog
from everlode.stack.provider import StackProvider

SCOPE = "rewards/eu"
NUMBERS = count(1)


class Node:
    """Writes barriers, and has read some."""

    def __init__(self, bootstrap: str, origin: str, name: str) -> None:
        self.name, self.read = name, list[int]()
        self.log = FactLog(
            bootstrap, origin, "rewards", 1, lambda f: self.read.append(f.fact.envelope.seq),
            wait_ms=10,
        )  # fmt: skip

    def write(self, epoch: int) -> None:
        """One record."""
        log = self.log
        marker = Marker(log.topic, log.origin, SCOPE, epoch, self.name)
        now = datetime.now(UTC).replace(microsecond=0)
        mark = marker.envelope(0, log.seqs[0] + 1, log.next_stamp(millis(now)), now)
        log.append([(0, mark, Barrier(writer_id=self.name))])


@pytest.fixture
def nodes(everlode_small_stack: StackProvider) -> Iterator[tuple[Node, Node]]:
    """Two of a topic that nobody else has."""
    endpoints = everlode_small_stack.endpoints
    assert endpoints is not None
    bootstrap = endpoints.parts("eu").bootstrap
    origin = f"lab.{next(NUMBERS)}"
    admin = admin_client(bootstrap)  # kept until it has answered
    for made in admin.create_topics([NewTopic(f"{origin}.rewards", 1)]).values():
        made.result(30)
    with ExitStack() as held:
        old, heir = (Node(bootstrap, origin, name) for name in ("old", "heir"))
        held.enter_context(closing(old.log))
        held.enter_context(closing(heir.log))
        yield old, heir


def test_who_had_the_log_before_is_refused_though_it_has_heard_of_nothing(
    nodes: tuple[Node, Node],
) -> None:
    """The broker refuses it: neither a lease nor an opened epoch has told it."""
    old, heir = nodes
    old.log.open({SCOPE: 1})
    old.write(1)
    heir.log.open({SCOPE: 2})
    with pytest.raises(FencedOut):
        old.write(1)
    heir.write(2)


def test_what_is_written_up_to_the_fence_is_read_by_whoever_fences(
    nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its look before the fence and the fence itself the other one wrote once more."""
    old, heir = nodes
    old.log.open({SCOPE: 1})
    old.write(1)
    fence = Writer.open

    def late(writer: Writer) -> None:
        old.write(1)
        fence(writer)

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "open", late)
        heir.log.open({SCOPE: 2})
    assert heir.read == [1, 2]
    heir.write(2)
    with closing(Node(heir.log._bootstrap, heir.log.origin, "third").log) as third:
        third.read_to_ends(30)
        assert third.seqs == [3], "a seq twice, or a gap"


def test_planted_skip_of_init_producer_id_turns_its_test_red(
    nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each writer has an id of its own, so none takes another's over."""
    honest = Writer.__init__

    def alone(self: Writer, bootstrap: str, transactional_id: str) -> None:
        honest(self, bootstrap, f"{transactional_id}.{id(self)}")

    monkeypatch.setattr(Writer, "__init__", alone)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_who_had_the_log_before_is_refused_though_it_has_heard_of_nothing(nodes)


def test_planted_skip_of_the_read_to_the_end_turns_its_test_red(
    nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the fence nothing is read."""
    honest = FactLog._read_on

    def before(self: FactLog, timeout_s: float) -> None:
        if self._writer is None:
            honest(self, timeout_s)

    monkeypatch.setattr(FactLog, "_read_on", before)
    with pytest.raises(AssertionError, match=r"\[1\] == \[1, 2\]"):
        test_what_is_written_up_to_the_fence_is_read_by_whoever_fences(nodes, monkeypatch)
