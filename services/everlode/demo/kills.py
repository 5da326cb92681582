"""The primaries that are killed, one of each kind, and what came of each.

    control log ──► primaries ──► SIGKILL ──► verdict ──► failover ──► the successor writes
                    epoch before                          epoch after    in its own epoch

What came of a kill is what the logs and the journal say. Shell; `primaries`, `ended` and `outcome`
are pure.
"""

from __future__ import annotations

import time
from collections.abc import Container, Mapping, Sequence
from typing import Any, NamedTuple

from everlode.control.fold import ControlState
from everlode.control.scopes import Scope
from everlode.demo.signals import Signal, signals
from everlode.errors import Unavailable
from everlode.events.services import SERVICES, Service
from everlode.proof.epochs import Led
from everlode.proof.promises import without_answers_ms
from everlode.settings.endpoints import Endpoints
from everlode.topics.names import fact_topic

NOBODY = Led("")


class Kill(NamedTuple):
    """One primary that was killed, and the epoch in which it led."""

    service: Service
    node: str
    epoch: int


class Seen(NamedTuple):
    """What a run's logs and its journal say."""

    stream: Sequence[Signal]
    """The recovery streams."""
    lost: Container[str]
    """Nodes of which a verdict says that they are lost."""
    epochs: Mapping[str, Mapping[int, Led]]
    """See Proof.epochs."""
    entries: Sequence[dict[str, Any]]
    """The journal."""


def primaries(control: ControlState, region: str) -> list[Kill]:
    """The primary of each kind in a region. Raises: Unavailable: a kind has none."""
    found = []
    for service in SERVICES:
        scope = str(Scope(service.facts, region))
        led = control.scopes.get(scope)
        if led is None or not led.primary:
            raise Unavailable(f"{scope} has no primary to kill", hint="see the coordinator's log")
        found.append(Kill(service, led.primary, led.epoch))
    return found


def ended(stream: Sequence[Signal], service: Service, node: str) -> dict[str, Any] | None:
    """The last end of a node's failover on the recovery streams; None: there is none."""
    kind = service.ended
    (failed,) = (name for name in kind.model_fields if name.startswith("failed_"))
    mine = (v for n, v in reversed(stream) if n == kind.__name__ and v[failed] == node)
    return next(mine, None)


def await_failovers(endpoints: Endpoints, kills: Sequence[Kill], timeout_s: float) -> None:
    """Wait for each failover's end: work may end before, and the coordinators are stopped then.

    One that has not ended after `timeout_s` is a failure of the report, not of this.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        stream = signals(endpoints, "recovery")
        if all(ended(stream, kill.service, kill.node) for kill in kills):
            return
        time.sleep(0.5)


def outcome(kill: Kill, origin: str, seen: Seen) -> dict[str, Any]:
    """What came of one kill, in its region's log: before and after are the two epochs.

    The successor is who opened the first epoch after the killed node's. A figure is None when it
    has no such: no successor, nothing written, nobody with a journal answered.
    """
    epochs = seen.epochs.get(fact_topic(origin, kill.service.facts), {})
    later = min((e for e, led in epochs.items() if e > kill.epoch and led.node), default=None)
    before = epochs.get(kill.epoch, NOBODY)
    after = NOBODY if later is None else epochs[later]
    end = ended(seen.stream, kill.service, kill.node) or {}
    silent = None
    if before.last_ms is not None and after.first_ms is not None:
        silent = after.first_ms - before.last_ms
    return {
        "killed": kill.node,
        "led": before.node == kill.node,
        "found_lost": kill.node in seen.lost,
        "successor": after.node or None,
        "epoch_before": kill.epoch,
        "epoch_after": later,
        "success": end.get("success"),
        "recovery_ms": end.get("actual_recovery_ms"),
        "facts_before": before.facts,
        "facts_after": after.facts,
        "without_facts_ms": silent,
        "without_answers_ms": without_answers_ms(seen.entries, kill.node, after.node),
    }
