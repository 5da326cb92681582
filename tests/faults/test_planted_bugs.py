"""Bugs that a failover must not have: each, planted in a copy of the source, turns its test red.

The copy is of the one package, and comes before the sources on the path of the test's own process.
What is spoilt must be there once as it stands here, so a bug cannot be planted beside what it
should break. A test that ends otherwise than red (nothing collected, a name that is not there, a
green one) fails here. Two that need a broker, a fence and a read to the end that are left out, are
planted in `integration/test_fact_log`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.facts.pages import ROOT

pytestmark = pytest.mark.timeout(280)


class Bug(NamedTuple):
    """A line that is written otherwise, and who finds it."""

    name: str
    path: str
    right: str
    wrong: str
    test: str


BUGS = (
    Bug(
        "facts of an epoch that is over count",
        "streams/everlode/projection/fold.py",
        "if envelope.epoch < opened:",
        "if envelope.epoch < 0:",
        "tests/unit/test_projection_fold.py::test_lower_epoch_after_its_scope_opened_is_fenced",
    ),
    Bug(
        "a payment system pays a key again for a successor",
        "services/everlode/rewards/sink.py",
        "            if payout_key in self._paid:\n                ref",
        "            if False:\n                ref",
        "tests/unit/test_payouts.py::test_journal_pays_a_key_once_for_two_nodes",
    ),
    Bug(
        "what the control log says is taken for a lease",
        "streams/everlode/control/roles.py",
        "self.ended or self.barred or not self._leases[scope].good(mono_ms):",
        "self.ended or self.barred:",
        "tests/unit/test_control_roles.py::"
        "test_lease_that_runs_out_fences_and_a_renewal_gives_the_same_epoch_back",
    ),
)


def run(path: Path, test: str) -> subprocess.CompletedProcess[str]:
    """One test, with this folder first on the path."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test],
        env={**os.environ, "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=240,
    )  # fmt: skip


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_planted_bug_turns_its_test_red(tmp_path: Path, bug: Bug) -> None:
    source = ROOT / bug.path
    package = tmp_path / "everlode" / source.parent.name
    shutil.copytree(source.parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    right = source.read_text()
    assert right.count(bug.right) == 1, "what is to be spoilt is not there, or not once"
    (package / source.name).write_text(right.replace(bug.right, bug.wrong))
    done = run(tmp_path, bug.test)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert f"FAILED {bug.test}" in done.stdout, done.stdout
    assert "1 failed" in done.stdout


def test_copy_without_a_bug_is_green(tmp_path: Path) -> None:
    """So what is red above is so by what was planted."""
    source = ROOT / BUGS[-1].path
    shutil.copytree(source.parent, tmp_path / "everlode" / source.parent.name)
    done = run(tmp_path, BUGS[-1].test)
    assert done.returncode == 0, done.stdout + done.stderr
