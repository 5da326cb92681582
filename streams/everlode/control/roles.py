"""The roles of a node's process in its scopes, by the folded control log and by its leases.

It is `primary` of a scope while the log names the node, the process has the node's name, and its
lease is good; `fenced` while the log names the node and the lease is not good, or when it has been
fenced for good; else `secondary`. A lease of a process that had the name before is waited out,
unless that is known to be gone: so two of them never lead at once.
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
    """The roles of one process. Not thread-safe. A new one is fenced in every scope."""

    def __init__(
        self, node_id: str, scopes: tuple[str, ...], fence_after_ms: int, incarnation: str = ""
    ) -> None:
        self._node_id = node_id
        self._incarnation = incarnation
        self._fence_after_ms = fence_after_ms
        self._others: dict[tuple[str, str], int] = {}
        """(Scope, incarnation that had the name before) → when its last lease ends."""
        self._leases = {scope: Lease(fence_after_ms) for scope in scopes}
        self._epochs = dict.fromkeys(scopes, 0)
        self._published = {scope: RoleChange(scope, Role.FENCED, 0) for scope in scopes}
        self._changes: list[RoleChange] = []
        self._begun = self._caught_up = False
        self.ended = False
        self.barred = False
        """Its clock is too wrong to lead with, or not judged yet; its leases are as they are."""
        self.held: dict[str, int] = {}
        """Scope → epoch in which the log names this node primary, lease or not."""

    def caught_up(self, mono_ms: int) -> None:
        """The log has been read to its end: from now on changes are published."""
        self._caught_up = True
        self._look(mono_ms)

    def gone(self, incarnation: str, mono_ms: int) -> None:
        """A process that had the name before is known to be gone: its leases are over."""
        self._others = {key: at for key, at in self._others.items() if key[1] != incarnation}
        self._look(mono_ms)

    def observe(self, data: Event, state: ControlState, mono_ms: int) -> list[str]:
        """A control record was folded into `state`; returns scopes gained with it."""
        self._look(mono_ms)
        if not self._begun:
            self._begin(state, mono_ms)
        owner = state.incarnation(self._node_id)
        mine = owner == self._incarnation
        if isinstance(data, LeaseRenewed) and (data.node_id, data.incarnation) == (
            self._node_id,
            owner,
        ):
            self._renewed(data, mine, mono_ms)
        gained = []
        for scope in self._leases:
            found = state.scopes.get(scope)
            self._epochs[scope] = found.epoch if found else 0
            chosen = found.epoch if mine and found and found.primary == self._node_id else None
            if chosen == self.held.get(scope):
                continue
            self._leases[scope].lost()  # gained in a new epoch, or lost: it begins anew
            self.held.pop(scope, None)
            if chosen is not None:
                self.held[scope] = chosen
                gained.append(scope)
        self._look(mono_ms)
        return gained

    def _begin(self, state: ControlState, mono_ms: int) -> None:
        """What was folded before the first record that is read: a snapshot, or nothing.

        Another process that has the name may have renewed just before it.
        """
        self._begun = True
        owner = state.incarnation(self._node_id)
        for scope in self._leases:
            found = state.scopes.get(scope)
            if found and found.primary == self._node_id and owner != self._incarnation:
                self._others[scope, owner] = mono_ms + self._fence_after_ms

    def _renewed(self, data: LeaseRenewed, mine: bool, mono_ms: int) -> None:
        """The process that has the name, this or another one, renewed a lease."""
        lease = self._leases.get(data.scope_name)
        if lease is None:
            return
        if not mine:  # it was sent before it was read, so it ends by then
            key = (data.scope_name, data.incarnation)
            self._others[key] = mono_ms + self._fence_after_ms
        elif self.held.get(data.scope_name) == data.held_epoch:
            lease.read_back(data.nonce)

    def renewable(self) -> dict[str, int]:
        """Scope → epoch of the leases to renew: none before `caught_up`, none after `end`."""
        return dict(self.held) if self._caught_up and not self.ended else {}

    def sent(self, scope: str, nonce: str, mono_ms: int) -> None:
        """A renewal of a scope's lease is about to be appended."""
        self._leases[scope].sent(nonce, mono_ms)

    def bar(self, barred: bool, mono_ms: int) -> None:
        """Its clock is too wrong to lead with, or is right."""
        self._look(mono_ms)
        self.barred = barred
        self._look(mono_ms)

    def end(self, mono_ms: int) -> None:
        """Fence the node in every scope, for good."""
        self._look(mono_ms)
        self.ended = True
        self._look(mono_ms)

    def leads(self, scope: str, mono_ms: int) -> int | None:
        """Epoch in which the node may act for the scope now, or None."""
        epoch = self.held.get(scope)
        if epoch is None or self.ended or self.barred or not self._leases[scope].good(mono_ms):
            return None
        waits = any(held == scope and at > mono_ms for (held, _), at in self._others.items())
        return None if waits else epoch

    def changes(self, mono_ms: int) -> list[RoleChange]:
        """Changes since the last call, in order."""
        self._look(mono_ms)
        found, self._changes = self._changes, []
        return found

    def next_ms(self, mono_ms: int) -> int | None:
        """Milliseconds until the first good lease ends unless it is renewed, or another's is
        waited out; None without one.
        """
        ends = [lease.left_ms(mono_ms) for lease in self._leases.values() if lease.good(mono_ms)]
        waits = [at - mono_ms for at in self._others.values() if at > mono_ms]
        return min(ends + waits, default=None)

    def _look(self, mono_ms: int) -> None:
        if not self._caught_up:
            return
        for scope, epoch in self._epochs.items():
            if self.leads(scope, mono_ms) is not None:
                role = Role.PRIMARY
            else:
                role = Role.FENCED if scope in self.held or self.ended else Role.SECONDARY
            change = RoleChange(scope, role, epoch)
            if change != self._published[scope]:
                self._published[scope] = change
                self._changes.append(change)
