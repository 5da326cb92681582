"""Whether this node's clock is right enough to lead with, and who is informed when it is not.

A node whose wall clock is further from the network's than facts may be stamped ahead leads nothing,
at once; it beats on, and publishes `ClockSkew`. It goes on renewing for a while, so that clocks
which are set all at once find together again; then its leases end, and another node takes its
place. When the clock comes right it works again. See `control.clocks` for who is right.
Shell: reads clocks; thread-safe.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from everlode.adapters.clock import Clock, millis
from everlode.control.clocks import REPORTED_MS, Clocks, judged
from everlode.control.fold import ControlState
from everlode.events.base import Event, Fact
from everlode.events.control import LeaseRenewed
from everlode.events.health import ClockSkew

LOG = logging.getLogger(__name__)
AGAIN_MS = 10_000
"""A wrong clock is reported again after this."""
RENEWS_MS = 10_000
"""A node whose clock is wrong gives its leases up after this."""


def mono_ms() -> int:
    """This process's monotonic clock in milliseconds."""
    return time.monotonic_ns() // 1_000_000


class ClockWatch:
    """Of one node. `publish` gets what others must know."""

    def __init__(
        self,
        node: tuple[str, str, str],
        clock: Clock,
        renew_ms: int,
        publish: Callable[[Event], None],
    ) -> None:
        """`node`: its region, component and id."""
        self._region, self._component, self._node_id = node
        self._clock = clock
        self._renew_ms = renew_ms
        self._publish = publish
        self._clocks = Clocks(self._region, self._node_id)
        self._guard = threading.Lock()
        self._judges_at: int | None = None
        """Once the others have shown their clocks; None: the log is not read to its end."""
        self._wrong_since: int | None = None
        self._reported_at: int | None = None

    def caught_up(self, state: ControlState) -> None:
        """The log has been read to its end: from now on a renewal is read as it is sent."""
        others = any(scope.primary != self._node_id for scope in state.scopes.values())
        with self._guard:
            self._judges_at = mono_ms() + (self._renew_ms * 5 // 4 if others else 0)

    def observe(self, fact: Fact, state: ControlState) -> None:
        """A control record was folded into `state`."""
        data = fact.data
        if not isinstance(data, LeaseRenewed):
            return
        scope, node = state.scopes.get(data.scope_name), state.nodes.get(data.node_id)
        if scope is None or node is None or scope.renewed_at != state.position:
            return  # it does not count
        with self._guard:
            if self._judges_at is not None:
                shown = millis(fact.envelope.occurred_at)
                self._clocks.observe(node.region, data.node_id, shown, mono_ms())

    def wrong(self) -> bool:
        """Whether this node may lead nothing now."""
        now = mono_ms()
        with self._guard:
            if self._judges_at is None or now < self._judges_at:
                return True
            wrong = judged(self._clocks.ahead_ms(self._clock.wall_ms(), now))
            if not wrong:
                self._wrong_since = None
            elif self._wrong_since is None:
                self._wrong_since = now
            return wrong

    def renews(self) -> bool:
        """Whether the node renews its leases: not when its clock has been wrong for a while."""
        wrong, now = self.wrong(), mono_ms()
        with self._guard:
            since = self._wrong_since
        return not wrong or since is None or now - since < RENEWS_MS

    def report(self) -> None:
        """Publish that the clock is wrong, now and then, or that it is right again."""
        now = mono_ms()
        with self._guard:
            ahead = self._clocks.ahead_ms(self._clock.wall_ms(), now)
            before = self._reported_at
            if abs(ahead) > REPORTED_MS:
                if before is not None and now - before < AGAIN_MS:
                    return
                self._reported_at = now
            elif before is not None:
                ahead, self._reported_at = 0, None
            else:
                return
        leads = not judged(ahead)
        if before is None or not ahead:
            LOG.warning("clock: %s is %s%s", self._node_id, skew(ahead), "" if leads else NO_LEAD)
        self._publish(
            ClockSkew(
                component=self._component, region=self._region, ahead_ms=ahead, leads=leads
            )
        )  # fmt: skip


NO_LEAD = "; it leads nothing until it is right: set this machine's clock"


def skew(ahead_ms: int) -> str:
    """A clock's error, for people."""
    if not ahead_ms:
        return "right again"
    return f"{abs(ahead_ms) / 1000:.0f} s {'ahead of' if ahead_ms > 0 else 'behind'} the network's"
