"""Anna's `job-1` in eu, Bob's `job-1` in us: two tasks, side by side everywhere.

Both are carried out by a miner that is called `miner-1` at each home; then three projections read
the facts of both regions, in any order of arrival.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.avro.codec import Codec, encode_fact, encode_state
from everlode.errors import Refusal
from everlode.events import tasks as te
from everlode.events.base import Event, Fact
from everlode.events.identity import home_of_id, name_of, qualified
from everlode.events.states import State
from everlode.projection.fold import UNKNOWN, Incoming, Key, Known, PartitionFold, Prefix, Problem
from everlode.proof.recount import LoggedEvent, recount
from everlode.state.fraud import case_id
from everlode.state.reward import reward_id, slash_id
from everlode.state.shape import NAME_MOST
from everlode.state.validation import validation_id
from everlode.topics.names import LONGEST_REGION
from tests.support.facts.state_commands import fact_of, register, submit
from tests.support.world.state_home import Home

REGIONS = ("eu", "us", "ap")
HOMES = ("eu", "us")
ORDERS = st.lists(st.integers(0, 99), min_size=60, max_size=60)
"""Which of the logs is read on next."""


class Us(Home):
    """The same in us."""

    region = "us"


@cache
def logs() -> dict[str, list[Fact]]:
    """Fact topic → its facts, of both homes; `seq` counts a topic's."""
    found: dict[str, list[Fact]] = {}
    for home in (Home(miners=("eu/miner-1",)), Us(miners=("us/miner-1",))):
        task, miner = f"{home.region}/job-1", f"{home.region}/miner-1"
        home.work(task, miner, "inference")
        home.judge(task, good=True)
        home.pay(task, miner)
        assert home.state("tasks", task).status == "rewarded"
        assert home.state("rewards", f"{home.region}/job-1|{miner}").status == "paid"
        for component, fact in home.facts:
            log = found.setdefault(f"{home.region}.1.{component}", [])
            envelope = fact.envelope.model_copy(update={"seq": len(log) + 1})
            log.append(Fact(envelope, fact.data))
    return found


class Projection:
    """What a region's projector makes of the facts of all regions."""

    def __init__(self, known: dict[Key, Known], positions: dict[str, Prefix]) -> None:
        self.known, self.problems = known, list[Problem]()
        self.fold = PartitionFold(0, positions, {}, [], REGIONS)

    def read(self, topic: str, fact: Fact) -> None:
        """One record."""
        item = Incoming(topic, fact.envelope.seq - 1, fact, encode_fact(*fact))
        known = {key: self.known.get(key, UNKNOWN) for key in PartitionFold.keys([item])}
        self.problems += self.fold.fold([item], known).problems
        self.known.update(known)

    def states(self) -> dict[Key, State]:
        """Those of all aggregates."""
        return {key: k.state for key, k in self.known.items() if k.state is not None}

    def restored(self) -> Projection:
        """Another one, from the states as a backup holds them, which goes on behind them."""
        codec = Codec()
        states = {key: codec.decode_state(encode_state(s)) for key, s in self.states().items()}
        known = {key: Known(s, s.version, "") for key, s in states.items()}
        return Projection(known, dict(self.fold.positions))


def arrivals(order: list[int], found: dict[str, list[Fact]]) -> list[tuple[str, Fact]]:
    """The records of all topics, each topic in its own order, as `order` draws them."""
    left = {topic: list(facts) for topic, facts in sorted(found.items())}
    drawn: list[tuple[str, Fact]] = []
    while left:
        topic = [*left][order[len(drawn) % len(order)] % len(left)]
        drawn.append((topic, left[topic].pop(0)))
        if not left[topic]:
            del left[topic]
    return drawn


def projected(order: list[int], found: dict[str, list[Fact]]) -> Projection:
    """All of it, in that order."""
    made = Projection({}, {})
    for topic, fact in arrivals(order, found):
        made.read(topic, fact)
    return made


