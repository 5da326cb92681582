"""What waits for which kind of validator, and how fast a kind decides, by the facts of one region.

Memory: one entry a validation that waits, the last decisions of each kind. Pure.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from everlode.events import validations as e
from everlode.events.base import Fact
from everlode.events.recovery import ValidationDelayMeasured
from everlode.events.stamp import millis_of
from everlode.events.states import ValidationState
from everlode.failover.estimates import FEWEST
from everlode.validations.delays import Delays, Waits

RATE_FROM = 100
"""The last decisions of a kind that its rate is from."""


class Waiting(NamedTuple):
    """How much waits, by kind; immutable while nothing is observed."""

    all: Mapping[str, int]
    deferred: Mapping[str, int]
    """Of these, those whose deadline was moved."""


class Queue:
    """Folds the region's validation topic. Facts that are in the restored states may come again."""

    def __init__(self) -> None:
        self._waits: dict[str, Waits] = {}
        self._all: Counter[str] = Counter()
        self._deferred: Counter[str] = Counter()
        self._decided_ms: defaultdict[str, deque[int]] = defaultdict(
            lambda: deque(maxlen=RATE_FROM)
        )
        self.delays = Delays()

    @property
    def waiting(self) -> Waiting:
        """What waits now."""
        return Waiting(self._all, self._deferred)

    def restore(self, state: ValidationState) -> None:
        """Begin with a validation as it is alive."""
        if state.status == "pending":
            # of one that has been voted on or deferred the stamp is of that
            at_ms = 0 if state.votes or state.deferrals else millis_of(state.stamp)
            self._put(state.key, Waits(state.kind, at_ms, state.deferrals), at_ms)

    def observe(self, fact: Fact) -> None:
        """Fold one record, in order within its partition."""
        data, key, at_ms = fact.data, fact.envelope.aggregate_id, millis_of(fact.envelope.stamp)
        match data:
            case e.ValidationRequested():
                self._put(key, Waits(data.kind, at_ms, 0), at_ms)
            case e.ValidationEscalated():
                known = self._waits.get(key)
                self._put(key, Waits(data.to_kind, at_ms, known.deferrals if known else 0), at_ms)
            case e.ValidationDeferred():
                known = self._waits.get(key)
                if known is not None:
                    self._put(key, known._replace(deferrals=known.deferrals + 1), at_ms)
            case e.ValidationDecided():
                if key not in self._waits:  # it began to wait before all that was read
                    self.delays.left(key, Waits(data.kind, 0, 0), at_ms)
                self._put(key, None, at_ms)
                self._decided_ms[data.kind].append(at_ms)

    def delay_ms(self, kind: str, before: int, left: int) -> int | None:
        """Until what waits for a kind is decided, by `left` of the `before` nodes of that kind.

        By the rate of its last decisions, which all of them made. None: unknown: nobody is left, or
        fewer than FEWEST decisions were seen, or all in one moment.
        """
        times = self._decided_ms[kind]
        span = max(times, default=0) - min(times, default=0)
        if len(times) < FEWEST or span <= 0 or not left:
            return None
        a_decision_ms = span / (len(times) - 1) * before / left
        return round(self._all[kind] * a_decision_ms)

    def due(self) -> Iterator[tuple[str, ValidationDelayMeasured]]:
        """Delays that are known now; see Delays."""
        return self.delays.due(self._waits)

    def _put(self, key: str, new: Waits | None, at_ms: int) -> None:
        old = self._waits.pop(key, None)
        if old is not None:
            if new is None or new.kind != old.kind:
                self.delays.left(key, old, at_ms)
            self._all[old.kind] -= 1
            self._deferred[old.kind] -= bool(old.deferrals)
        if new is not None:
            self._waits[key] = new
            self._all[new.kind] += 1
            self._deferred[new.kind] += bool(new.deferrals)
