"""A validator node: votes on what waits for its kind, through the command path like anybody.

Automatic validators and experts judge solutions themselves, each its share of what waits for their
kind; what another one leaves undone it takes over after a while. A peer-review coordinator lets an
expert decide what its reviewers have not decided in time; any of them, what has ended two processes
that judged it, or what two judges have not come back from: that is judged by none any more (see
`membership.hand`). What the own judge has not come back from is left to the others at once. Shell:
one thread, and those of `limited`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, get_args

from everlode.adapters.clock import Clock
from everlode.balancing.assign import MANAGING
from everlode.balancing.judges import Judging, first_for
from everlode.control.fold import ControlState
from everlode.errors import Unavailable
from everlode.events.base import CommandAnswered
from everlode.events.commands import CastVote, EscalateValidation
from everlode.events.states import ValidationState
from everlode.events.types import ValidatorKind
from everlode.health.weights import STATUS
from everlode.membership.hand import JUDGING, NOTHING, InHand
from everlode.primary.component import JUDGES
from everlode.sdk.client import MiningClient
from everlode.sdk.reference import Solution, reference_judge
from everlode.validations.component import ValidationComponent
from everlode.validations.limited import LimitedJudge, Overdue

LOG = logging.getLogger(__name__)
KINDS: tuple[str, ...] = get_args(ValidatorKind)
TURN_S = 0.15
JUDGE_S = 10.0
AGAIN_S = 5.0
"""What failed or was refused is tried again after this."""
HOLD_S = 2.0
"""What is another one's share it takes over after this."""
REVIEW_S = 15.0
"""Reviewers have at least this long on the wall, however fast event time runs in a replay."""


def judges_of(control: ControlState, region: str, kind: str) -> dict[str, Judging]:
    """The nodes of a region that work as validators of a kind. Pure."""
    return {
        node.node_id: Judging(STATUS[node.status], node.specialties)
        for node in control.nodes_of(region, JUDGES)
        if node.kind == kind and node.status in MANAGING
    }


def _case(state: ValidationState) -> str:
    """What it has in hand while it judges. Pure."""
    return f"validation {state.key}"


