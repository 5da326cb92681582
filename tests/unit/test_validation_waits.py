"""What waits for validators, or for a member, for too long is published once, and its end too."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from everlode.control.fold import ControlState, NodeState
from everlode.events.health import WorkWaits
from everlode.events.states import FraudState, ValidationState
from everlode.topics import Topology
from everlode.validations.component import ValidationComponent
from everlode.validations.waits import LOOK_S, TOO_LONG_S, Waits
from tests.support.world.bench import Bench
from tests.support.world.state_home import Home

KINDS = ("automatic", "peer-review", "expert")


class Watched:
    """Waits of one primary, looked at each LOOK_S."""

    def __init__(self, by: str = "") -> None:
        self.waits = Waits("validations", KINDS, lambda kind: f"who does {kind}")
        if by:
            self.waits.led(by)
        self.now_s, self.able = 1_000.0, Counter[str]()
        self.found: list[WorkWaits] = []
        self.ids: list[str] = []

    def passes(self, seconds: float) -> list[WorkWaits]:
        """What is published meanwhile."""
        before, until = len(self.found), self.now_s + seconds
        while self.now_s < until:
            self.now_s += LOOK_S
            for notice in self.waits.notices(self.now_s, self.able.__getitem__):
                assert isinstance(notice.data, WorkWaits)
                assert notice.key == f"validations/{notice.data.work}"
                self.found.append(notice.data)
                self.ids.append(notice.event_id)
        return self.found[before:]


def test_work_that_nobody_can_do_is_published_once_and_again_when_it_is_done() -> None:
    seen = Watched()
    for key in ("v-1", "v-2", "v-3"):
        seen.waits.begins(key, "expert")
    seen.waits.begins("v-9", "automatic")
    assert seen.passes(TOO_LONG_S) == []
    seen.waits.ends("v-9")
    (found,) = seen.passes(2 * TOO_LONG_S)
    assert (found.work, found.able, found.waiting, found.oldest_id) == ("expert", 0, 3, "v-1")
    assert (found.oldest_ms, found.over) == (int(TOO_LONG_S * 1000), False)
    assert found.waits_for == "who does expert"
    seen.waits.ends("v-1")
    assert seen.passes(LOOK_S) == [], "others still wait"
    seen.waits.ends("v-2")
    seen.waits.ends("v-3")
    seen.waits.begins("v-4", "expert")
    (over,) = seen.passes(LOOK_S)
    assert (over.over, over.waiting, over.oldest_id) == (True, 1, "")
    assert len(set(seen.ids)) == 2
    (again,) = seen.passes(2 * TOO_LONG_S)
    assert (again.oldest_id, again.over) == ("v-4", False)


def test_what_goes_to_another_kind_waits_anew_and_what_has_ended_is_forgotten() -> None:
    seen = Watched()
    seen.waits.begins("v-1", "peer-review")
    seen.passes(TOO_LONG_S / 2)
    seen.waits.begins("v-1", "expert")
    seen.waits.begins("v-1", "expert")  # deferred
    assert seen.passes(TOO_LONG_S) == []
    assert [found.work for found in seen.passes(LOOK_S)] == ["expert"]
    seen.waits.ends("v-1")
    seen.waits.ends("v-1")
    assert [found.over for found in seen.passes(LOOK_S)] == [True]
    seen.passes(LOOK_S)
    assert (seen.waits._since, seen.waits._kind, seen.waits._published) == ({}, {}, {})


def test_successor_publishes_the_same_event() -> None:
    ids = []
    for _ in range(2):
        seen = Watched()
        seen.waits.begins("v-1", "expert")
        seen.passes(2 * TOO_LONG_S)
        ids.append(seen.ids)
    assert ids[0] == ids[1] != []


def over(found: list[WorkWaits]) -> list[str]:
    assert all(data.over and data.oldest_id == "" for data in found)
    return sorted(data.work for data in found)


def test_successor_publishes_the_end_of_what_waits_no_more() -> None:
    seen = Watched("eu:2")  # its predecessor may have published anything
    seen.waits.begins("v-1", "expert")
    assert over(seen.passes(LOOK_S)) == ["automatic", "peer-review"]
    seen.waits.ends("v-1")
    assert over(seen.passes(LOOK_S)) == ["expert"]
    assert seen.passes(2 * TOO_LONG_S) == []
    seen.waits.led("eu:2")  # its log was opened again, and nobody else has led
    assert seen.passes(LOOK_S) == []
    seen.waits.led("eu:4")  # somebody has
    assert over(seen.passes(LOOK_S)) == sorted(KINDS)
    assert len(set(seen.ids)) == len(seen.ids), "an end of its own for each primary"


def test_successor_does_not_publish_the_end_of_what_still_waits() -> None:
    first, second = Watched("eu:1"), Watched("eu:2")
    for seen in (first, second):
        seen.waits.begins("v-1", "expert")
        found = seen.passes(2 * TOO_LONG_S)
        assert [data.over for data in found if data.work == "expert"] == [False]
    assert first.ids[-1] == second.ids[-1], "the same event"


def test_successor_of_busy_work_publishes_the_end_once_that_is_known() -> None:
    seen = Watched("eu:2")
    seen.waits.begins("v-0", "expert")
    found = []
    for number in range(int(TOO_LONG_S // LOOK_S) + 2):
        found += seen.passes(LOOK_S)
        seen.waits.begins(f"v-{number + 1}", "expert")
        seen.waits.ends(f"v-{number}")
    assert over(found) == sorted(KINDS)
    assert found[-1].waiting == 1


def test_primary_publishes_the_end_of_what_its_predecessor_may_have_published() -> None:
    judges = Bench(ValidationComponent("eu", Topology()))
    judges.turn()
    ends = [n.data for n in judges.notices if isinstance(n.data, WorkWaits)]
    assert {"validation/expert", "case/copied-solution"} < set(over(ends))
    judges.turn()
    assert len(judges.notices) == len(ends)


def test_primary_of_validations_says_how_many_nodes_of_the_kind_live_and_which_cases_wait() -> None:
    home = Home()
    home.work("first", "a", "training", solution="equal")
    home.work("copy", "b", "training", solution="equal")
    component = ValidationComponent("eu", Topology())
    states = [s for name in ("validations", "fraud") for s in home.folds[name].values()]
    for state in states:
        assert isinstance(state, ValidationState | FraudState)
        component.changed(None, state)
    node = NodeState("n", "eu", "validation", "peer-review", "", 0, "healthy", 0)
    nodes = {"n": node, "o": node._replace(node_id="o", status="lost")}
    control = replace(ControlState(), nodes=nodes)
    list(component.notices(1_000.0, control))
    found = [n.data for n in component.notices(1_000.0 + TOO_LONG_S, control)]
    assert all(isinstance(data, WorkWaits) for data in found)
    assert {(d.work, d.able) for d in found if isinstance(d, WorkWaits)} == {
        ("validation/peer-review", 1),
        ("validation/expert", 0),
        ("case/copied-solution", -1),
    }