@given(ORDERS, st.integers(0, 60))
def test_two_tasks_of_one_name_stand_side_by_side_in_every_order_of_arrival(
    order: list[int], cut: int
) -> None:
    whole = projected([0], logs())
    tasks = {key: s for (component, key), s in whole.states().items() if component == "tasks"}
    assert {key: (s.home, s.status) for key, s in tasks.items()} == {
        "eu/job-1": ("eu", "rewarded"), "us/job-1": ("us", "rewarded"),
    }  # fmt: skip
    assert Counter(component for component, _ in whole.states()) == {
        "tasks": 2, "miners": 2, "validations": 2, "rewards": 2,
    }  # fmt: skip
    # each of the three projections, in its own order
    found = projected(order, logs())
    assert (found.problems, found.states()) == ([], whole.states())
    # a backup of any moment, and the facts after it
    records = arrivals(order, logs())
    before = Projection({}, {})
    for topic, fact in records[:cut]:
        before.read(topic, fact)
    after = before.restored()
    for topic, fact in records[cut:]:
        after.read(topic, fact)
    assert (after.problems, after.states()) == ([], whole.states())


def forged(home: str, about: str, data: Event, seq: int) -> Fact:
    """A fact in a home's log about any aggregate, as its next version."""
    place = {"scope": f"task-manager/{home}", "origin": f"{home}.1", "seq": seq}
    return fact_of(data, about, 900, version=1, event_id=f"forged-{home}-{about}", **place)


@given(ORDERS, st.sampled_from([("eu", "us/job-1"), ("us", "eu/job-1"), ("ap", "eu/new")]))
def test_fact_about_another_homes_task_is_fenced_in_every_order_of_arrival(
    order: list[int], at: tuple[str, str]
) -> None:
    home, about = at
    topic, found = f"{home}.1.tasks", {**logs()}
    data = te.TaskSubmitted(**submit().__dict__)
    found[topic] = [forged(home, about, data, 1)]
    for fact in logs().get(topic, []):  # behind the forged one
        seq = fact.envelope.seq + 1
        found[topic].append(Fact(fact.envelope.model_copy(update={"seq": seq}), fact.data))
    made = projected(order, found)
    (problem,) = made.problems
    assert (problem.kind, problem.topic, problem.key) == ("foreign_home", topic, about)

    def shown(states: dict[Key, State]) -> dict[Key, tuple[object, ...]]:
        return {key: s._replace(seq=0) for key, s in states.items()}

    assert shown(made.states()) == shown(projected([0], logs()).states())


def test_fact_of_an_older_log_is_read_whatever_its_name_begins_with() -> None:
    data = te.TaskSubmitted(**submit().__dict__)
    names = ["job-1", "alice/job-1", "us", "eu/job-1"]
    made = Projection({}, {})
    for seq, name in enumerate(names, 1):
        made.read("eu.1.tasks", forged("eu", name, data, seq))
    assert (made.problems, [key for _, key in made.states()]) == ([], names)


def test_proof_names_a_fact_about_what_is_at_home_elsewhere_and_leaves_it_out() -> None:
    data = te.TaskSubmitted(**submit().__dict__)
    facts = [forged("eu", "eu/a", data, 1), forged("eu", "us/b", data, 2)]
    events = [LoggedEvent(type(d).__name__, e.model_dump(), d.model_dump(), 0) for e, d in facts]
    counted = recount("tasks", events, None, REGIONS)
    assert [*counted.found] == ["eu/a"]
    assert counted.wrong == ["tasks us/b: TaskSubmitted by task-manager/eu, at home elsewhere"]


def test_task_of_another_home_is_not_created_here() -> None:
    home = Home(miners=())
    for component, key, command in (
        ("tasks", "us/job-1", submit()), ("miners", "us/miner-1", register()),
    ):  # fmt: skip
        with pytest.raises(Refusal, match="is at home in us, this is eu") as caught:
            home.send(component, key, command)
        assert (caught.value.code, "region us" in caught.value.hint) == ("not_at_home", True)


def test_what_is_derived_begins_with_the_home_and_fits_an_id() -> None:
    for home in ("", "r" * LONGEST_REGION):
        task, miner = qualified(home, "t" * NAME_MOST), qualified(home, "m" * NAME_MOST)
        case = case_id("wrong-planted-answer", miner, 99)
        ids = [validation_id(task, 99), reward_id(task, miner), case, slash_id(case, miner)]
        for made in ids:
            assert home_of_id(made) == home
            assert fact_of(te.TaskDeleted(reason="r"), made).envelope.aggregate_id == made
        assert name_of(ids[0]) == f"v-{'t' * NAME_MOST}-99"
