"""Snapshots that are written more often, for programs that are killed while they write them."""

from __future__ import annotations

from everlode.snapshots import write


def write_snapshots_often(every_s: float = 0.5) -> None:
    """In this process: what has changed, and the marks, after so long; otherwise both wait 5 s."""
    write.AGE_S = write.MARK_S = every_s
    write.Checkpoint.take.__defaults__ = (write.FEW, every_s)
