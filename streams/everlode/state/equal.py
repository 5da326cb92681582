"""Equal solutions of the validations in memory: who handed one in first, and who after. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from everlode.events.snapshots import HandedIn
from everlode.events.states import ValidationState
from everlode.state.fraudrules import SMALL_BYTES, firsts, handed_in


class Equal:
    """Large solutions by SHA-256, in the order in which they were handed in."""

    def __init__(self) -> None:
        self._all: dict[str, list[HandedIn]] = {}
        self._firsts: dict[str, tuple[HandedIn, ...]] = {}

    def note(self, state: ValidationState) -> None:
        """One was handed in. Idempotent; cheap when it is the last."""
        if (state.solution_bytes or 0) < SMALL_BYTES:
            return
        one = handed_in(state)
        known = self._all.setdefault(state.solution_sha256, [])
        at = bisect_left(known, one)
        if at == len(known) or known[at] != one:
            known.insert(at, one)
            old = self._firsts.get(state.solution_sha256, ())
            self._firsts[state.solution_sha256] = firsts((*old, one))

    def forget(self, state: ValidationState) -> None:
        """It has left the memory. The first ones are kept for as long as any equal one is here."""
        known = self._all.get(state.solution_sha256, [])
        one = handed_in(state)
        at = bisect_left(known, one)
        if known[at : at + 1] == [one]:
            del known[at]
        if not known:
            self._all.pop(state.solution_sha256, None)
            self._firsts.pop(state.solution_sha256, None)

    def firsts(self, sha256: str) -> Sequence[HandedIn]:
        """The first ones, as many as tell whether another is a copy."""
        return self._firsts.get(sha256, ())

    def after(self, one: HandedIn) -> Sequence[HandedIn]:
        """Those equal to it that were handed in after it."""
        known = self._all.get(one.solution_sha256, [])
        return known[bisect_right(known, one) :]
