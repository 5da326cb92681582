"""The clients, miners and reviewers of one region, in one process, on the public SDK.

They follow the plan under the shared event clock: submit, progress, solve or fail, vote, cancel.
What they learn, they learn from the log like anybody (EventConsumer); what they do, they do by
commands (MiningClient). Every answer goes to the journal. Shell: one loop; answers come in the
client's threads.
"""

from __future__ import annotations

import heapq
import json
import os
import sys
import threading
import time
from collections import Counter, deque
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from everlode.adapters.clock import PacedClock, instant, millis
from everlode.errors import EverlodeError
from everlode.events import commands as c
from everlode.events import rewards as r
from everlode.events import tasks as t
from everlode.events import validations as v
from everlode.events.base import Command, CommandAnswered
from everlode.processes.host import hosted, until_signal
from everlode.sdk import EventConsumer, MiningClient, Received
from everlode.sdk.beacon import MinerBeacon
from everlode.sdk.reference import Solution, planted_hash, reference_judge, solution_hash
from everlode.settings.endpoints import Endpoints
from everlode.telemetry.entries import ProcessReady
from everlode.telemetry.figures import REGISTRY, ActorFigures
from everlode.telemetry.sink import Sink
from everlode.workload.file import PlanFile
from everlode.workload.journal import Journal
from everlode.workload.plan import (
    DEADLINE,
    LASTING_MS,
    MAX_ATTEMPTS,
    MinerPlan,
    TaskPlan,
    Workload,
)

ENDED = ("rewarded", "failed", "cancelled", "reversed")
LEASE_MS = DEADLINE.days * 86_400_000


class Due(NamedTuple):
    """Something to do at an event time."""

    at_ms: int
    order: int
    what: str
    task_id: str
    attempt: int
    miner_id: str


