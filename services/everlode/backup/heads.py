"""Heads: the newest state of each key up to T, out of one partition of a state topic. Pure.

A state topic holds many records a key until it is compacted, and most are of no use to the cut. So
only where a record stands (its head: epoch, version, stamp) is read of each, and what is kept at
the end is decoded. Memory: a record or two a key.

Invariants: a topic that goes back in (epoch, version), or has two states of one version, is an
IntegrityError wherever it does, beyond T too; a tombstone counts wherever it stands: a deletion is
for good.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from everlode.avro.heads import StateHead
from everlode.errors import ContractError, IntegrityError
from everlode.events.states import State
from everlode.projection.fold import Key, Known

NEW_GENERATION = "do not back this generation up: build a new one with everlode recover"
Decode = Callable[[bytes], State]


class Heads(NamedTuple):
    """What state topics of one partition number hold for the cut; not to be changed."""

    states: dict[Key, Known]
    jumps: dict[Key, int]
    """Keys that have versions which no state topic holds → the version looked for: the next state
    is after T and not the next version."""
    digests: Mapping[Key, tuple[int, bytes]] = {}
    """Of the states: version and SHA-256, as their records have them."""


def foreign(where: str, error: ContractError) -> IntegrityError:
    """A record of a state topic that is no state of it."""
    return IntegrityError(f"{where}: {error.message}", code="foreign_record", hint=NEW_GENERATION)


class Newest:
    """The newest state per key with stamp ≤ `stamp`, of one component, as records come."""

    def __init__(self, component: str, stamp: int, where: str, decode: Decode) -> None:
        """`where` names the topic's partition in errors."""
        self._component, self._stamp, self.where = component, stamp, where
        self._decode = decode
        self._last: dict[str, tuple[int, StateHead]] = {}
        self._kept: dict[str, tuple[int, StateHead | int]] = {}
        """Name → offset, and head or the version in which it was deleted."""
        self._jumps: dict[Key, int] = {}

    def take(self, offset: int, name: str, head: StateHead | None) -> None:
        """The next record, in the topic's order; without a head: a tombstone.

        Raises: IntegrityError: the key went back, or has two states of one version.
        """
        key, before = (self._component, name), self._last.get(name)
        if head is None:
            epoch, version = (before[1].epoch, before[1].version + 1) if before else (0, 1)
            self._kept[name] = offset, version
            self._jumps.pop(key, None)
            self._last[name] = offset, StateHead(name, epoch, version, 0, b"")
            return
        if before is not None:
            _check_order(f"{self.where}: {name}", before, (offset, head), self._decoded)
        self._last[name] = offset, head
        if head.stamp <= self._stamp:
            self._kept[name] = offset, head
            self._jumps.pop(key, None)
        elif key not in self._jumps:
            _, held = self._kept.get(name, (0, 0))
            have = held if isinstance(held, int) else held.version
            if head.version > have + 1:
                self._jumps[key] = have + 1

    def heads(self) -> Heads:
        """Of all that was taken. Raises: IntegrityError: a state that is kept does not decode."""
        states = {
            (self._component, name): Known(None, held, "")
            if isinstance(held, int)
            else Known(self._decoded(offset, held), held.version, "")
            for name, (offset, held) in self._kept.items()
        }
        digests = {
            (self._component, name): (held.version, hashlib.sha256(held.value).digest())
            for name, (_, held) in self._kept.items()
            if not isinstance(held, int)
        }
        return Heads(states, self._jumps, digests)

    def _decoded(self, offset: int, head: StateHead) -> State:
        try:
            return self._decode(head.value)
        except ContractError as error:
            raise foreign(f"{self.where}@{offset}", error) from None


def newest(
    component: str,
    records: Iterable[tuple[int, str, StateHead | None]],
    stamp: int,
    where: str,
    decode: Decode,
) -> Heads:
    """`Newest` of all `records`: offset, key, and head or None. Raises: IntegrityError."""
    found = Newest(component, stamp, where, decode)
    for record in records:
        found.take(*record)
    return found.heads()


def _check_order(
    what: str,
    before: tuple[int, StateHead],
    now: tuple[int, StateHead],
    decoded: Callable[[int, StateHead], State],
) -> None:
    """Raises: IntegrityError: the later record (offset, head) of a key goes back, or differs."""
    have, found = before[1][1:3], now[1][1:3]
    if found < have:
        raise IntegrityError(
            f"{what} goes back from (epoch, version) {have} to {found}",
            code="state_regression",
            hint=NEW_GENERATION,
        )
    if found > have or before[1].value in (b"", now[1].value):
        return
    if decoded(*now) != decoded(*before):  # in an upgrade one state may have two forms
        raise IntegrityError(
            f"{what} has two states of (epoch, version) {found}",
            code="state_conflict",
            hint=NEW_GENERATION,
        )
