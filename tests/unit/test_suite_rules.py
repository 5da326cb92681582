"""The suite's own rules: what is skipped fails the run in CI, and what waits long begins first."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import NICENESS, ONE_REGION, WAITING

CONFTEST = Path(__file__).parents[1] / "conftest.py"
WAITS = min(WAITING)
SKIPPED_TEST = "import pytest\n@pytest.mark.skip(reason='no network')\ndef test_a(): pass\n"
SKIPPED_MODULE = "import pytest\npytest.skip('no network', allow_module_level=True)\n"
PASSED = "def test_b(): pass\n"


def write(folder: Path, bodies: dict[str, str]) -> None:
    """Files of a suite, by name."""
    for name, body in bodies.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(body)


def run(folder: Path, body: str, ci: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_rule.py").write_text(body)
    (folder / "test_other.py").write_text(PASSED)
    return suite(folder, ci)


def suite(folder: Path, ci: str, *words: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(CONFTEST, folder / "conftest.py")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis",
         *words, str(folder)],
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )  # fmt: skip


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
        f"faults/{WAITS}": PASSED,
    }
    for name in ("unit", "contract", "scenario", "simulation"):
        bodies[f"{name}/test_{name}.py"] = PASSED
    write(tmp_path, bodies)
    found = [line for line in suite(tmp_path, "", "--co").stdout.splitlines() if "::" in line]
    assert found == [
        "faults/test_c.py::test_two", "faults/test_c.py::test_one", f"faults/{WAITS}::test_b",
        "faults/test_b.py::test_b", "faults/test_a.py::test_b",
        "simulation/test_simulation.py::test_b", "contract/test_contract.py::test_b",
        "scenario/test_scenario.py::test_b", "unit/test_unit.py::test_b",
    ]  # fmt: skip


def test_third_worker_has_what_fills_up_and_what_is_pure_leaves_the_cores_to_others(
    tmp_path: Path,
) -> None:
    body = (
        "import os, pathlib, time\n"
        "def test_a():\n    time.sleep(0.5)\n"
        "    me = os.environ['PYTEST_XDIST_WORKER'], str(os.nice(0))\n"
        "    pathlib.Path(__file__).with_suffix('.ran').write_text(' '.join(me))\n"
    )
    names = [f"{f}/test_{f}{n}.py" for f in ("faults", "unit") for n in range(6)]
    waiting, shared = f"faults/{WAITS}", [f"faults/{name}" for name in ONE_REGION]
    write(tmp_path, dict.fromkeys((*names, waiting, *shared), body))
    assert suite(tmp_path, "", *makefile_workers().split()).returncode == 0
    where = {n: (tmp_path / n).with_suffix(".ran").read_text() for n in (*names, waiting, *shared)}
    ran = {name: said.split() for name, said in where.items()}
    before = str(os.nice(0))
    real = [ran[name] for name in ran if "faults" in name and name != waiting]
    assert {worker for worker, _ in real} == {"gw0", "gw1"}
    assert {nice for _, nice in real} == {before}
    assert ran[waiting] == ["gw2", before]
    assert len({where[name] for name in shared}) == 1, "one worker has them"
    filling = [nice for name, (worker, nice) in ran.items() if worker == "gw2" and name != waiting]
    assert filling
    low = int(before) + (NICENESS if int(before) < NICENESS else 0)
    assert {int(nice) for nice in filling} == {min(low, 19)}


def test_files_that_fill_up_are_there() -> None:
    found = {path.name for path in CONFTEST.parent.glob("*/test_*.py")}
    assert found >= WAITING | ONE_REGION


def test_makefile_takes_the_files_in_that_order() -> None:
    """Else xdist begins with those that have most tests, and those of one long test come last."""
    assert {"--dist loadfile", "--no-loadscope-reorder"} <= {
        *re.findall(r"--\S+(?: [a-z]+)?", makefile_workers())
    }


def makefile_workers() -> str:
    """Options of pytest that say who runs what."""
    (line,) = re.findall(r"^WORKERS := (.+)$", (CONFTEST.parents[1] / "Makefile").read_text(), re.M)
    return str(line)
