"""What clients and miners felt, from the journal alone: promises P1 and P2.

An answer is late when it took longer than the deadline. Times are milliseconds on the wall. Pure.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

Entries = Iterable[dict[str, Any]]
OF_TASKS = frozenset(
    (
        "AssignTask", "CancelTask", "DeleteTask", "ExpireLease", "ExpireTask", "MigrateTask",
        "RecordReward", "RecordValidation", "ReportFailure", "ReportProgress", "SubmitSolution",
        "SubmitTask",
    )
)  # fmt: skip
"""Commands that a task manager answers."""


def availability(entries: Entries, deadline_ms: int) -> dict[str, Any]:
    """P1 and P2 from the journal: the longest gap, and by second (number, in time, p95 in ms)."""
    by_second: dict[int, list[int]] = defaultdict(list)
    """Second → how long each of its answers took."""
    times: list[int] = []
    errors: list[str] = []
    refused: Counter[str] = Counter()
    slowest = 0
    for entry in entries:
        if entry["outcome"] == "error":
            errors.append(f"{entry['type']} {entry['key']}: {entry['code']}")
            continue
        if entry["outcome"] == "refused":
            refused[f"{entry['type']}: {entry['code']}"] += 1
        by_second[entry["at_ms"] // 1000].append(entry["took_ms"])
        times.append(entry["at_ms"])
        slowest = max(slowest, entry["took_ms"])
    times.sort()
    gaps = [b - a for a, b in pairwise(times)]
    seconds = {
        str(s): [len(took), sum(t <= deadline_ms for t in took), _p95(sorted(took))]
        for s, took in sorted(by_second.items())
    }
    total, good = len(times), sum(v[1] or 0 for v in seconds.values())
    return {
        "answered": total,
        "deadline_ms": deadline_ms,
        "share_within_deadline": good / total if total else 0.0,
        "longest_gap_ms": max(gaps, default=0),
        "slowest_answer_ms": slowest,
        "errors_seen_by_clients": errors[:20],
        "error_count": len(errors),
        "refused": dict(refused),
        "by_second": seconds,
    }


def reconnected(
    entries: Entries, region: str, lost: str, window: tuple[int, int]
) -> dict[str, Any]:
    """P2: how long a region's clients and miners were without the node that was lost.

    Of each who asked its component within `window` or waited at its beginning, the time until the
    first answer of another node, from the loss, or from the question when that came later.
    """
    began, ended = window
    waited: dict[str, int] = {}
    for entry in sorted(entries, key=lambda e: int(e["at_ms"])):
        asked = entry["at_ms"] - entry["took_ms"]
        if entry["type"] not in OF_TASKS or entry["region"] != region:
            continue
        if entry["node"] == lost or entry["at_ms"] < began or asked > ended:
            continue
        who = entry["command"].get("miner_id") or f"clients of {region}"
        waited.setdefault(who, entry["at_ms"] - max(began, asked))
    times = sorted(waited.values())
    return {"who": len(times), "p95_ms": _p95(times)}


def without_answers_ms(entries: Entries, before: str, after: str) -> int | None:
    """From the last answer of a node that was lost to its successor's first one.

    None: one of them has answered nobody who keeps a journal.
    """
    last, first = [], []
    for entry in entries:
        if entry["node"] == before:
            last.append(entry["at_ms"])
        elif entry["node"] == after:
            first.append(entry["at_ms"])
    return min(first) - max(last) if first and last else None


def _p95(values: list[int]) -> int | None:
    """The 95th percentile of sorted values, by nearest rank."""
    return values[(len(values) * 95 + 99) // 100 - 1] if values else None


def during(
    entries: Entries, region: str, window: tuple[int, int], deadline_ms: int
) -> dict[str, Any]:
    """What a region's clients and miners felt of a fault: of what they asked within `window`.

    The gap is the longest time without any answer of the region, within the window.
    """
    began, ended = window
    took, times = [], [began]
    errors = 0
    for entry in entries:
        if entry["outcome"] == "error":
            errors += began <= entry["at_ms"] - entry["took_ms"] <= ended
            continue
        if entry["region"] != region:
            continue
        if began <= entry["at_ms"] - entry["took_ms"] <= ended:
            took.append(entry["took_ms"])
        if began <= entry["at_ms"] <= ended:
            times.append(entry["at_ms"])
    took.sort()
    times = [*sorted(times), ended]
    return {
        "window_ms": ended - began,
        "asked": len(took),
        "share_within_deadline": sum(t <= deadline_ms for t in took) / len(took) if took else None,
        "longest_gap_ms": max(b - a for a, b in pairwise(times)),
        "took_p95_ms": _p95(took),
        "exceptions": errors,
    }
