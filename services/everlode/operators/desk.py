"""Where operators ask: a wish is checked, appended to the control log, and looked for there.

    Wanted ─► check (refused: nothing is written) ─► OperatorAsked ─► read back: open, or overtaken
                                                                         │ a coordinator
                                                     wait ◄── its outcome ◄┘

What is asked again under one id is asked once. Shell: a follower of the control log and a writer,
both its caller's; a region's heartbeats are read at each request.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unicodedata import category

from pydantic import ValidationError

from everlode.adapters.clock import Clock, WallClock
from everlode.adapters.kafka import Reader
from everlode.adapters.kafka_control import ControlLog
from everlode.adapters.kafka_follower import ControlFollower
from everlode.control.fold import ControlState
from everlode.control.wishes import AT_ONCE, Wish
from everlode.errors import DeadlineExceeded, NotFound, Precondition, Refusal, Stale, Unavailable
from everlode.events.control import OperatorAsked
from everlode.events.door import misfit, refused
from everlode.events.services import BY_SCOPE
from everlode.events.types import OperatorVerb
from everlode.failover.eligible import WishView, refusal
from everlode.failover.foreseen import foresee
from everlode.failover.planner import Beating
from everlode.failover.policy import Policies, Succession
from everlode.settings.endpoints import Endpoints
from everlode.views.beats import beating
from everlode.views.scopes import look, region_of_scope

LATE_S = 10.0
"""An answer is waited for so much longer than a wish has: a coordinator gives it then."""
OF_NODES = frozenset({"drain", "rejoin", "ack"})
"""Verbs that name a node; its scope follows. An ack may name a scope instead."""


class Wanted(NamedTuple):
    """What an operator asks for."""

    verb: OperatorVerb
    scope: str = ""
    """E.g. task-manager/eu; empty where the node says it."""
    node: str = ""
    reason: str = ""
    until_ms: int | None = None
    """Of a pause, wall clock; None: until it is resumed."""
    timeout_s: float = 30.0
    operation: str = ""
    """Its id; a new one without it."""


class Desk:
    """One operator's, or one server's. Not thread-safe, but for the follower and the log."""

    def __init__(
        self,
        endpoints: Endpoints,
        follower: ControlFollower,
        log: ControlLog,
        clock: Clock | None = None,
    ) -> None:
        self._endpoints = endpoints
        self._follower = follower
        self._log = log
        self._clock = clock or WallClock()

    def ask(self, wanted: Wanted, operator: str) -> Wish:
        """Ask, and return the wish as it was read back: open, or done when its verb is at once.

        Raises: NotFound: no such node, scope or region. Locked: another operation of the scope
        runs, which it names. Precondition: it cannot be done now, NotEligible says why of each
        node. Refusal: the id is that of another wish. Stale: what it is based on has passed.
        Unavailable: the control log does not answer; it may still be asked, under its id.
        """
        asked = self._asked(wanted, operator)
        known = self._follower.state.wishes.get(asked.operation_id)
        if known is not None:
            return _same(known, asked)
        beats = {} if asked.verb in AT_ONCE else self._beats(asked.scope_name)
        view = _view(self._follower.state, asked, beats, self._clock)
        wrong = refusal(view) or _nobody_carries(view)
        if wrong is not None:
            raise wrong
        at = self._log.append(
            asked.scope_name, asked, node_id=operator, scope=asked.scope_name
        )  # fmt: skip
        state = self._follower.wait_for(lambda s: s.position >= at, LATE_S)
        found = state.wishes.get(asked.operation_id)
        if found is not None:
            return _same(found, asked)
        raise refusal(_view(state, asked, beats, self._clock)) or Stale(
            f"{asked.verb} of {asked.scope_name} came too late: what it is based on has passed",
            hint="look again (everlode status), and ask again",
        )

    def get(self, operation: str) -> Wish:
        """A wish as it stands. Raises: NotFound: there is none of this id, or it ended long ago."""
        found = self._follower.state.wishes.get(operation)
        if found is None:
            raise NotFound(
                f"no operation {operation!r} was asked for lately", hint="everlode status"
            )
        return found

    def wait(self, operation: str, timeout_s: float) -> Wish:
        """Wait for the end of a wish; see `require_done`. Raises: DeadlineExceeded; NotFound."""
        self.get(operation)

        def over(state: ControlState) -> bool:
            found = state.wishes.get(operation)
            return found is None or bool(found.outcome)

        try:
            self._follower.wait_for(over, timeout_s)
        except Unavailable as error:
            if error.code != "timeout":
                raise
            raise DeadlineExceeded(
                f"{self.get(operation).text} has not ended after {timeout_s:g} s",
                hint="it goes on, or waits for a coordinator: everlode status",
            ) from None
        return self.get(operation)

    def foreseen(self, wanted: Wanted, operator: str, policies: Policies) -> list[dict[str, Any]]:
        """The steps that a coordinator would take now. Nothing is asked. Raises: as `ask` does.

        `policies`: new ones; that of the scope observes the facts that it follows.
        """
        asked = self._asked(wanted, operator)
        if asked.verb in AT_ONCE:
            wrong = refusal(_view(self._follower.state, asked, {}, self._clock))
            if wrong is not None:
                raise wrong
            return [{"step": "OperatorAsked", "verb": asked.verb, "until_ms": asked.until_ms}]
        partitions = self._endpoints.parts(region_of_scope(self._endpoints, asked.scope_name))
        seen = look(self._endpoints, asked.scope_name, partitions.partitions, policies)
        view = _view(self._follower.state, asked, seen.beats, self._clock)
        wrong = refusal(view)
        if wrong is not None:
            raise wrong
        work = seen.work(asked.node_id) if asked.verb == "drain" else None
        steps = foresee(view._replace(planner=seen.planner, work=work))
        return [{"step": type(step).__name__, **step._asdict()} for step in steps]

    def _asked(self, wanted: Wanted, operator: str) -> OperatorAsked:
        state = self._follower.state
        node = state.nodes.get(wanted.node)
        of_scope = wanted.verb == "ack" and bool(wanted.scope) and not wanted.node
        names_node = wanted.verb in OF_NODES and not of_scope
        if names_node and node is None:
            raise NotFound(
                f"no node is named {wanted.node!r}", hint="everlode status shows them all"
            )
        scope = f"{node.component}/{node.region}" if node and names_node else wanted.scope
        region_of_scope(self._endpoints, scope)
        if scope.partition("/")[0] not in BY_SCOPE:
            raise NotFound(f"{scope} is no scope of a service", hint=", ".join(BY_SCOPE))
        for name, text in ({"operator": operator} | wanted._asdict()).items():
            if any(category(c) == "Cc" for c in str(text)):
                raise refused(name, "does not fit", "no control characters")
        try:
            return OperatorAsked(
                operation_id=wanted.operation or str(uuid.uuid4()), verb=wanted.verb,
                scope_name=scope, node_id=wanted.node, operator=operator, reason=wanted.reason,
                until_ms=wanted.until_ms,
                expires_ms=self._clock.wall_ms() + round(wanted.timeout_s * 1000),
                based_on=max(0, state.position), based_on_epoch=state.epoch(scope),
                changed_at=node.changed_at if node and names_node else None,
            )  # fmt: skip
        except ValidationError as error:
            raise misfit(error) from None

    def _beats(self, scope: str) -> dict[str, Beating]:
        parts = self._endpoints.parts(scope.rpartition("/")[2])
        reader = Reader(parts.bootstrap, f"operators-{uuid.uuid4()}", wait_ms=20)
        try:
            return beating(reader, parts.origin, parts.partitions)
        finally:
            reader.close()


def require_done(wish: Wish) -> Wish:
    """The wish itself. Raises: Precondition: refused. DeadlineExceeded: its time was over.

    Refusal: another decision was first.
    """
    said = f"{wish.text}: {wish.outcome}: {wish.why}"
    match wish.outcome:
        case "refused":
            raise Precondition(said, code="refused", hint="everlode scope explain")
        case "timed-out":
            raise DeadlineExceeded(said, hint="ask again, with more --timeout")
        case "overtaken":
            raise Refusal(said, code="overtaken", hint="look again: everlode status")
    return wish


def shown(wish: Wish) -> dict[str, Any]:
    """A wish for people and programs. Pure."""
    asked, drained = wish.asked, wish.drained
    return {
        "operation": wish.id,
        "verb": asked.verb,
        "scope": asked.scope_name,
        "node": asked.node_id or None,
        "operator": asked.operator,
        "reason": asked.reason or None,
        "until_ms": asked.until_ms,
        "expires_ms": asked.expires_ms,
        "target": wish.freeze.target_node if wish.freeze else None,
        "drained_to": [p.model_dump() for p in drained.positions] if drained else None,
        "outcome": wish.outcome or "open",
        "why": wish.why or None,
        "asked_at": wish.asked_at,
        "ended_at": wish.ended_at if wish.outcome else None,
    }


@contextmanager
def desk(endpoints: Endpoints) -> Iterator[Desk]:
    """A desk of one's own. Raises: ConfigError: no control cluster. Unavailable."""
    follower = ControlFollower(endpoints.control(), wait_ms=20)
    log = ControlLog(endpoints.control())
    try:
        yield Desk(endpoints, follower.start(15), log)
    finally:
        follower.close()
        log.close()


def _same(wish: Wish, asked: OperatorAsked) -> Wish:
    """Raises: Refusal: the id is that of something else."""
    known, wanted = wish.asked, asked
    if (known.verb, known.scope_name, known.node_id) != (
        wanted.verb, wanted.scope_name, wanted.node_id,
    ):  # fmt: skip
        raise Refusal(
            f"{wish.id} is the id of another wish: {wish.text}", code="other_content",
            hint="without --id it gets a new one",
        )  # fmt: skip
    return wish


def _view(
    state: ControlState, asked: OperatorAsked, beats: dict[str, Beating], clock: Clock
) -> WishView:
    led = state.scopes.get(asked.scope_name)
    epoch = led.epoch if led else 0
    return WishView(state, Wish(asked, 0), beats, epoch, clock.wall_ms(), Succession(), None)


def _nobody_carries(view: WishView) -> Precondition | None:
    """A wish that nobody would carry out is not left open."""
    region = view.scope.rpartition("/")[2]
    if view.wish.asked.verb in AT_ONCE or f"coordinator/{region}" in view.control.scopes:
        return None
    hint = f"everlode coordinator run --region {region} --node-id NAME"
    return Precondition(f"{region} has no coordinator", code="no_coordinator", hint=hint)
