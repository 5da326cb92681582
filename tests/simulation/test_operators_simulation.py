"""Operators, failures and coordinators in any order: what holds whatever happens.

The logs and the planner of `test_operators_wishes`; the coordinator remembers nothing between two
steps, so each run is also one in which it was killed everywhere.
"""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from everlode.events.control import OperatorAnswered, OperatorAsked, ScopeAssigned, ScopeDrained
from everlode.failover.wishes import Await, plan
from tests.scenario.test_operators_wishes import Region
from tests.unit.test_control_grounds import TASKS

NODES = ("a", "b", "c")
HAPPENINGS = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from(("switchover", "failover")),
              st.sampled_from(("", *NODES))),
    st.tuples(st.just("ask"), st.sampled_from(("drain", "rejoin")), st.sampled_from(NODES)),
    st.tuples(st.sampled_from(("drains", "opens", "steps", "steps", "steps", "passes"))),
    st.tuples(st.sampled_from(("silent", "beats", "lost")), st.sampled_from(NODES)),
)  # fmt: skip


def happen(region: Region, what: tuple[str, ...]) -> None:
    """One thing; what cannot happen does not."""
    match what:
        case ("ask", verb, node):
            region.happens(f"ask {verb} {node}".rstrip())
        case ("silent" | "beats" | "lost" as how, node):
            of_node(region, how, node)
        case ("opens",):
            region.happens("epoch opens")
        case ("passes",):
            region.happens("30 seconds pass")
        case (how,):
            of_wish(region, how)


def of_node(region: Region, how: str, node: str) -> None:
    if how == "lost" and region.log.state.nodes[node].status in ("healthy", "draining"):
        region.happens(f"{node} is lost")
    elif how == "silent":
        region.beating.discard(node)
    elif how == "beats":
        region.beating.add(node)


def of_wish(region: Region, how: str) -> None:
    state = region.log.state
    if how == "drains" and state.wishes.frozen(TASKS, state.epoch(TASKS)):
        region.happens(f"{state.scopes[TASKS].primary} drains")
    elif how == "steps" and state.wishes.open:
        step = plan(region.view(state.wishes.open[0]))
        if not isinstance(step, Await):
            region.do(step)


class Watched(Region):
    """Notes who beat when each record was written."""

    def __init__(self) -> None:
        self.beat_at: dict[int, set[str]] = {}
        super().__init__()

    def note(self) -> None:
        for at in range(len(self.beat_at), len(self.log.records)):
            self.beat_at[at] = set(self.beating)


def changed(region: Watched) -> list[tuple[ScopeAssigned, set[str], bool]]:
    """The decisions for wishes: who beat then, and whether the primary had drained."""
    drained = {
        (f.data.operation_id, f.data.held_epoch)
        for f in region.log.records
        if isinstance(f.data, ScopeDrained)
    }
    return [
        (f.data, region.beat_at[at], (f.data.operation_id, f.data.based_on_epoch) in drained)
        for at, f in enumerate(region.log.records)
        if isinstance(f.data, ScopeAssigned) and f.data.operation_id
    ]


FALLS_SILENT = [("ask", "switchover", "b"), ("steps",), ("silent", "b"), ("drains",), ("steps",)]


@given(st.lists(HAPPENINGS, max_size=60))
@example(FALLS_SILENT)
def test_wishes_promote_only_who_may_lead_and_end_once(happened: list[tuple[str, ...]]) -> None:
    region = Watched()
    region.note()
    for what in happened:
        happen(region, what)
        region.note()
    for decision, beat, drained in changed(region):
        assert decision.primary_node in beat, "it did not beat"
        assert drained or decision.reason == "forced", "flipped without a drain"
    asked = [f.data for f in region.log.records if isinstance(f.data, OperatorAsked)]
    ended = [
        f.data.operation_id for f in region.log.records if isinstance(f.data, OperatorAnswered)
    ]
    assert len(ended) == len(set(ended)), "answered twice"
    assert set(ended) <= {a.operation_id for a in asked}
    assert len(region.log.state.wishes.open) <= 1


@given(st.lists(HAPPENINGS, max_size=30))
def test_every_wish_ends_when_nothing_more_happens(happened: list[tuple[str, ...]]) -> None:
    """Its time passes, and whoever leads opens its epoch; without more steps than there are nodes
    to give tasks to.
    """
    region = Region()
    for what in happened:
        happen(region, what)
    region.happens("30 seconds pass")
    region.happens("epoch opens")
    for _ in range(3):
        region.steps()
        region.happens("epoch opens")
    assert region.log.state.wishes.open == ()