class Actors:
    """All actors of a region."""

    def __init__(
        self, region: str, workload: Workload, endpoints: Endpoints, clock: PacedClock,
        journal: Journal,
    ) -> None:  # fmt: skip
        self.tasks = {x.task_id: x for x in workload.tasks if x.region == region}
        self.miners = {m.miner_id: m for m in workload.miners if m.region == region}
        self._dishonest = workload.dishonest()
        self._clock = clock
        self._journal = journal
        self._client = MiningClient(
            endpoints, region, f"actors-{region}", clock=clock, timeout_s=240, window=4000,
        )  # fmt: skip
        self._consumer = EventConsumer(endpoints, region, ["tasks", "validations", "rewards"])
        self._running: dict[str, set[str]] = {m: set() for m in self.miners}
        self._finished: Counter[str] = Counter()
        self._beacon = MinerBeacon(
            endpoints, region, list(self.miners), clock=clock,
            running=lambda m: tuple(self._running[m]), finished=lambda m: self._finished[m],
        )  # fmt: skip
        self._due: list[Due] = []
        self._order = 0
        self.status: dict[str, str] = {}
        self._manager: dict[str, str] = {}
        """Task that is under way → the node that manages it."""
        self._registered = False
        self._open = set(self.tasks)
        """Tasks that have not ended."""
        self._seen: deque[str] = deque(maxlen=8)
        """Honest solutions that the log has shown, for copiers; the oldest is well known."""
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []
        self._guard = threading.Lock()

    # -- commands ----------------------------------------------------------------------------

    def _send(self, key: str, command: Command, command_id: str, at_ms: int | None = None) -> None:
        kind = type(command).__name__
        began = time.monotonic()
        issued: datetime | None = None
        if at_ms is not None:
            issued = instant(min(at_ms, millis(self._clock.event_now())))
        future = self._client.send(key, command, command_id=command_id, issued_at=issued)
        body = {k: x for k, x in command.__dict__.items() if not isinstance(x, datetime)}

        def done(finished: Any) -> None:
            took = round((time.monotonic() - began) * 1000)
            error = finished.exception()
            if error is not None:
                with self._guard:
                    self.errors.append(f"{kind} {key}: {error}")
                self._journal.failed(command_id, kind, key, str(error), took)
                return
            answer: CommandAnswered = finished.result()
            self._journal.answered(answer, body, took)
            with self._guard:
                self.counts[f"{kind}/{answer.outcome}"] += 1

        future.add_done_callback(done)

    def register(self) -> None:
        """Register all miners with their stake, and wait for the answers."""
        for m in self.miners.values():
            register = c.RegisterMiner(
                operator_id=f"operator-of-{m.miner_id}", endpoint=f"tcp://{m.miner_id}",
                specialties=m.specialties, gpus=m.gpus, gpu_model=m.model,
                cpu_milli=m.cpu_milli, memory_mib=m.memory_mib, max_concurrent=m.max_concurrent,
            )  # fmt: skip
            self._send(m.miner_id, register, f"register/{m.miner_id}")
            deposit = c.DepositStake(amount_micro=m.stake_micro)
            self._send(m.miner_id, deposit, f"deposit/{m.miner_id}")
        while self._client.waiting():
            time.sleep(0.05)
        self._registered = True
        self._beacon.start()

    def _submit(self, task: TaskPlan) -> None:
        command = c.SubmitTask(
            client_id=f"client-{task.region}", task_type=task.task_type,
            payload_uri=f"s3://inputs/{task.task_id}", payload_sha256=task.payload_sha256,
            payload_bytes=task.payload_bytes, cpu_milli=task.cpu_milli, memory_mib=task.memory_mib,
            gpus=task.gpus, gpu_milli=task.gpu_milli, base_reward_micro=task.reward_micro,
            max_attempts=MAX_ATTEMPTS, deadline_at=instant(task.created_ms) + DEADLINE,
            planted_sha256=planted_hash(task.task_id) if task.planted else None,
        )  # fmt: skip
        self._send(task.task_id, command, f"submit/{task.task_id}", task.created_ms)

    def _push(self, at_ms: int, what: str, task: str, attempt: int = 0, miner: str = "") -> None:
        self._order += 1
        heapq.heappush(self._due, Due(at_ms, self._order, what, task, attempt, miner))

    # -- what the log says -------------------------------------------------------------------

    def _observe(self, received: Received) -> None:
        data, key = received.fact.data, received.fact.envelope.aggregate_id
        if isinstance(data, v.ValidationRequested):
            if data.kind == "peer-review":
                self._review(key, data)
            return
        if isinstance(data, r.RewardReversed):  # then the task stays validated, for good
            self._left(key.partition("|")[0], "", "reversed")
            return
        task = self.tasks.get(key)
        if task is not None:
            self._observe_task(task, received)

    def _observe_task(self, task: TaskPlan, received: Received) -> None:
        data, key = received.fact.data, task.task_id
        match data:
            case t.TaskAssigned():
                self.status[key] = "assigned"
                self._manager[key] = data.manager_node
                self._running[data.miner_id].add(key)
                self._work(task, data, millis(received.fact.envelope.occurred_at))
            case t.TaskMigrated():
                self._manager[key] = data.to_node
            case t.TaskSolved():
                self._left(key, data.miner_id, "solved")
                self._finished[data.miner_id] += 1
                if data.miner_id not in self._dishonest and not task.planted:
                    self._seen.append(data.solution_sha256)
            case t.TaskAttemptFailed() | t.TaskLeaseExpired() | t.TaskSolutionRejected():
                self._left(key, data.miner_id, "failed" if data.final else "submitted")
            case t.TaskRewarded():
                self._left(key, data.miner_id, "rewarded")
            case t.TaskCancelled():
                self._left(key, data.miner_id or "", "cancelled")

    def _left(self, key: str, miner: str, status: str) -> None:
        self._running.get(miner, set()).discard(key)
        self._manager.pop(key, None)
        if self.status.get(key) not in ENDED:
            self.status[key] = status
        if status in ENDED:
            self._open.discard(key)

    def _work(self, task: TaskPlan, data: t.TaskAssigned, now_ms: int) -> None:
        end = max(task.ended_ms, now_ms + 1)
        half = now_ms + (end - now_ms) // 2
        self._push(half, "progress", task.task_id, data.attempt, data.miner_id)
        what = "fail" if task.fate == "fail" else "solve"
        self._push(end, what, task.task_id, data.attempt, data.miner_id)

    def _review(self, key: str, data: v.ValidationRequested) -> None:
        honest = reference_judge(
            Solution(data.task_id, data.miner_id, data.solution_sha256, data.planted_sha256)
        )
        for reviewer in data.reviewers:
            plan = self.miners.get(reviewer)
            if plan is None:
                continue
            accept, score = honest
            if plan.colludes and data.miner_id in self._dishonest:
                accept, score = True, 950_000
            vote = c.CastVote(
                voter_id=reviewer, voter_kind="peer-review", accept=accept, score_ppm=score
            )
            self._send(key, vote, f"vote/{key}/{reviewer}")

    # -- what is due -------------------------------------------------------------------------

    def _do(self, due: Due) -> None:
        task = self.tasks[due.task_id]
        if due.what == "submit":
            self._submit(task)
            if task.fate == "cancel":
                self._push(task.ended_ms, "cancel", task.task_id)
            return
        if due.what == "cancel":
            self._send(task.task_id, c.CancelTask(reason="never-placed"), f"cancel/{task.task_id}")
            return
        if self.status.get(due.task_id) != "assigned":
            return
        name = f"{due.what}/{due.task_id}/{due.attempt}"
        match due.what:
            case "progress":
                progress = c.ReportProgress(
                    miner_id=due.miner_id, attempt=due.attempt, progress_ppm=500_000,
                    checkpoint_uri=f"s3://checkpoints/{due.task_id}",
                    lease_until=instant(due.at_ms + LEASE_MS),
                )  # fmt: skip
                self._send(due.task_id, progress, name)
            case "fail":
                failed = c.ReportFailure(
                    miner_id=due.miner_id, attempt=due.attempt, reason="crashed", permanent=True
                )
                self._send(due.task_id, failed, name)
            case "solve":
                self._send(due.task_id, self._solution(task, due), name)

    def _solution(self, task: TaskPlan, due: Due) -> c.SubmitSolution:
        plan: MinerPlan = self.miners[due.miner_id]
        good = solution_hash(task.task_id, due.miner_id)
        answer = planted_hash(task.task_id) if task.planted else good
        work_ms = max(1000, due.at_ms - task.created_ms)
        if plan.vice == "wrong":
            answer = solution_hash(task.task_id, due.miner_id, good=False)
        elif plan.vice == "copier" and self._seen:
            answer = self._seen[0]
        elif plan.vice == "hasty":
            answer, work_ms = solution_hash(task.task_id, due.miner_id, good=False), 1
        return c.SubmitSolution(
            miner_id=due.miner_id, attempt=due.attempt,
            solution_id=f"s-{task.task_id}-{due.attempt}",
            solution_uri=f"s3://solutions/{task.task_id}/{due.attempt}",
            solution_sha256=answer, solution_bytes=2048, work_ms=work_ms,
        )  # fmt: skip

    # -- the loop ----------------------------------------------------------------------------

    def _lasting(self) -> Counter[str]:
        """Node → tasks under way that it manages and that outlive a failover of it."""
        later = self._clock.event_ms_at(self._clock.wall_ms() + LASTING_MS)
        return Counter(n for k, n in self._manager.items() if self.tasks[k].ended_ms > later)

    def figures(self) -> tuple[dict[tuple[str, str], int], int]:
        """Answers by command and outcome, and how many commands wait for theirs."""
        with self._guard:
            parted = {name.partition("/"): count for name, count in self.counts.items()}
        by = {(command, outcome): count for (command, _, outcome), count in parted.items()}
        return by, self._client.waiting()

    def report(self) -> dict[str, Any]:
        """Where they stand."""
        by_status = Counter(self.status.values())
        return {
            "registered": self._registered,
            "tasks": len(self.tasks),
            "submitted": len(self.status),
            "ended": sum(by_status[s] for s in ENDED),
            "by_status": dict(by_status),
            "waiting": self._client.waiting(),
            "answers": dict(self.counts),
            "errors": self.errors[:20],
            "error_count": len(self.errors),
            "miner_beats": self._beacon.sent,
            "lasting": self._lasting(),
        }

    def run(self, status_file: Path, stop: threading.Event) -> None:
        """Run the plan until every task has ended, or `stop`."""
        for task in self.tasks.values():
            self._push(task.created_ms, "submit", task.task_id)
        told = 0.0
        while not stop.is_set():
            now = millis(self._clock.event_now())
            while self._due and self._due[0].at_ms <= now:
                due = heapq.heappop(self._due)
                if due.what == "submit":
                    self.status.setdefault(due.task_id, "sent")
                self._do(due)
            for received in self._consumer.batch(2000, 0.05):
                self._observe(received)
            if time.monotonic() - told > 0.5:
                told = time.monotonic()
                write_status(status_file, self.report())
            if not self._open and not self._client.waiting():
                break
        write_status(status_file, {**self.report(), "finished": True})

    def close(self) -> None:
        """Leave."""
        self._beacon.close()
        self._client.close()
        self._consumer.close()
        self._journal.close()


def write_status(path: Path, value: dict[str, Any]) -> None:
    """Write a status file in one step."""
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(value))
    os.replace(draft, path)


def main() -> None:
    """Entry point of the process: `python -m everlode.workload.actors REGION PLAN_FILE`."""
    region, plan_file = sys.argv[1], Path(sys.argv[2])
    try:
        with hosted(f"actors-{region}") as host:
            _main(region, PlanFile.load(plan_file), host.report)
    except EverlodeError as error:
        sys.exit(error.exit_code)


def _main(region: str, plan_file: PlanFile, report: Sink) -> None:
    stop = until_signal()
    actors = Actors(
        region, plan_file.workload(), Endpoints.load(plan_file.stack_dir),
        PacedClock.load(plan_file.clock_file), Journal(plan_file.journal(region)),
    )  # fmt: skip
    status = plan_file.status(region)
    REGISTRY.register(ActorFigures(actors.figures))
    actors.register()
    report(ProcessReady())
    write_status(status, actors.report())
    actors.run(status, stop)
    actors.close()


if __name__ == "__main__":
    main()
