"""Each exit code of docs/architecture.md is seen by a test of the command, which has no other."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from everlode import errors
from everlode.cli import backup, health, recover, stack, status
from everlode.cli.main import INTERRUPTED, run

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (\d+) \| .+ \|$", re.M)
SEEN = {
    3: "integration/test_health_balance.py::"
    "test_recovery_is_held_while_a_service_of_its_region_is_not_led",
    11: "faults/test_topology.py::test_one_apply_at_a_time_the_other_is_named",
    12: "integration/test_backup_recovery.py::test_wrong_key_is_refused_and_nothing_changes",
    13: "integration/test_snapshots.py::"
    "test_log_that_lacks_what_no_snapshot_has_is_not_led_until_a_copy_brings_it_back",
    14: "faults/test_topology.py::test_network_grows_by_a_node_and_applied_again_nothing_happens",
    20: "integration/test_stack_retention.py::"
    "test_stopped_projector_is_named_from_half_of_the_retention_on",
    124: "faults/test_operators_in_trouble.py::"
    "test_primary_that_does_not_drain_leads_on_after_the_time_out",
    130: "faults/test_demo_signals.py::test_demo_asked_to_end_stops_everything_and_says_so",
}
"""Code → the test that sees the command end with it, where real parts are needed for that."""
HERE = (0, 1, 2, 10)
"""Codes that the tests below see."""


def documented() -> list[int]:
    _, _, rest = (ROOT / "docs/architecture.md").read_text().partition("| exit code | meaning |")
    return [int(code) for code in ROW.findall(rest.partition("\n\n")[0])]


def fates(base: type[errors.EverlodeError] = errors.EverlodeError) -> Iterator[int]:
    """Exit codes of all classes of errors."""
    yield base.exit_code
    for each in base.__subclasses__():
        yield from fates(each)


def test_codes_that_the_command_has_are_the_documented_ones() -> None:
    own = {0, INTERRUPTED, recover.HELD}
    own |= {module.DEGRADED for module in (backup, health, stack, status)}
    assert sorted(own | set(fates())) == documented()


def test_each_documented_code_has_a_test_that_sees_it() -> None:
    assert sorted([*HERE, *SEEN]) == documented()
    for code, test in SEEN.items():
        file, _, name = test.partition("::")
        module = ast.parse((ROOT / "tests" / file).read_text())
        (found,) = (
            node for node in ast.walk(module)
            if isinstance(node, ast.FunctionDef) and node.name == name
        )  # fmt: skip
        compared = {
            constant.value
            for compare in ast.walk(found) if isinstance(compare, ast.Compare)
            for constant in ast.walk(compare) if isinstance(constant, ast.Constant)
        }  # fmt: skip
        assert code in compared, f"{test} compares nothing with {code}"


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [(["schema", "list"], 0, ""), (["schema", "show", "Nonsense"], 10, "not_found"),
     (["backup", "list", "--dir", "none"], 10, "not_found"), (["schema", "dance"], 2, "usage"),
     (["topology", "check", "none.yaml"], 2, "")],
)  # fmt: skip
def test_command_ends_with_the_code_of_what_was_wrong(
    words: list[str], code: int, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, "--json"]) == code
    answer = json.loads(capsys.readouterr().out)
    assert ("error" in answer) == (code != 0)
    assert named in ("", answer.get("error", {}).get("code", ""))


def test_mistake_of_ours_ends_with_1_and_is_named_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flawed() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("everlode.cli.schema.schemas.published", flawed)
    assert run(["schema", "list", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "internal"
