"""Who of several judges votes on what waits for one of them. Pure.

All see the same validations and the same nodes, so each finds by itself whether it is to be first:
nobody hands anything out. Weighted rendezvous hashing: each gets a share by its health, and when
one leaves only its share goes to others. Who is special in the type of the task comes first (see
`specialties`). What the first one leaves undone the others take over.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from math import inf, log
from typing import NamedTuple

from everlode.balancing.specialties import by_specialty


class Judging(NamedTuple):
    """A node that judges."""

    health: float = 1.0
    """0 to 1."""
    specialties: tuple[str, ...] = ()
    """Types of tasks that it gets before others."""


def first_judges(key: str, health: Mapping[str, float], count: int) -> tuple[str, ...]:
    """The `count` nodes that vote on a validation first, the best placed one first.

    `health`: node → 0 to 1; one of 0 comes last. The same for all, in any order of the nodes.
    """

    def distance(node: str) -> tuple[float, str]:
        drawn = int.from_bytes(blake2b(f"{key}/{node}".encode(), digest_size=8).digest(), "big")
        share = (drawn + 1) / (2**64 + 1)
        return (-log(share) / health[node] if health[node] > 0 else inf), node

    return tuple(sorted(health, key=distance)[:count])


def first_for(
    key: str, task_type: str, judges: Mapping[str, Judging], count: int
) -> tuple[str, ...]:
    """The `count` nodes that vote first on a validation of a task of this type: those that are
    special in it, as far as they suffice, each group in the order of `first_judges`."""
    found: tuple[str, ...] = ()
    for nodes in by_specialty(task_type, {n: j.specialties for n, j in judges.items()}):
        health = {node: judges[node].health for node in nodes}
        found += first_judges(key, health, count - len(found))
    return found
