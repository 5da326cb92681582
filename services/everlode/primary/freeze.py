"""A primary that an operator moves: it takes no more commands, and says what it has committed.

Between two turns nothing is under way: all that was taken is committed or not taken at all. So a
frozen primary has only to publish its positions (`ScopeDrained`), and to rest. It goes on by itself
when its time is over, should nobody be left to end the freeze: who may write is decided by epochs,
never by this. Its lease is renewed meanwhile.

Not so of a failback: the next primary writes elsewhere, and fences nobody here, so it stands on
what was said. Then a primary goes on only once the control log says that the wish has ended. When
its time is over it says so there itself: that, or the decision, is first for all. Shell: the
runtime's thread.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from everlode.control.wishes import FAILBACK, Wish
from everlode.events.base import Event, Position
from everlode.events.control import OperatorAnswered, ScopeDrained
from everlode.membership.agent import NodeAgent
from everlode.telemetry.entries import Frozen
from everlode.telemetry.sink import Sink, silent

AGAIN_S = 1.0
"""The positions are published again when they have not been read back for so long."""
FROZEN_S = 0.01
"""Between two looks of a frozen primary at the control log."""


class Freeze:
    """Of one node."""

    def __init__(self, agent: NodeAgent, report: Sink = silent) -> None:
        self._agent = agent
        self._me = agent.identity.node_id
        self._report = report
        self._since: tuple[str, float] = ("", 0.0)
        """The wish that it was frozen for last, and since when."""
        self._published_at = self._ended_at = float("-inf")

    def holds(self, led: Mapping[str, int], topic: str, seqs: Sequence[int] | None) -> bool:
        """True while a scope that is led (→ epoch) is frozen, of which it notifies all.

        `seqs`: the last `seq` of each partition of its topic, as committed; None: it does not
        serve, or does so no more. Then it rests only if it has said before what it has committed:
        opening the epoch would add to that.
        """
        wishes = self._agent.control.wishes
        found = [wish for scope, epoch in led.items() if (wish := wishes.frozen(scope, epoch))]
        for wish in found:
            if (seqs is not None or wish.drained) and self._rests(wish):
                self._drained(wish, topic, seqs or ())
                return True
        return False

    def _rests(self, wish: Wish) -> bool:
        """Its time counts from when this process has read of it."""
        assert wish.freeze is not None  # noqa: S101 - it is frozen
        if wish.id != self._since[0]:
            self._since = wish.id, time.monotonic()
            self._published_at = float("-inf")
            self._report(Frozen(wish.freeze.scope_name, wish.text, wish.freeze.target_node))
        over = time.monotonic() - self._since[1] >= wish.freeze.limit_ms / 1000
        if wish.asked.verb != FAILBACK:
            return not over
        if over:
            self._end(wish)
        return True

    def _end(self, wish: Wish) -> None:
        """Say that its time is over, until that is read back, or that the scope has gone home."""
        now, freeze = time.monotonic(), wish.freeze
        if freeze is None or now < self._ended_at + AGAIN_S:
            return
        self._ended_at = now
        why = f"{self._me} goes on as before: nothing was decided in time"
        data = OperatorAnswered(
            operation_id=wish.id, scope_name=freeze.scope_name, outcome="timed-out", reason=why
        )
        self._append(freeze.scope_name, freeze.held_epoch, data)

    def _drained(self, wish: Wish, topic: str, seqs: Sequence[int]) -> None:
        """Publish the positions, until they are read back."""
        now, freeze = time.monotonic(), wish.freeze
        if freeze is None or wish.drained is not None or now < self._published_at + AGAIN_S:
            return
        self._published_at = now
        data = ScopeDrained(
            operation_id=wish.id, scope_name=freeze.scope_name, node_id=self._me,
            held_epoch=freeze.held_epoch,
            positions=tuple(Position(topic=topic, partition=p, seq=s) for p, s in enumerate(seqs)),
        )  # fmt: skip
        self._append(freeze.scope_name, freeze.held_epoch, data)

    def _append(self, scope: str, epoch: int, data: Event) -> None:
        self._agent.log.append_async(scope, data, node_id=self._me, scope=scope, epoch=epoch)
