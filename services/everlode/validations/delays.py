"""How long what waited at the loss of a validator has waited on, beside what was estimated.

    ValidationRecoveryEnded, with an estimate     of its kind wait v1, v2
    v1 is decided                                 v2
    v2 is decided, or given to another kind       ValidationDelayMeasured: until now

All follows from the recovery stream and the validations, whichever is read first; a coordinator
that takes over measures the same, unless all was decided long before it began to read: then nobody
does. Memory: when the last ones of each kind left. Pure.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from everlode.events.recovery import ValidationDelayMeasured, ValidationRecoveryEnded

KEPT = 10_000
"""The last of a kind that were decided."""


class Waits(NamedTuple):
    """A validation that waits."""

    kind: str
    since_ms: int
    """Wall milliseconds since when it waits for this kind; 0: since before all that was read."""
    deferrals: int


class _Open(NamedTuple):
    """An end whose delay is not known yet."""

    at_ms: int
    ended: ValidationRecoveryEnded


class _Drain(NamedTuple):
    """What waited then."""

    waiting: set[str]
    last_ms: list[int]
    """When the last one that waits no more left; empty: none has."""


class Delays:
    """Of one region. Not thread-safe."""

    def __init__(self) -> None:
        self._left: defaultdict[str, deque[tuple[int, int]]] = defaultdict(
            lambda: deque(maxlen=KEPT)
        )
        """Kind → (since when it waited, when it left)."""
        self._open: dict[str, _Open] = {}
        self._drains: dict[str, _Drain] = {}
        self._measured: set[str] = set()

    def ended(self, operation: str, at_ms: int, data: ValidationRecoveryEnded) -> None:
        """Fold the end of a handling; one without an estimate is not measured."""
        known = operation in self._measured or operation in self._open
        if not known and data.success and data.estimated_delay_ms is not None:
            self._open[operation] = _Open(at_ms, data)

    def measured(self, operation: str) -> None:
        """Fold that it was published."""
        self._measured.add(operation)
        self._open.pop(operation, None)
        self._drains.pop(operation, None)

    def left(self, key: str, waited: Waits, at_ms: int) -> None:
        """Fold that a validation waits for its kind no more."""
        self._left[waited.kind].append((waited.since_ms, at_ms))
        for drain in self._drains.values():
            if key in drain.waiting:
                drain.waiting.discard(key)
                drain.last_ms[:] = [max([at_ms, *drain.last_ms])]

    def due(self, waits: Mapping[str, Waits]) -> Iterator[tuple[str, ValidationDelayMeasured]]:
        """(operation, what is to be published), until it is read back; `waits` are all that wait.

        To be asked once all that there was has been read.
        """
        for operation, (at_ms, ended) in list(self._open.items()):
            drain = self._drains.get(operation)
            if drain is None:
                drain = self._drains[operation] = self._drain(at_ms, ended, waits)
            if drain.waiting:
                continue
            if not drain.last_ms:
                del self._open[operation]
                continue
            yield operation, ValidationDelayMeasured(
                failed_validator=ended.failed_validator, validator_type=ended.validator_type,
                estimated_delay_ms=ended.estimated_delay_ms or 0,
                actual_delay_ms=max(0, drain.last_ms[0] - at_ms),
            )  # fmt: skip

    def _drain(
        self, at_ms: int, ended: ValidationRecoveryEnded, waits: Mapping[str, Waits]
    ) -> _Drain:
        kind = ended.validator_type
        waiting = {k for k, w in waits.items() if w.kind == kind and w.since_ms <= at_ms}
        left = [at for since, at in self._left[kind] if since <= at_ms <= at]
        return _Drain(waiting, [max(left)] if left else [])
