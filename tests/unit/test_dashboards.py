"""The dashboards ask for metrics, labels and values that there are, and can be imported."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from everlode.api.metrics import HEALTH, OTHERS
from everlode.events.nodes import NodeStatus
from tests.support.facts.alerts import METRIC
from tests.support.facts.dashboards import BOARDS, VARIABLE, board, queries
from tests.unit.test_runbooks import exported

VALUES = {
    "type": set(HEALTH), "kind": set(OTHERS), "success": {"true", "false"},
    "status": {str(status.value) for status in NodeStatus},
}  # fmt: skip
"""Label → what it may be, where that is a closed list."""
SELECTOR = re.compile(r"(everlode_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
GROUPED = re.compile(r"\bby \(([^)]*)\)")
WIDTH = 24
"""Columns of a dashboard."""
pytestmark = pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)


def wrong(of: dict[str, Any]) -> list[str]:
    """What a dashboard's queries name that is not there."""
    known, found = exported(), list[str]()
    for query in queries(of):
        labels = set[str]()
        for name, selected in SELECTOR.findall(query):
            if name not in known:
                found.append(f"{name} in: {query}")
                continue
            labels |= known[name]
            for label, value in MATCHER.findall(selected):
                lawful = VALUES.get(label)
                named = set() if value == ".*" else set(value.split("|"))
                if label not in known[name] or (lawful is not None and named - lawful):
                    found.append(f"{name}{{{label}={value}}}")
        grouped = {label for by in GROUPED.findall(query) for label in by.split(", ")}
        found += [f"by ({label}) in: {query}" for label in sorted(grouped - labels)]
    return found


def test_queries_name_metrics_labels_and_values_that_exist(path: Path) -> None:
    found = board(path)
    assert wrong(found) == []
    for one in found["templating"]["list"]:
        if one["type"] == "query":
            metric, label = re.findall(r"label_values\((\w+), (\w+)\)", one["query"])[0]
            assert label in exported()[metric]


@pytest.mark.parametrize(
    ("old", "new"),
    [("everlode_scope_led", "everlode_scope_leads"), ("min by (scope)", "min by (node)"),
     ('region=~', 'place=~'), ('status=~"lost', 'status=~"gone'), ('success="', 'success="x')],
)  # fmt: skip
def test_query_that_names_what_is_not_there_is_found(path: Path, old: str, new: str) -> None:
    plain = path.read_text().replace('\\"', "\x00")
    changed = plain.replace(old.replace('"', "\x00"), new.replace('"', "\x00"))
    found = json.loads(changed.replace("\x00", '\\"'))
    assert bool(wrong(found)) == (changed != plain)


def test_panels_say_what_they_show_and_lie_beside_one_another(path: Path) -> None:
    found = board(path)
    panels = found["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 5
    taken = list[set[tuple[int, int]]]()
    for panel in panels:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert METRIC.search(panel["targets"][0]["expr"])
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= WIDTH
        taken.append({(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])})
    assert [(a, b) for a, b in combinations(taken, 2) if a & b] == []


def test_source_of_figures_is_chosen_where_it_is_imported(path: Path) -> None:
    found = board(path)
    sources = [p["datasource"] for p in found["panels"]]
    sources += [t["datasource"] for p in found["panels"] for t in p["targets"]]
    assert {source["uid"] for source in sources} == {"${datasource}"}
    names = {one["name"] for one in found["templating"]["list"]}
    used = {a or b for a, b in VARIABLE.findall(json.dumps(found["panels"]))}
    assert names - used == set()
    assert (found["uid"], "id" in found) == (f"everlode-{path.stem}", False)
