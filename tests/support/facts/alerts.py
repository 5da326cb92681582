"""The alert rules, and what they name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
RULES = ROOT / "deploy/alerts/rules.yml"
METRIC = re.compile(r"\beverlode_\w+")


def alerts() -> dict[str, dict[str, Any]]:
    """Alert → its rule."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def metrics_of_alerts() -> set[str]:
    """The metrics that expressions name."""
    return {name for rule in alerts().values() for name in METRIC.findall(rule["expr"])}
