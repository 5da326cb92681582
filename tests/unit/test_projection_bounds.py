"""What of a fenced region's facts a fold lets count, whatever comes first."""

from __future__ import annotations

from dataclasses import replace

from everlode.control.fences import Fence
from everlode.events.tasks import TaskCancelled
from everlode.projection.bounds import Bounds, bounds
from everlode.projection.fold import Incoming, Key, Known, Outcome, PartitionFold
from everlode.projection.records import UNKNOWN
from tests.support.world.projecting import REGIONS
from tests.unit.test_projection_fold import SCOPE, SUBMITTED, TOPIC, Tape

REGION = SCOPE.rpartition("/")[2]
ORIGIN = TOPIC.rpartition(".")[0]
OTHER = next(r for r in REGIONS if r != REGION)
TAKEN = f"{OTHER}.1.tasks"
GATHERING = Fence(REGION, ORIGIN, 7, tuple(sorted(set(REGIONS) - {REGION})), {SCOPE: 2}, {})
EPOCHS = {SCOPE: 3}


def counting(seq: int) -> Bounds:
    """All members have reported."""
    return bounds({REGION: GATHERING._replace(accepted={f"{TOPIC}/0": seq, f"{TOPIC}/1": 99})}, 0)


def of_owner(item: Incoming, seq: int, stamp: int) -> Incoming:
    """The same fact as the new owner has it, on its own topic."""
    envelope = item.fact.envelope.model_copy(
        update={"origin": f"{OTHER}.1", "epoch": 3, "seq": seq, "stamp": stamp}
    )
    return item._replace(topic=TAKEN, offset=seq - 1, fact=item.fact._replace(envelope=envelope))


class Projection:
    """One partition number, whose bounds move on as the control log is read."""

    def __init__(self) -> None:
        self.fold = PartitionFold(0, {}, {}, [], REGIONS)
        self.fold.bound(bounds({}, 0))
        self.states: dict[Key, Known] = {}
        self.waiting: dict[tuple[str, int], Incoming] = {}
        self.noted: list[tuple[str, int, int]] = []
        self.known: dict[str, int] = {}

    def take(self, *batch: Incoming, now: Bounds | None = None) -> Outcome:
        if now is not None:
            self.fold.bound(now)
        keys = PartitionFold.keys(list(batch)) | self.fold.releasable(EPOCHS)
        known = {key: self.states.get(key, UNKNOWN) for key in keys}
        out = self.fold.fold(list(batch), known, EPOCHS)
        self.states.update(out.changed)
        self.noted += [
            (p.kind, p.expected, p.found) for p in out.problems if p.kind != "fence_known"
        ]
        self.known |= {p.topic: p.found for p in out.problems if p.kind == "fence_known"}
        self.waiting.update({(i.topic, i.offset): i for i in out.parked})
        for item in out.released:
            self.waiting.pop((item.topic, item.offset), None)
        return out

    def restart(self, now: Bounds) -> None:
        positions = {t: replace(p) for t, p in self.fold.positions.items()}
        parked = list(self.waiting.values())
        self.fold = PartitionFold(0, positions, self.fold.opened, parked, REGIONS)
        self.fold.fenced_at = dict(self.known)
        self.fold.bound(now)

    def version(self, key: str) -> int:
        return self.states.get(("tasks", key), UNKNOWN).version


def test_facts_up_to_the_vector_count_and_later_ones_are_fenced_whenever_they_come() -> None:
    tape, view = Tape(), Projection()
    story = tape.story("t1")
    view.take(*story[:2])
    view.take(*story[2:4], now=counting(3))
    assert view.version("t1") == 3
    assert view.noted == [("above_vector", 3, 4)]
    view.take(*story[4:])
    assert view.version("t1") == 3
    assert view.noted == [("above_vector", 3, seq) for seq in (4, 5, 6)]
    assert view.fold.positions[TOPIC].seq == 6, "they are read all the same"


def test_marks_above_the_vector_open_nothing_and_are_no_problems() -> None:
    tape, view = Tape(), Projection()
    view.take(tape.put("t1", 1, SUBMITTED), now=counting(1))
    view.take(tape.opened(EPOCHS[SCOPE]))
    assert (view.noted, view.fold.opened) == ([], {})


