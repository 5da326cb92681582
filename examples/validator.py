"""A validation service of one's own, in the place of Everlode's: it holds the region's scope.

    python examples/validator.py STACK REGION NODE_ID

Start two: one becomes primary, the other takes over when it dies. The primary reads solved tasks,
checks the work by doing it again, and appends its judgement; the task managers and the reward
distributors take it from there. A judgement is given once, whoever is primary: the producer knows
the state of each validation, and its facts' ids are derived from the solution's event.
"""

from __future__ import annotations

import queue
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from datetime import timedelta
from hashlib import sha256
from uuid import NAMESPACE_OID, uuid5

from everlode.events.base import Envelope, Fact
from everlode.events.tasks import TaskSolved
from everlode.events.validations import ValidationDecided, ValidationRequested
from everlode.sdk import (
    Ack,
    Endpoints,
    EventConsumer,
    EventProducer,
    FencedOut,
    NodeAgent,
    Role,
    RoleChange,
    Unavailable,
)
from everlode.state.validation import validation_id


def judgement(solved: TaskSolved, at: Envelope) -> tuple[ValidationRequested, ValidationDecided]:
    """The two facts of a validation: what was asked, and what was found."""
    good = solved.solution_sha256 == sha256(solved.payload_sha256.encode()).hexdigest()
    asked = ValidationRequested(
        task_id=at.aggregate_id,
        task_type=solved.task_type,
        payload_sha256=solved.payload_sha256,
        solution_id=solved.solution_id,
        solution_sha256=solved.solution_sha256,
        miner_id=solved.miner_id,
        work_ms=solved.work_ms,
        base_reward_micro=solved.base_reward_micro,
        kind="automatic",
        quorum=1,
        reviewers=(),
        deadline_at=at.occurred_at + timedelta(minutes=10),
        solved_stamp=at.stamp,
    )
    decided = ValidationDecided(
        task_id=at.aggregate_id,
        task_type=solved.task_type,
        solution_id=solved.solution_id,
        miner_id=solved.miner_id,
        kind="automatic",
        accepted=good,
        score_ppm=1_000_000 if good else 0,
        votes_for=int(good),
        votes_against=int(not good),
        work_ms=solved.work_ms,
        base_reward_micro=solved.base_reward_micro,
    )
    return asked, decided


class Service:
    """One node of the service."""

    def __init__(self, stack: str, region: str, node_id: str) -> None:
        self.place = Endpoints.load(stack), region
        self.roles: queue.SimpleQueue[RoleChange] = queue.SimpleQueue()
        self.agent = NodeAgent.on(
            *self.place, "validations", node_id, kind="automatic", on_role=self.roles.put
        )

    def run(self) -> None:
        """Follow the roles for ever; work while primary."""
        with self.agent:
            while self.agent.failed is None:
                with suppress(queue.Empty):
                    self.play(self.roles.get(timeout=1))
            raise self.agent.failed

    def play(self, change: RoleChange) -> None:
        """Take a role; what a primary leaves half done, it begins anew while it leads."""
        print(f"{change.scope}: {change.role} in epoch {change.epoch}", flush=True)
        while change.role is Role.PRIMARY and self.agent.leads(change.scope) == change.epoch:
            try:
                self.lead(change.scope, change.epoch)
            except (FencedOut, Unavailable) as error:
                print(error.message, flush=True)

    def lead(self, scope: str, epoch: int) -> None:
        """Judge what is solved until the scope is lost or the lease runs out."""
        facts = EventProducer(*self.place, "validations", epoch=epoch, agent=self.agent)
        with facts, EventConsumer(*self.place, ["tasks"]) as log:
            while self.agent.leads(scope) == epoch:
                solved = [r.fact for r in log.batch() if isinstance(r.fact.data, TaskSolved)]
                for ack in [ack for fact in solved for ack in self.judge(facts, fact)]:
                    ack.result()

    def judge(self, facts: EventProducer, cause: Fact) -> Iterator[Future[Ack]]:
        """Append what the log lacks of the judgement of a solution."""
        solved = cause.data
        if not isinstance(solved, TaskSolved):
            return
        key = validation_id(cause.envelope.aggregate_id, solved.attempt)
        known = facts.state("validations", key)
        if known is None or known.status != "decided":
            for data in judgement(solved, cause.envelope)[known is not None :]:
                name = f"{cause.envelope.event_id}/{type(data).__name__}"
                event_id = str(uuid5(NAMESPACE_OID, name))
                yield facts.emit(key, data, event_id=event_id, cause=cause.envelope)


if __name__ == "__main__":
    Service(*sys.argv[1:4]).run()
