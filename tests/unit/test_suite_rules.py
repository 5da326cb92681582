"""The suite's own rules: what is skipped fails the run in CI, and what waits long begins first."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PURE

CONFTEST = Path(__file__).parents[1] / "conftest.py"
SKIPPED_TEST = "import pytest\n@pytest.mark.skip(reason='no network')\ndef test_a(): pass\n"
SKIPPED_MODULE = "import pytest\npytest.skip('no network', allow_module_level=True)\n"
PASSED = "def test_b(): pass\n"


def run(folder: Path, body: str, ci: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_rule.py").write_text(body)
    (folder / "test_other.py").write_text(PASSED)
    return suite(folder, ci)


def suite(folder: Path, ci: str, *words: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(CONFTEST, folder / "conftest.py")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words, str(folder)],
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )


@pytest.mark.parametrize("body", [SKIPPED_TEST, SKIPPED_MODULE])
def test_skip_in_ci_fails_with_its_reason(tmp_path: Path, body: str) -> None:
    done = run(tmp_path, body, "true")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "test_rule.py" in done.stdout
    assert "no network" in done.stdout


def test_skip_outside_ci_is_listed_and_passes(tmp_path: Path) -> None:
    done = run(tmp_path, SKIPPED_TEST, "false")
    assert done.returncode == 0
    assert "skipped: each is a failure in CI" in done.stdout


def test_nothing_skipped_in_ci_passes(tmp_path: Path) -> None:
    assert run(tmp_path, PASSED, "true").returncode == 0


def test_real_parts_come_first_and_stacks_of_a_session_late(tmp_path: Path) -> None:
    bodies = {
        "faults/test_a.py": "def test_b(everlode_stack): pass\n",
        "faults/test_b.py": "def test_b(everlode_small_stack): pass\n",
        "faults/test_c.py": "def test_two(): pass\ndef test_one(): pass\n",
    }
    for name in ("unit", "contract", "scenario", "simulation"):
        bodies[f"{name}/test_{name}.py"] = PASSED
    for name, body in bodies.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(body)
    found = [line for line in suite(tmp_path, "", "--co").stdout.splitlines() if "::" in line]
    assert found == [
        "faults/test_c.py::test_two", "faults/test_c.py::test_one", "faults/test_b.py::test_b",
        "faults/test_a.py::test_b",
        "simulation/test_simulation.py::test_b", "contract/test_contract.py::test_b",
        "scenario/test_scenario.py::test_b", "unit/test_unit.py::test_b",
    ]  # fmt: skip


def makefile_says(name: str) -> list[str]:
    """The words of one of its variables."""
    makefile = (CONFTEST.parents[1] / "Makefile").read_text()
    (line,) = re.findall(rf"^{name} := (.+)$", makefile, re.M)
    return str(line).split()


def test_makefile_takes_the_files_in_that_order() -> None:
    """Else xdist begins with those that have most tests, and those of one long test come last."""
    assert {"--dist", "loadfile", "--no-loadscope-reorder"} <= set(makefile_says("WORKERS"))


def test_each_folder_runs_once_with_real_parts_or_apart_from_them() -> None:
    assert sorted(makefile_says("PURE")) == sorted(f"tests/{folder}" for folder in PURE)
