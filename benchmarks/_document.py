"""`python -m benchmarks._document`: make docs/benchmarks.md from `results/*.json`."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

from benchmarks.result import RESULTS

DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
COMMON = {"name", "unit", "ours", "against", "theirs", "ratio", "spread", "rounds", "machine"}
HEAD = """\
# Benchmarks

Made by `make bench` from `benchmarks/results/`; do not edit. Each figure is the median of its
rounds, ours and what it is compared with measured in turn in the same run; in brackets the least
and the greatest. A ratio is ours divided by theirs. Absolute figures belong to the machine named;
ratios travel better.
"""


def number(value: float) -> str:
    """Three significant digits, thousands apart; whole numbers as they are."""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


def measured(result: dict[str, Any], side: str) -> str:
    """Median, and the spread in brackets."""
    low, high = result["spread"][side]
    return f"{number(result[side])} ({number(low)} to {number(high)})"


def cell(value: Any) -> str:
    """Anything else that a benchmark wrote."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, int | float) else str(value)


def section(result: dict[str, Any]) -> str:
    """One benchmark."""
    source = Path(__file__).parent / f"{result['name'].partition('.')[0]}.py"
    about = ast.get_docstring(ast.parse(source.read_text())) if source.exists() else ""
    where = result["machine"]
    lines = [
        f"## {result['name']}",
        "",
        about or "",
        "",
        f"| {result['unit']} | |",
        "|---|---|",
        f"| ours | {measured(result, 'ours')} |",
        f"| {result['against']} | {measured(result, 'theirs')} |",
        f"| **ratio** | **{number(result['ratio'])}** |",
    ]
    lines += [
        f"| {key.replace('_', ' ')} | {cell(result[key])} |" for key in sorted(set(result) - COMMON)
    ]
    lines += [
        "",
        f"{result['rounds']} rounds; {where['cores']} cores, {where['memory_gib']} GiB, "
        f"{where['system']}, Python {where['python']}.",
    ]
    return "\n".join(lines) + "\n"


def document() -> str:
    """The whole document, benchmarks by name."""
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    return "\n".join([HEAD, *(section(result) for result in results)])


if __name__ == "__main__":
    DOCUMENT.write_text(document())
