"""Limits of a coordinator."""

from __future__ import annotations

from typing import NamedTuple

from everlode.control.fold import MAX_TICKS


class Limits(NamedTuple):
    """The network's lease: how long one lasts, and how often it is renewed."""

    fence_after_ms: int
    renew_ms: int

    @property
    def takeover_s(self) -> float:
        """A coordinator's scope is taken after this long without a renewal."""
        return self.fence_after_ms / 1000 + 1

    @property
    def silent_ticks(self) -> int:
        """Renewals of the coordinator in which a primary that lives renews at least once."""
        return min(MAX_TICKS, self.fence_after_ms // self.renew_ms + 2)
