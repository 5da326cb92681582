"""What Prometheus would find in a folder of `file_sd`, and be told by each process in it."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

Figures = dict[tuple[str, tuple[str, ...]], float]
"""(name, values of its labels in the order of their names) → value."""


def targets(folder: Path) -> dict[str, str]:
    """Process → where it is scraped, host:port."""
    found = {}
    for file in folder.glob("*.json"):
        for group in json.loads(file.read_text()):
            (found[group["labels"]["process"]],) = group["targets"]
    return found


def scrape(at: str) -> str:
    """What a process answers."""
    with urllib.request.urlopen(f"http://{at}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def figures_of(text: str) -> Figures:
    """By Prometheus's own parser."""
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