class Validator:
    """Works beside the runtime of its node, over the same folds, which it only reads."""

    def __init__(
        self,
        node_id: str,
        kind: str,
        component: ValidationComponent,
        client: MiningClient,
        clock: Clock,
        judge: LimitedJudge | None = None,
        judges: Callable[[], Mapping[str, Judging]] = dict,
        hand: InHand = NOTHING,
    ) -> None:
        """`judges` gives the nodes of its kind that work; none: it is alone.
        `judge`: without one it is the reference's.
        """
        self._hand = hand
        self._node_id = node_id
        self._kind = kind
        self._component = component
        self._client = client
        self._clock = clock
        self._judge = judge or LimitedJudge(reference_judge, JUDGE_S)
        self._judges = judges
        self._now_judging: Mapping[str, Judging] = {}
        self._waits_since: dict[str, float] = {}
        """Of what is another one's share."""
        self._look_at = 0.0
        self._asked: dict[str, str] = {}
        self._late_since: dict[str, float] = {}
        self._again_at: dict[str, float] = {}
        self._overdue: dict[str, None] = {}
        """What the own judge has not come back from."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="validator", daemon=True)
        self.votes = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join(3)

    def _run(self) -> None:
        while not self._stop.wait(TURN_S):
            self._look()
            self._now_judging = self._judges() or {self._node_id: Judging()}
            for state in list(self._component.pending.values()):
                if state.kind == self._kind:
                    self._guarded(state, self._work)
            if self._kind == "expert":
                self._audit()
            known: tuple[dict[str, Any], ...] = self._late_since, self._waits_since, self._overdue
            for some in known:
                for key in [k for k in some if k not in self._component.pending]:
                    del some[key]
            now = time.monotonic()
            for key in [k for k, at in list(self._again_at.items()) if at < now]:
                self._again_at.pop(key, None)
            if len(self._asked) > 100_000:
                self._asked.clear()  # who has voted is known to the validation

    def _look(self) -> None:
        """What has ended other validators is known before it is taken over from them."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + HOLD_S / 2
            with suppress(Unavailable):
                self._hand.blame()

    def _guarded(self, state: ValidationState, work: Callable[[ValidationState], None]) -> None:
        """A judge is its user's: one that fails on a solution is asked again, and about others."""
        if time.monotonic() < self._again_at.get(state.key, 0.0):
            return
        try:
            work(state)
        except Exception:
            LOG.exception("%s: judging %s failed; again in %s s", self._node_id, state.key, AGAIN_S)
            self._later(state.key)

    def _later(self, key: str) -> None:
        self._again_at[key] = time.monotonic() + AGAIN_S

    def _work(self, state: ValidationState) -> None:
        if self._kind == "peer-review" or self._keeps_off(state):
            if self._kind != "expert" and self._clock.event_now() >= state.deadline_at:
                since = self._late_since.setdefault(state.key, time.monotonic())
                if time.monotonic() - since >= REVIEW_S:
                    self._once(state, "escalate", self._escalation)
        elif not state.reviewers and self._is_mine(state):
            self._once(state, self._kind, self._vote)

    def _keeps_off(self, state: ValidationState) -> bool:
        """Somebody else is to judge it."""
        blamed = self._hand.kept_off(_case(state))
        return state.key in self._overdue or bool(blamed) or not self._judge.free

    def _is_mine(self, state: ValidationState) -> bool:
        """It is this node's share, or has waited for whoever's it is."""
        if self._asked.get(state.key) == self._kind:
            return True
        first = first_for(state.key, state.task_type, self._now_judging, state.quorum)
        if self._node_id in first:
            return True
        since = self._waits_since.setdefault(state.key, time.monotonic())
        return time.monotonic() - since >= HOLD_S

    def _audit(self) -> None:
        """Look at decisions of lower kinds that the rules show to an expert."""
        for key in self._component.audits_due():
            try:
                state = self._component.folds.get("validations", key)
            except Unavailable:
                continue  # it has left the memory, and Kafka does not give it now
            if isinstance(state, ValidationState) and not self._keeps_off(state):
                self._guarded(state, lambda s: self._once(s, "audit", self._vote))

    def _vote(self, state: ValidationState) -> CastVote:
        solution = Solution(
            state.task_id, state.miner_id, state.solution_sha256, state.planted_sha256
        )
        verdict = self._judge(solution)
        return CastVote.model_validate(
            {
                "voter_id": self._node_id,
                "voter_kind": self._kind,
                "accept": verdict.accept,
                "score_ppm": verdict.score_ppm,
            }
        )

    def _escalation(self, state: ValidationState) -> EscalateValidation:
        return EscalateValidation(
            to_kind="expert",
            reason="reviewers-late",
            quorum=1,
            reviewers=(),
            deadline_at=state.deadline_at,
        )

    def _once(
        self,
        state: ValidationState,
        what: str,
        make: Callable[[ValidationState], CastVote | EscalateValidation],
    ) -> None:
        if self._asked.get(state.key) == what:
            return
        self._hand.take(JUDGING, _case(state))
        try:
            command = make(state)
        except Overdue as error:
            LOG.error("%s: %s: %s; it is left to others", self._node_id, _case(state), error)
            self._overdue[state.key] = None
            self._hand.stands(_case(state))
            return
        finally:
            self._hand.drop(JUDGING)
        self._asked[state.key] = what
        issued = max(self._clock.event_now(), state.requested_at)
        # an id that nobody knows beforehand, so nobody uses it up; a second vote is none
        future = self._client.send(state.key, command, issued_at=issued)
        future.add_done_callback(lambda f: self._done(state.key, f))

    def _done(self, key: str, future: Future[CommandAnswered]) -> None:
        error = future.exception()
        if error is not None:
            self._asked.pop(key, None)  # unanswered: ask again
        elif future.result().outcome == "refused":
            self._later(key)  # it may be too early; when it is too late it does not wait any more
            self._asked.pop(key, None)
        else:
            self.votes += 1
