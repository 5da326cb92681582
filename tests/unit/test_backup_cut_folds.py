"""The pure cut: heads and facts in, the exact states at T out, or how much further back to read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from everlode.avro.codec import Codec, encode_fact
from everlode.avro.heads import FactHead
from everlode.backup import cut as cuts
from everlode.backup.cut import (
    Applied,
    Facts,
    Gathered,
    PartitionCut,
    TooShort,
    choose,
    cut,
    further,
    may_need,
    sift,
    wanted,
)
from everlode.backup.heads import Heads
from everlode.errors import IntegrityError
from everlode.events.base import Fact
from everlode.projection.fold import Incoming, Key, Known, Prefix
from everlode.state.dispatch import evolve_fact
from tests.support.world.projecting import SCOPE, barrier, fact, opened, topic_of

TASKS, MINERS = topic_of("tasks"), topic_of("miners")
CODEC = Codec()
A: Key = ("tasks", "a")
BACK = 5_000


def at(component: str, item: Fact) -> Incoming:
    """A fact at the offset of its `seq`."""
    return Incoming(topic_of(component), item.envelope.seq, item, b"")


def task(version: int, seq: int, key: str = "a") -> Incoming:
    """Its stamp is its `seq`, in milliseconds."""
    return at("tasks", fact("tasks", key, version, seq))


def known(upto: int, first: int = 1, key: str = "a") -> Known:
    """Task `key` as of a version, whose facts have the seqs from `first` on."""
    state = None
    for version in range(1, upto + 1):
        state = evolve_fact(state, fact("tasks", key, version, first + version - 1), 0)
    return Known(state, upto, "")


def gathered(upto: int = 9, miners: int = 0) -> Gathered:
    """Nothing but where the projector stands."""
    applied = {
        TASKS: Applied(TASKS, 0, upto, upto << 16),
        MINERS: Applied(MINERS, 0, miners, miners << 16),
    }
    return Gathered(0, applied, {}, (), {}, frozenset(), Heads({}, {}), {})


def cut_of(t: int, part: Gathered, items: Iterable[Incoming], back: int) -> PartitionCut | TooShort:
    """The same of all facts as of those alone whose heads say that they may be needed."""
    stamp, every = t << 16, list(items)
    few = [item for item in every if may_need(item.topic, head_of(item), stamp, part, wanted(part))]
    found = cut(stamp, part, sift(few, stamp, part, back))
    assert found == cut(stamp, part, sift(every, stamp, part, back))
    return found


def head_of(item: Incoming) -> FactHead:
    head = CODEC.fact_head(encode_fact(*item.fact))
    envelope, data = item.fact
    assert head == (
        type(data).__name__, envelope.aggregate_id, envelope.version, envelope.seq, envelope.stamp
    )  # fmt: skip
    return head


def made(t: int, part: Gathered, items: Iterable[Incoming], back: int = BACK) -> PartitionCut:
    found = cut_of(t, part, items, back)
    assert isinstance(found, PartitionCut), found
    return found


def short(t: int, part: Gathered, items: Iterable[Incoming], back: int = BACK) -> int:
    found = cut_of(t, part, items, back)
    assert isinstance(found, TooShort)
    return found.back_ms


def versions(found: PartitionCut) -> dict[Key, int]:
    return {key: item.version for key, item in found.states.items()}


def test_facts_up_to_the_stamp_are_folded_and_no_others() -> None:
    found = made(3, gathered(), [task(n, n) for n in range(1, 6)])
    assert versions(found) == {A: 3}
    assert found.states[A].state == known(3).state
    assert found.positions[TASKS] == Prefix(3, 3 << 16, 4)


def test_worked_picture_of_the_module() -> None:
    """v2 to v4 came in one batch, so that no state topic has v2 and v3; v4 is after T."""
    part = replace(gathered(), heads=Heads({A: known(1)}, {A: 2}))
    found = made(3, part, [task(2, 2), task(3, 3), task(4, 4)])
    assert found.states[A].state == known(3).state


def test_facts_on_heads_that_have_them_already_change_nothing() -> None:
    part = replace(gathered(), heads=Heads({A: known(3)}, {}))
    assert made(3, part, [task(2, 2), task(3, 3)]).states == {A: known(3)}


def test_what_the_projector_had_not_applied_is_not_in_the_cut() -> None:
    found = made(5, gathered(upto=2), [task(n, n) for n in range(1, 6)])
    assert versions(found) == {A: 2}
    assert found.positions[TASKS].seq == 2


def test_version_that_is_looked_for_and_not_met_reads_further_back() -> None:
    part = replace(gathered(), heads=Heads({A: known(1)}, {A: 2}))
    assert short(4, part, [task(3, 3), task(4, 4)]) == cuts.WINDOWS_MS[1]
    assert versions(made(4, part, [task(2, 2), task(3, 3), task(4, 4)])) == {A: 4}


def test_version_that_is_looked_for_may_be_after_the_stamp() -> None:
    """The next version is itself beyond T: nothing is missing."""
    part = replace(gathered(), heads=Heads({A: known(1)}, {A: 2}))
    assert versions(made(2, part, [barrier_at(2), task(2, 3), task(3, 4)])) == {A: 1}


def barrier_at(seq: int) -> Incoming:
    return at("tasks", barrier("tasks", seq))


def test_gap_before_the_first_fact_of_a_key_reads_further_back() -> None:
    """Nothing told us of it: the state topic had not heard of the key at all."""
    assert short(4, gathered(), [task(2, 2), task(3, 3)]) == cuts.WINDOWS_MS[1]


def test_gap_of_a_key_that_the_projector_could_not_fold_is_not_ours() -> None:
    part = replace(gathered(), unlawful=frozenset({"a"}))
    assert versions(made(4, part, [task(2, 2), task(3, 3)])) == {}


def test_row_whose_state_is_on_its_way_has_to_be_reached_by_facts() -> None:
    part = replace(gathered(), unpublished={A: 3}, heads=Heads({A: known(1)}, {}))
    assert short(4, part, [barrier_at(4)]) == cuts.WINDOWS_MS[1]
    assert versions(made(4, part, [task(2, 2), task(3, 3), barrier_at(4)])) == {A: 3}


def test_row_that_is_published_asks_for_nothing() -> None:
    part = replace(gathered(), unpublished={A: 3}, heads=Heads({A: known(3)}, {}))
    assert versions(made(4, part, [barrier_at(4)])) == {A: 3}


def test_deletion_of_a_row_beats_a_head_and_what_is_looked_for() -> None:
    gone = Known(None, 4, "its-event")
    part = replace(gathered(), heads=Heads({A: known(1)}, {A: 2}), deleted={A: gone})
    assert made(4, part, [barrier_at(4)]).states == {A: gone}


def test_fact_that_waits_is_in_no_state_and_kept_up_to_the_stamp() -> None:
    early, late = task(1, 2, "w"), task(1, 8, "x")
    part = replace(gathered(), parked=(early, late))
    found = made(4, part, [task(1, 1), early, barrier_at(3), late])
    assert versions(found) == {A: 1}
    assert found.parked == (early,)
    assert found.positions[TASKS].seq == 3


def test_what_follows_a_fact_that_waits_is_no_reason_to_read_further() -> None:
    """Behind a gap the projector waits itself."""
    waits = task(2, 2)
    part = replace(gathered(), parked=(waits,))
    assert versions(made(4, part, [waits, task(3, 3)])) == {}


def test_topic_that_does_not_begin_before_the_stamp_reads_further_back() -> None:
    """Its position at T cannot be told from facts that all come after it."""
    assert short(4, gathered(upto=9), [task(5, 7)]) == cuts.WINDOWS_MS[1]


def test_topic_whose_first_record_is_after_the_stamp_stands_before_it() -> None:
    found = made(4, gathered(miners=9), [task(1, 1), at("miners", fact("miners", "m", 1, 1))])
    assert found.positions[MINERS].seq == 1
    late = Incoming(MINERS, 0, _stamped(fact("miners", "m", 1, 1), 8), b"")
    found = made(4, gathered(miners=9), [task(1, 1), late])
    assert found.positions[MINERS] == Prefix(0, 0, 0)
    assert versions(found) == {A: 1}


def _stamped(item: Fact, ms: int) -> Fact:
    return Fact(item.envelope.model_copy(update={"stamp": ms << 16}), item.data)


def test_topic_without_facts_that_was_applied_before_the_stamp_stands_as_applied() -> None:
    found = made(4, gathered(upto=3), [])
    assert found.positions == {TASKS: Prefix(3, 3 << 16, 0), MINERS: Prefix()}


def test_fence_that_was_moved_after_the_stamp_is_not_in_force() -> None:
    scope = (TASKS, SCOPE["tasks"])
    part = replace(gathered(), opened={scope: 2})
    items = [task(1, 1), task(2, 2), at("tasks", opened("tasks", 4, 2))]
    assert made(3, part, items).opened == {}
    assert versions(made(3, part, items)) == {A: 2}, "of epoch 1, and not fenced"
    assert made(4, part, items).opened == {scope: 2}
    before = [at("tasks", opened("tasks", 1, 1)), task(1, 2), at("tasks", opened("tasks", 4, 2))]
    assert made(3, part, before).opened == {scope: 1}


def test_reading_goes_back_step_by_step_to_the_start_and_then_fails() -> None:
    asked: list[int] = []
    back = further(0).back_ms
    while len(asked) < len(cuts.WINDOWS_MS) - 1:
        asked.append(back)
        back = short(4, gathered(), [task(2, 2)], back)
    assert (*asked, back) == cuts.WINDOWS_MS
    with pytest.raises(IntegrityError, match="partition 0: facts") as caught:
        short(4, gathered(), [task(2, 2)], back)
    assert caught.value.code == "snapshot_gap"


def test_cut_changes_nothing_that_it_is_given_and_gives_the_same_again() -> None:
    part = replace(gathered(), heads=Heads({A: known(1)}, {A: 2}), opened={(TASKS, "s"): 1})
    facts: Facts = sift([task(2, 2), task(3, 3)], 3 << 16, part, BACK)
    first = cut(3 << 16, part, facts)
    assert part.heads == Heads({A: known(1)}, {A: 2})
    assert cut(3 << 16, part, facts) == first


@pytest.mark.parametrize("t", range(1, 7))
def test_cut_of_heads_of_any_moment_is_the_fold_of_the_prefix(t: int) -> None:
    """However much of it had been published, and whatever batches it came in."""
    log = [task(1, 1), task(1, 2, "b"), task(2, 3), task(2, 4, "b"), task(3, 5), task(4, 6)]
    whole = made(t, gathered(upto=6), log)
    for published in range(t + 1):
        before = made(published, gathered(upto=6), log) if published else None
        heads = Heads({**before.states} if before else {}, {})
        part = replace(gathered(upto=6), heads=heads)
        found = made(t, part, log)
        assert {k: v.state for k, v in found.states.items()} == {
            k: v.state for k, v in whole.states.items()
        }
        assert found.positions == whole.positions


def test_stamp_is_the_smallest_of_what_is_applied() -> None:
    assert choose(gathered(upto=9, miners=4).applied.values()).stamp == 4 << 16
