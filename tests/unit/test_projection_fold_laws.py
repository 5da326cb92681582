"""Laws of the projection's fold, over lawful logs of all four fact topics."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlode.projection.fold import Incoming
from tests.support.world.projecting import (
    COMPONENTS,
    SCOPE,
    Folding,
    barrier,
    fact,
    incoming,
    opened,
    topic_of,
)

Log = list[Incoming]
few = settings(max_examples=40)


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """Lawful logs of the four topics, in an order in which a projector may read them."""
    plays = draw(
        st.lists(st.tuples(st.sampled_from(COMPONENTS), st.sampled_from("abc")), max_size=25)
    )
    versions: dict[tuple[str, str], int] = defaultdict(int)
    seqs: dict[str, int] = defaultdict(int)
    found = []
    for component, name in plays:
        key = f"{component}-{name}"
        versions[component, key] += 1
        seqs[component] += 1
        made = fact(component, key, versions[component, key], seqs[component])
        found.append(incoming(component, seqs[component] - 1, made))
    return found


@few
@given(logs(), st.lists(st.integers(0, 60), max_size=6))
def test_any_log_gives_the_same_states_however_it_is_batched(log: Log, cuts: list[int]) -> None:
    whole, pieces = Folding(), Folding()
    whole.take(*log)
    at = sorted({0, len(log), *(c % (len(log) + 1) for c in cuts)})
    for start, end in pairwise(at):
        pieces.take(*log[start:end])
    assert pieces.known == whole.known
    assert pieces.fold.positions == whole.fold.positions


@few
@given(logs(), st.integers(0, 60))
def test_any_log_read_again_from_anywhere_changes_nothing(log: Log, start: int) -> None:
    folding = Folding()
    first = folding.take(*log)
    states, again = dict(folding.known), log[start % (len(log) + 1) :]
    outcome = folding.take(*again)
    assert (first.folded, first.repeats) == (len(log), 0)
    assert (outcome.folded, outcome.repeats, outcome.changed) == (0, len(again), {})
    assert not outcome.problems
    assert folding.known == states


@few
@given(logs(), st.integers(0, 10_000))
def test_any_log_the_order_of_topics_does_not_matter(log: Log, seed: int) -> None:
    random = Random(seed)
    by_topic: dict[str, Log] = defaultdict(list)
    for item in log:
        by_topic[item.topic].append(item)
    other: Log = []
    while waiting := [items for items in by_topic.values() if items]:
        other.append(random.choice(waiting).pop(0))
    one, two = Folding(), Folding()
    one.take(*log)
    two.take(*other)
    assert one.known == two.known
    assert one.fold.positions == two.fold.positions


@few
@given(logs(), st.data())
def test_any_order_of_facts_ends_the_same_and_frees_all_that_waited(
    log: Log, data: st.DataObject
) -> None:
    straight, mixed = Folding(), Folding()
    straight.take(*log)
    parked, released = 0, 0
    for item in data.draw(st.permutations(log)):
        outcome = mixed.take(item)
        parked += len(outcome.parked)
        released += len(outcome.released)
    assert mixed.known == straight.known
    assert parked == released


@few
@given(logs(), st.integers(0, 60))
def test_any_lost_record_leaves_all_others_folded_or_parked(log: Log, lost: int) -> None:
    gone = log.pop(lost % len(log)) if log else None
    folding, parked, folded = Folding(), 0, 0
    for item in log:
        outcome = folding.take(item)
        parked += len(outcome.parked)
        folded += outcome.folded
        for waiting in outcome.parked:
            assert gone is not None
            assert waiting.fact.envelope.aggregate_id == gone.fact.envelope.aggregate_id
    assert folded + parked == len(log)


@pytest.mark.parametrize("component", COMPONENTS)
def test_gap_on_any_topic_stops_its_key_alone_until_it_is_filled(component: str) -> None:
    folding = Folding()
    outcome = folding.take(
        incoming(component, 0, fact(component, "a", 1, 1)),
        incoming(component, 1, fact(component, "b", 1, 2)),
        incoming(component, 3, fact(component, "a", 3, 4)),
        incoming(component, 4, fact(component, "a", 4, 5)),
        incoming(component, 5, fact(component, "b", 2, 6)),
    )
    kinds = [(p.kind, p.key, p.expected, p.found) for p in outcome.problems]
    assert kinds == [("seq_gap", "", 3, 4), ("version_gap", "a", 2, 3)]
    assert folding.known[component, "a"].version == 1
    assert folding.known[component, "b"].version == 2
    other = folding.again(outcome.parked)  # whoever takes over has them too
    filled = other.take(incoming(component, 2, fact(component, "a", 2, 3)))
    assert [i.fact.envelope.version for i in filled.released] == [3, 4]
    assert (filled.folded, filled.problems) == (3, [])
    assert other.known[component, "a"].version == 4
    assert other.fold.positions[topic_of(component)].seq == 6


@pytest.mark.parametrize("component", COMPONENTS)
def test_zombie_on_any_topic_is_fenced_and_the_heir_goes_on(component: str) -> None:
    folding = Folding()
    outcome = folding.take(
        incoming(component, 0, fact(component, "a", 1, 1, epoch=1)),
        incoming(component, 1, opened(component, 2, 2)),
        incoming(component, 2, fact(component, "a", 2, 3, epoch=1, event_id="zombie")),
        incoming(component, 3, fact(component, "a", 2, 3, epoch=2)),
    )
    (problem,) = outcome.problems
    assert (problem.kind, problem.event_id) == ("fenced", "zombie")
    assert (problem.expected, problem.found) == (2, 1)
    have = folding.known[component, "a"]
    assert (have.version, have.event_id, have.state and have.state.epoch) == (2, "a/2", 2)


def test_epoch_that_was_opened_never_falls_and_fences_its_own_topic_only() -> None:
    folding = Folding()
    folding.take(incoming("miners", 0, opened("miners", 1, 3)))
    other = folding.again([])
    outcome = other.take(
        incoming("miners", 1, opened("miners", 2, 2)),
        incoming("miners", 2, fact("miners", "a", 1, 3, epoch=2)),
        incoming("tasks", 0, fact("tasks", "t", 1, 1, epoch=1)),
    )
    assert [(p.kind, p.key) for p in outcome.problems] == [("fenced", "a")]
    assert outcome.opened == {}
    assert other.known["tasks", "t"].version == 1


# -- epochs that the control log has, or has not, decided ----------------------------------------

EPOCHS_OF_A = [1, 1, 2, 3, 3]
"""Epochs of the versions 1 to 5 of the key that is looked at."""


def _led(component: str) -> list[Incoming]:
    """Keys a and b in turn; a's facts of three epochs, b's of the first."""
    found: list[Incoming] = []
    for n, epoch in enumerate(EPOCHS_OF_A):
        for key, led in (("a", epoch), ("b", 1)):
            offset = len(found)
            found.append(
                incoming(component, offset, fact(component, key, n + 1, offset + 1, epoch=led))
            )
    return found


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("takeover", [False, True])
@pytest.mark.parametrize("known_at", [(0, 5, 8), (0, 9, 10), (7, 7, 7), (0, 10, 10)])
def test_outcome_does_not_hang_on_when_an_epoch_becomes_known(
    component: str, takeover: bool, known_at: tuple[int, int, int]
) -> None:
    """However late a decision is heard of: the same states in the end, nothing parked for ever."""
    log, scope = _led(component), SCOPE[component]
    right = Folding()
    right.take(*log)
    folding = Folding()
    waiting: dict[int, Incoming] = {}
    for n, item in enumerate([*log, incoming(component, 10, barrier(component, 11))]):
        folding.epochs = {scope: sum(at <= n for at in known_at)}
        out = folding.take(item)
        waiting.update({i.offset: i for i in out.parked})
        for released in out.released:
            del waiting[released.offset]
        if takeover:
            folding = folding.again([waiting[o] for o in sorted(waiting)])
    assert waiting == {}
    assert folding.known == right.known


@pytest.mark.parametrize("component", COMPONENTS)
def test_undecided_epoch_parks_its_key_alone_and_is_named_once(component: str) -> None:
    folding = Folding()
    folding.epochs = {SCOPE[component]: 2}
    out = folding.take(*_led(component))
    assert folding.known[component, "a"].version == 3
    assert folding.known[component, "b"].version == 5
    assert [i.fact.envelope.version for i in out.parked] == [4, 5]
    assert [(p.kind, p.key, p.expected, p.found) for p in out.problems] == [
        ("unknown_epoch", "a", 2, 3)
    ]
    again = folding.take(*_led(component)[6:8])
    assert (again.parked, again.problems, again.repeats) == ([], [], 2)
    follower = incoming(component, 20, fact(component, "a", 6, 11, epoch=2))
    assert folding.take(follower).parked == [follower]  # in order, whatever its own epoch


def test_no_knowledge_asked_for_means_that_every_epoch_counts() -> None:
    folding = Folding()
    out = folding.take(*_led("tasks"))
    assert (out.folded, out.parked, out.problems) == (10, [], [])
