"""The plan from what runs to what is wanted: its order, what it refuses, and that it gets there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.events.services import BY_NODE
from everlode.stack.services import ALL, Member, counted, default_priority
from everlode.topics import Topology
from everlode.topology.check import check
from everlode.topology.model import READERS, Network
from everlode.topology.plan import (
    Lead,
    Leave,
    Plan,
    Replace,
    Running,
    Start,
    as_row,
    begun,
    carried_out,
    plan,
)
from everlode.topology.render import rendered

EU = Topology(regions=("eu",))


def network(*members: Member, topology: Topology = EU, mirrors: bool | None = True) -> Network:
    return Network(topology, mirrors, frozenset(members))


def of(**counts: int) -> Network:
    """Members of eu; a kind's hyphen is an underscore here."""
    return network(*counted({k.replace("_", "-"): n for k, n in counts.items()}, ("eu",)))


def steps(found: Plan) -> list[str]:
    assert found.refused == ()
    rows = [as_row(step) for step in found.steps]
    return [f"{row['step']} {row.get('process') or row['scope']}" for row in rows]


WATCH = {"detector": 1, "coordinator": 1}


def test_new_network_starts_in_the_published_order_and_each_scope_gets_a_primary() -> None:
    wanted = of(
        coordinator=1, detector=1, projector=1, reward_distributor=1, validator=2,
        miner_registry=1, task_manager=2,
    )  # fmt: skip
    assert steps(plan(wanted, Running(network()))) == [
        "start eu/tm-1", "start eu/tm-2", "start eu/mr-1", "start eu/val-1", "start eu/val-2",
        "start eu/rd-1", "start eu/proj-1", "start eu/det-1", "start eu/co-1",
        "lead task-manager/eu", "lead miner-registry/eu", "lead validation/eu", "lead rewards/eu",
    ]  # fmt: skip


def test_what_grows_comes_before_what_shrinks_and_the_highest_number_leaves_first() -> None:
    now = of(task_manager=4, miner_registry=1, **WATCH)
    wanted = of(task_manager=2, miner_registry=2, **WATCH)
    assert steps(plan(wanted, Running(now))) == [
        "start eu/mr-2", "leave eu/tm-4", "leave eu/tm-3",
    ]  # fmt: skip


def test_who_sees_to_the_work_of_others_leaves_after_them() -> None:
    now = of(task_manager=2, projector=2, detector=2, coordinator=2)
    wanted = of(task_manager=1, projector=1, detector=1, coordinator=1)
    assert steps(plan(wanted, Running(now))) == [
        "leave eu/tm-2", "leave eu/co-2", "leave eu/det-2", "leave eu/proj-2",
    ]  # fmt: skip


def told(found: Network, **settings: int) -> Network:
    given = tuple(sorted(settings.items()))
    return found._replace(members=frozenset(m._replace(settings=given) for m in found.members))


def test_changed_priority_and_policy_replace_whom_they_are_about_and_say_what_changes() -> None:
    now = of(task_manager=2, **WATCH)
    first = Member("eu", "task-manager", 1, 99)
    wanted = network(*(now.members - {first}), first._replace(priority=7, settings=(("x", 3),)))
    (step,) = plan(wanted, Running(now)).steps
    assert isinstance(step, Replace)
    assert step.why == "priority 99 → 7, x not given → 3"


def test_changed_specialties_replace_whom_they_are_about_and_say_what_changes() -> None:
    now = of(task_manager=2, **WATCH)
    first = Member("eu", "task-manager", 1, 99)
    special = first._replace(specialties=("training", "inference"))
    wanted = network(*(now.members - {first}), special)
    (step,) = plan(wanted, Running(now)).steps
    assert isinstance(step, Replace)
    assert (step.member, step.why) == (special, "specialties none → training, inference")
    (back,) = plan(now, Running(wanted)).steps
    assert (back.member, back.why) == (first, "specialties training, inference → none")  # type: ignore[union-attr]
    (start,) = plan(wanted, Running(network(*(now.members - {first})))).steps
    assert start.why == "priority 99, special in training, inference"


