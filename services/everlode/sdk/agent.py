"""NodeAgent: a node's side of who leads: joins, beats, learns its role, and fences itself.

A node may act for a scope only while `leads(scope)` gives an epoch: the folded control log names
it primary, and its lease (renewed through the log, read back) is good. A restarted process starts
fenced. Shell: one thread for beats and renewals, one for the control log.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from everlode.adapters.kafka_control import ControlFollower, ControlLog
from everlode.control.fold import ControlState
from everlode.control.lease import Lease
from everlode.errors import EverlodeError, Unavailable
from everlode.events.base import Event, Fact
from everlode.events.control import LeaseRenewed, NodeJoined
from everlode.events.heartbeats import NodeBeat
from everlode.events.types import PPM
from everlode.sdk.clock import Clock, WallClock
from everlode.sdk.probe import ProbeEndpoint
from everlode.sdk.signals import SignalWriter
from everlode.topics.partition import partition_of


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a node is. `component` is the first half of its scopes' names, e.g. task-manager."""

    node_id: str
    region: str
    origin: str
    component: str
    kind: str = ""
    priority: int = 0
    specialties: tuple[str, ...] = ()
    max_concurrent: int = 0


class Load(NamedTuple):
    """What a beat says of the work."""

    current_tasks: int = 0
    work_done: int = 0
    queue_size: int = 0


def mono_ms() -> int:
    """This process's monotonic clock in milliseconds."""
    return time.monotonic_ns() // 1_000_000


class NodeAgent:
    """One node. `load` is asked before each beat; `on_control` gets every control record."""

    def __init__(
        self,
        identity: Identity,
        *,
        bootstrap: str,
        control_bootstrap: str,
        partitions: int,
        scopes: tuple[str, ...] = (),
        load: Callable[[], Load] = Load,
        on_control: Callable[[int, Fact, ControlState], None] | None = None,
        clock: Clock | None = None,
        beat_ms: int = 1000,
        renew_ms: int = 2000,
        fence_after_ms: int = 12_000,
    ) -> None:
        self.identity = identity
        self._scopes = scopes
        self._load = load
        self._on_control = on_control
        self._clock = clock or WallClock()
        self._beat_ms, self._renew_ms = beat_ms, renew_ms
        self._partition = partition_of(identity.node_id, partitions)
        self._signals = SignalWriter(bootstrap, identity.origin, self._clock)
        self._log = ControlLog(control_bootstrap)
        self._leases = {scope: Lease(fence_after_ms) for scope in scopes}
        self._held: dict[str, int] = {}
        self._guard = threading.Lock()
        self._probe = ProbeEndpoint()
        self._stop = threading.Event()
        self._follower = ControlFollower(control_bootstrap, self._control)
        self._thread = threading.Thread(target=self._run, name="agent", daemon=True)

    @property
    def control(self) -> ControlState:
        """The folded control log."""
        return self._follower.state

    @property
    def log(self) -> ControlLog:
        """For appends of one's own."""
        return self._log

    @property
    def halted(self) -> EverlodeError | None:
        """Why the control log is not followed any more; None while it is."""
        return self._follower.error

    def start(self) -> NodeAgent:
        """Read the control log, join it, and begin to beat. Raises: Unavailable."""
        self._follower.start()
        me = self.identity
        joined = NodeJoined(
            node_id=me.node_id,
            region=me.region,
            component=me.component,
            kind=me.kind,
            endpoint=self._probe.endpoint,
            priority=me.priority,
        )
        for _ in range(8):
            try:
                at = self._log.append(me.node_id, joined, node_id=me.node_id)
                break
            except Unavailable:
                continue
        else:
            raise Unavailable("the control log takes no records", code="control_unavailable")
        self._follower.wait_for(lambda s: s.position >= at, 30)
        self._thread.start()
        return self

    def leads(self, scope: str) -> int | None:
        """Epoch in which this node may act for `scope` right now, or None. Never blocks."""
        found = self._follower.state.scopes.get(scope)
        if found is None or found.primary != self.identity.node_id:
            return None
        if self._follower.error is not None or self._held.get(scope) != found.epoch:
            return None
        return found.epoch if self._leases[scope].good(mono_ms()) else None

    def _control(self, offset: int, fact: Fact, state: ControlState) -> None:
        data = fact.data
        me = self.identity.node_id
        if isinstance(data, LeaseRenewed) and data.node_id == me:
            lease = self._leases.get(data.scope_name)
            if lease is not None and self._held.get(data.scope_name) == data.held_epoch:
                with self._guard:
                    lease.read_back(data.nonce)
        for scope in self._scopes:
            found = state.scopes.get(scope)
            mine = found.epoch if found and found.primary == me else None
            if mine != self._held.get(scope):
                self._change(scope, mine)
        if self._on_control is not None:
            self._on_control(offset, fact, state)

    def _change(self, scope: str, epoch: int | None) -> None:
        """Gained in a new epoch, or lost: either way the lease begins anew."""
        with self._guard:
            self._leases[scope].lost()
            if epoch is None:
                self._held.pop(scope, None)
            else:
                self._held[scope] = epoch
        if epoch is not None:
            self._renew(scope, epoch)

    def _renew(self, scope: str, epoch: int) -> None:
        nonce = uuid.uuid4().hex
        with self._guard:
            self._leases[scope].sent(nonce, mono_ms())
        me = self.identity.node_id
        data = LeaseRenewed(scope_name=scope, node_id=me, held_epoch=epoch, nonce=nonce)
        self._log.append_async(scope, data, node_id=me, scope=scope, epoch=epoch)

    def _run(self) -> None:
        renew_at = 0
        while not self._stop.wait(self._beat_ms / 1000):
            self.signal(self._beat())
            self._log.poll()
            if mono_ms() >= renew_at:
                renew_at = mono_ms() + self._renew_ms
                for scope, epoch in list(self._held.items()):
                    self._renew(scope, epoch)

    def _beat(self) -> NodeBeat:
        load, me = self._load(), self.identity
        scope = next(iter(self._held), None)
        share = load.current_tasks * PPM // me.max_concurrent if me.max_concurrent else 0
        return NodeBeat.model_validate(
            {
                "component": me.component,
                "kind": me.kind,
                "role": "primary" if scope else "secondary" if self._scopes else "none",
                "held_epoch": self._held.get(scope or "", 0),
                "endpoint": self._probe.endpoint,
                "status": "healthy",
                "load_ppm": min(PPM, share),
                "current_tasks": load.current_tasks,
                "max_concurrent": me.max_concurrent,
                "work_done": load.work_done,
                "queue_size": load.queue_size,
                "specialties": me.specialties,
                "interval_ms": self._beat_ms,
            }
        )

    def signal(
        self,
        data: Event,
        *,
        topic: str = "heartbeats",
        key: str | None = None,
        partition: int | None = None,
        event_id: str | None = None,
    ) -> None:
        """Write a signal of this origin; not waited for."""
        self._signals.signal(
            data,
            topic=topic,
            key=key or self.identity.node_id,
            partition=self._partition if partition is None else partition,
            event_id=event_id,
        )

    def close(self) -> None:
        """Stop beating; the scope is not given back."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(3)
        self._follower.close()
        self._signals.close()
        self._log.close()
        self._probe.close()
