"""Each alert has a runbook and each runbook an alert; what they name exists, and only looks."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from docs.site.reference import figures
from everlode.events.catalogue import EVENTS
from everlode.events.nodes import NodeStatus
from everlode.telemetry import figures as process_figures
from tests.support.facts.alerts import METRIC, ROOT, RULES, alerts, metrics_of_alerts
from tests.unit.test_cli_main import LEAVES

BOOKS = {path.stem: path for path in (ROOT / "docs/runbooks").glob("Everlode*.md")}
PARTS = ("Meaning", "Impact", "Diagnosis", "Mitigation", "Verification", "What not to do")
LOOKING = {
    "stack status", "stack doctor", "stack logs", "status clusters", "scope explain", "scope plan",
    "scope history", "events tail", "events schema", "dlt list", "dlt show", "dlt keys",
    "task explain", "miner explain", "backup list", "backup show", "backup verify",
    "recover plan", "recover list",
}  # fmt: skip
"""Verbs that change nothing."""
TARGET = ("process", "instance")
"""Labels of a process that Prometheus scrapes."""
API = (ROOT / "docs/api.md").read_text()


def exported(*modules: ModuleType) -> dict[str, set[str]]:
    """Series → its labels, as these modules make them; without modules: as all do.

    Of a process they have its target's labels too, as Prometheus adds them.
    """
    found = dict[str, set[str]]()
    of_processes = {name for name, *_ in figures(process_figures)}
    for name, kind, own, _ in figures(*modules):
        labels = {*own, *(TARGET if name in of_processes else ())}
        if kind == "histogram":
            found |= {f"{name}_bucket": {*labels, "le"}} | dict.fromkeys(
                (f"{name}_count", f"{name}_sum"), labels
            )
        else:
            found[name] = labels
    return found


def section(text: str, name: str) -> str:
    return text.partition(f"## {name}\n")[2].partition("\n## ")[0]


def test_alerts_and_runbooks_are_one_to_one() -> None:
    assert set(alerts()) == set(BOOKS)
    assert len(alerts()) > 15


@pytest.mark.parametrize("alert", sorted(alerts()))
def test_runbook_has_its_parts_and_the_alert_names_it(alert: str) -> None:
    text = BOOKS[alert].read_text()
    assert text.startswith(f"# {alert}\n")
    assert tuple(re.findall(r"^## (.+)$", text, re.M)) == PARTS
    assert all(len(section(text, part).split()) > 5 for part in PARTS)
    annotations = alerts()[alert]["annotations"]
    assert annotations["runbook"] == f"docs/runbooks/{alert}.md"
    assert alerts()[alert]["labels"]["severity"] in ("critical", "warning")


@pytest.mark.parametrize("alert", sorted(BOOKS))
def test_diagnosis_only_looks_and_all_commands_exist(alert: str) -> None:
    text = BOOKS[alert].read_text()
    looks = re.findall(r"^    (.+)$", section(text, "Diagnosis"), re.M)
    assert looks
    for line in looks:
        words = line.split()
        assert words[0] in ("everlode", "curl")
        if words[0] == "everlode":
            assert " ".join(words[1:3]) in LOOKING
        else:
            assert not {"-X", "-d", "--data", "--request"} & set(words)
    for command in re.findall(r"`everlode ([a-z]+(?: [a-z]+)?)", text):
        named = [leaf for leaf in LEAVES if leaf == command or leaf.startswith(f"{command} ")]
        assert named or command.split()[0] in LEAVES, command


@pytest.mark.parametrize("alert", sorted(BOOKS))
def test_options_and_events_of_a_runbook_exist(alert: str) -> None:
    text = BOOKS[alert].read_text()
    for line in re.findall(r"(?:^    |`)everlode ([^`\n]+)", text, re.M):
        words = line.split()
        leaf = next((n for n in (2, 1) if " ".join(words[:n]) in LEAVES), None)
        if leaf is None:
            continue  # a noun alone
        known = {switch for p in LEAVES[" ".join(words[:leaf])].params for switch in p.opts}
        assert {word for word in words if word.startswith("--")} <= known, line
    named = re.findall(r"--type (\w+)", text) + re.findall(r"`([A-Z]\w+(?:Found|Lost|Skew))`", text)
    assert set(named) <= set(EVENTS)


def test_expressions_name_metrics_labels_and_values_that_exist() -> None:
    known = exported()
    assert metrics_of_alerts() <= set(known)
    for rule in alerts().values():
        for name, labels in re.findall(r"(everlode_\w+)\{([^}]*)\}", rule["expr"]):
            for label, value in re.findall(r'(\w+)(?:=|!=|=~)"([^"]*)"', labels):
                assert label in known[name]
                if label == "type":
                    health = {n for n, kind in EVENTS.items() if kind.topic == "health"}
                    assert set(value.split("|")) <= health
                if label == "status":
                    assert set(value.split("|")) <= {status.value for status in NodeStatus}


def test_document_names_what_is_exported() -> None:
    assert set(METRIC.findall(API.partition("## Metrics")[2])) <= set(exported())


def test_each_rule_has_figures_for_and_against_it() -> None:
    cases = yaml.safe_load(RULES.with_name("cases.yml").read_text())["tests"]
    names = {case["name"] for case in cases}
    assert names == {f"{alert} {way}" for alert in alerts() for way in ("fires", "quiet")}


def test_index_lists_all() -> None:
    index = (ROOT / "docs/runbooks/README.md").read_text()
    assert set(re.findall(r"\((Everlode\w+)\.md\)", index)) == set(BOOKS)


def test_paths_that_annotations_name_are_there() -> None:
    assert all(Path(ROOT, r["annotations"]["runbook"]).is_file() for r in alerts().values())