def test_longer_leases_reach_coordinators_first_and_shorter_ones_last() -> None:
    short = told(of(task_manager=1, **WATCH), fence_after_ms=4000)
    long = told(of(task_manager=1, **WATCH), fence_after_ms=8000)
    assert steps(plan(long, Running(short))) == [
        "replace eu/co-1", "replace eu/tm-1", "replace eu/det-1",
    ]  # fmt: skip
    assert steps(plan(short, Running(long)))[-1] == "replace eu/co-1"


def test_apply_that_was_killed_goes_on_with_what_it_had_begun() -> None:
    now, wanted = of(task_manager=3, **WATCH), of(task_manager=2, **WATCH)
    (leave,) = plan(wanted, Running(now)).steps
    half = begun(Running(now), leave)
    assert half.network == wanted
    assert plan(wanted, half).steps == (leave,)
    assert plan(now, half).steps == (Start(leave.member),)  # type: ignore[union-attr]
    start = Start(Member("eu", "task-manager", 3, 97))
    half = begun(Running(wanted), start)
    assert plan(now, half).steps == (start,)
    assert plan(now, carried_out(half, start)).steps == ()


def test_member_that_is_down_is_waited_for() -> None:
    now = of(task_manager=2, **WATCH)
    found = plan(now, Running(now, down=frozenset({"eu/tm-2"})))
    assert steps(found) == ["start eu/tm-2"]


