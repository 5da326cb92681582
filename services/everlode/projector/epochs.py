"""What the control log has decided, for folds that must not run ahead of it. Shell."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from everlode.adapters.kafka_follower import ControlFollower
from everlode.control.fold import ControlState
from everlode.projection.bounds import FREE, Bounds, bounds
from everlode.projection.fold import Epochs, Incoming

EPOCH_WAIT_S = 10.0
"""A fact whose epoch has not been decided by then is parked; the others go on."""
LOOK_S = 0.02
MOST_IN_VAIN = 10_000


Decided = Callable[[Sequence[Incoming]], Epochs | None]
"""Waits for the epochs of a batch, and answers what has been decided; None: all counts."""
Bounded = Callable[[int], Bounds]
"""What counts of fenced regions, for a partition number, as far as it is known now."""


def no_waiting(_: Sequence[Incoming]) -> Epochs | None:
    """Waits for nothing: every epoch counts as decided."""
    return None


def no_bounds(_: int) -> Bounds:
    """Nobody is fenced."""
    return FREE


class DecidedEpochs:
    """Epochs from a folded control log, which another part keeps following. Thread-safe."""

    def __init__(self, state: Callable[[], ControlState], wait_s: float = EPOCH_WAIT_S) -> None:
        self._state = state
        self._wait_s = wait_s
        self._guard = threading.Lock()
        self._scopes: object = None
        self._fences: object = None
        self._bounds: dict[int, Bounds] = {}
        self._known: Mapping[str, int] = {}
        self._in_vain: set[tuple[str, int]] = set()

    def __call__(self, batch: Sequence[Incoming]) -> Epochs:
        """What is decided, after waiting for what the batch needs; once for each that is not."""
        known = self._now()
        missing = _missing(batch, known) - self._in_vain
        deadline = time.monotonic() + self._wait_s
        while missing and time.monotonic() < deadline:
            time.sleep(LOOK_S)
            known = self._now()
            missing = {(s, e) for s, e in missing if e > known.get(s, 0)}
        if len(self._in_vain) < MOST_IN_VAIN:
            self._in_vain |= missing
        return known

    def bounds(self, partition: int) -> Bounds:
        """See Bounded. A region that is fenced later is not known yet."""
        fences = self._state().fences
        with self._guard:
            if fences is not self._fences:
                self._fences, self._bounds = fences, {}
            found = self._bounds.get(partition)
            if found is None:
                found = self._bounds[partition] = bounds(fences, partition)
            return found

    def _now(self) -> Mapping[str, int]:
        scopes = self._state().scopes
        with self._guard:
            if scopes is not self._scopes:
                self._known = {name: scope.epoch for name, scope in scopes.items()}
                self._scopes = scopes
            return self._known


def _missing(batch: Sequence[Incoming], known: Epochs) -> set[tuple[str, int]]:
    """(scope, epoch) of facts that are above what is known."""
    found = set()
    for item in batch:
        envelope = item.fact.envelope
        if envelope.epoch > known.get(envelope.scope, 0):
            found.add((envelope.scope, envelope.epoch))
    return found


@contextmanager
def decided_epochs(control_bootstrap: str) -> Iterator[DecidedEpochs]:
    """What the control log has decided, read to its end and followed. Raises: Unavailable."""
    follower = ControlFollower(control_bootstrap).start()
    try:
        yield DecidedEpochs(lambda: follower.state)
    finally:
        follower.close()
