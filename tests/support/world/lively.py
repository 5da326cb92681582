"""Clients, miners and judges of a region, as one: they go on whatever of it dies.

There is some of all that a snapshot has to know: tasks that wait, are worked on, fail, are
cancelled and rewarded; panels, experts, audits; copies, wrong answers to honeypots, and cases.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Self

from everlode.events import commands as c
from everlode.events.base import Evidence
from everlode.events.control import NodeJoined
from everlode.events.tasks import TaskAssigned
from everlode.events.types import ValidatorKind
from everlode.events.validations import FraudSuspected, ValidationRequested
from everlode.sdk import EventConsumer
from everlode.sdk.reference import solution_hash
from tests.support.facts.state_commands import register, sha256_of, solution, submit
from tests.support.world.region import Region

MINERS = 8
EXPERT = "x"


class Lively:
    """Of eu. Use as a context manager."""

    def __init__(self, region: Region, chance: random.Random) -> None:
        self._chance, self._count, self._miners = chance, 0, 0
        self._client = region.client("lively", timeout_s=600, window=100_000)
        self._operator = region.client("judge", timeout_s=600)
        self._log = EventConsumer(region.endpoints, "eu", ["tasks", "validations"])
        self._planted: set[str] = set()
        self._judged: list[str] = []
        """Validations that an expert may audit."""
        self._fates: dict[str, int] = {}
        expert = NodeJoined(
            node_id=EXPERT, region="eu", component="validation", kind="expert", endpoint="",
            priority=0,
        )  # fmt: skip
        region.control.append(EXPERT, expert, node_id=EXPERT)

    def go_on(self, over: Callable[[], bool], within_s: float = 60) -> None:
        """Ask and answer, twenty times a second, until it is over; fails when that takes longer."""
        deadline = time.monotonic() + within_s
        while not over():
            assert time.monotonic() < deadline, f"not over within {within_s} s"
            if self._miners < MINERS or self._chance.random() < 0.03:
                self._join()
            if self._chance.random() < 0.6:
                self._ask()
            for received in self._log.batch(500, 0.05):
                key = received.fact.envelope.aggregate_id
                match received.fact.data:
                    case TaskAssigned() as data:
                        self._work(key, data)
                    case ValidationRequested() as data:
                        self._judge(key, data)
                    case FraudSuspected() as data if self._fate(data.validation_id) == 1:
                        self._convict(key)
            if self._judged and self._chance.random() < 0.1:  # some have left the memory by now
                self._vote(self._chance.choice(self._judged), EXPERT, "expert")

    def _join(self) -> None:
        self._miners += 1
        miner = f"eu/m{self._miners}"
        place = f"127.0.0.1:{self._miners}"
        self._client.send(miner, register(endpoint=place, operator_id=f"o{self._miners}"))
        self._client.send(miner, c.DepositStake(amount_micro=10**9))

    def _ask(self) -> None:
        self._count += 1
        task, chance = f"eu/s{self._count}", self._chance
        planted = sha256_of("known") if chance.random() < 0.2 else None
        if planted is not None:
            self._planted.add(task)
        asked = submit(
            deadline_at=datetime.now(UTC).replace(microsecond=0) + timedelta(days=1),
            task_type=chance.choice(("inference", "inference", "training")),
            payload_sha256=sha256_of(task), planted_sha256=planted,
        )  # fmt: skip
        self._client.send(task, asked)
        if chance.random() < 0.1:
            self._client.send(task, c.CancelTask(reason="r"))

    def _work(self, task: str, given: TaskAssigned) -> None:
        """One of eight tasks is left alone, and one is given up."""
        kind = self._chance.choice(("none", "fails", "wrong", "fast", *["good"] * 4))
        if given.task_type == "training" and self._chance.random() < 0.4:
            kind = "copied"
        if kind == "fails":
            gone = c.ReportFailure(
                miner_id=given.miner_id, attempt=given.attempt, reason="r", permanent=False
            )
            self._client.send(task, gone)
        elif kind != "none":
            answer = sha256_of("copied" if kind == "copied" else task)
            if kind in ("good", "fast"):
                known = task in self._planted
                answer = sha256_of("known") if known else solution_hash(task, given.miner_id)
            took = 0 if kind == "fast" else 10**6
            name = f"s-{task}"
            handed = solution(given.miner_id, given.attempt, name, answer, work_ms=took)
            self._client.send(task, handed)

    def _judge(self, key: str, asked: ValidationRequested) -> None:
        """What is automatic a node judges; of an expert's some wait for ever."""
        for who in asked.reviewers:
            if self._chance.random() < 0.95:
                self._vote(key, who, "peer-review")
        if asked.kind == "expert" and self._fate(key) == 0:
            self._vote(key, EXPERT, "expert")
        elif asked.kind != "expert" and self._chance.random() < 0.3:
            self._judged.append(key)

    def _fate(self, validation: str | None) -> int:
        """Of one that looks like fraud: an expert judges it, an operator does, or nobody."""
        return self._fates.setdefault(validation or "", len(self._fates) % 3)

    def _convict(self, case: str) -> None:
        """An operator, who does not wait for the expert."""
        confirmed = c.ResolveFraudCase(
            confirmed=True, decided_by="judge", penalty_micro=1, reason="r",
            evidence=(Evidence(topic="", partition=-1, offset=-1, note="seen"),),
        )  # fmt: skip
        self._operator.send(case, confirmed)

    def _vote(self, key: str, who: str, kind: ValidatorKind) -> None:
        accept = self._chance.random() < 0.8
        score = 900_000 if accept else 0
        vote = c.CastVote(voter_id=who, voter_kind=kind, accept=accept, score_ppm=score)
        self._client.send(key, vote)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._operator.close()
        self._log.close()
