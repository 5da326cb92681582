"""MiningClient: what clients and miners ask of a network, and how they follow it. Shell."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import NAMESPACE_OID, uuid5

from everlode.events import commands as c
from everlode.events.base import CommandAnswered
from everlode.events.identity import home_of_id, name_of
from everlode.sdk.commands import CommandClient
from everlode.sdk.watch import TaskWatch
from everlode.sdk.work import LEASE, Work


class MiningClient(CommandClient):
    """A client or miner, named `client_id`. Thread-safe. Use as a context manager, or `close` it.

    A new task or miner is at home in `region`, unless its name begins with another home: `job-1`
    is `eu/job-1` in eu. What the log has named is given as the log has it, home and all.

    Every command may be repeated: each says what makes it the same one.
    """

    @property
    def miner_id(self) -> str:
        """The id of this client as a miner: its name, with its home."""
        return self.id_of(self.client_id)

    # -- what clients and miners say ---------------------------------------------------------

    def submit_task(
        self,
        task_id: str,
        task_type: str,
        payload_uri: str,
        payload_sha256: str,
        payload_bytes: int,
        *,
        gpus: int = 1,
        reward_micro: int = 1_000_000,
        deadline: timedelta = timedelta(days=7),
        max_attempts: int = 3,
    ) -> CommandAnswered:
        """Submit a task and wait until it is in the log. Idempotent by `task_id`.

        `aggregate_id` of the answer is the id of the task, which begins with its home.

        The answer to a repeat names the same facts, while the primary remembers them.

        Raises: Refusal; DeadlineExceeded.
        """
        command = c.SubmitTask(
            client_id=self.client_id,
            task_type=task_type,
            payload_uri=payload_uri,
            payload_sha256=payload_sha256,
            payload_bytes=payload_bytes,
            cpu_milli=1000,
            memory_mib=1024,
            gpus=gpus,
            gpu_milli=1000 if gpus else 0,
            base_reward_micro=reward_micro,
            max_attempts=max_attempts,
            deadline_at=self._clock.event_now() + deadline,
        )
        task = self.id_of(task_id)
        named = f"submit/{self.client_id}/{task}/{task_type}/{payload_sha256}"
        return self.call(task, command, command_id=str(uuid5(NAMESPACE_OID, named)))

    def register_miner(
        self,
        specialties: Sequence[str],
        *,
        endpoint: str,
        gpus: int = 1,
        gpu_model: str = "any",
        max_concurrent: int = 1,
        operator_id: str | None = None,
    ) -> CommandAnswered:
        """Register this client as a miner and wait. Idempotent by client id.

        Raises: Refusal; DeadlineExceeded.
        """
        command = c.RegisterMiner(
            operator_id=operator_id or self.client_id,
            endpoint=endpoint,
            specialties=tuple(specialties),
            gpus=gpus,
            gpu_model=gpu_model,
            cpu_milli=1000,
            memory_mib=1024,
            max_concurrent=max_concurrent,
        )
        return self.call(self.miner_id, command)

    def deposit_stake(self, amount_micro: int, *, command_id: str | None = None) -> CommandAnswered:
        """Add stake to this miner and wait. Give a `command_id` to repeat it safely.

        Raises: Refusal; DeadlineExceeded.
        """
        command = c.DepositStake(amount_micro=amount_micro)
        return self.call(self.miner_id, command, command_id=command_id)

    def report_progress(
        self,
        task_id: str,
        attempt: int,
        progress_ppm: int,
        *,
        checkpoint_uri: str | None = None,
        lease: timedelta = timedelta(hours=1),
    ) -> CommandAnswered:
        """Report this miner's progress, which also prolongs its lease. Idempotent.

        Raises: Refusal; DeadlineExceeded.
        """
        command = c.ReportProgress(
            miner_id=self.miner_id,
            attempt=attempt,
            progress_ppm=progress_ppm,
            checkpoint_uri=checkpoint_uri,
            lease_until=self._clock.event_now() + lease,
        )
        return self.call(task_id, command)

    def submit_solution(
        self, task_id: str, attempt: int, uri: str, sha256: str, size: int, *, work_ms: int
    ) -> CommandAnswered:
        """Hand in this miner's solution. Idempotent by task and attempt.

        Raises: Refusal; DeadlineExceeded.
        """
        command = c.SubmitSolution(
            miner_id=self.miner_id,
            attempt=attempt,
            solution_id=f"s-{name_of(task_id)}-{attempt}",
            solution_uri=uri,
            solution_sha256=sha256,
            solution_bytes=size,
            work_ms=work_ms,
        )
        return self.call(task_id, command)

    def report_failure(
        self, task_id: str, attempt: int, reason: str, *, permanent: bool = False
    ) -> CommandAnswered:
        """Give this miner's attempt up; `permanent`: nobody else shall try. Idempotent.

        Raises: Refusal; DeadlineExceeded.
        """
        command = c.ReportFailure(
            miner_id=self.miner_id, attempt=attempt, reason=reason, permanent=permanent
        )
        return self.call(task_id, command)

    def cast_vote(self, validation_id: str, accept: bool, score_ppm: int) -> CommandAnswered:
        """Vote as a peer reviewer. Idempotent: a reviewer has one vote.

        Raises: Refusal; DeadlineExceeded.
        """
        command = c.CastVote(
            voter_id=self.miner_id, voter_kind="peer-review", accept=accept, score_ppm=score_ppm
        )
        return self.call(validation_id, command)

    # -- following ---------------------------------------------------------------------------

    def watch(
        self,
        task_id: str,
        since: str | CommandAnswered | None = None,
        *,
        seen_from: str | None = None,
    ) -> TaskWatch:
        """Follow a task to its end. `since`: a change's token, or the answer to its submission.

        Without it, begins with the task's last change so far. `seen_from`: the region whose copy
        of the log is read; the task's home without it. Raises: NotFound: no fact about it is kept.
        Refusal: `since` is of another task, or no token. Unavailable. ConfigError.
        """
        task = task_id if TaskWatch.about(since) == task_id else self.id_of(task_id)
        home = home_of_id(task) if home_of_id(task) in self._endpoints.regions else self.region
        source = TaskWatch.read_from(self._endpoints, home, since, seen_from)
        return TaskWatch(source, task, since)

    def work(self, *, lease: timedelta = LEASE) -> Work:
        """The tasks that are assigned to this miner, a context manager; it beats meanwhile.

        `lease`: by which each report of progress prolongs an assignment. What was assigned before
        and is not handed in comes first.
        """
        home = home_of_id(self.miner_id)
        return Work(self, self._endpoints, home, clock=self._clock, lease=lease)
