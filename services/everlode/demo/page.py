"""The report as one page for people: it loads nothing and escapes every value. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any, NamedTuple

import jinja2

from everlode.demo import charts
from everlode.proof.floors import broken

TEMPLATE = "page.html.j2"
FOLDED = ("by_second", "timeline", "windows", "lag_s")
"""Parts of the report that are drawn; as rows they would only be long."""
SECTIONS = {
    "promises": "The four promises, in figures",
    "tasks": "Tasks",
    "rewards": "Rewards",
    "fraud": "Fraud",
    "kills": "One killed primary of each kind",
    "failover": "Failover of the task manager",
    "backup": "Backup",
    "recovery": "Recovery",
    "proof": "Proof",
    "times_s": "Times in seconds",
    "resources": "Memory and processor",
    "folded": "Events folded",
    "verdicts": "Verdicts of the detector",
}


class Promise(NamedTuple):
    """What a promise says, whether it was kept, and by which figures."""

    title: str
    kept: bool
    text: str


def _rows(value: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, item in value.items():
        name = f"{prefix}{key}".replace("_", " ")
        if key in FOLDED:
            continue
        if isinstance(item, dict) and item:
            found += _rows(item, f"{prefix}{key} · ")
        elif isinstance(item, list) and item and isinstance(item[0], dict):
            for entry in item:
                found.append((name, ", ".join(f"{k} {v}" for k, v in entry.items())))
        else:
            found.append((name, str(item)))
    return found


def promises(report: Mapping[str, Any]) -> list[Promise]:
    """The four promises in words, with units; kept are those that reach all of their floors."""
    missed = {floor.promise[:2] for floor, _ in broken(dict(report))}
    p1 = report["promises"]["P1_mining_does_not_stop"]
    p2 = report["promises"]["P2_miners_do_not_notice"]
    p3 = report["promises"]["P3_no_progress_lost"]
    p4 = report["promises"]["P4_rewards_right_and_once"]
    again = p2["reconnected"]
    back = "" if again["p95_ms"] is None else f", 95 % within {again['p95_ms'] / 1000:.1f} s"
    return [
        Promise(
            "Mining does not stop",
            "P1" not in missed,
            f"{p1['share_within_deadline']:.2%} of {p1['answered']} commands were answered within "
            f"{p1['deadline_ms'] / 1000:g} s; the longest time without any answer was "
            f"{p1['longest_gap_ms'] / 1000:.1f} s.",
        ),
        Promise(
            "Miners do not notice",
            "P2" not in missed,
            f"{p2['exceptions_seen']} errors were seen, {p2['submissions_lost']} submissions were "
            f"lost; {again['who']} clients and miners went on with another node{back}.",
        ),
        Promise(
            "No progress is lost",
            "P3" not in missed,
            f"{p3['went_back']} of {p3['acknowledged']} acknowledged progress reports went back.",
        ),
        Promise(
            "Rewards are right, and paid once",
            "P4" not in missed,
            f"{p4['wrong_or_twice']} of {p4['paid']} rewards were wrong or paid twice.",
        ),
    ]


def _lag(report: Mapping[str, Any]) -> tuple[charts.Axes | None, list[dict[str, str]]]:
    """The lines of the regions' lags, on the axes of the answers' time."""
    known = {region: points for region, points in report["lag_s"].items() if points}
    begin, end = _span(report)
    if not known:
        return None, []
    most = max(value for points in known.values() for _, value in points)
    axes = charts.Axes(begin, end, charts.rounded_up(most))
    return axes, [
        {"region": region, "path": charts.path(axes, points, 7.0)}
        for region, points in known.items()
    ]


def _span(report: Mapping[str, Any]) -> tuple[float, float]:
    seconds = [int(s) for s in report["promises"]["P1_mining_does_not_stop"]["by_second"]]
    return float(min(seconds, default=0)), float(max(seconds, default=0) + 1)


def html(report: Mapping[str, Any]) -> str:
    """The page; nothing in it is loaded from elsewhere, and every value is escaped."""
    by_second = report["promises"]["P1_mining_does_not_stop"]["by_second"]
    top = charts.rounded_up(max((v[0] for v in by_second.values()), default=1))
    axes = charts.Axes(*_span(report), top)
    windows = {name: (b / 1000, e / 1000) for name, (b, e) in report["windows"].items()}
    lag_axes, lag = _lag(report)
    head = ("workload", "seed", "speed", "share", "kill_at", "events", "acknowledged_events",
            "folded_live", "folded_bulk", "object_store", "machine")  # fmt: skip
    sections = [("The run", _rows({key: report[key] for key in head}))]
    sections += [(title, _rows(report[key])) for key, title in SECTIONS.items()]
    source = (resources.files("everlode.demo") / TEMPLATE).read_text("utf-8")
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return page.from_string(source).render(
        r=report, promises=promises(report), sections=sections, axes=axes,
        faults=charts.bands(axes, windows), answers=charts.answers(by_second, axes), lag=lag,
        lag_axes=lag_axes, stages=charts.stages(report["recovery"]["components"]),
        width=charts.WIDTH, height=charts.HEIGHT, left=charts.LEFT, right=charts.RIGHT,
        top=charts.TOP, bottom=charts.BOTTOM,
    )  # fmt: skip
