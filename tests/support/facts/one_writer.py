"""What must hold of a fact log however its primaries died: the checkers of failovers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from everlode.events.barriers import EpochOpened
from everlode.events.base import Fact


def check_log(log: Iterable[tuple[int, Fact]]) -> None:
    """`epoch_regression`, `snapshot_gap`, `two_primaries_in_epoch`: of (partition, fact), whole."""
    opened: dict[int, set[str]] = defaultdict(set)
    epoch, seq = defaultdict[int, int](int), defaultdict[int, int](int)
    for partition, (envelope, data) in log:
        assert envelope.epoch >= epoch[partition], "epoch_regression"
        assert envelope.seq == seq[partition] + 1, "snapshot_gap"
        epoch[partition], seq[partition] = envelope.epoch, envelope.seq
        if isinstance(data, EpochOpened):
            opened[envelope.epoch].add(data.node_id)
    assert all(len(nodes) == 1 for nodes in opened.values()), "two_primaries_in_epoch"
