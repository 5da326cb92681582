"""The pure cut: heads, rows and facts in, the exact states at T out, or what has to be brought."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest

from everlode.avro.codec import encode_state
from everlode.backup import cut as cuts
from everlode.backup.cut import Lacking, Slice, SliceCut, cut, further
from everlode.backup.facts import (
    Facts,
    Window,
    begins,
    fences_at,
    positions_at,
    sift,
    with_facts,
)
from everlode.backup.heads import Heads
from everlode.backup.standing import Applied, Opening, Row, Standing, choose
from everlode.errors import IntegrityError
from everlode.events.base import Fact
from everlode.projection.fold import Incoming, Key, Known, Prefix
from everlode.state.dispatch import evolve_fact
from tests.support.world.projecting import SCOPE, barrier, fact, opened, topic_of

TASKS, MINERS = topic_of("tasks"), topic_of("miners")
A: Key = ("tasks", "a")
B: Key = ("tasks", "b")
BACK = 5_000
FENCE = (TASKS, SCOPE["tasks"])
NOTHING = Slice(Heads({}, {}), {}, {})


def at(component: str, item: Fact) -> Incoming:
    """A fact at the offset of its `seq`."""
    return Incoming(topic_of(component), item.envelope.seq, item, b"")


def task(version: int, seq: int, key: str = "a", epoch: int = 1) -> Incoming:
    """Its stamp is its `seq`, in milliseconds."""
    return at("tasks", fact("tasks", key, version, seq, epoch=epoch))


def barrier_at(seq: int) -> Incoming:
    return at("tasks", barrier("tasks", seq))


def known(upto: int, first: int = 1, key: str = "a") -> Known:
    """Task `key` as of a version, whose facts have the seqs from `first` on."""
    state = None
    for version in range(1, upto + 1):
        state = evolve_fact(state, fact("tasks", key, version, first + version - 1), 0)
    return Known(state, upto, "")


def row(of: Known, *, on_its_way: bool = False) -> Row:
    assert of.state is not None
    digest = hashlib.sha256(encode_state(of.state)).digest()
    return Row(of.version, of.state.stamp, digest, on_its_way)


def standing(upto: int = 9, miners: int = 0) -> Standing:
    """Nothing but where the projector stands."""
    applied = {
        TASKS: Applied(TASKS, 0, upto, upto << 16),
        MINERS: Applied(MINERS, 0, miners, miners << 16),
    }
    return Standing(0, applied, {}, (), frozenset())


def heads(*found: Known, jumps: Mapping[Key, int] | None = None) -> Heads:
    states = {("tasks", k.state.key): k for k in found if k.state is not None}
    return Heads(states, dict(jumps or {}))


def with_rows(part: Slice, *found: Known) -> Slice:
    rows = {("tasks", k.state.key): row(k) for k in found if k.state is not None}
    return replace(part, rows=rows)


def facts_of(t: int, items: Iterable[Incoming], stood: Standing) -> Facts:
    return sifted(items, stood, Window(t << 16, BACK, BACK))


def sifted(items: Iterable[Incoming], stood: Standing, window: Window) -> Facts:
    """With the facts of all keys."""
    sides: tuple[list[Incoming], list[Incoming]] = ([], [])
    found = sift(items, stood, window, lambda item, inside: sides[not inside].append(item))
    return with_facts(found, *sides)


def made(t: int, part: Slice, items: Iterable[Incoming], stood: Standing | None = None) -> SliceCut:
    stood = stood or standing()
    found = cut(t << 16, stood, part, facts_of(t, items, stood))
    assert isinstance(found, SliceCut), found
    return found


def lacking(
    t: int, part: Slice, items: Iterable[Incoming], stood: Standing | None = None
) -> Lacking:
    stood = stood or standing()
    found = cut(t << 16, stood, part, facts_of(t, items, stood))
    assert isinstance(found, Lacking), found
    return found


def versions(found: SliceCut) -> dict[Key, int]:
    return {key: item.version for key, item in found.states.items()}


def test_facts_up_to_the_stamp_are_folded_and_no_others() -> None:
    stood = standing()
    found = made(3, NOTHING, [task(n, n) for n in range(1, 6)])
    assert versions(found) == {A: 3}
    assert found.states[A].state == known(3).state
    facts = facts_of(3, [task(n, n) for n in range(1, 6)], stood)
    assert positions_at(stood, facts)[TASKS] == Prefix(3, 3 << 16, 4)


def test_worked_picture_of_the_module() -> None:
    """v2 to v4 came in one batch, so that no state topic has v2 and v3; v4 is after T."""
    part = with_rows(Slice(heads(known(1)), {}, {}), known(4))
    found = made(3, part, [task(2, 2), task(3, 3), task(4, 4)])
    assert found.states[A].state == known(3).state
    assert found.unequal == {}, "folded on, it is the row"


def test_facts_on_heads_that_have_them_already_change_nothing() -> None:
    part = with_rows(Slice(heads(known(3)), {}, {}), known(3))
    assert made(3, part, [task(2, 2), task(3, 3)]).states == {A: known(3)}


def test_what_the_projector_had_not_applied_is_not_in_the_cut() -> None:
    stood = standing(upto=2)
    items = [task(n, n) for n in range(1, 6)]
    assert versions(made(5, NOTHING, items, stood)) == {A: 2}
    assert positions_at(stood, facts_of(5, items, stood))[TASKS].seq == 2


# -- compared with the rows -----------------------------------------------------------------------


def test_row_whose_state_no_topic_has_is_taken_as_it_is_when_it_is_of_before_the_stamp() -> None:
    """An emptied state topic: nothing else shows that there was anything."""
    part = with_rows(NOTHING, known(2), known(3, 4, "b"))
    assert lacking(7, part, [barrier_at(7)]) == Lacking(frozenset({A, B}), frozenset())
    filled = replace(part, from_rows={A: known(2), B: known(3, 4, "b")})
    assert made(7, filled, [barrier_at(7)]).states == filled.from_rows


def test_row_that_is_newer_than_the_topic_is_taken_as_it_is() -> None:
    part = with_rows(Slice(heads(known(1)), {}, {}), known(3))
    assert lacking(4, part, [barrier_at(4)]) == Lacking(frozenset({A}), frozenset())
    filled = replace(part, from_rows={A: known(3)})
    assert versions(made(4, filled, [barrier_at(4)])) == {A: 3}


def test_row_that_has_changed_since_the_stamp_asks_for_facts_from_further_back() -> None:
    """Its state at T is neither in the topic nor in the row."""
    part = with_rows(Slice(heads(known(1)), {}, {}), known(4))
    assert lacking(3, part, [task(3, 3), task(4, 4)]) == Lacking(frozenset(), frozenset({A}))
    assert versions(made(3, part, [task(2, 2), task(3, 3), task(4, 4)])) == {A: 3}


def test_row_that_has_changed_since_the_stamp_and_is_reached_asks_for_nothing() -> None:
    part = with_rows(Slice(heads(known(1)), {}, {}), known(3))
    assert versions(made(1, part, [barrier_at(1), task(2, 2), task(3, 3)])) == {A: 1}


def test_state_of_the_version_of_its_row_and_of_other_bytes_is_unequal() -> None:
    part = Slice(heads(known(3)), {A: row(known(3, 2))}, {})
    assert made(5, part, [barrier_at(5)]).unequal == {A: known(3).state}
    bytes_differ = Heads({A: known(3)}, {}, {A: (3, b"another form")})
    assert made(5, with_rows(Slice(bytes_differ, {}, {}), known(3)), []).unequal.keys() == {A}


def test_state_after_the_stamp_is_compared_too() -> None:
    """A fact behind the cut that came to another row than its fold does."""
    part = Slice(heads(known(3)), {A: row(known(4, 3))}, {})
    found = made(3, part, [task(3, 3), task(4, 4)])
    assert (versions(found), set(found.unequal)) == ({A: 3}, {A})


def test_tombstone_of_a_key_whose_row_was_never_deleted_is_not_believed() -> None:
    """Somebody else put it there."""
    part = with_rows(Slice(Heads({A: Known(None, 3, "")}, {}), {}, {}), known(2))
    assert lacking(7, part, [barrier_at(7)]) == Lacking(frozenset({A}), frozenset())
    gone = replace(part, deleted={A: Known(None, 3, "e")})
    assert versions(made(7, gone, [barrier_at(7)])) == {A: 3}


def test_state_that_lost_its_row_is_kept_and_counted_when_it_had_been_applied() -> None:
    part = Slice(heads(known(3)), {}, {})
    found = made(4, part, [barrier_at(4)])
    assert (versions(found), found.without_row) == ({A: 3}, 1)
    assert made(4, part, [barrier_at(2)], standing(upto=2)).without_row == 0


def test_key_without_a_row_whose_facts_were_applied_is_looked_for() -> None:
    """Row and state at T are lost, and a state after T shows that there was one."""
    part = Slice(heads(jumps={A: 1}), {}, {})
    items = [barrier_at(3), task(3, 4)]
    assert lacking(3, part, items) == Lacking(frozenset(), frozenset({A}))
    later = Slice(heads(jumps={A: 1}), {}, {})
    assert versions(made(3, later, [barrier_at(3), task(3, 4)], standing(upto=3))) == {}


def test_gap_of_a_key_without_a_row_is_looked_for_but_not_behind_what_stopped_it() -> None:
    items = [task(2, 2), task(3, 3)]
    assert lacking(4, NOTHING, items).older == {A}
    stopped = replace(standing(), unlawful=frozenset({"a"}))
    assert versions(made(4, NOTHING, items, stopped)) == {}


def test_deletion_of_a_row_beats_a_head_and_what_is_looked_for() -> None:
    gone = Known(None, 4, "its-event")
    part = Slice(heads(known(1), jumps={A: 2}), {}, {A: gone})
    assert made(4, part, [barrier_at(4)]).states == {A: gone}


# -- what waits, positions, fences ----------------------------------------------------------------


def test_fact_that_waits_is_in_no_state_and_moves_no_position() -> None:
    early = task(1, 2, "w")
    stood = replace(standing(), parked=(early,))
    items = [task(1, 1), early]
    assert versions(made(4, NOTHING, items, stood)) == {A: 1}
    assert positions_at(stood, facts_of(4, items, stood))[TASKS].seq == 1


def test_what_follows_a_fact_that_waits_is_not_looked_for() -> None:
    """Behind a gap the projector waits itself."""
    waits = task(2, 2)
    stood = replace(standing(), parked=(waits,))
    assert versions(made(4, NOTHING, [waits, task(3, 3)], stood)) == {}


def test_topic_that_does_not_begin_before_the_stamp_is_read_from_further_back() -> None:
    """Its position at T cannot be told from facts that all come after it."""
    stood = standing(upto=9)
    assert not begins(4 << 16, stood, facts_of(4, [task(5, 7)], stood))
    assert begins(4 << 16, stood, facts_of(4, [barrier_at(4), task(5, 7)], stood))
    assert begins(9 << 16, stood, facts_of(9, [], stood))


def test_topic_whose_first_record_is_after_the_stamp_stands_before_it() -> None:
    stood = standing(miners=9)
    late = Incoming(MINERS, 0, _stamped(fact("miners", "m", 1, 1), 8), b"")
    facts = facts_of(4, [task(1, 1), late], stood)
    assert positions_at(stood, facts)[MINERS] == Prefix(0, 0, 0)
    assert begins(4 << 16, stood, facts)
    assert versions(made(4, NOTHING, [task(1, 1), late], stood)) == {A: 1}


def _stamped(item: Fact, ms: int) -> Fact:
    return Fact(item.envelope.model_copy(update={"stamp": ms << 16}), item.data)


def test_topic_without_facts_that_was_applied_before_the_stamp_stands_as_applied() -> None:
    stood = standing(upto=3)
    assert positions_at(stood, facts_of(4, [], stood)) == {
        TASKS: Prefix(3, 3 << 16, 0), MINERS: Prefix(),
    }  # fmt: skip


def fenced(*openings: Opening) -> Standing:
    return replace(standing(), openings={FENCE: openings})


def test_fence_that_was_moved_after_the_stamp_is_the_one_before() -> None:
    items = [task(1, 2, epoch=1), task(2, 3, epoch=1), at("tasks", opened("tasks", 5, 3))]
    for stood, wanted in (
        (fenced(Opening(1, 1), Opening(3, 5)), 1),
        (fenced(Opening(2, 0), Opening(3, 5)), 2),
        (fenced(Opening(2, 1), Opening(2, 1), Opening(3, 5)), 2),
    ):
        assert fences_at(stood, facts_of(3, items, stood)) == {FENCE: wanted}
        assert fences_at(stood, facts_of(5, items, stood)) == {FENCE: 3}
    stood = fenced(Opening(1, 1), Opening(3, 5))
    assert versions(made(3, NOTHING, items, stood)) == {A: 2}, "of epoch 1, and not fenced"


def test_fact_that_an_older_fence_stops_is_stopped_in_the_cut_too() -> None:
    """Between T and a failover a deposed primary wrote once more."""
    stood = fenced(Opening(2, 1), Opening(3, 6))
    items = [
        barrier_at(2), task(1, 3, epoch=2), task(2, 4, epoch=1), task(2, 5, epoch=2),
        at("tasks", opened("tasks", 6, 3)),
    ]  # fmt: skip
    part = with_rows(NOTHING, Known(made(5, NOTHING, items, stood).states[A].state, 2, ""))
    for t in (2, 3, 4, 5):
        found = made(t, part, items, stood)
        assert found.unequal == {}
        assert fences_at(stood, facts_of(t, items, stood)) == {FENCE: 2}


def test_fence_within_the_facts_stops_none_before_it() -> None:
    stood = fenced(Opening(2, 3))
    items = [task(1, 1), task(2, 2), at("tasks", opened("tasks", 3, 2)), task(3, 4, epoch=2)]
    assert versions(made(4, NOTHING, items, stood)) == {A: 3}


def test_fence_of_which_nobody_noted_where_is_in_force_unless_its_opening_is_met() -> None:
    stood = fenced(Opening(2, 0))
    mark = at("tasks", opened("tasks", 4, 2))
    assert fences_at(stood, facts_of(3, [task(1, 1)], stood)) == {FENCE: 2}
    assert fences_at(stood, facts_of(3, [task(1, 1), mark], stood)) == {}
    assert fences_at(stood, facts_of(4, [task(1, 1), mark], stood)) == {FENCE: 2}


# -- how far back, how much at once ---------------------------------------------------------------


def test_reading_goes_back_step_by_step_to_the_start_and_then_fails_by_name() -> None:
    asked = [further(0)]
    while len(asked) < len(cuts.WINDOWS_MS):
        asked.append(further(0, asked[-1]))
    assert tuple(asked) == cuts.WINDOWS_MS
    with pytest.raises(
        IntegrityError, match=r"partition 0: facts of 1 keys, e\.g\. tasks a"
    ) as caught:
        further(0, asked[-1], [A])
    assert caught.value.code == "snapshot_gap"
    assert caught.value.hint


def test_of_what_is_read_from_further_back_only_some_keys_are_kept() -> None:
    items = [task(1, 1), task(1, 2, "b"), barrier_at(3), task(2, 4), task(2, 5, "b"), task(3, 6)]
    stood = standing()
    window = Window(5 << 16, 100, 1, ("a",))
    facts = sifted(items, stood, window)
    assert [i.fact.envelope.seq for i in facts.within] == [1, 4, 5]
    assert [i.fact.envelope.seq for i in facts.after] == [6]
    assert positions_at(stood, facts)[TASKS] == Prefix(5, 5 << 16, 6)
    assert facts.changed == {"a"}


def test_facts_of_a_slice_stand_between_the_openings_as_in_their_logs() -> None:
    mark, later = at("tasks", opened("tasks", 2, 2)), at("tasks", opened("tasks", 5, 3))
    mine = [task(1, 1), task(2, 3, epoch=2), at("miners", fact("miners", "m", 1, 1))]
    found = with_facts(facts_of(4, [mark, later], standing()), mine, [task(3, 4, epoch=2)])
    assert found.within == (mine[2], mine[0], mark, mine[1])
    assert found.after == (task(3, 4, epoch=2), later)


def test_cut_changes_nothing_that_it_is_given_and_gives_the_same_again() -> None:
    part = with_rows(Slice(heads(known(1)), {}, {}), known(3))
    stood = fenced(Opening(1, 1))
    facts = facts_of(3, [task(2, 2), task(3, 3)], stood)
    first = cut(3 << 16, stood, part, facts)
    assert part == with_rows(Slice(heads(known(1)), {}, {}), known(3))
    assert cut(3 << 16, stood, part, facts) == first


@pytest.mark.parametrize("t", range(1, 7))
def test_cut_of_heads_of_any_moment_is_the_fold_of_the_prefix(t: int) -> None:
    """However much of it had been published, and whatever batches it came in."""
    log = [task(1, 1), task(1, 2, "b"), task(2, 3), task(2, 4, "b"), task(3, 5), task(4, 6)]
    stood = standing(upto=6)
    whole = made(t, NOTHING, log, stood)
    moment = made(6, NOTHING, log, stood).states.values()
    for published in range(t + 1):
        before = made(published, NOTHING, log, stood) if published else None
        part = with_rows(Slice(Heads({**before.states} if before else {}, {}), {}, {}), *moment)
        found = made(t, part, log, stood)
        assert found.unequal == {}
        assert {k: v.state for k, v in found.states.items()} == {
            k: v.state for k, v in whole.states.items()
        }


def test_stamp_is_the_smallest_of_what_is_applied() -> None:
    assert choose(standing(upto=9, miners=4).applied.values()).stamp == 4 << 16


# -- states that the rows do not know ------------------------------------------------------------


def test_state_whose_row_went_back_is_kept_and_counted() -> None:
    """An older copy of the table: the cut has what it lost."""
    part = with_rows(Slice(heads(known(3)), {}, {}), known(2))
    found = made(5, part, [])
    assert (versions(found), found.without_row) == ({A: 3}, 1)
    waits = replace(standing(), parked=(task(4, 4),))
    assert made(5, part, [], waits).without_row == 0, "it may have gone on since"


@pytest.mark.parametrize("of", ["another network", "behind the log"])
def test_state_that_follows_from_no_log_of_ours_is_refused(of: str) -> None:
    state = known(3).state
    assert state is not None
    state = state._replace(origin="us.1") if of == "another network" else state._replace(seq=12)
    part = Slice(heads(Known(state, 3, "")), {}, {})
    with pytest.raises(IntegrityError, match="a has no row, and no log of ours") as caught:
        made(5, part, [])
    assert caught.value.code == "foreign_record"
    with_row = with_rows(part, Known(state, 3, ""))
    assert made(5, with_row, []).without_row == 0
