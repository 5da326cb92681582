"""The dashboards for Grafana, and what their queries ask."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.support.facts.alerts import METRIC, ROOT

BOARDS = sorted((ROOT / "deploy/grafana").glob("*.json"))
VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)\}")
OF_GRAFANA = {"__interval": "1m"}
"""Variables that Grafana itself sets, and what they may come to."""


def board(path: Path) -> dict[str, Any]:
    """A dashboard's file."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def queries(of: dict[str, Any]) -> list[str]:
    """What its panels ask of Prometheus, with a value for each variable as when all are chosen.

    Raises: KeyError: a variable that neither the dashboard nor Grafana has.
    """
    values = OF_GRAFANA | {one["name"]: one.get("allValue", "") for one in of["templating"]["list"]}
    return [
        VARIABLE.sub(lambda found: values[found[1] or found[2]], target["expr"])
        for panel in of["panels"]
        for target in panel["targets"]
    ]


def metrics_of_dashboards() -> set[str]:
    """The metrics that queries name."""
    return {
        name for path in BOARDS for query in queries(board(path)) for name in METRIC.findall(query)
    }