REFUSED: dict[str, tuple[Network, Network, str]] = {
    "partitions": (
        network(topology=Topology(regions=("eu",), partitions=5)), network(),
        "partitions: 5; the stack has 2",
    ),
    "a region more": (
        network(topology=Topology(regions=("eu", "us"))), network(),
        "regions: eu, us; the stack has eu: regions are named once",
    ),
    "a region less": (
        network(), network(topology=Topology(regions=("eu", "us"))),
        "regions: eu; the stack has eu, us",
    ),
    "a region of another name": (
        network(topology=Topology(regions=("us",))), network(), "regions: us; the stack has eu",
    ),
    "members of another region": (
        Network(Topology(), None, frozenset({Member("us", "projector", 1)})), network(),
        "clusters.us: the stack has eu only",
    ),
    "copies": (
        network(topology=Topology(regions=("eu",), control_replication=5, control_min_insync=3)),
        network(), "control_replication: 5; the stack has 3",
    ),
    "mirrors": (network(mirrors=False), network(), "mirrors: the stack was made with true"),
    "the last of a cluster": (
        of(coordinator=1), of(task_manager=1, coordinator=1), "the last task-manager would leave",
    ),
    "the last of its kind of validators": (
        of(validator=1, **WATCH), of(validator=2, **WATCH),
        "the last validator of kind peer-review would leave",
    ),
    "all": (network(), of(task_manager=1, **WATCH), "the last task-manager would leave"),
    "nobody sees that it leaves": (
        of(task_manager=1, coordinator=1), of(task_manager=2, coordinator=1),
        "a task-manager leaves, and no detector would see to its work",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("wanted", "now", "why"), REFUSED.values(), ids=REFUSED)
def test_what_no_step_can_change_is_refused_and_nothing_is_done(
    wanted: Network, now: Network, why: str
) -> None:
    found = plan(wanted, Running(now))
    assert found.steps == ()
    assert any(why in reason for reason in found.refused), found.refused


def test_field_that_the_file_does_not_name_contradicts_nothing() -> None:
    now = network(topology=Topology(regions=("eu",), partitions=7), mirrors=False)
    assert plan(network(mirrors=None), Running(now)) == Plan(())


# -- laws ------------------------------------------------------------------------------------------

REGIONS = ("eu", "us")
TWO = Topology(regions=REGIONS)
SPECIALTIES = st.sampled_from([(), ("training",), ("inference", "training")])


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """What a right file can say: every region watched, every service's kinds there."""
    settings = draw(
        st.dictionaries(st.sampled_from(sorted(READERS)), st.integers(1, 3), max_size=3)
    )
    members = set()
    for region in REGIONS:
        for kind in ALL:
            numbers = draw(st.sets(st.integers(1, 6), min_size=1, max_size=4))
            if kind == "validator":
                numbers |= {1, 2, 3}
            for n in numbers:
                rank = draw(st.integers(0, 2)) if kind in BY_NODE else 0
                rank = rank or default_priority(kind, n)
                given = tuple((s, v) for s, v in sorted(settings.items()) if kind in READERS[s])
                special = draw(SPECIALTIES) if kind == "task-manager" and n > min(numbers) else ()
                members.add(Member(region, kind, n, rank, given, special))
    return network(*members, topology=TWO, mirrors=None)


@given(networks(), networks())
def test_plan_that_is_carried_out_leads_to_what_is_wanted(wanted: Network, now: Network) -> None:
    running = Running(now._replace(mirrors=True))
    for step in plan(wanted, running).steps:
        running = carried_out(begun(running, step), step)
    assert running.network.members == wanted.members
    assert (running.leaving, running.down) == (frozenset(), frozenset())
    assert plan(wanted, running) == Plan(())


@given(networks())
def test_what_runs_as_wanted_needs_no_step(wanted: Network) -> None:
    assert plan(wanted, Running(wanted._replace(mirrors=True))) == Plan(())


@given(networks(), networks(), st.data())
def test_plan_that_is_cut_off_anywhere_leads_there_too(
    wanted: Network, now: Network, data: Any
) -> None:
    running = Running(now._replace(mirrors=True))
    found = plan(wanted, running).steps
    cut = data.draw(st.integers(0, len(found)))
    for step in found[:cut]:
        running = carried_out(begun(running, step), step)
    if cut < len(found) and data.draw(st.booleans()):
        running = begun(running, found[cut])  # killed while it waits
    rest = plan(wanted, running).steps
    assert len(rest) <= len(found) - cut + 2  # a scope's first primary may be asked for again
    for step in rest:
        running = carried_out(begun(running, step), step)
    assert running.network.members == wanted.members
    assert plan(wanted, running) == Plan(())


@given(networks(), networks())
def test_no_cluster_is_ever_without_a_node(wanted: Network, now: Network) -> None:
    """Whatever the step: of what both have, somebody is there to take over."""
    running = Running(now._replace(mirrors=True))
    for step in plan(wanted, running).steps:
        running = carried_out(running, step)
        there = {(m.region, m.kind, m.validator_kind) for m in running.network.members}
        assert {(m.region, m.kind, m.validator_kind) for m in now.members} <= there


@given(networks())
def test_network_that_is_shown_is_read_as_itself(wanted: Network) -> None:
    lowest = {"beat_ms": 100, "renew_ms": 100, "fence_after_ms": 20_000, "stall_s": 5}
    lowest |= {"link_stale_ms": 2_000, "region_suspected_ms": 10_000}
    members = {
        m._replace(settings=tuple((n, v + lowest.get(n, 0)) for n, v in m.settings))
        for m in wanted.members
    }
    text = rendered(wanted._replace(members=frozenset(members)))
    found = check(text)
    assert found.network is not None, (text, found.findings)
    assert found.network.members == members
    assert plan(found.network, Running(network(*members, topology=TWO))) == Plan(())


def test_every_step_of_a_change_is_of_one_kind() -> None:
    assert {type(s) for s in plan(of(task_manager=1, **WATCH), Running(network())).steps} == {
        Start, Lead,
    }  # fmt: skip
    leaves = plan(of(task_manager=1, **WATCH), Running(of(task_manager=2, **WATCH))).steps
    assert {type(s) for s in leaves} == {Leave}
