"""What a primary takes over of another home's facts, and when it may serve that."""

from __future__ import annotations

from types import MappingProxyType, SimpleNamespace
from typing import Any, cast

from everlode.control.fences import Fence
from everlode.control.fold import ControlState
from everlode.events import tasks as t
from everlode.events.base import Event
from everlode.log.facts import LoggedFact
from everlode.log.folds import Folds
from everlode.primary.adopted import Adoption
from everlode.settings.endpoints import RegionParts
from tests.support.facts.state_commands import fact_of, submit

KEY = ("tasks", "us/t1")
CHANGES: list[tuple[int, int]] = []
FENCE = Fence("us", "us.1", 7, ("ap", "eu"), {"task-manager/us": 2, "coordinator/us": 2}, {})


def logged(data: Event, version: int) -> LoggedFact:
    fact = fact_of(data, KEY[1], version, version=version)
    envelope = fact.envelope.model_copy(update={"command_id": f"c{version}"})
    return LoggedFact(fact._replace(envelope=envelope), 0, version)


def folds_of(*facts: LoggedFact) -> Folds:
    def changed(old: Any, new: Any) -> None:
        CHANGES.append((old.version if old else 0, new.version if new else 0))

    folds = Folds(("tasks",), changed)
    for fact in facts:
        folds.fold(fact)
    CHANGES.clear()
    return folds


SUBMITTED = logged(t.TaskSubmitted(**submit().__dict__), 1)
CANCELLED = logged(t.TaskCancelled(reason="r"), 2)
DELETED = logged(t.TaskDeleted(reason="r"), 3)


def test_what_is_adopted_goes_on_from_its_version_and_is_no_part_of_the_snapshot() -> None:
    own = folds_of()
    assert own.adopt(folds_of(SUBMITTED), "us.1.tasks") == 1
    assert CHANGES == [(0, 1)], "the indexes know it"
    assert len(own.dirty) == 0
    assert own.fold(CANCELLED)
    assert own.version(*KEY) == 2


def test_what_is_known_in_a_later_version_stays_and_an_earlier_one_is_replaced() -> None:
    later = folds_of(SUBMITTED, CANCELLED)
    assert later.adopt(folds_of(SUBMITTED), "us.1.tasks") == 0
    assert later.version(*KEY) == 2
    earlier = folds_of(SUBMITTED)
    assert earlier.adopt(folds_of(SUBMITTED, CANCELLED), "us.1.tasks") == 1
    assert CHANGES == [(1, 2)]


def test_deleted_one_is_adopted_as_deleted() -> None:
    own = folds_of(SUBMITTED)
    own.adopt(folds_of(SUBMITTED, CANCELLED, DELETED), "us.1.tasks")
    assert own.look(*KEY) == (None, 3)


def test_repeat_of_an_adopted_command_names_the_fact_where_it_stands() -> None:
    own = folds_of()
    own.adopt(folds_of(SUBMITTED), "us.1.tasks")
    (answer,) = own.answers[KEY[1], "c1"]
    assert answer.ref("eu.1.tasks")["topic"] == "us.1.tasks"
    own.fold(CANCELLED)
    (mine,) = own.answers[KEY[1], "c2"]
    assert mine.ref("eu.1.tasks")["topic"] == "eu.1.tasks"


def adoption(*fences: Fence) -> Adoption:
    control = ControlState(fences=MappingProxyType({f.region: f for f in fences}))
    component = SimpleNamespace(name="tasks", states=("tasks",), folds=folds_of())
    parts = RegionParts("eu", "eu.1", "nowhere:1", 2)
    return Adoption(cast("Any", component), parts, lambda: control)


def test_home_is_served_once_it_is_adopted_and_ones_own_always() -> None:
    found = adoption(FENCE)
    assert (found.serves("eu"), found.serves("us"), found.serves("ap")) == (True, False, False)
    assert found.able({"eu": 3}) == {"eu": 3}
    assert found.able({"eu": 3, "us": 3}) == {"eu": 3}, "what counts is not known yet"


def test_facts_of_a_fenced_region_count_up_to_the_vector_and_not_before_it_is_known() -> None:
    gathering = adoption(FENCE)
    assert not gathering.counts("us.1.validations", 0, 1)
    assert gathering.counts("eu.1.validations", 0, 1)
    known = adoption(FENCE._replace(accepted={"us.1.validations/0": 5}))
    assert [known.counts("us.1.validations", 0, seq) for seq in (5, 6)] == [True, False]
    assert not known.counts("us.1.validations", 1, 1)
    ended = {"us.1.validations/0": 7}
    back = FENCE._replace(accepted={"us.1.validations/0": 5}, ended=ended, returned_at=90)
    seen = [adoption(back).counts("us.1.validations", 0, seq) for seq in (5, 6, 7, 8)]
    assert seen == [True, False, False, True]
    assert not adoption(back._replace(returned_at=-1)).counts("us.1.validations", 0, 8)
    assert gathering.marks() != known.marks()


def test_causes_of_a_fenced_region_are_read_from_their_beginning() -> None:
    inputs = [("us.1.validations", 0), ("eu.1.validations", 0), ("eu.commands.tasks", 0)]
    assert adoption(FENCE).anew(inputs) == [("us.1.validations", 0)]
    assert adoption().anew(inputs) == []
