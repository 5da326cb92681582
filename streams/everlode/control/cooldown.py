"""How long a scope is left alone after its unsteady primary was replaced.

A primary that lives and does not do its work is replaced; if the cause is not in the node, its
successor will not do it either. So each such replacement makes the next one wait, twice as long:
30 s, 1 min, 2 min, … half an hour. Half an hour without one forgives all. What is lost is replaced
at once, always: a cool-down is about those that live. Pure.
"""

from __future__ import annotations

from typing import Final, NamedTuple

FIRST_MS, CAP_MS = 30_000, 1_800_000
UNSTEADY: Final = "node-unsteady"
"""Reason of a decision that replaces a primary which lives."""


class Cooldown(NamedTuple):
    """Of one scope."""

    times: int
    """Replacements of an unsteady primary in a row; at least 1."""
    since_ms: int
    """Wall time at which the current primary began to lead; before that, of its decision."""

    @property
    def until_ms(self) -> int:
        """Wall time up to which no other one is replaced for being unsteady."""
        return self.since_ms + min(CAP_MS, FIRST_MS << min(self.times - 1, 10))

    @staticmethod
    def decided(before: Cooldown | None, reason: str, at_ms: int) -> Cooldown | None:
        """After a decision about the scope; None: there is nothing to cool down from.

        Another decision (a loss, a switchover) counts nothing: a cool-down begins anew with the
        primary that it makes.
        """
        if before is not None and at_ms > before.until_ms + CAP_MS:
            before = None
        if reason == UNSTEADY:
            return Cooldown(before.times + 1 if before else 1, at_ms)
        return before._replace(since_ms=at_ms) if before else None
