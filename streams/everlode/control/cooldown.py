"""How long a scope is left alone after its unsteady primary was replaced.

A primary that lives and does not do its work is replaced; if the cause is not in the node, its
successor will not do it either. So each such replacement makes the next one wait, twice as long:
30 s, 1 min, 2 min, … half an hour. Half an hour without one forgives all. What is lost is replaced
at once, always: a cool-down is about those that live. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from everlode.events.base import Envelope
from everlode.events.control import ScopeAssigned
from everlode.events.stamp import millis_of

FIRST_MS, CAP_MS = 30_000, 1_800_000
UNSTEADY: Final = "node-unsteady"
"""Reason of a decision that replaces a primary which lives."""


class Cooldown(NamedTuple):
    """Of one scope."""

    times: int
    """Replacements of an unsteady primary in a row; at least 1."""
    since_ms: int
    """Wall time at which the current primary first renewed its lease; before that, of its decision.
    """

    @property
    def until_ms(self) -> int:
        """Wall time up to which no other one is replaced for being unsteady."""
        return self.since_ms + min(CAP_MS, FIRST_MS << min(self.times - 1, 10))

    def until_from(self, opened_ms: int | None) -> int:
        """As `until_ms`, counted from the wall time at which the epoch was open everywhere, if that
        is known and later: who was slow to lead is given as long as anybody. The control log does
        not say when that was, the facts do.
        """
        return self.until_ms + max(0, (opened_ms or 0) - self.since_ms)


Cooldowns = Mapping[str, Cooldown]
"""By scope; only of those that have one."""


def decided(before: Cooldowns, data: ScopeAssigned, by: Envelope) -> Cooldowns:
    """After a decision that counts.

    One that is for another reason (a loss, a switchover) counts nothing: a cool-down begins anew
    with the primary that it makes.
    """
    known = before.get(data.scope_name)
    if known is None and data.reason != UNSTEADY:
        return before
    at_ms = millis_of(by.stamp)
    if known is not None and at_ms > known.until_ms + CAP_MS:
        known = None
    if data.reason == UNSTEADY:
        known = Cooldown(known.times + 1 if known else 1, at_ms)
    return _with(before, data.scope_name, known and known._replace(since_ms=at_ms))


def begun(before: Cooldowns, scope: str, by: Envelope) -> Cooldowns:
    """After the first renewal of a primary's lease: it may lead, once it has opened its epoch."""
    known = before.get(scope)
    if known is None:
        return before
    return _with(before, scope, known._replace(since_ms=millis_of(by.stamp)))


def ended(before: Cooldowns, scope: str) -> Cooldowns:
    """After an operator's word."""
    return _with(before, scope, None)


def _with(before: Cooldowns, scope: str, cools: Cooldown | None) -> Cooldowns:
    rest = {name: known for name, known in before.items() if name != scope}
    return MappingProxyType({**rest, scope: cools} if cools is not None else rest)
