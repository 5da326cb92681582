"""Heads: the newest state of each key up to T, out of one partition of a state topic. Pure.

A state topic holds many records a key until it is compacted, and most are of no use to the cut. So
only where a record stands (its head: epoch, version, stamp) is read of each, and what is kept at
the end is decoded. Memory: a record or two a key.

Invariants: a topic that goes back in (epoch, version), or has two states of one version, is an
IntegrityError wherever it does, beyond T too; a tombstone counts wherever it stands: a deletion is
for good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from everlode.avro.codec import StateHead
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


def foreign(where: str, error: ContractError) -> IntegrityError:
    """A record of a state topic that is no state of it."""
    return IntegrityError(f"{where}: {error.message}", code="foreign_record", hint=NEW_GENERATION)


def newest(
    component: str,
    records: Iterable[tuple[int, str, StateHead | None]],
    stamp: int,
    where: str,
    decode: Decode,
) -> Heads:
    """The newest state per key with stamp ≤ `stamp`, of one component.

    `records`: offset, key, and head or None (a tombstone), in the topic's order. Raises:
    IntegrityError: a key went back, has two states of one version, or a state that is kept cannot
    be decoded.
    """

    def decoded(offset: int, head: StateHead) -> State:
        try:
            return decode(head.value)
        except ContractError as error:
            raise foreign(f"{where}@{offset}", error) from None

    last: dict[str, tuple[int, StateHead]] = {}
    kept: dict[str, tuple[int, StateHead | int]] = {}
    """Name → offset, and head or the version in which it was deleted."""
    jumps: dict[Key, int] = {}
    for offset, name, head in records:
        before = last.get(name)
        if head is None:
            epoch, version = (before[1].epoch, before[1].version + 1) if before else (0, 1)
            kept[name] = offset, version
            jumps.pop((component, name), None)
            last[name] = offset, StateHead(name, epoch, version, 0, b"")
            continue
        if before is not None:
            _check_order(f"{where}: {name}", before, (offset, head), decoded)
        last[name] = offset, head
        if head.stamp <= stamp:
            kept[name] = offset, head
            jumps.pop((component, name), None)
        elif (component, name) not in jumps:
            _, held = kept.get(name, (0, 0))
            have = held if isinstance(held, int) else held.version
            if head.version > have + 1:
                jumps[component, name] = have + 1
    states = {
        (component, name): Known(None, held, "")
        if isinstance(held, int)
        else Known(decoded(offset, held), held.version, "")
        for name, (offset, held) in kept.items()
    }
    return Heads(states, jumps)


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
