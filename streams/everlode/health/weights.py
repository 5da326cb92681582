"""What each kind of evidence weighs, and where its value begins to fall.

docs/health.md is made from these tables. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

GATE = 0.8
"""A region that is no better than this is not well enough for work to be resumed."""
UNKNOWN = 0.5
"""What evidence counts that is not known, beside what is."""
COORDINATOR = "coordinator"
FRESH_S, SILENT_S = 3.0, 10.0
"""A node's beat counts in full up to the first, not at all from the second on."""
FULL = 0.8
"""Up to this share of what it takes a node is not loaded."""
LEASE_GOOD, LEASE_OVER = 4, 10
"""Renewals of the coordinator without a primary's: whole up to the first, over at the second."""
LEVEL_S, BEHIND_S = 5.0, 60.0
"""A projection is level up to the first, and as bad as it gets from the second on."""


class Weighed(NamedTuple):
    """A kind of evidence: how much it weighs, and what its value is, for the document."""

    weight: float
    meaning: str


NODE: Mapping[str, Weighed] = {
    "status": Weighed(1.0, "the worse of what the control log and its own beat say, see below"),
    "beat": Weighed(1.0, f"1 up to {FRESH_S:g} s after the last, falling to 0 at {SILENT_S:g} s"),
    "clock": Weighed(1.0, "1; 0.8 when it is wrong, 0.2 when it may lead nothing for it"),
    "load": Weighed(0.25, f"1 up to {FULL:.0%} of what it takes, falling to 0.5 when it is full"),
}  # fmt: skip
COMPONENT: Mapping[str, Weighed] = {
    "role": Weighed(1.0, "the score of the node that leads; 0 when nobody does"),
    "lease": Weighed(
        1.0, f"1 up to {LEASE_GOOD} renewals of the coordinator without its own, 0 at {LEASE_OVER}"
    ),
    "lag": Weighed(
        0.5, f"1 up to {LEVEL_S:g} s that its projection is behind, 0.2 from {BEHIND_S:g} s on"
    ),
    "nodes": Weighed(0.25, "the mean of the scores of its nodes"),
}  # fmt: skip
REGION: Mapping[str, float] = {
    "task-manager": 1.0, "miner-registry": 1.0, "validation": 1.0, "rewards": 1.0,
    COORDINATOR: 0.5,
}  # fmt: skip
"""Component → its weight in its region. One service without a primary is below `GATE`."""
STATUS: Mapping[str, float] = {
    "healthy": 1.0, "draining": 0.8, "rejoining": 0.5, "degraded": 0.5, "lost": 0.0, "fenced": 0.0,
}  # fmt: skip
