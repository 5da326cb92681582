"""The lease of a primary: good for a while after it *sent* a renewal that it has read back.

Reading alone proves nothing, because a broker that is cut off still serves reads. Times are
milliseconds of the holder's own monotonic clock. A new Lease is not good. Pure.
"""

from __future__ import annotations

from everlode.errors import ConfigError


class Lease:
    """Not thread-safe; one holder of one scope and epoch."""

    __slots__ = ("_sent", "_until_ms", "fence_after_ms")

    def __init__(self, fence_after_ms: int) -> None:
        self.fence_after_ms = fence_after_ms
        self._sent: dict[str, int] = {}
        self._until_ms: int | None = None

    def sent(self, nonce: str, mono_ms: int) -> None:
        """A renewal with this nonce is about to be appended."""
        self._sent[nonce] = mono_ms
        while len(self._sent) > 64:
            del self._sent[next(iter(self._sent))]

    def read_back(self, nonce: str) -> None:
        """The renewal was read from the log. Unknown nonces, another's say, change nothing."""
        at = self._sent.pop(nonce, None)
        if at is not None:
            until = at + self.fence_after_ms
            self._until_ms = until if self._until_ms is None else max(self._until_ms, until)

    def lost(self) -> None:
        """The scope was given to another: the lease is over, whatever is still under way."""
        self._sent.clear()
        self._until_ms = None

    def good(self, mono_ms: int) -> bool:
        """True while the holder may act."""
        return self._until_ms is not None and mono_ms < self._until_ms

    def left_ms(self, mono_ms: int) -> int:
        """Milliseconds until it ends; 0 when it is not good."""
        return max(0, (self._until_ms or mono_ms) - mono_ms)


def check_fence_after(fence_after_ms: int, election_ms: int, renew_ms: int) -> None:
    """Check the rules between the timings.

    Raises: ConfigError: `fence_after_ms` is below twice the measured control election, or below
        three renewals.
    """
    least = max(2 * election_ms, 3 * renew_ms)
    if fence_after_ms < least:
        raise ConfigError(
            f"fence_after_ms is {fence_after_ms}; it must be at least {least}",
            hint=f"twice the control election ({election_ms} ms), three renewals ({renew_ms} ms)",
        )
