"""Alert rules and queries of dashboards, by Prometheus's own promtool: lawful, and right."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.support.facts.alerts import RULES, alerts
from tests.support.facts.dashboards import BOARDS, board, queries
from tests.support.processes.promtool import promtool

CASES = RULES.with_name("cases.yml")
EXPRESSION = re.compile(r"expr: .*?\n        (?=for:|labels:)", re.S)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The rules and their cases, to be changed."""
    for file in (RULES, CASES):
        shutil.copy(file, tmp_path)
    return tmp_path


def test_rules_are_lawful_and_fire_when_they_should_only(folder: Path) -> None:
    checked = promtool("check", "rules", RULES.name, folder=folder)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    tested = promtool("test", "rules", CASES.name, folder=folder)
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize(
    ("expression", "case"), [("vector(1)", "quiet"), ("vector(1) > 1", "fires")]
)
def test_figures_tell_each_rule_from_one_that_always_or_never_fires(
    folder: Path, expression: str, case: str
) -> None:
    whole = (folder / RULES.name).read_text()
    changed, count = EXPRESSION.subn(f"expr: {expression}\n        ", whole)
    assert count == len(alerts())
    (folder / RULES.name).write_text(changed)
    wrong = promtool("test", "rules", CASES.name, folder=folder)
    assert wrong.returncode != 0
    said = wrong.stdout + wrong.stderr
    assert [alert for alert in alerts() if f"name: {alert} {case}," not in said] == []


def as_rules(found: list[str]) -> str:
    """Queries as a file of rules that record them: promtool reads them so."""
    rules = [{"record": f"query:{number}", "expr": one} for number, one in enumerate(found)]
    return yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]})


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_queries_of_a_dashboard_are_lawful(path: Path, tmp_path: Path) -> None:
    asked = queries(board(path))
    for found, ends in ((asked, 0), ([*asked, "max by (a ("], 1)):
        (tmp_path / "queries.yml").write_text(as_rules(found))
        checked = promtool("check", "rules", "queries.yml", folder=tmp_path)
        assert checked.returncode == ends, checked.stdout + checked.stderr
