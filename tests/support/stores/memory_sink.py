"""A payment system in memory, for tests; it keeps the port's promises."""

from __future__ import annotations

from everlode.rewards.sink import Fence, PayoutConflict, refused


class MemorySink:
    """See PayoutSink. What several share is in the books given."""

    def __init__(self, paid: dict[str, tuple[str, int]], epochs: dict[str, int]) -> None:
        self._paid, self._epochs = paid, epochs

    def pay(self, payout_key: str, miner_id: str, amount_micro: int, fence: Fence) -> str:
        """See PayoutSink."""
        self._show(fence)
        ref, amount = self._paid.setdefault(payout_key, (f"ref-{payout_key}", amount_micro))
        if amount != amount_micro:
            raise PayoutConflict(f"{payout_key}: paid {amount}, now asked for {amount_micro}")
        return ref

    def find(self, payout_key: str, fence: Fence) -> str | None:
        """See PayoutSink."""
        self._show(fence)
        paid = self._paid.get(payout_key)
        return paid[0] if paid else None

    def close(self) -> None:
        """Nothing is open."""

    def _show(self, fence: Fence) -> None:
        highest = self._epochs.get(fence.scope, 0)
        if fence.epoch < highest:
            raise refused(fence, highest)
        self._epochs[fence.scope] = fence.epoch
