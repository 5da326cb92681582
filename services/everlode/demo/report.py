"""The report of a demo: its files, and lines for the terminal. Pure, but for the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from everlode.demo.page import html


def save(report: dict[str, Any], folder: Path) -> tuple[Path, Path]:
    """Write `report.json` and `report.html`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    plain, page = folder / "report.json", folder / "report.html"
    plain.write_text(json.dumps(report, indent=2, default=str) + "\n")
    page.write_text(html(report))
    return plain, page


BUSY = 0.85
"""Share of all processors' time from which on a machine carries no more."""
ROOM = 0.7
"""Share of what a busy machine has carried that leaves room for faults."""


def way_out(report: dict[str, Any]) -> str:
    """What to try when a run was not proved because the machine was too slow for its pace.

    Empty when it had processor time left: the product is to blame then, not the machine.
    """
    times, cores = report["times_s"], report["machine"]["cores"] or 1
    used = sum(report["resources"]["processor_s"].values()) / (cores * times["total_s"])
    if used < BUSY or times["work_s"] <= times["planned_work_s"]:
        return ""
    speed = report["speed"] * ROOM * times["planned_work_s"] / times["work_s"]
    return (
        f"the machine was busy for {used:.0%} of the time, and took {times['work_s']:.0f} s for "
        f"what was planned in {times['planned_work_s']:.0f} s: try --speed {speed:.1g}"
    )


def _killed(kind: str, kill: dict[str, Any]) -> str:
    """One kill, in words."""
    epochs = f"epoch {kill['epoch_before']} to {kill['epoch_after']}"
    silent = f"{kill['without_facts_ms']} ms without its facts"
    return f"{kind} {kill['killed']}, then {kill['successor']} ({epochs}, {silent})"


def summary(report: dict[str, Any]) -> list[tuple[str, str]]:
    """What the terminal shows."""
    p1 = report["promises"]["P1_mining_does_not_stop"]
    p2 = report["promises"]["P2_miners_do_not_notice"]
    p3 = report["promises"]["P3_no_progress_lost"]
    p4 = report["promises"]["P4_rewards_right_and_once"]
    failover, recovery, fraud = report["failover"], report["recovery"], report["fraud"]
    peaks = dict(report["resources"]["peak_resident_bytes"])
    memory = peaks.pop("all together", 0)
    by_kind = ", ".join(f"{k} {v / 1e9:.2f}" for k, v in sorted(peaks.items(), key=lambda p: -p[1]))
    return [
        ("workload", f"{report['workload']}, seed {report['seed']}, speed {report['speed']:g}"),
        ("events", f"{report['events']} in the log, {report['acknowledged_events']} acknowledged"),
        ("tasks", ", ".join(f"{v} {k}" for k, v in sorted(report["tasks"]["ended"].items()))),
        ("planned", ", ".join(f"{v} to {k}" for k, v in report["tasks"]["planned"].items())),
        ("rewards", f"{report['rewards']['paid']} paid"),
        ("fraud", f"{fraud['found']} found of {fraud['acted']} cheats that acted, of "
                  f"{fraud['planted_cheats']} planted; "
                  f"{len(fraud['falsely_accused'])} falsely accused"),
        ("P1", f"{p1['share_within_deadline']:.2%} of {p1['answered']} answers within "
               f"{p1['deadline_ms'] / 1000:g} s; longest gap {p1['longest_gap_ms']} ms"),
        ("P2", f"{p2['exceptions_seen']} exceptions, {p2['submissions_lost']} submissions lost; "
               f"{p2['reconnected']['who']} clients and miners reconnected, p95 "
               f"{p2['reconnected']['p95_ms']} ms"),
        ("P3", f"{p3['went_back']} of {p3['acknowledged']} progress reports went back"),
        ("P4", f"{p4['wrong_or_twice']} of {p4['paid']} rewards wrong or paid twice"),
        ("folded", f"{report['folded_live']} live by Faust, {report['folded_bulk']} in bulk"),
        ("verdicts", ", ".join(f"{v} {k}" for k, v in sorted(report["verdicts"].items()))),
        ("killed", "; ".join(_killed(kind, kill) for kind, kill in report["kills"].items())),
        ("failover", f"detected after {failover.get('time_to_detect_ms')} ms, promoted "
                     f"{failover.get('time_to_promote_ms')} ms later, "
                     f"{failover.get('migrated_tasks')} tasks migrated of "
                     f"{failover['lasting_tasks_at_kill']} that were to go on"),
        ("RPO", f"lost events: {recovery['lost_event_ids'] or 'none'}"),
        ("RTO", ", ".join(f"{k} {v} ms" for k, v in recovery["rto_ms_by_stage"].items())),
        ("memory", f"{memory / 1e9:.2f} GB at most, all processes together; by kind, each at its "
                   f"most: {by_kind}"),
        ("time", f"{report['times_s'].get('total_s')} s in all"),
        ("proof", f"{report['proof']['compared_keys']} keys, {report['proof']['differences']} "
                  f"differences, {len(report['proof']['lost_events'])} lost events"),
    ]  # fmt: skip