def test_what_comes_between_the_fence_and_the_vector_waits_also_over_a_restart() -> None:
    tape, view = Tape(), Projection()
    story = tape.story("t1")
    view.take(*story[:1])
    view.take(*story[1:4], now=bounds({REGION: GATHERING}, 0))
    assert (view.version("t1"), len(view.waiting)) == (1, 3)
    view.restart(bounds({REGION: GATHERING}, 0))
    view.take(now=counting(2))
    assert (view.version("t1"), view.waiting) == (2, {})
    assert [n for n in view.noted if n[0] == "above_vector"] == [
        ("above_vector", 2, s) for s in (3, 4)
    ]


def test_facts_of_the_new_owner_wait_until_this_copy_has_reached_the_vector() -> None:
    tape, view = Tape(), Projection()
    story = tape.story("t1")
    late = of_owner(
        Tape().put("t1", 4, TaskCancelled(reason="r")), 1, story[-1].fact.envelope.stamp + 1
    )
    view.take(*story[:1], now=counting(3))
    view.take(late)
    assert (view.version("t1"), len(view.waiting)) == (1, 1)
    view.take(*story[1:3])
    view.take()
    assert (view.version("t1"), view.waiting) == (4, {})
    view.take(*story[3:])
    assert view.version("t1") == 4


def test_new_aggregate_of_the_new_owner_waits_too_and_other_scopes_do_not() -> None:
    tape, view = Tape(), Projection()
    first = tape.put("t1", 1, SUBMITTED)
    made = of_owner(Tape().put("t2", 1, SUBMITTED), 1, 5_000)
    view.take(made, now=counting(1))
    assert view.version("t2") == 0
    view.take(first)
    view.take()
    assert (view.version("t1"), view.version("t2")) == (1, 1)


def test_projection_that_slept_and_folded_more_than_counts_says_so_once() -> None:
    tape, view = Tape(), Projection()
    story = tape.story("t1")
    view.take(*story[:4])
    view.take(*story[4:5], now=counting(2))
    view.take(*story[5:])
    assert view.noted[0] == ("folded_above", 2, 4)
    assert [n[0] for n in view.noted[1:]] == ["above_vector"] * 2


def test_projection_that_was_killed_before_it_knew_of_the_fence_says_so_when_it_is_back() -> None:
    tape, view = Tape(), Projection()
    view.take(*tape.story("t1")[:4])
    view.restart(counting(2))
    view.take()
    assert view.noted == [("folded_above", 2, 4)]


def test_what_was_fenced_is_not_taken_for_folded_after_a_restart() -> None:
    tape, view = Tape(), Projection()
    story = tape.story("t1")
    view.take(*story[:2], now=bounds({REGION: GATHERING}, 0))
    view.take(*story[2:4], now=counting(2))
    view.restart(counting(2))
    view.take(*story[4:])
    assert {kind for kind, _, _ in view.noted} == {"above_vector", "unknown_epoch"}


def test_bounds_are_of_all_fact_topics_of_the_origin_and_of_one_partition_number() -> None:
    one = bounds({REGION: GATHERING._replace(accepted={f"{TOPIC}/1": 5})}, 1)
    assert one.upto[TOPIC] == 5
    assert set(one.upto) == {f"{ORIGIN}.{c}" for c in ("tasks", "miners", "validations", "rewards")}
    assert one.upto[f"{ORIGIN}.miners"] == 0
    assert one.after == {SCOPE: ((2, TOPIC, 5),)}


def test_between_the_vector_and_where_the_log_ended_nothing_counts_and_later_facts_do() -> None:
    tape, view = Tape(), Projection()
    first, *rest = tape.story("t1")[:4]
    view.take(first)
    view.take(*rest, now=counting(1))
    assert view.version("t1") == 1
    back = GATHERING._replace(accepted={f"{TOPIC}/0": 1}, ended={f"{TOPIC}/0": 3}, returned_at=99)
    late = rest[-1]
    version = late.fact.envelope.model_copy(update={"version": 2, "seq": 5, "event_id": "new"})
    new = late._replace(offset=9, fact=rest[0].fact._replace(envelope=version))
    view.take(new, now=bounds({REGION: back}, 0))
    assert view.version("t1") == 2
    assert [n for n in view.noted if n[0] == "above_vector"] == [
        ("above_vector", 1, s) for s in (2, 3, 4)
    ]
    again = Projection()
    again.take(first, *rest, new, now=bounds({REGION: back}, 0))
    assert [n for n in again.noted if n[0] == "above_vector"] == [
        ("above_vector", 1, s) for s in (2, 3)
    ], "the fourth counts, to whoever knows that it is back"
    out = bounds({REGION: back._replace(returned_at=-1)}, 0)
    assert out.ended == {}, "fenced again"
