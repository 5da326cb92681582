"""A node's roles in its scopes, by the folded control log and by its leases.

A node is `primary` of a scope while the log names it and its lease is good; `fenced` while the log
names it and the lease is not good, or when it has been fenced for good; else `secondary`.
Invariants: changes come out in the order in which they happened, each once; a lease that ran out
between two looks shows as `fenced`, also when it was renewed since. Times are milliseconds of the
node's monotonic clock, never falling. Pure.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from everlode.control.fold import ControlState
from everlode.control.lease import Lease
from everlode.events.base import Event
from everlode.events.control import LeaseRenewed


class Role(StrEnum):
    """What a node is in a scope."""

    PRIMARY = "primary"
    SECONDARY = "secondary"
    FENCED = "fenced"


class RoleChange(NamedTuple):
    """A node's role from now on. `epoch` is the scope's, by the control log; 0: never led."""

    scope: str
    role: Role
    epoch: int


class Roles:
    """The roles of one node. Not thread-safe. A new one is fenced in every scope."""

    def __init__(self, node_id: str, scopes: tuple[str, ...], fence_after_ms: int) -> None:
        self._node_id = node_id
        self._leases = {scope: Lease(fence_after_ms) for scope in scopes}
        self._epochs = dict.fromkeys(scopes, 0)
        self._reported = {scope: RoleChange(scope, Role.FENCED, 0) for scope in scopes}
        self._changes: list[RoleChange] = []
        self._level = False
        self.ended = False
        self.held: dict[str, int] = {}
        """Scope → epoch in which the log names this node primary, lease or not."""

    def level(self, mono_ms: int) -> None:
        """The log has been read to its end: from now on changes are reported."""
        self._level = True
        self._look(mono_ms)

    def observe(self, data: Event, state: ControlState, mono_ms: int) -> list[str]:
        """A control record was folded into `state`; returns scopes gained with it."""
        self._look(mono_ms)
        if isinstance(data, LeaseRenewed) and data.node_id == self._node_id:
            lease = self._leases.get(data.scope_name)
            if lease is not None and self.held.get(data.scope_name) == data.held_epoch:
                lease.read_back(data.nonce)
        gained = []
        for scope in self._leases:
            found = state.scopes.get(scope)
            self._epochs[scope] = found.epoch if found else 0
            mine = found.epoch if found and found.primary == self._node_id else None
            if mine == self.held.get(scope):
                continue
            self._leases[scope].lost()  # gained in a new epoch, or lost: it begins anew
            self.held.pop(scope, None)
            if mine is not None:
                self.held[scope] = mine
                gained.append(scope)
        self._look(mono_ms)
        return gained

    def renewable(self) -> dict[str, int]:
        """Scope → epoch of the leases to renew: none before `level`, none after `end`."""
        return dict(self.held) if self._level and not self.ended else {}

    def sent(self, scope: str, nonce: str, mono_ms: int) -> None:
        """A renewal of a scope's lease is about to be appended."""
        self._leases[scope].sent(nonce, mono_ms)

    def end(self, mono_ms: int) -> None:
        """Fence the node in every scope, for good."""
        self._look(mono_ms)
        self.ended = True
        self._look(mono_ms)

    def leads(self, scope: str, mono_ms: int) -> int | None:
        """Epoch in which the node may act for the scope now, or None."""
        epoch = self.held.get(scope)
        if epoch is None or self.ended or not self._leases[scope].good(mono_ms):
            return None
        return epoch

    def changes(self, mono_ms: int) -> list[RoleChange]:
        """Changes since the last call, in order."""
        self._look(mono_ms)
        found, self._changes = self._changes, []
        return found

    def next_ms(self, mono_ms: int) -> int | None:
        """Milliseconds until the first good lease ends unless it is renewed; None without one."""
        return min(
            (lease.left_ms(mono_ms) for lease in self._leases.values() if lease.good(mono_ms)),
            default=None,
        )

    def _look(self, mono_ms: int) -> None:
        if not self._level:
            return
        for scope, epoch in self._epochs.items():
            if self.leads(scope, mono_ms) is not None:
                role = Role.PRIMARY
            else:
                role = Role.FENCED if scope in self.held or self.ended else Role.SECONDARY
            change = RoleChange(scope, role, epoch)
            if change != self._reported[scope]:
                self._reported[scope] = change
                self._changes.append(change)
