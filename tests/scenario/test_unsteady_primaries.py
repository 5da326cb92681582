"""What a coordinator does about a primary that lives and does not do its work, as transcripts.

A line that begins with `>` happens; the line below it is what the coordinator does then, again and
again until it waits. Tasks are led by `a` in epoch 1; `b` and `c` could follow, and all three beat.
Of several the best by name is chosen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.control.cooldown import CAP_MS, FIRST_MS, Cooldown, decided
from everlode.control.snapshot import from_bytes, to_bytes
from everlode.events.control import OperatorAsked
from everlode.events.nodes import NodeStatus
from everlode.failover.decisions import Basis, Loss, decision
from everlode.failover.planner import Beating, Decide, Stuck, View, candidates
from everlode.failover.unsteady import replacement
from tests.unit.test_control_grounds import COORDINATOR, TASKS, Log

BEGAN_MS = 1_800_000_000_000


class Region:
    """The logs, and a coordinator that remembers nothing between two steps."""

    def __init__(self) -> None:
        self.log = Log()
        self.log.now_ms = BEGAN_MS
        for node in ("a", "b", "c"):
            self.log.join(node)
        self.log.take(COORDINATOR, "co-1")
        self.log.take(TASKS, "a")
        self.beats = dict.fromkeys(("a", "b", "c"), Beating(0, 0))
        self.opened = self.opened_ms = 0
        self.open()

    def open(self) -> None:
        """The primary renews its lease, and opens its epoch."""
        self.log.renew(TASKS)
        self.opened, self.opened_ms = self.log.state.epoch(TASKS), self.log.now_ms

    def ask(self, verb: str, node: str = "") -> None:
        known = self.log.state.nodes.get(node)
        data = OperatorAsked.model_validate(
            {"operation_id": f"op-{len(self.log.records)}", "verb": verb, "scope_name": TASKS,
             "node_id": node, "operator": "ann", "reason": "", "expires_ms": 2**50,
             "based_on": self.log.state.position, "based_on_epoch": self.log.state.epoch(TASKS),
             "changed_at": known.changed_at if known else None}
        )  # fmt: skip
        self.log.append(TASKS, data)

    def happens(self, line: str) -> None:
        match line.split():
            case [node, "says", "degraded"]:
                self.beats[node] = Beating(0, 0, "degraded")
                self.log.move(node, NodeStatus.DEGRADED)
            case [node, "says", "healthy"]:
                self.beats[node] = Beating(0, 0)
                self.log.move(node, NodeStatus.HEALTHY)
            case [node, "is", "lost"]:
                self.log.move(node, NodeStatus.LOST)
                del self.beats[node]
            case ["the", "lease", "is", "renewed"]:
                self.log.renew(TASKS)
            case ["the", "epoch", "opens"]:
                self.open()
            case [seconds, "s", "pass"]:
                self.log.now_ms += int(seconds) * 1000
            case ["ask", verb, *node]:
                self.ask(verb, *node)
            case ["others", "decide", node]:
                self.log.take(TASKS, node)
                self.open()
            case other:
                raise AssertionError(other)

    def view(self) -> View[None]:
        state = self.log.state
        primary = state.nodes[state.scopes[TASKS].primary]
        return View(state, primary, self.beats, self.opened, False, None)

    def acts(self) -> str:
        """The first thing that it does, or why it waits."""
        view = self.view()
        led = self.log.state.epoch(TASKS)
        match replacement(view, self.log.now_ms, self.opened_ms if self.opened == led else None):
            case Decide(scope, epoch, primary, _):
                loss = Loss(view.node, reason="node-unsteady")
                made = decision(
                    Basis(view.control, view.control.epoch(COORDINATOR)), "eu", scope, primary, loss
                )
                assert self.log.land(made) is None
                return f"{primary} is to lead in epoch {epoch}"
            case Stuck(reason):
                return re.sub(r"until [^;]+", lambda _: f"for {self.cools()} s", reason)
            case _:
                return "nothing"

    def cools(self) -> int:
        until_ms = self.log.state.cooldowns[TASKS].until_from(self.opened_ms)
        return (until_ms - self.log.now_ms) // 1000


def played(script: str) -> str:
    region, found = Region(), list[str]()
    for line in script.splitlines():
        if line.startswith("> "):
            region.happens(line[2:])
            found += [line, f"  {region.acts()}"]
    return "\n".join(found)


SCRIPTS = {
    "it is replaced by one that is well, and once only": """\
        > a says degraded
          b is to lead in epoch 2
        > the epoch opens
          nothing
        """,
    "a secondary is not": """\
        > b says degraded
          nothing
        """,
    "nobody who is not well himself follows it": """\
        > b says degraded
          nothing
        > c says degraded
          nothing
        > a says degraded
          task-manager/eu keeps a: no other node is well
        > c says healthy
          c is to lead in epoch 2
        """,
    "a cause that moves on with the scope moves it more and more rarely": """\
        > a says degraded
          b is to lead in epoch 2
        > the epoch opens
          nothing
        > b says degraded
          task-manager/eu keeps b: the scope cools down for 30 s; everlode scope ack ends that
        > 29 s pass
          task-manager/eu keeps b: the scope cools down for 1 s; everlode scope ack ends that
        > 1 s pass
          c is to lead in epoch 3
        > the epoch opens
          nothing
        > a says healthy
          nothing
        > c says degraded
          task-manager/eu keeps c: the scope cools down for 60 s; everlode scope ack ends that
        > 60 s pass
          a is to lead in epoch 4
        """,
    "a recovery that is slower than the cool-down is not overtaken by it": """\
        > a says degraded
          b is to lead in epoch 2
        > the lease is renewed
          nothing
        > b says degraded
          task-manager/eu keeps b: it has not opened epoch 2 yet
        > 300 s pass
          task-manager/eu keeps b: it has not opened epoch 2 yet
        > the epoch opens
          task-manager/eu keeps b: the scope cools down for 30 s
        > 30 s pass
          c is to lead in epoch 3
        """,
    "an operator ends the cool-down": """\
        > a says degraded
          b is to lead in epoch 2
        > the epoch opens
          nothing
        > b says degraded
          task-manager/eu keeps b: the scope cools down for 30 s; everlode scope ack ends that
        > ask ack b
          task-manager/eu keeps b: the scope cools down for 30 s; everlode scope ack ends that
        > ask ack
          c is to lead in epoch 3
        """,
    "what is lost waits for no cool-down, and is another's to handle": """\
        > a says degraded
          b is to lead in epoch 2
        > the epoch opens
          nothing
        > b is lost
          nothing
        > others decide c
          nothing
        > c says degraded
          task-manager/eu keeps c: the scope cools down for 30 s; everlode scope ack ends that
        """,
    "half an hour without one forgives all": """\
        > a says degraded
          b is to lead in epoch 2
        > the epoch opens
          nothing
        > a says healthy
          nothing
        > 1831 s pass
          nothing
        > b says degraded
          a is to lead in epoch 3
        > the epoch opens
          nothing
        > a says degraded
          task-manager/eu keeps a: the scope cools down for 30 s; everlode scope ack ends that
        """,
    "a pause and an operator's wish go before": """\
        > ask pause
          nothing
        > a says degraded
          task-manager/eu keeps a: task-manager/eu: automatic failover is paused by ann
        > ask resume
          b is to lead in epoch 2
        """,
}  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_unsteady_primary(script: str) -> None:
    wanted = dedent(script).rstrip()
    assert played(wanted) == wanted


def test_decision_for_a_primary_that_is_well_again_is_void() -> None:
    region = Region()
    region.happens("a says degraded")
    view = region.view()
    loss = Loss(view.node, reason="node-unsteady")
    late = decision(Basis(view.control, 1), "eu", TASKS, "b", loss)
    region.happens("a says healthy")
    assert region.log.land(late) == "a is healthy since offset 7"
    assert TASKS not in region.log.state.cooldowns


def test_cooldown_is_in_the_snapshot_and_the_same_for_who_begins_with_it() -> None:
    region = Region()
    region.happens("a says degraded")
    region.acts()
    state = region.log.state
    assert state.cooldowns[TASKS].times == 1
    assert from_bytes(to_bytes(state)) == state


def test_degraded_node_leads_when_nobody_else_can() -> None:
    """It is better than nobody, and behind all others, a returning one too."""
    region = Region()
    region.happens("b says degraded")
    region.log.move("c", NodeStatus.LOST)
    region.log.move("c", NodeStatus.REJOINING)
    region.happens("a is lost")
    state = region.log.state
    found = candidates(View(state, state.nodes["a"], region.beats, 1, False, None))
    assert [(c.node_id, c.excluded) for c in found] == [
        ("c", ""), ("b", ""), ("a", "it is the lost node"),
    ]  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(["node-unsteady", "node-lost"]), st.integers(0, 2**22))))
def test_cooldown_is_between_its_bounds_and_never_shorter_in_a_row(
    made: list[tuple[str, int]],
) -> None:
    log = Log()
    known: Mapping[str, Cooldown] = {}
    log.take(TASKS, "a")
    data, now, cools = log.state.scopes[TASKS].decision, BEGAN_MS, None
    for reason, later in made:
        now += later
        head = log.records[0].envelope.model_copy(update={"stamp": now << 16})
        known = decided(known, data.model_copy(update={"reason": reason}), head)
        before, cools = cools, known.get(TASKS)
        if reason == "node-unsteady":
            assert cools is not None
            assert FIRST_MS <= cools.until_ms - now <= CAP_MS
            if before is not None and now <= before.until_ms + CAP_MS:
                assert cools.until_ms - cools.since_ms >= before.until_ms - before.since_ms
                assert cools.times == before.times + 1
