"""The epochs that are open in a fact topic: where a successor has fenced its predecessor.

A primary's first record in each partition is `EpochOpened`. Once it stands in every partition, a
fact of an older epoch has no effect anywhere. Pure, but for its own memory.
"""

from __future__ import annotations

from everlode.events.barriers import EpochOpened
from everlode.events.base import Fact
from everlode.events.snapshots import SnapshotMark
from everlode.events.stamp import millis_of


class OpenedEpochs:
    """Folds the `EpochOpened` of one topic."""

    def __init__(self, partitions: int) -> None:
        self._opened: list[dict[str, int]] = [{} for _ in range(partitions)]
        self._stamps: dict[tuple[str, int], int] = {}
        """(scope, epoch) → highest stamp of its EpochOpened."""

    def restore(self, partition: int, mark: SnapshotMark) -> None:
        """Begin a partition with the mark of a snapshot: when is not known."""
        opened = self._opened[partition]
        for item in mark.epochs:
            opened[item.scope] = max(opened.get(item.scope, 0), item.epoch)

    def observe(self, partition: int, fact: Fact) -> None:
        """Fold one record of the topic, in order within its partition; others change nothing."""
        if not isinstance(fact.data, EpochOpened):
            return
        opened = self._opened[partition]
        for item in fact.data.scopes:
            opened[item.scope] = max(opened.get(item.scope, 0), item.epoch)
            at = (item.scope, item.epoch)
            self._stamps[at] = max(self._stamps.get(at, 0), fact.envelope.stamp)

    def lowest(self, scope: str) -> int:
        """Lowest epoch of the scope that is open in every partition; 0: none is."""
        return min((opened.get(scope, 0) for opened in self._opened), default=0)

    def at_ms(self, scope: str, epoch: int) -> int | None:
        """Wall milliseconds at which the last partition opened the epoch; None: not seen."""
        stamp = self._stamps.get((scope, epoch))
        return None if stamp is None else millis_of(stamp)
