"""What was seen of regions, as scores: by whom a score is lowered, and what nobody knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from everlode.cli.main import run
from everlode.control.fold import ControlState, NodeState, ScopeState
from everlode.events.control import ScopeAssigned
from everlode.events.heartbeats import NodeBeat
from everlode.health.weights import REGION, SILENT_S
from everlode.views.beats import LastBeat
from everlode.views.health import RegionSeen, Scores, of_beats, scored
from everlode.views.skews import Skew
from tests.support.world.endpoints import one_region

LAG_S = {name: 0.5 for name in REGION if name != "coordinator"}


def beat(node: str, **changes: Any) -> dict[str, Any]:
    return {
        "node_id": node, "said": "healthy", "silent_s": 0.4, "current_load": 0.1,
        "role": "secondary", "held_epoch": 0, **changes,
    }  # fmt: skip


def control(ticks: tuple[int, ...] = (), **statuses: str) -> ControlState:
    """Two nodes a component, of which the first leads since offset 10."""
    nodes, scopes = {}, {}
    for component in REGION:
        for n in (1, 2):
            name = f"{component}-{n}"
            status = statuses.get(name.replace("-", "_"), "healthy")
            nodes[name] = NodeState(name, "eu", component, "", "e", 0, status, n)
        scope = f"{component}/eu"
        decided = ScopeAssigned(
            scope_name=scope, new_epoch=1, primary_node=f"{component}-1", region="eu",
            reason="bootstrap", based_on=0, based_on_epoch=0,
        )  # fmt: skip
        scopes[scope] = ScopeState(scope, 1, f"{component}-1", "eu", 10, decided, 10)
    return ControlState(20, scopes, nodes, ticks={"eu": ticks})


def beats(**changes: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    names = {c: [f"{c}-{n}" for n in (1, 2)] for c in REGION}
    return {c: [beat(n, **changes.get(n.replace("-", "_"), {})) for n in names[c]] for c in REGION}


def of(seen: RegionSeen) -> Scores:
    return scored([seen], {})


def by_name(found: Scores) -> dict[str, float | None]:
    return {h.name: h.score for h in (*found.regions, *found.components, *found.nodes)}


def test_whole_region_has_the_score_1_on_every_level() -> None:
    found = of(RegionSeen("eu", control(), beats(), LAG_S))
    assert set(by_name(found).values()) == {1.0}
    assert len(by_name(found)) == 1 + len(REGION) + 2 * len(REGION)
    assert found.network.score == 1.0


def test_lost_primary_is_named_on_every_level() -> None:
    found = of(RegionSeen("eu", control(rewards_1="lost"), beats(), LAG_S))
    scores = by_name(found)
    assert scores["rewards-1"] == scores["rewards/eu"] == 0.0
    assert scores["eu"] == 3.5 / 4.5
    for level in (found.network, found.regions[0]):
        assert "rewards-1" in level.reason
        assert "lost" in level.reason


def test_silent_secondary_lowers_its_component_a_little_and_is_named() -> None:
    silent = {"rewards_2": {"silent_s": SILENT_S}}
    found = of(RegionSeen("eu", control(), beats(**silent), LAG_S))
    (component,) = [c for c in found.components if c.name == "rewards/eu"]
    assert component.score is not None
    assert 0.8 < component.score < 1.0
    assert "rewards-2" in component.reason


def test_node_that_joined_and_never_beat_is_not_well() -> None:
    seen = beats()
    seen["rewards"] = seen["rewards"][:1]
    scores = by_name(of(RegionSeen("eu", control(), seen, LAG_S)))
    assert scores["rewards-2"] == 0.0


def test_when_nobody_beats_silence_convicts_nobody() -> None:
    silent = {f"{c}_{n}".replace("-", "_"): {"silent_s": 99.0} for c in REGION for n in (1, 2)}
    found = of(RegionSeen("eu", control(rewards_2="lost"), beats(**silent), LAG_S))
    assert [n.name for n in found.nodes if n.score == 0.0] == ["rewards-2"]
    assert all(0.4 < (n.score or 0.0) < 0.5 for n in found.nodes if n.name != "rewards-2")
    (beats_known,) = {e.value for n in found.nodes for e in n.evidence if e.name == "beat"}
    assert beats_known is None


def test_primary_that_does_not_renew_while_its_coordinator_does_is_not_well() -> None:
    ticks = tuple(range(11, 21))
    found = of(RegionSeen("eu", control(ticks), beats(), LAG_S))
    assert by_name(found)["rewards/eu"] == 0.0
    few = of(RegionSeen("eu", control(ticks[:4]), beats(), LAG_S))
    assert by_name(few)["rewards/eu"] == 1.0


def test_without_the_control_log_beats_say_who_leads_and_it_counts_less() -> None:
    led = {f"{c}_1".replace("-", "_"): {"role": "primary", "held_epoch": 1} for c in REGION}
    found = of(RegionSeen("eu", None, beats(**led), LAG_S))
    scores = by_name(found)
    assert scores["rewards-1"] == 1.0
    assert scores["rewards/eu"] == 0.5  # of its lease nothing is known


def test_region_of_which_nothing_is_known_is_unknown() -> None:
    for nothing in (RegionSeen("eu", None, {}, {}), RegionSeen("eu", ControlState(), {}, LAG_S)):
        found = scored([nothing], {"eu": "it does not answer"})
        assert found.network.score is None
        assert found.network.reason
        assert set(by_name(found).values()) == {None}


def test_beats_that_are_all_old_say_nothing_without_the_control_log() -> None:
    old = {c: [beat(f"{c}-1", silent_s=99.0, role="primary")] for c in REGION}
    found = of(RegionSeen("eu", None, old, {}))
    assert len(found.nodes) == len(REGION)
    assert set(by_name(found).values()) == {None}


def test_service_that_nobody_runs_holds_its_region_below_the_gate() -> None:
    whole = control()
    scopes = {k: v for k, v in whole.scopes.items() if k != "rewards/eu"}
    nodes = {k: v for k, v in whole.nodes.items() if v.component != "rewards"}
    few = {**beats(), "rewards": []}
    found = of(RegionSeen("eu", ControlState(20, scopes, nodes), few, LAG_S))
    assert by_name(found)["rewards/eu"] is None
    assert found.network.score == 3.5 / 4.5


def test_wrong_clock_lowers_its_node() -> None:
    skews = [Skew("rewards-1", "eu", "ClockSkew", 40_000, False),
             Skew("rewards-2", "eu", "ClockSkew", 15_000, True)]  # fmt: skip
    scores = by_name(of(RegionSeen("eu", control(), beats(), LAG_S, skews)))
    assert (scores["rewards-1"], scores["rewards-2"]) == (0.2, 0.8)


def test_scores_are_plain_values_with_evidence_and_weights() -> None:
    found = of(RegionSeen("eu", control(), beats(), LAG_S)).as_dict()
    assert found["network"]["score"] == 1.0
    node = found["nodes"][0]
    assert {e["name"] for e in node["evidence"]} == {"status", "beat", "clock", "load"}
    assert all(e["weight"] > 0 for e in node["evidence"])


def said(component: str, silent_s: float, **changes: Any) -> LastBeat:
    given = {
        "component": component, "kind": "", "role": "secondary", "held_epoch": 0, "endpoint": "e",
        "status": "healthy", "load_ppm": 0, "current_tasks": 0, "max_concurrent": 1,
        "work_done": 0, "queue_size": 0, "specialties": (), "interval_ms": 1000, **changes,
    }  # fmt: skip
    return LastBeat(NodeBeat.model_validate(given), silent_s)


def test_services_by_their_log_alone_are_as_well_as_by_a_projection() -> None:
    last = {f"{c}-{n}": said(c, 0.4) for c in REGION for n in (1, 2)}
    assert of(of_beats("eu", control(), last)).network.score == 1.0
    last["rewards-1"] = said("rewards", SILENT_S)
    found = of(of_beats("eu", control(), last)).regions[0]
    assert found.score == 3.5 / 4.5
    assert "rewards-1" in found.reason


def test_services_of_which_nobody_beats_are_not_at_work() -> None:
    last = {f"{c}-1": said(c, SILENT_S + 0.1) for c in REGION}
    for beats in (last, {}):
        found = of(of_beats("eu", control(), beats)).regions[0]
        assert found.score is None
        assert found.reason


def test_table_has_every_score_with_what_lowers_it_and_who_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    stopped = {"rewards_1": {"silent_s": SILENT_S}}
    seen = [RegionSeen("eu", control(), beats(**stopped), LAG_S), RegionSeen("us", None, {}, {})]
    found = scored(seen, {"us": "it is gone"})
    monkeypatch.setattr("everlode.cli.health.look", lambda *_: found)
    one_region("localhost:1", 2).save(tmp_path)
    assert run(["health", "--dir", str(tmp_path)]) == 20
    rows = [line.strip().split(maxsplit=3) for line in capsys.readouterr().out.splitlines()]
    shown = {(row[0], row[1]): row[2:] for row in rows if len(row) > 2}
    assert shown["node", "rewards-1"] == ["0.000", "beat: silent for 10.0 s"]
    assert shown["component", "rewards/eu"][0] == "0.000"
    assert shown["region", "us"][0] == "unknown"
    assert shown["us", "does"] == ["not", "answer: it is gone"]
    assert len(shown) >= 1 + len(found.components) + len(found.nodes)
    assert run(["health", "xx", "--dir", str(tmp_path)]) == 10
