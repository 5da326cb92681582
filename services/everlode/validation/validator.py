"""A validator node: votes on what waits for its kind, through the command path like anybody.

Automatic validators and experts judge solutions themselves; a peer-review coordinator lets an
expert decide what its reviewers have not decided in time. Shell: one thread.
"""

from __future__ import annotations

import threading
import time
from typing import get_args
from uuid import uuid5

from everlode.errors import EverlodeError
from everlode.events.commands import CastVote, EscalateValidation
from everlode.events.states import ValidationState
from everlode.events.types import ValidatorKind
from everlode.sdk.client import MiningClient
from everlode.sdk.clock import Clock
from everlode.sdk.reference import Judge, Solution, reference_judge
from everlode.state.reactions import NAMESPACE
from everlode.validation.service import ValidationComponent

KINDS: tuple[str, ...] = get_args(ValidatorKind)
TURN_S = 0.15
REVIEW_S = 15.0
"""Reviewers have at least this long on the wall, however fast event time runs in a replay."""


class Validator:
    """Works beside the runtime of its node, over the same folds, which it only reads."""

    def __init__(
        self,
        node_id: str,
        kind: str,
        component: ValidationComponent,
        client: MiningClient,
        clock: Clock,
        judge: Judge = reference_judge,
    ) -> None:
        self._node_id = node_id
        self._kind = kind
        self._component = component
        self._client = client
        self._clock = clock
        self._judge = judge
        self._asked: dict[str, str] = {}
        self._late_since: dict[str, float] = {}
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
            for state in list(self._component.pending.values()):
                if state.kind == self._kind:
                    self._work(state)
            if self._kind == "expert":
                self._audit()
            for key in [k for k in self._late_since if k not in self._component.pending]:
                del self._late_since[key]
            if len(self._asked) > 100_000:
                self._asked.clear()  # votes are idempotent by their command id

    def _work(self, state: ValidationState) -> None:
        if self._kind == "peer-review":
            if self._clock.event_now() >= state.deadline_at:
                since = self._late_since.setdefault(state.key, time.monotonic())
                if time.monotonic() - since >= REVIEW_S:
                    self._once(state, "escalate", self._escalation(state))
        elif not state.reviewers:
            self._once(state, self._kind, self._vote(state))

    def _audit(self) -> None:
        """Look at decisions of lower kinds that the rules show to an expert."""
        for key in self._component.view.audits_due():
            state = self._component.folds.get("validations", key)
            if isinstance(state, ValidationState):
                self._once(state, "audit", self._vote(state))

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
        self, state: ValidationState, what: str, command: CastVote | EscalateValidation
    ) -> None:
        if self._asked.get(state.key) == what:
            return
        self._asked[state.key] = what
        name = f"{self._node_id}/{what}/{state.key}"
        issued = max(self._clock.event_now(), state.requested_at)
        future = self._client.send(
            state.key, command, command_id=str(uuid5(NAMESPACE, name)), issued_at=issued
        )
        future.add_done_callback(lambda f: self._done(state.key, f.exception()))

    def _done(self, key: str, error: BaseException | None) -> None:
        if isinstance(error, EverlodeError):
            self._asked.pop(key, None)  # unanswered: ask again
        else:
            self.votes += 1
