"""A node's name, which one process has at a time: who has it, whether that one lives, what to say.

A process that starts asks the one that has its name. One that answers, or renews a lease, lives:
the newcomer is refused. One whose port is closed, on this machine, is gone. One that does neither
(stopped, cut off) is waited for as long as a lease lasts; then its leases are over, and it fences
itself when it comes back. What counts in the end is the control log: see `control.fold`, rule 5.
Shell: probes.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from everlode.control.fold import ControlState, NodeState
from everlode.errors import FencedOut, Locked
from everlode.membership.probe import probe

LOG = logging.getLogger(__name__)
ASK_S = 0.25
"""The one that has the name is asked again after this."""


@dataclass(frozen=True, slots=True)
class Incarnation:
    """This process, as the control log knows it."""

    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    host: str = field(default_factory=socket.gethostname)
    process_id: str = field(default_factory=lambda: str(os.getpid()))


def where(node: NodeState) -> str:
    """Where the process runs that has a node's name, for people."""
    pid = f" as process {node.process_id}" if node.process_id else ""
    return f"in {node.region} on {node.host or 'this machine'}{pid} ({node.endpoint})"


def refused(node: NodeState, why: str) -> Locked:
    """The error of a process whose name another one has."""
    return Locked(
        f"{node.node_id} runs already, {where(node)}: {why}",
        code="name_taken",
        hint="end that process first, or give this one a name of its own: --node-id",
    )


def replaced(node: NodeState) -> FencedOut:
    """The error of a process that has lost its name to another one."""
    return FencedOut(
        f"{node.node_id}: this process was silent, and another one has taken its name, "
        f"{where(node)}",
        code="name_lost",
        hint="nothing has to be done; start it under a name of its own if both are wanted",
    )


def await_free(
    node_id: str, host: str, control: Callable[[], ControlState], wait_s: float
) -> tuple[str, bool]:
    """Wait until nobody who lives has the name: (incarnation that had it, known to be gone).

    Not known: it was silent for `wait_s`, the length of a lease. Raises: Locked: it lives.
    """
    began, mark, asked = time.monotonic(), _renewed_at(control(), node_id), ""
    while True:
        state = control()
        holder = state.nodes.get(node_id)
        if holder is None:
            return "", True
        answer, _ = probe(holder.endpoint, holder.incarnation)
        if answer == "alive":
            raise refused(holder, "it answers")
        if _renewed_at(state, node_id) > mark:
            raise refused(holder, "it renews its lease")
        if answer == "refused" and holder.host in ("", host):
            return holder.incarnation, True
        if time.monotonic() - began >= wait_s:
            return holder.incarnation, False
        if asked != holder.incarnation:
            asked = holder.incarnation
            LOG.warning(
                "%s was last seen %s and does not answer: waiting %.0f s for its leases to end",
                node_id, where(holder), wait_s,
            )  # fmt: skip
        time.sleep(ASK_S)


def _renewed_at(state: ControlState, node_id: str) -> int:
    """Control offset of the last renewal under a node's name; -1 without one."""
    return max((s.renewed_at for s in state.scopes.values() if s.primary == node_id), default=-1)
