"""Keys of the control log's records, by which compaction knows what it may leave out.

Kafka keeps the newest record of a key. Here a decision, a joined node, a status each has a key of
its own, so that it stays for ever. Renewals of one lease share KEPT keys in turn, so that its last
ones stay, and no more. A suspicion is said again and again while it lasts, so the last one is
enough; one that has no effect may take its place, for as long as it is not said again:

      task-manager/eu|<event id>            a decision on task-manager/eu
      task-manager/eu|<process>|3|31        a process's renewal number 31 (63, 95, …) in epoch 3
      eu|us                                 what eu's coordinator says of us

More than the ticks that the fold looks at: a process that has lost its lease may send some more
before it reads so, and these must not push out those that count. Invariant: a fold of what
compaction leaves equals one of everything; see `control.fold`, rule 3, for what that takes. Pure.
"""

from __future__ import annotations

from everlode.events.base import Event
from everlode.events.control import LeaseRenewed, RegionSuspected

KEPT = 32
"""Renewals of a lease that are kept. Above MAX_TICKS + 2, by what is sent after its loss."""


def lease_of(data: LeaseRenewed) -> str:
    """A process's lease of a scope in an epoch; the beginning of its renewals' keys."""
    return f"{data.scope_name}|{data.incarnation or data.node_id}|{data.held_epoch}"


def record_key(subject: str, event_id: str, data: Event, number: int = 0) -> str:
    """Key of a record on `subject` (a scope, node or region); `number`: of a lease's renewals."""
    if isinstance(data, LeaseRenewed):
        return f"{lease_of(data)}|{number % KEPT}"
    if isinstance(data, RegionSuspected):
        return f"{data.observer}|{data.region}"
    return f"{subject}|{event_id}"
