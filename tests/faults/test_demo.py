"""The main job, whole, on real parts: a small share of the workload, a SIGKILL at some moment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from everlode.demo.options import MOMENTS
from everlode.events.services import BY_FACTS, SERVICES
from tests.support.processes.chromium import chromium
from tests.support.processes.entries import await_entry, entries
from tests.support.processes.outputs import fitting
from tests.support.processes.report_page import check_fits, check_marks, check_read, shown
from tests.support.processes.watching import Watcher

LONG = bool(os.environ.get("LONG_TESTS"))
SECONDS = 400
"""Far above what a run takes; a run that hangs ends here."""


class Done(NamedTuple):
    """What came of a run."""

    code: int
    report: dict[str, Any]
    progress: list[dict[str, Any]]
    """What it reported, as entries."""
    watcher: Watcher


def demo(folder: Path, *arguments: str, trace: str | None) -> Done:
    """Run the demo as its users do, with somebody who watches it."""
    metrics = folder / "metrics"
    env = {k: v for k, v in os.environ.items() if k != "EVERLODE_TRACE"}
    env |= {"EVERLODE_LOG": "json", "EVERLODE_METRICS_DIR": str(metrics)}
    if trace is not None:
        env["EVERLODE_TRACE"] = trace
    words = ["demo", "--json", "--report", str(folder), "--share", "0.02", *arguments]
    log = folder / "progress.log"
    with log.open("w") as progress:
        process = subprocess.Popen(
            [sys.executable, "-m", "everlode.cli.main", *words],
            env=env, stdout=subprocess.PIPE, stderr=progress, text=True,
        )  # fmt: skip
    try:
        said = await_entry(log, "Note", ended=lambda: process.poll() is not None, about="page")
        (host,) = re.findall(r"http://(\S+)", said["remark"])
        watcher = Watcher(host, frozenset({BY_FACTS["tasks"].ended.__name__}), metrics)
        watcher.start()
        out, _ = process.communicate(timeout=SECONDS - 30)
        watcher.join(20)
    finally:
        process.kill()
    report = fitting(words, out) if out.strip() else {}
    return Done(process.returncode, report, entries(log), watcher)


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("moment", MOMENTS if LONG else ["mid-run", "during-recovery"])
def test_demo_with_a_killed_primary_loses_nothing(tmp_path: Path, moment: str) -> None:
    """Every moment with `LONG_TESTS`. One runs on a generated workload, others on the trace if any.

    At half the speed: then tasks outlive a failover, and the work goes on during the recovery.
    """
    trace = None if moment == "during-recovery" else os.environ.get("EVERLODE_TRACE")
    code, report, progress, watcher = demo(
        tmp_path, "--kill-at", moment, "--speed", "0.5", trace=trace
    )
    assert code == 0, (progress[-8:], report.get("error", report.get("failures")))
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
    seen_by(watcher, progress, report["kills"]["task-manager"])
    page = (tmp_path / "report.html").read_text()
    assert "<svg" in page
    assert "http" not in page.replace("http-equiv", ""), "the page loads nothing from elsewhere"
    if moment == "mid-run":
        looked_at(tmp_path / "report.html", report)


def looked_at(file: Path, report: dict[str, Any]) -> None:
    """The real run's page in a real browser, narrow and light, wide and dark."""
    seconds = report["promises"]["P1_mining_does_not_stop"]["by_second"]
    least = len(seconds) + len(report["windows"])
    with chromium() as browser:
        for width, scheme in ((320, "light"), (1440, "dark")):
            window = {"width": width, "height": 800}
            page, complaints = shown(browser, file, viewport=window, color_scheme=scheme)
            assert page.title() == "Everlode: proved"
            assert check_marks(page) >= least, "each second that was answered in, each fault"
            check_read(page, scheme)
            row = page.get_by_role("cell", name=report["backup"]["backup_id"]).first
            assert not row.is_visible()
            check_fits(page, complaints, width)
            assert row.is_visible()
            page.close()


def seen_by(watcher: Watcher, progress: list[dict[str, Any]], kill: dict[str, Any]) -> None:
    """The address comes first; the page answers, shows the failover, and ends as it should."""
    killed, successor = kill["killed"], kill["successor"]
    assert progress[0]["text"].startswith("page: http://127.0.0.1:")
    assert "Nothing has failed" in watcher.pages[0]
    lost, ended = watcher.kinds.index("NodeLost"), BY_FACTS["tasks"].ended.__name__
    assert lost < watcher.kinds.index(ended)
    page = watcher.pages[-1]
    assert re.search(rf"<em>{ended}</em><span>eu · [^<]*primary: {successor} · done", page), page
    assert re.search(rf'data-node="{killed}".*class="(lost|fenced)"', page), page
    assert watcher.ended, "it was cut off"
    for actors in ("actors-eu", "actors-us", "actors-ap"):
        figures = watcher.figures[actors]
        assert figures["everlode_actors_answers_total", ("RegisterMiner", "done")] > 0
        assert ("everlode_actors_commands_waiting", ()) in figures
    assert killed not in watcher.figures
