"""Who led a fact topic in each epoch, and what of its log was written then. Pure.

A node opens its epoch in each partition; what it writes from then on has that epoch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from everlode.proof.recount import MARKS, LoggedEvent

OPENED = "EpochOpened"
STAMP_BITS = 16
"""Of a stamp, below its milliseconds (see docs/format.md)."""


class Led(NamedTuple):
    """One epoch of a topic."""

    node: str
    """Who opened it; empty: nobody did."""
    facts: int = 0
    """Written in it, marks apart."""
    first_ms: int | None = None
    """Wall time of the first of them; None: there is none."""
    last_ms: int | None = None


def epochs(events: Iterable[LoggedEvent]) -> dict[int, Led]:
    """Epoch → who led in it, of one topic's events of all partitions; any order."""
    openers: dict[int, str] = {}
    written: dict[int, list[int]] = {}
    for event in events:
        epoch = event.envelope["epoch"]
        if event.kind == OPENED:
            openers[epoch] = event.data["node_id"]
        elif event.kind not in MARKS:
            written.setdefault(epoch, []).append(event.envelope["stamp"] >> STAMP_BITS)
    found = {}
    for epoch in sorted(openers.keys() | written.keys()):
        at = written.get(epoch, [])
        node = openers.get(epoch, "")
        found[epoch] = Led(node, len(at), min(at, default=None), max(at, default=None))
    return found
