"""The main job, whole, on real parts: a small share of the workload, a SIGKILL at some moment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from everlode.demo.options import MOMENTS
from everlode.events.services import SERVICES

LONG = bool(os.environ.get("LONG_TESTS"))
SECONDS = 400
"""Far above what a run takes; a run that hangs ends here."""


def demo(folder: Path, *arguments: str, trace: str | None) -> tuple[int, dict[str, Any], str]:
    """Run the demo as its users do; its exit code, report and progress."""
    env = {k: v for k, v in os.environ.items() if k != "EVERLODE_TRACE"}
    if trace is not None:
        env["EVERLODE_TRACE"] = trace
    done = subprocess.run(
        [sys.executable, "-m", "everlode.cli.main", "demo", "--json", "--report", str(folder),
         "--share", "0.02", *arguments],
        env=env, capture_output=True, text=True, timeout=SECONDS - 10, check=False,
    )  # fmt: skip
    report = json.loads(done.stdout) if done.stdout.strip() else {}
    return done.returncode, report, done.stderr


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("moment", MOMENTS if LONG else ["mid-run", "during-recovery"])
def test_demo_with_a_killed_primary_loses_nothing(tmp_path: Path, moment: str) -> None:
    """Every moment with `LONG_TESTS`. One runs on a generated workload, others on the trace if any.

    At half the speed: then tasks outlive a failover, and the work goes on during the recovery.
    """
    trace = None if moment == "during-recovery" else os.environ.get("EVERLODE_TRACE")
    code, report, progress = demo(tmp_path, "--kill-at", moment, "--speed", "0.5", trace=trace)
    assert code == 0, progress[-3000:] + json.dumps(report.get("error", report.get("failures")))
    assert report["failures"] == []
    assert report["proof"]["lost_events"] == []
    assert report["proof"]["differences"] == 0
    assert report["proof"]["compared_keys"] > 100
    assert report["kill_at"] == moment
    assert report["failover"]["recovery_action"] == "secondary-promoted"
    assert set(report["kills"]) == {service.node for service in SERVICES}
    for kill in report["kills"].values():
        assert kill["killed"] != kill["successor"], kill
        assert kill["epoch_after"] == kill["epoch_before"] + 1, kill
        assert kill["facts_after"] > 0, kill
    if moment == "mid-run":
        for kill in report["kills"].values():
            assert kill["without_facts_ms"] > 0, kill
        assert report["kills"]["task-manager"]["without_answers_ms"] > 0
        assert report["failover"]["migrated_tasks"] > 0
        assert report["promises"]["P2_miners_do_not_notice"]["reconnected"]["who"] > 0
    assert report["recovery"]["overall_success"] is True
    assert report["rewards"]["paid"] == report["tasks"]["ended"]["rewarded"] > 0
    ended = report["tasks"]["ended"]
    assert ended["cancelled"] == report["tasks"]["planned"]["cancel"]
    assert sum(ended.values()) == sum(report["tasks"]["planned"].values())
    page = (tmp_path / "report.html").read_text()
    assert "<svg" in page
    assert "http" not in page.replace("http-equiv", ""), "the page loads nothing from elsewhere"
