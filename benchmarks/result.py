"""What a benchmark writes: `results/NAME.json`, the same fields for each."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
MIN_ROUNDS = 3


def alternate(
    rounds: int, ours: Callable[[], float], peer: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Measure both in turn, `rounds` times; who begins changes from round to round."""
    mine: list[float] = []
    theirs: list[float] = []
    for number in range(rounds):
        order = [(ours, mine), (peer, theirs)]
        for measure, values in order if number % 2 == 0 else reversed(order):
            values.append(measure())
    return mine, theirs


def machine() -> dict[str, Any]:
    """Where it was measured."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_1m": round(os.getloadavg()[0], 1),
    }


def write(
    name: str,
    unit: str,
    ours: Sequence[float],
    against: str,
    theirs: Sequence[float],
    **more: Any,
) -> dict[str, Any]:
    """Write and print a result. Medians; `ratio` is ours / theirs; `spread` is (min, max).

    Raises: ValueError: fewer than three rounds.
    """
    if min(len(ours), len(theirs)) < MIN_ROUNDS:
        raise ValueError(f"{name}: at least {MIN_ROUNDS} rounds, found {len(ours)}, {len(theirs)}")
    result = {
        "name": name,
        "unit": unit,
        "ours": round(statistics.median(ours), 3),
        "against": against,
        "theirs": round(statistics.median(theirs), 3),
        "ratio": round(statistics.median(ours) / statistics.median(theirs), 3),
        "spread": {
            "ours": [round(min(ours), 3), round(max(ours), 3)],
            "theirs": [round(min(theirs), 3), round(max(theirs), 3)],
        },
        "rounds": len(ours),
        "machine": machine(),
        **more,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))
    return result
