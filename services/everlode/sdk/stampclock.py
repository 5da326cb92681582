"""What a producer stamps with, judged by the network's clock: the renewals on the control log.

A writer whose clock is ahead would stamp facts that hold up all who fold them, until time has come
that far. A node is judged by its agent; whoever writes without one judges itself by the same
records, and has no vote: nobody stamps further ahead than MAX_AHEAD_MS of the median of the
regions' clocks. Where nobody renews, or the control log cannot be read, nobody says what time it
is. What is read waits for nobody, but for a start that finds the last renewals to be long ago: that
listens for LISTEN_S, for either nobody leads, or this clock is wrong. Shell: one thread.
"""

from __future__ import annotations

import time
import uuid

from everlode.adapters.clock import Clock, millis
from everlode.adapters.kafka import Raw, Reader
from everlode.avro.codec import Codec
from everlode.control.clocks import Clocks, judged
from everlode.errors import ContractError, Refusal, Unavailable
from everlode.events.control import LeaseRenewed
from everlode.topics.names import CONTROL_TOPIC

PLACE = (CONTROL_TOPIC, 0)
BACK = 100
"""Records before the end that a start looks at."""
LISTEN_S = 2.5
"""A little more than the time between two renewals of a lease."""
ENDS_S = 3.0
AGAIN_S = 30.0
"""A control log that could not be read is tried again after this."""


class ClockAhead(Refusal):
    """This program's clock is ahead of the network's: nothing is written until it is right."""

    default_code = "clock_skew"

    def __init__(self, ahead_ms: int) -> None:
        super().__init__(
            f"ClockSkew: this machine's clock is {ahead_ms / 1000:.0f} s ahead of the network's",
            hint="set this machine's clock; facts are written again once it is right",
        )


class StampClock:
    """Of one producer. Not thread-safe, but for `wall_ms` and `event_now`."""

    def __init__(self, clock: Clock, control: str | None) -> None:
        """`control`: bootstrap addresses of the control cluster; None: another judges the clock."""
        self.wall_ms, self.event_now = clock.wall_ms, clock.event_now
        self.judged_ms = 0
        """What it showed when it was judged last: stamps are of this."""
        self._codec = Codec()
        self._reader: Reader | None = None
        if control is not None:
            self._reader = Reader(control, f"control-follower-{uuid.uuid4()}", wait_ms=400)
        self._clocks = Clocks("", "")
        self._again_at: float | None = 0.0
        """When the log is tried next (monotonic); None: it is read."""

    def begin(self) -> None:
        """Look at who renews. Raises: ClockAhead. Refusal: this program may not read the log."""
        if self.ahead() is None or self._reader is None:
            return
        self._clocks = Clocks("", "")  # what was shown may be long ago: now it is as it comes
        until = time.monotonic() + LISTEN_S
        while time.monotonic() < until:
            self._observe(self._reader.batch(BACK, 0.2, 0.0))
        self.require()

    def require(self) -> None:
        """Judge it now. Raises: ClockAhead."""
        if wrong := self.ahead():
            raise wrong

    def ahead(self) -> ClockAhead | None:
        """Judge it now; what is wrong with it. None: nothing, or nobody can say."""
        if self._reader is not None:
            if self._again_at is not None and time.monotonic() >= self._again_at:
                self._follow(self._reader)
            self._observe(self._reader.batch(BACK, 0.0))
        self.judged_ms = self.wall_ms()
        beyond_ms = self._clocks.beyond_ms(self.judged_ms, _mono_ms())
        return ClockAhead(beyond_ms) if judged(beyond_ms) else None

    def _follow(self, reader: Reader) -> None:
        """Read on from a little before the end, up to that."""
        try:
            ends = reader.ends([PLACE], ENDS_S)
            reader.assign({at: max(0, end - BACK) for at, end in ends.items()})
            for batch in reader.until(ends, ENDS_S):
                self._observe(batch)
            self._again_at = None
        except Unavailable:
            self._again_at = time.monotonic() + AGAIN_S

    def _observe(self, batch: list[Raw]) -> None:
        for raw in batch:
            try:
                envelope, data = self._codec.decode_fact(raw.value)
            except ContractError:
                continue  # of a newer build; its nodes follow the log
            if isinstance(data, LeaseRenewed):
                region = data.scope_name.rpartition("/")[2]
                self._clocks.observe(region, data.node_id, millis(envelope.occurred_at), _mono_ms())

    def close(self) -> None:
        """Leave."""
        if self._reader is not None:
            self._reader.close()


def _mono_ms() -> int:
    return time.monotonic_ns() // 1_000_000
