"""The report for people: a self-contained page, and lines for the terminal. Pure, but for files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Everlode: report</title><style>
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:62rem;padding:0 1rem;color:#222}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem;border-bottom:1px solid #ddd}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.25rem .6rem;
border-bottom:1px solid #eee;vertical-align:top}th{font-weight:600;width:22rem}
.ok{color:#176d2c}.bad{color:#a11}code{font-size:.9em}svg text{font:11px system-ui,sans-serif}
</style></head><body>
<h1>Everlode: {{ "proved" if not r.failures else "not proved" }}</h1>
<p class="{{ 'bad' if r.failures else 'ok' }}">{{ r.failures|length }} failures;
{{ r.proof.compared_keys }} keys compared, {{ r.proof.differences }} differences,
{{ r.proof.lost_events|length }} acknowledged events lost.</p>
{% if r.failures %}<ul>{% for f in r.failures %}<li class="bad">{{ f }}</li>{% endfor %}
</ul>{% endif %}
<h2>Timeline</h2>
<svg viewBox="0 0 900 {{ 40 + marks|length * 18 }}" role="img" aria-label="timeline">
<line x1="10" y1="14" x2="890" y2="14" stroke="#999"/>
{% for m in marks %}<circle cx="{{ m.x }}" cy="14" r="4" fill="{{ m.colour }}"/>
<text x="10" y="{{ 44 + loop.index0 * 18 }}"><tspan font-weight="600">{{ m.at_s }} s
{{ m.step }}</tspan> {{ m.text }}</text>{% endfor %}</svg>
{% for title, rows in sections %}<h2>{{ title }}</h2><table>{% for k, v in rows %}
<tr><th>{{ k }}</th><td>{{ v }}</td></tr>{% endfor %}</table>{% endfor %}
<h2>Answers by second</h2>
<svg viewBox="0 0 900 120" role="img" aria-label="answers by second">
{% for b in bars %}<rect x="{{ b.x }}" y="{{ 110 - b.h }}" width="{{ b.w }}" height="{{ b.h }}"
fill="{{ '#3a7' if b.good else '#c63' }}"/>{% endfor %}</svg>
</body></html>
"""
COLOURS = {"failure": "#c33", "disaster": "#c33", "backup": "#36c", "recovery": "#36c"}


def _rows(value: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, item in value.items():
        name = f"{prefix}{key}".replace("_", " ")
        if key in ("by_second", "timeline"):
            continue
        if isinstance(item, dict) and item:
            found += _rows(item, f"{prefix}{key} · ")
        elif isinstance(item, list) and item and isinstance(item[0], dict):
            for entry in item:
                found.append((name, ", ".join(f"{k} {v}" for k, v in entry.items())))
        else:
            found.append((name, str(item)))
    return found


def html(report: dict[str, Any]) -> str:
    """The page; nothing in it is loaded from elsewhere, and every value is escaped."""
    timeline = report["timeline"]
    end = max((m["at_s"] for m in timeline), default=1.0) or 1.0
    marks = [
        {**m, "x": round(10 + 880 * m["at_s"] / end), "colour": COLOURS.get(m["step"], "#555")}
        for m in timeline
    ]
    seconds = list(report["promises"]["P1_mining_does_not_stop"]["by_second"].values())
    top = max((n for n, _ in seconds), default=1)
    width = 880 / max(1, len(seconds))
    bars = [
        {"x": round(10 + i * width, 1), "w": round(max(1, width - 1), 1),
         "h": round(100 * n / top, 1), "good": good == n}
        for i, (n, good) in enumerate(seconds)
    ]  # fmt: skip
    head = ("workload", "seed", "speed", "share", "kill_at", "events", "acknowledged_events",
            "folded_live", "folded_bulk", "object_store", "machine")  # fmt: skip
    names = {
        "promises": "The four promises",
        "tasks": "Tasks",
        "rewards": "Rewards",
        "fraud": "Fraud",
        "failover": "Failover",
        "backup": "Backup",
        "recovery": "Recovery",
        "proof": "Proof",
        "times_s": "Times in seconds",
        "resources": "Memory and processor",
        "folded": "Events folded",
        "verdicts": "Verdicts of the detector",
    }
    sections = [("The run", _rows({key: report[key] for key in head}))]
    sections += [(title, _rows(report[key])) for key, title in names.items()]
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return page.from_string(PAGE).render(r=report, marks=marks, bars=bars, sections=sections)


def save(report: dict[str, Any], folder: Path) -> tuple[Path, Path]:
    """Write `report.json` and `report.html`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    plain, page = folder / "report.json", folder / "report.html"
    plain.write_text(json.dumps(report, indent=2, default=str) + "\n")
    page.write_text(html(report))
    return plain, page


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
