"""A score stays in [0, 1], and nothing that is worse makes it better; ignorance is no health."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.control.fold import MAX_TICKS
from everlode.events.nodes import NodeStatus
from everlode.health import score as h
from everlode.health import weights as w

_values = st.one_of(st.none(), st.floats(0, 1))
_seconds = st.one_of(st.none(), st.floats(0, 100), st.just(float("inf")))
_clocks = ("right", "wrong", "barred")
_by_value = sorted(w.STATUS, key=lambda s: -w.STATUS[s])


def seen(**changes: Any) -> h.NodeSeen:
    return h.NodeSeen("eu-tm-1", "healthy", "healthy", 0.5, 0.1)._replace(**changes)


_nodes = st.builds(
    h.NodeSeen,
    st.just("n"),
    st.one_of(st.none(), st.sampled_from(_by_value)),
    st.one_of(st.none(), st.sampled_from(_by_value)),
    _seconds,
    st.one_of(st.none(), st.floats(0, 2)),
    st.one_of(st.none(), st.sampled_from(_clocks)),
)


def component(node: h.Health, **changes: Any) -> h.Health:
    given: dict[str, Any] = {"leader": node.name, "ticks": 0, "lag_s": 0.5, **changes}
    return h.component_health(h.ComponentSeen("tasks/eu", nodes=(node,), **given))


def whole(node: h.NodeSeen) -> list[h.Health]:
    """A node's health, and what it makes of its component, region and network."""
    one = h.node_health(node)
    of_component = component(one)
    region = h.region_health("eu", [of_component, component(h.node_health(seen()))])
    return [one, of_component, region, h.network_health([region])]


@given(_nodes)
def test_any_node_its_scores_are_within_0_and_1_on_every_level(node: h.NodeSeen) -> None:
    for found in whole(node):
        assert found.score is None or 0.0 <= found.score <= 1.0
        assert (found.score is None) <= bool(found.reason)
        assert found.score is None or found.score == 1.0 or found.reason


def test_every_status_has_a_value_and_healthy_alone_is_whole() -> None:
    assert set(w.STATUS) == {status.value for status in NodeStatus}
    assert [s for s, value in w.STATUS.items() if value == 1.0] == ["healthy"]


_WORSE: dict[str, list[Any]] = {
    "status": _by_value,
    "said": _by_value,
    "silent_s": [0.0, 2.9, 3.1, 6.0, 9.9, 10.0, float("inf")],
    "load": [0.0, 0.79, 0.85, 0.99, 1.0, 7.0],
    "clock": list(_clocks),
}


@pytest.mark.parametrize("evidence", _WORSE)
@given(_nodes)
def test_any_node_worse_evidence_raises_no_score_on_any_level(
    evidence: str, node: h.NodeSeen
) -> None:
    found = [whole(node._replace(**{evidence: value})) for value in _WORSE[evidence]]
    for better, worse in pairwise(found):
        for before, after in zip(better, worse, strict=True):
            assert (after.score or 0.0) <= (before.score or 0.0) + 1e-12


@pytest.mark.parametrize(
    ("evidence", "values"),
    [("ticks", [0, 4, 5, 9, 10, 50]), ("lag_s", [0.0, 5.0, 6.0, 59.0, 60.0, 1e9]),
     ("leader", ["n", ""])],
)  # fmt: skip
def test_worse_evidence_raises_no_score_of_a_component(evidence: str, values: list[Any]) -> None:
    node = h.node_health(seen(node_id="n"))
    scores = [component(node, **{evidence: value}).score or 0.0 for value in values]
    assert scores[0] == 1.0
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < w.GATE


@given(st.lists(_values, min_size=1, max_size=5), st.data())
def test_any_members_a_worse_one_raises_no_mean(values: list[float | None], data: Any) -> None:
    members = [h.Health("component", f"task-manager/{n}", v, "", ()) for n, v in enumerate(values)]
    at = data.draw(st.integers(0, len(values) - 1))
    worse = data.draw(st.floats(0, values[at] or 0.0))
    after = [m if n != at else m._replace(score=worse) for n, m in enumerate(members)]
    before = h.region_health("eu", members).score or 0.0
    assert (h.region_health("eu", after).score or 0.0) <= before + 1e-12


def test_whole_node_has_the_score_1_and_no_reason() -> None:
    found = h.node_health(seen())
    assert (found.score, found.reason) == (1.0, "")
    assert [(e.name, e.weight) for e in found.evidence] == [
        (name, kind.weight) for name, kind in w.NODE.items()
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": "lost"}, "status: lost by its control log"),
        ({"said": "degraded"}, "status: degraded by its beat"),
        ({"silent_s": 9.0}, "beat: silent for 9.0 s"),
        ({"silent_s": float("inf")}, "beat: it has never beaten"),
        ({"clock": "barred"}, "clock: its clock is barred"),
        ({"load": 1.0}, "load: 100% of what it takes"),
        ({"status": "new", "said": None}, "status: new by its control log"),
    ],
)
def test_reason_names_what_lowers_a_score_most(changes: dict[str, Any], reason: str) -> None:
    found = h.node_health(seen(**changes))
    assert found.score is not None
    assert found.score < 1.0
    assert found.reason == reason


def test_nothing_known_is_unknown_with_a_reason_on_every_level() -> None:
    nobody = h.node_health(h.NodeSeen("n", None, None, None, None, None))
    nowhere = h.component_health(h.ComponentSeen("rewards/eu", None, None, ()))
    region = h.region_health("eu", [nowhere])
    for found in (nobody, nowhere, region, h.network_health([region]), h.network_health([])):
        assert found.score is None
        assert "nothing is known" in found.reason
        assert not h.passes(found)


def test_what_is_not_known_counts_less_than_what_is_well() -> None:
    found = h.node_health(seen(silent_s=None, said=None))
    assert found.score == w.UNKNOWN
    well = h.Health("component", "rewards/eu", 1.0, "", ())
    region = h.region_health("eu", [well, well._replace(name="validation/eu", score=None)])
    assert region.score == 0.5


@pytest.mark.parametrize("service", [name for name in w.REGION if name != w.COORDINATOR])
def test_one_service_without_a_primary_holds_a_region_below_the_gate(service: str) -> None:
    members = [
        h.Health("component", f"{n}/eu", 0.0 if n == service else 1.0, "nobody leads", ())
        for n in w.REGION
    ]
    found = h.region_health("eu", members)
    assert not h.passes(found)
    assert found.reason == f"{service}/eu: nobody leads"


def test_region_passes_its_gate_without_a_coordinator_and_only_above_the_gate() -> None:
    members = [
        h.Health("component", f"{n}/eu", 0.0 if n == w.COORDINATOR else 1.0, "", ())
        for n in w.REGION
    ]
    assert h.passes(h.region_health("eu", members))
    assert not h.passes(h.Health("region", "eu", w.GATE, "", ()))


def test_component_full_to_the_brim_is_above_the_gate() -> None:
    found = component(h.node_health(seen(load=1.0)))
    assert found.score is not None
    assert found.score > w.GATE


@pytest.mark.parametrize("evidence", ["load", "silent_s"])
def test_no_number_is_the_worst(evidence: str) -> None:
    found = h.node_health(seen(**{evidence: float("nan")}))
    assert found.score == h.node_health(seen(**{evidence: float("inf")})).score


def test_lease_is_over_where_the_control_log_calls_a_decision_late() -> None:
    assert w.LEASE_OVER == MAX_TICKS
