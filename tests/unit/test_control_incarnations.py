"""A node's name and its leases belong to one process at a time, in whatever order things happen."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.adapters.clock import instant
from everlode.control.fold import ControlState, apply
from everlode.control.roles import Role, Roles
from everlode.events.base import Envelope, Event, Fact
from everlode.events.control import LeaseRenewed, NodeJoined, ScopeAssigned

SCOPE = "rewards/eu"
FENCE_MS = 100


def fact(data: Event) -> Fact:
    envelope = Envelope(
        event_id="e", aggregate_id="a", version=0, origin="control", scope="coordinator/eu",
        epoch=0, seq=0, stamp=0, occurred_at=instant(0), correlation_id="c",
    )  # fmt: skip
    return Fact(envelope, data)


def joined(incarnation: str, replaces: str = "", node: str = "me") -> NodeJoined:
    return NodeJoined(
        node_id=node, region="eu", component="rewards", kind="", endpoint="127.0.0.1:1",
        priority=0, incarnation=incarnation, replaces=replaces, host="h", process_id="7",
    )  # fmt: skip


def renewed(incarnation: str, epoch: int = 1, nonce: str = "n") -> LeaseRenewed:
    return LeaseRenewed(
        scope_name=SCOPE, node_id="me", held_epoch=epoch, nonce=nonce, incarnation=incarnation
    )


def assigned(node: str, epoch: int) -> ScopeAssigned:
    return ScopeAssigned(
        scope_name=SCOPE, new_epoch=epoch, primary_node=node, region="eu", reason="forced",
        based_on=0, based_on_epoch=epoch - 1,
    )  # fmt: skip


def folded(*events: Event) -> ControlState:
    state = ControlState()
    for event in events:
        state = apply(state, state.position + 1, fact(event))
    return state


# -- the fold --------------------------------------------------------------------------------------


def test_name_is_had_by_the_first_and_then_by_who_names_him() -> None:
    state = folded(joined("a"), joined("b"), joined("b", "c"))
    assert state.incarnation("me") == "a"
    state = folded(joined("a"), joined("b", "a"), joined("c", "a"))
    assert (state.incarnation("me"), state.nodes["me"].process_id) == ("b", "7")


@pytest.mark.parametrize("order", list(permutations("abc")))
def test_of_all_that_name_the_same_one_the_first_in_log_order_has_the_name(
    order: tuple[str, ...],
) -> None:
    state = folded(joined("old"), *(joined(name, "old") for name in order))
    assert state.incarnation("me") == order[0]


def test_join_that_lands_twice_changes_nothing_and_late_nothing_either() -> None:
    state = folded(joined("a"), joined("a"), joined("b", "a"), joined("a"))
    assert state.incarnation("me") == "b"


def test_process_of_an_older_build_is_taken_over_and_does_not_come_back() -> None:
    state = folded(joined(""), joined(""), joined("a"), joined(""))
    assert state.incarnation("me") == "a"
    assert folded(joined(""), assigned("me", 1), renewed("")).scopes[SCOPE].renewed_at == 2


@pytest.mark.parametrize("order", list(permutations(["join", "old", "new"])))
def test_renewal_counts_only_of_the_process_that_has_the_name_by_then(
    order: tuple[str, ...],
) -> None:
    records = {"join": joined("b", "a"), "old": renewed("a"), "new": renewed("b")}
    state = folded(joined("a"), assigned("me", 1), *(records[name] for name in order))
    at = order.index
    counts = [2 + at("old")] if at("old") < at("join") else []
    counts += [2 + at("new")] if at("new") > at("join") else []
    assert state.scopes[SCOPE].renewed_at == max(counts, default=-1)


# -- the roles of several processes with one name --------------------------------------------------


class Process:
    """One process of the node `me`: reads the log at its own pace, and may be stopped."""

    def __init__(self, number: int) -> None:
        self.incarnation = f"i{number}"
        self.roles = Roles("me", (SCOPE,), FENCE_MS, self.incarnation)
        self.state = ControlState()
        self.dead = False
        self.sent = 0


class World:
    """One log and one clock; processes with one name that start, read, renew and die."""

    def __init__(self) -> None:
        self.log: list[Event] = []
        self.now = 0
        self.processes: list[Process] = []

    def start(self) -> Process:
        """As an agent does: read all, take the name over, read that."""
        process = Process(len(self.processes))
        self.processes.append(process)
        self.read(process, len(self.log))
        before = process.state.incarnation("me")
        self.log.append(joined(process.incarnation, before))
        self.read(process, len(self.log))
        if process.state.incarnation("me") != process.incarnation:
            process.dead = True  # another one was first
            return process
        if all(p.dead for p in self.processes if p.incarnation == before):
            process.roles.gone(before, self.now)
        process.roles.caught_up(self.now)
        return process

    def read(self, process: Process, most: int) -> None:
        for data in self.log[process.state.position + 1 :][:most]:
            process.state = apply(process.state, process.state.position + 1, fact(data))
            process.roles.observe(data, process.state, self.now)

    def renew(self, process: Process) -> None:
        for scope, epoch in process.roles.renewable().items():
            process.sent += 1
            nonce = f"{process.incarnation}/{process.sent}"
            process.roles.sent(scope, nonce, self.now)
            self.log.append(renewed(process.incarnation, epoch, nonce))

    def leading(self) -> list[str]:
        return [
            p.incarnation
            for p in self.processes
            if not p.dead and p.roles.leads(SCOPE, self.now) is not None
        ]


def test_successor_of_one_that_is_gone_leads_at_once() -> None:
    world = World()
    first = world.start()
    world.log.append(assigned("me", 1))
    world.read(first, 1)
    world.renew(first)
    world.read(first, 1)
    assert world.leading() == ["i0"]
    first.dead = True
    second = world.start()
    world.renew(second)
    world.read(second, 1)
    assert world.leading() == ["i1"]


def test_successor_of_one_that_was_stopped_waits_its_lease_out_and_the_first_stays_fenced() -> None:
    world = World()
    first = world.start()
    world.log.append(assigned("me", 1))
    world.read(first, 1)
    world.renew(first)
    world.read(first, 1)
    world.now = 60
    second = world.start()
    world.renew(second)
    world.read(second, 1)
    assert world.leading() == ["i0"]
    assert second.roles.next_ms(60) == 100
    world.now = 100
    assert world.leading() == []
    world.now = 150
    world.renew(second)
    world.read(second, 1)
    world.now = 160
    assert world.leading() == ["i1"]
    world.renew(first)  # it comes back: it has not read that it was replaced
    world.read(first, 100)
    world.read(second, 100)
    assert (world.leading(), first.roles.renewable()) == (["i1"], {})
    assert [c.role for c in first.roles.changes(160)][-1] is Role.SECONDARY


def test_one_that_comes_after_two_waits_for_the_first_though_the_second_is_gone() -> None:
    world = World()
    first = world.start()
    world.log.append(assigned("me", 1))
    world.read(first, 1)
    world.renew(first)
    world.read(first, 1)
    world.start().dead = True
    third = world.start()
    world.renew(third)
    world.read(third, 1)
    assert world.leading() == ["i0"]


PLAYS = st.tuples(st.sampled_from(["read", "all", "renew", "kill", "wait"]), st.integers(0, 3))


@given(st.lists(st.one_of(PLAYS, st.tuples(st.sampled_from(["start", "me"]), st.just(0)))))
def test_two_processes_never_lead_at_once(plays: list[tuple[str, int]]) -> None:
    world = World()
    world.start()
    world.log.append(assigned("me", 1))
    for play, number in plays:
        process = world.processes[min(number, len(world.processes) - 1)]
        if play == "start" and len(world.processes) < 4:
            world.start()
        elif play == "me":
            world.log.append(
                assigned("me", sum(isinstance(x, ScopeAssigned) for x in world.log) + 1)
            )
        elif play == "wait":
            world.now += 10 + 30 * number
        elif process.dead:
            continue
        elif play == "kill":
            process.dead = True
        elif play == "renew":
            world.renew(process)
        else:
            world.read(process, 1 if play == "read" else len(world.log))
        assert len(world.leading()) <= 1
