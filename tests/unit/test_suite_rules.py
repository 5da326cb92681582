"""The suite's own rule: a skipped test, or a skipped module, fails the run in CI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
SKIPPED_TEST = "import pytest\n@pytest.mark.skip(reason='no network')\ndef test_a(): pass\n"
SKIPPED_MODULE = "import pytest\npytest.skip('no network', allow_module_level=True)\n"
PASSED = "def test_b(): pass\n"


def run(folder: Path, body: str, ci: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(CONFTEST, folder / "conftest.py")
    (folder / "test_rule.py").write_text(body)
    (folder / "test_other.py").write_text(PASSED)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
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
