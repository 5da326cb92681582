"""NodeAgent: a node's side of who leads: joins, beats, learns its role, and fences itself.

A node may act for a scope only while `leads(scope)` gives an epoch: the folded control log names
it primary, and its lease (renewed through the log, read back) is good. A lease belongs to a
process: one whose name another living one has is refused at its start, and one that was silent and
finds that another has taken its name fences itself for good. A restarted process starts fenced.
While its clock is not as the network's, a node leads nothing (see `clockwatch`), but beats on.
`on_role` is notified of each change once, in order, in a thread of its own, so that a slow
callback delays neither heartbeats nor renewals; `leads` may be ahead of it, and decides. An error
in a callback fences the node for good: see `NodeAgent.failed`. Shell: one thread for heartbeats
and renewals, one for the control log, one for callbacks.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from everlode.adapters.clock import Clock, WallClock
from everlode.adapters.kafka_control import ControlLog
from everlode.adapters.kafka_follower import ControlFollower
from everlode.control.fold import ControlState
from everlode.control.roles import RoleChange, Roles
from everlode.control.scopes import SCOPE_OF, Scope
from everlode.errors import Refusal, Unavailable
from everlode.events.base import Event, Fact
from everlode.events.control import LeaseRenewed, NodeJoined
from everlode.events.heartbeats import NodeBeat
from everlode.events.types import PPM
from everlode.log.facts import ForeignRecord
from everlode.log.signals import SignalWriter
from everlode.membership.clockwatch import ClockWatch, mono_ms
from everlode.membership.name import Incarnation, await_free, refused, replaced
from everlode.membership.probe import ProbeEndpoint
from everlode.settings.endpoints import Endpoints
from everlode.topics.partition import partition_of

LOG = logging.getLogger(__name__)
CLOSE_S = 10.0
"""A callback that is under way at the end is waited for this long."""


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
    waits_for: str = ""  # see NodeBeat; no control characters
    stands_still: bool = False  # it lives, and does not do its work
    read_stamp: int | None = None  # see NodeBeat
    opening: bool = False  # it was chosen, and does not lead yet: it is secondary in its beat


class NodeAgent:
    """One node. `load` is asked before each beat; `on_role` is notified of each change of role.

    Use as a context manager, or `start` and `close` it. A scope that the node was chosen for is
    `fenced` first, and `primary` once its lease is good; it is `fenced` again when the lease runs
    out, and `primary` again, in the same epoch, when a renewal gets through. Other nodes' epochs
    come as `secondary`.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        bootstrap: str,
        control_bootstrap: str,
        partitions: int,
        scopes: tuple[str, ...] = (),
        load: Callable[[], Load] = Load,
        on_role: Callable[[RoleChange], None] | None = None,
        clock: Clock | None = None,
        beat_ms: int = 1000,
        renew_ms: int = 2000,
        fence_after_ms: int = 12_000,
    ) -> None:
        self.identity = identity
        self._scopes = scopes
        self._load = load
        self._on_role = on_role
        self._clock = clock or WallClock()
        self._beat_ms, self._renew_ms = beat_ms, renew_ms
        self._partition = partition_of(identity.node_id, partitions)
        self._signals = SignalWriter(bootstrap, identity.origin, self._clock)
        self._log = ControlLog(control_bootstrap, self._clock)
        me = (identity.region, identity.component, identity.node_id)
        self._clockwatch = ClockWatch(me, self._clock, renew_ms, self._skewed)
        self._fence_after_ms = fence_after_ms
        self.incarnation = Incarnation()
        """This process; another one of this node's name is another incarnation."""
        self._has_name = False
        self._roles = Roles(identity.node_id, scopes, fence_after_ms, self.incarnation.id)
        self._failed: Exception | None = None
        self._changed = threading.Condition()
        """Guards the roles, and wakes the thread that notifies of them."""
        self._probe = ProbeEndpoint(self.incarnation.id)
        self._stop = threading.Event()
        self._follower = ControlFollower(control_bootstrap, self._control)
        self._thread = threading.Thread(target=self._run, name="agent", daemon=True)
        self._notifier = threading.Thread(target=self._notify_all, name="agent-roles", daemon=True)

    @classmethod
    def of(cls, identity: Identity, endpoints: Endpoints, **options: Any) -> NodeAgent:
        """A node on a stack; `options` as above.

        Raises: ConfigError: it has no control cluster, or not this region.
        """
        parts = endpoints.parts(identity.region)
        return cls(
            identity,
            bootstrap=parts.bootstrap,
            control_bootstrap=endpoints.control(),
            **{"partitions": parts.partitions, **options},
        )

    @classmethod
    def on(
        cls,
        endpoints: Endpoints,
        region: str,
        component: str,
        node_id: str,
        *,
        kind: str = "",
        priority: int = 0,
        **options: Any,
    ) -> NodeAgent:
        """A node for the region's scope of a component (tasks, miners, …); `options` as above.

        Raises: ConfigError: no such region or component, or no control cluster.
        """
        origin, scope = endpoints.parts(region).origin, Scope.of(component, region)
        me = Identity(node_id, region, origin, SCOPE_OF[component], kind, priority)
        return cls.of(me, endpoints, **{"scopes": (str(scope),), **options})

    @property
    def control(self) -> ControlState:
        """The folded control log."""
        return self._follower.state

    def control_at(self, offset: int, within_s: float = 2.0) -> ControlState:
        """The control log, folded up to this offset at least. Raises: Unavailable."""
        return self._follower.wait_for(lambda s: s.position >= offset, within_s)

    @property
    def log(self) -> ControlLog:
        """For appends of one's own."""
        return self._log

    @property
    def failed(self) -> Exception | None:
        """Why this node has fenced itself for good, and neither beats nor answers probes; or None.

        The first error of a callback (`load` too), which is logged as well, or of the control log;
        FencedOut: another process has its name. The node is then found lost and replaced; end the
        process, and start it again.
        """
        return self._failed or self._follower.error

    def listen(self, on_role: Callable[[RoleChange], None]) -> None:
        """Set `on_role`. Raises: Refusal: there is one, or the agent has been started."""
        if self._on_role is not None or self._thread.ident is not None:
            raise Refusal("on_role is set before the start, once", code="listening")
        self._on_role = on_role

    def start(self) -> NodeAgent:
        """Begin: 1. read the control log to its end; 2. wait until no other process has the node's
        name; 3. join; 4. read that; 5. renew, and beat.

        Before 4. the node leads nothing and renews nothing. Raises: Locked: another process of this
        name lives, or was first. Unavailable. The agent is closed then.
        """
        try:
            # 1. the log as it stands
            self._follower.start()
            # 2. whoever had the name
            me, wait_s = self.identity.node_id, self._fence_after_ms / 1000
            host = self.incarnation.host
            before, gone = await_free(me, host, lambda: self.control, wait_s)
            # 3. and 4. join, and read who has it now
            at = self._join(before)
            holder = self._follower.wait_for(lambda s: s.position >= at, 30).nodes[me]
            if holder.incarnation != self.incarnation.id:
                raise refused(holder, "it was first")
        except BaseException:
            self.close()
            raise
        with self._changed:
            if gone:
                self._roles.gone(before, mono_ms())
            self._clockwatch.caught_up(self.control)
            self._roles.bar(self._clockwatch.wrong(), mono_ms())
            self._roles.caught_up(mono_ms())
        # 5. leases, heartbeats, callbacks
        self._renew()
        self._thread.start()
        self._notifier.start()
        return self

    def _join(self, before: str) -> int:
        """Take the name over from `before`, as rejoining if the node was lost; the offset."""
        me, own = self.identity, self.incarnation
        joined = NodeJoined(
            node_id=me.node_id, region=me.region, component=me.component, kind=me.kind,
            endpoint=self._probe.endpoint, priority=me.priority, incarnation=own.id,
            replaces=before, host=own.host, process_id=own.process_id, specialties=me.specialties,
        )  # fmt: skip
        for _ in range(8):
            with suppress(Unavailable):  # it may land twice: it is the same process
                return self._log.append(me.node_id, joined, node_id=me.node_id)
        raise Unavailable("the control log takes no records", code="control_unavailable")

    def leads(self, scope: str) -> int | None:
        """Epoch in which this node may act for `scope` right now, or None. Never waits long."""
        if self._follower.error is not None or self._clockwatch.wrong():
            return None
        with self._changed:
            epoch = self._roles.leads(scope, mono_ms())
        return epoch if epoch == self._follower.state.epoch(scope) else None

    @property
    def may_lead(self) -> bool:
        """False while this node's clock is too wrong to lead anything."""
        return not self._clockwatch.wrong()

    def _control(self, _offset: int, fact: Fact, state: ControlState) -> None:
        self._clockwatch.observe(fact, state)
        with self._changed:
            gained = self._roles.observe(fact.data, state, mono_ms())
            self._changed.notify_all()
        if gained:
            self._renew()
        if isinstance(fact.data, NodeJoined) and fact.data.node_id == self.identity.node_id:
            holder = state.nodes[self.identity.node_id]
            had, self._has_name = self._has_name, holder.incarnation == self.incarnation.id
            if had and not self._has_name:
                self._fail(replaced(holder))

    def _renew(self) -> None:
        """Ask for more time in every scope that is held; for none before the log is caught up."""
        if not self._clockwatch.renews():
            return
        me = self.identity.node_id
        with self._changed:
            held = self._roles.renewable()
        for scope, epoch in held.items():
            nonce = uuid.uuid4().hex
            with self._changed:
                self._roles.sent(scope, nonce, mono_ms())
            data = LeaseRenewed(
                scope_name=scope, node_id=me, held_epoch=epoch, nonce=nonce,
                incarnation=self.incarnation.id,
            )  # fmt: skip
            self._log.append_async(scope, data, node_id=me, scope=scope, epoch=epoch)

    def _run(self) -> None:
        """Beats and renewals."""
        renew_at = 0
        try:
            while not self._stop.wait(self._beat_ms / 1000):
                if self._follower.error is not None:
                    raise self._follower.error
                self._look_at_clock()
                self.signal(self._beat())
                self._log.poll()
                if mono_ms() >= renew_at:
                    renew_at = mono_ms() + self._renew_ms
                    self._renew()
        except Exception as error:  # noqa: BLE001 - whatever it is, the node must not lead on
            self._fail(error)

    def _look_at_clock(self) -> None:
        wrong = self._clockwatch.wrong()
        with self._changed:
            if wrong != self._roles.barred:
                self._roles.bar(wrong, mono_ms())
                self._changed.notify_all()
        self._clockwatch.report()

    def _skewed(self, data: Event) -> None:
        self.signal(data, topic="health", partition=0)

    def _notify_all(self) -> None:
        """Callbacks: woken by each control record, and when a lease ends."""
        while True:
            with self._changed:
                changes = self._roles.changes(mono_ms())
                if not changes:
                    if self._roles.ended:
                        return
                    left = self._roles.next_ms(mono_ms())
                    self._changed.wait(None if left is None else left / 1000)
                    continue
            for change in changes:
                self._notify(change)

    def _notify(self, change: RoleChange) -> None:
        try:
            if self._on_role is not None:
                self._on_role(change)
        except Exception as error:  # noqa: BLE001 - whatever it is, the node must not lead on
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Fence this node for good, and let it be found lost: nobody else would replace it."""
        LOG.error("%s fences itself: %r", self.identity.node_id, error, exc_info=error)
        self._failed = self._failed or error
        self._end()

    def _end(self) -> None:
        self._stop.set()
        with self._changed:
            self._roles.end(mono_ms())
            self._changed.notify_all()
        self._probe.close()

    def _beat(self) -> NodeBeat:
        load, me = self._load(), self.identity
        with self._changed:
            held = {} if load.opening else dict(self._roles.held)
        scope = next(iter(held), None)
        share = load.current_tasks * PPM // me.max_concurrent if me.max_concurrent else 0
        return NodeBeat.model_validate(
            {
                "component": me.component,
                "kind": me.kind,
                "role": "primary" if scope else "secondary" if self._scopes else "none",
                "held_epoch": held.get(scope or "", 0),
                "endpoint": self._probe.endpoint,
                "status": "degraded" if self._roles.barred or load.stands_still else "healthy",
                "load_ppm": min(PPM, share),
                "current_tasks": load.current_tasks,
                "max_concurrent": me.max_concurrent,
                "work_done": load.work_done,
                "queue_size": load.queue_size,
                "specialties": me.specialties,
                "interval_ms": self._beat_ms,
                "waits_for": load.waits_for,
                "read_stamp": load.read_stamp,
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

    def foreign(self, error: ForeignRecord) -> None:
        """Publish on `<origin>.health` that somebody else writes into a fact topic."""
        self._signals.foreign(error)

    def close(self) -> None:
        """Fence oneself, notify `on_role`, stop beating; the scope is not given back."""
        self._end()
        for thread in (self._thread, self._notifier):
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(CLOSE_S)
        self._follower.close()
        self._signals.close()
        self._log.close()

    def __enter__(self) -> NodeAgent:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()
