"""Signals: events that are of no aggregate's history, made ready to be sent.

Heartbeats, verdicts, recovery events, decisions: whoever writes them makes them here, so that all
carry the same envelope. Invariants: version 0; `seq` counts this maker's signals and their stamps
rise, both in the order of the calls. What a failover waits for is urgent: whoever follows has it
at once. Wall time and ids are inputs. Pure but for its counts.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from everlode.avro.cloudevents import Headers, event_headers, urgent
from everlode.avro.codec import encode_fact
from everlode.events.base import Envelope, Event
from everlode.events.control import (
    FreezeAsked,
    NodeStatusChanged,
    OperatorAnswered,
    OperatorAsked,
    ScopeAssigned,
    ScopeDrained,
)
from everlode.events.health import NodeLost, NodeSuspected
from everlode.events.heartbeats import ProbeAnswered
from everlode.events.stamp import HybridClock

URGENT = (
    NodeSuspected, ProbeAnswered, NodeLost, NodeStatusChanged, ScopeAssigned, OperatorAsked,
    FreezeAsked, ScopeDrained, OperatorAnswered,
)  # fmt: skip
"""On the way from a silence, or from an operator's wish, to a new primary; a few each time."""


class Now(NamedTuple):
    """When a signal is made: the machine's wall time, and event time (both clocks, see Clock)."""

    wall_ms: int
    at: datetime


class Head(NamedTuple):
    """What a signal is about, and under which scope and epoch its writer speaks."""

    key: str
    event_id: str
    scope: str = ""
    epoch: int = 0
    correlation_id: str = ""
    """Empty: the key."""
    urgent: bool = False
    """Somebody waits for it; always true of what is `URGENT`."""


class Signal(NamedTuple):
    """A signal as it goes out."""

    envelope: Envelope
    value: bytes
    headers: Headers


class SignalMaker:
    """Makes the signals of one origin. Not thread-safe."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._stamps = HybridClock()
        self._seq = 0

    def make(self, head: Head, data: Event, now: Now) -> Signal:
        """The next signal. Raises: ContractError: it is too large."""
        self._seq += 1
        envelope = Envelope(
            event_id=head.event_id,
            aggregate_id=head.key,
            version=0,
            origin=self._origin,
            scope=head.scope,
            epoch=head.epoch,
            seq=self._seq,
            stamp=self._stamps.next(now.wall_ms),
            occurred_at=now.at,
            correlation_id=head.correlation_id or head.key,
        )
        headers = event_headers(envelope, type(data).__name__)
        if head.urgent or isinstance(data, URGENT):
            headers = urgent(headers)
        return Signal(envelope, encode_fact(envelope, data), headers)
