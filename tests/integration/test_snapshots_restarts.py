"""A network whose writers are killed while they write: who starts then knows all, key by key.

One lively region, all four components. What starts: each component's next primary, its secondary,
who looks at others' facts (`sees`), and a coordinator. `LONG_TESTS` kills at more moments.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from everlode.avro.codec import Codec
from everlode.avro.snapshots import decode_snapshot
from everlode.control.fold import ScopeState
from everlode.events.barriers import Barrier, EpochOpened
from everlode.events.catalogue import FACT_COMPONENTS
from everlode.events.control import ScopeAssigned
from everlode.events.snapshots import SnapshotEntry
from everlode.events.states import FraudState, State, ValidationState
from everlode.failover.inbox import Inbox
from everlode.failover.policy import Policy
from everlode.log.facts import FactLog
from everlode.log.folds import AtHand
from everlode.log.memory import Memory
from everlode.primary.component import Component
from everlode.primary.seen import Seen
from everlode.rewards.component import RewardComponent
from everlode.state.ended import ended
from everlode.state.fraudrules import copied_solution, handed_in
from everlode.tasks.component import TaskComponent
from everlode.tasks.policy import TaskPolicy
from everlode.topics.names import archive_topic
from everlode.validations.component import ValidationComponent
from everlode.validations.policy import ValidationPolicy
from tests.support.world.known import Node, both, component_of, parts_of, same
from tests.support.world.lively import Lively
from tests.support.world.region import PARTITIONS, Region

LONG = bool(os.environ.get("LONG_TESTS"))
pytestmark = pytest.mark.timeout(1200 if LONG else 240)
DYING = "tests.support.processes.dying_node"
KILLS = ("mark", "often") + ("often", "mark") * 5 * LONG
"""Within the writing of a snapshot, or whenever it is."""
KINDS = {
    "tasks": "task-manager",
    "miners": "miner-registry",
    "validations": "validator",
    "rewards": "reward-distributor",
}
NOW = datetime.now(UTC).replace(microsecond=0)
LEAVE = ("tasks", "validations", "rewards")
"""Whose aggregates leave the memory once they have ended."""


@pytest.fixture
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    with Region(tmp_path_factory.mktemp("region")) as made:
        yield made


def live_and_die(region: Region, lively: Lively, kill: str, chance: random.Random) -> None:
    """All four lead for some seconds, and are dead then."""
    number = len(region.nodes)
    names = {component: f"eu-{kind}-{number}" for component, kind in KINDS.items()}
    nodes = {
        component: region.node(KINDS[component], name, module=DYING, die=kill)
        for component, name in names.items()
    }
    for node in nodes.values():
        node.ready()
    epochs = {component: region.assign(component, name) for component, name in names.items()}
    for component, node in nodes.items():
        node.leads(epochs[component])
    end = time.monotonic() + chance.uniform(2.5, 4.5)
    lively.go_on(lambda: time.monotonic() > end and min(archived(region).values()) > 10)
    if kill == "mark":
        for node in nodes.values():
            node.signal(signal.SIGUSR1)
        lively.go_on(lambda: all(node.process.poll() is not None for node in nodes.values()))
        assert {node.process.returncode for node in nodes.values()} == {-signal.SIGKILL}
    for node in chance.sample([*nodes.values()], len(nodes)):
        node.kill()
        time.sleep(chance.uniform(0, 0.2))


def archived(region: Region) -> dict[str, int]:
    """Records in the archives."""
    return {name: len(region.records(archive_topic("eu.1", name))) for name in LEAVE}


def same_view_of_its_own(fresh: Component, full: Component, states: dict[str, State]) -> None:
    """What the fraud rules look at is the same."""
    seen, whole = (component.view_of("eu") for component in (fresh, full))
    validations = [s for s in states.values() if isinstance(s, ValidationState)]
    voters = {vote.voter_id for state in validations for vote in state.votes}
    for miner in voters | {state.miner_id for state in validations}:
        assert seen.work(miner) == whole.work(miner)
        assert seen.honeypots(miner) == whole.honeypots(miner)
        assert seen.reviews(miner) == whole.reviews(miner)
    assert set(seen.audits_due()) == set(whole.audits_due())
    for one in map(handed_in, validations):
        found = copied_solution(one, seen.firsts(one.solution_sha256))
        assert found == copied_solution(one, whole.firsts(one.solution_sha256))


def forgets(region: Region, secondary: Node, name: str) -> None:
    """A secondary, which has folded all, has nothing in memory that its primary has archived."""
    codec = Codec()
    raws = region.records(archive_topic("eu.1", name))
    entries = [decode_snapshot(codec, raw.value) for raw in raws]
    named = [entry for entry in entries if isinstance(entry, SnapshotEntry)]
    newest = {(entry.component, entry.key): entry for entry in named}
    assert newest
    folds = secondary.component.folds
    with closing(FactLog(region.bootstrap, "eu.1", name, PARTITIONS, lambda _: None)) as log:
        memory = Memory(folds, log, parts_of(region))
        memory.start()
        memory._leave(named)
        again = {key for key, entry in newest.items() if folds.version(*key) > entry.version}
        left = {(c, k) for c, states in folds.states.items() for k, s in states.items() if ended(s)}
        assert not (left & newest.keys()) - again
        for _, key in folds.dirty.oldest(time.monotonic()):
            folds.kept(key)  # what it would have to write if it led now is there
        memory.close()


def barring(component: ValidationComponent) -> set[str]:
    """Confirmed cases on solutions that are not judged yet: whose rewards they are to bar."""
    cases = component.folds.states["fraud"].values()
    return {
        state.key
        for state in cases
        if isinstance(state, FraudState)
        and state.status == "confirmed"
        and state.validation_id in component.pending
    }


def view(component: Component, bars: set[str]) -> dict[str, object]:
    """What is known of what is only looked at; of cases those that a reward may wait for."""
    match component:
        case TaskComponent():
            roster = component._roster
            lists = {
                f"{name} {kind}": {one.key for one in listed.miners}
                for name, listing in (("all", roster._all), ("open", roster._open))
                for kind, listed in listing.items()
            }
            trust = component._outliers.at(NOW, len(roster))
            miners = {key: one._replace(partition=0) for key, one in component._miners.items()}
            return {"miners": miners, "trust": trust, **lists}
        case ValidationComponent():
            home = component.view_of("eu")
            run_by = {who: sorted(keys) for who, keys in home._run_by.items() if keys}
            return {"of": home._operators, "may": home._reviewers, "run": run_by}
        case RewardComponent():
            known = component.cases._known
            suspected = {key: one for key, one in known.items() if one.status == "suspected"}
            return {"bar": {key: known.get(key) for key in bars}, "suspected": suspected}
    raise AssertionError(component)


def same_looks(region: Region, name: str, bars: set[str]) -> dict[str, object]:
    """What is looked at is known from the snapshot as from all of its facts."""
    fresh, full = component_of(name), component_of(name)
    with closing(Seen(fresh, parts_of(region))) as look:
        look.start()
        starts = [*look._next.values()]
        look.catch_up()
    for fact in (fact for seen in full.sees for fact in region.facts(seen)):
        if not isinstance(fact.data, Barrier | EpochOpened):
            full.observe(fact)
    assert all(starts), "it begins behind marks"
    known = view(full, bars)
    assert view(fresh, bars) == known
    return known


def led(scope: str) -> ScopeState:
    decision = ScopeAssigned(
        scope_name=scope, new_epoch=1, primary_node="n", region="eu", reason="forced",
        based_on=0, based_on_epoch=0,
    )  # fmt: skip
    return ScopeState(scope, 1, "n", "eu", 0, decision, -1)


def policies() -> dict[str, Policy[Any]]:
    return {
        "task-manager/eu": TaskPolicy(PARTITIONS, 100, timedelta(hours=1)),
        "validation/eu": ValidationPolicy(PARTITIONS),
    }


def same_policies(region: Region) -> None:
    """A coordinator begins with snapshots and what its inbox has behind them."""
    fresh, full = policies(), policies()
    by_facts = {policy.facts: policy for policy in fresh.values()}
    with closing(Inbox(parts_of(region), "looks", filter(None, by_facts), lambda: False)) as box:
        for name, snapshot in box.snapshots.items():
            assert len(snapshot.marks) == PARTITIONS
            by_facts[name].restore(snapshot)
        while not box.caught_up:
            for read in box.read():
                if read.component in by_facts:
                    by_facts[read.component].observe(read.raw.partition, read.fact)
    for policy in full.values():
        for raw in region.records(f"eu.1.{policy.facts}"):
            policy.observe(raw.partition, Codec().decode_fact(raw.value))
    nodes = [node.node_id for node in region.follower.state.nodes.values()]
    for scope in full:
        assert [fresh[scope].work(n) for n in nodes] == [full[scope].work(n) for n in nodes]
        assert fresh[scope].opened(led(scope)) == full[scope].opened(led(scope)) > 0
    assert any(full["task-manager/eu"].work(n).managed for n in nodes)
    assert sum(full["validation/eu"].work("").all.values()) > 0


def test_who_starts_knows_what_there_was_wherever_the_writers_were_killed(
    region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everlode.failover.inbox.LOOK_BACK_S", 0.0)
    chance = random.Random(20261201)
    with Lively(region, chance) as lively:
        for kill in KILLS:
            live_and_die(region, lively, kill, chance)
            found = both(region, *FACT_COMPONENTS)
            for fresh, full in found.values():
                same(fresh, full)
                assert fresh.folds.folded < full.folds.folded, "it begins with a snapshot"
            fresh, full = found["validations"]
            assert isinstance(full.component, ValidationComponent)
            same_view_of_its_own(fresh.component, full.component, full.folds.states["validations"])
            looks = [same_looks(region, name, barring(full.component)) for name in LEAVE]
            same_policies(region)
    assert all(all(known.values()) for known in looks)
    states = {name: dict(full.folds.states[name]) for name, (_, full) in found.items()}
    lives = {name: {state.status for state in of.values()} for name, of in states.items()}
    assert lives["tasks"] >= {"assigned", "solved", "rewarded", "cancelled"}
    assert lives["rewards"] >= {"paid"}
    small = Node(region, "rewards", snapshot=True, at_hand=AtHand(ended=7))
    assert {key: small.folds.get("rewards", key) for key in states["rewards"]} == states["rewards"]
    assert len(small.memory._archive._kept) == 7, "what was found again, no more than is set"
    for name in LEAVE:
        fresh, full = found[name]
        assert len(fresh.folds.states[name]) < len(states[name]) - 10, "what has ended left"
        forgets(region, full, name)
