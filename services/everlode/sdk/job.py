"""Job: one task that is assigned to a miner, and what the miner does with it. Shell."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

from everlode.adapters.clock import Clock
from everlode.events.base import CommandAnswered
from everlode.events.snapshots import AssignedTask


class Reporter(Protocol):
    """The miner's client: what a job asks of it. See `MiningClient`."""

    @property
    def miner_id(self) -> str: ...

    def report_progress(
        self, task_id: str, attempt: int, progress_ppm: int, *, checkpoint_uri: str | None,
        lease: timedelta,
    ) -> CommandAnswered: ...  # fmt: skip

    def submit_solution(
        self, task_id: str, attempt: int, uri: str, sha256: str, size: int, *, work_ms: int
    ) -> CommandAnswered: ...

    def report_failure(
        self, task_id: str, attempt: int, reason: str, *, permanent: bool
    ) -> CommandAnswered: ...


class Assigner(Protocol):
    """What knows whether an assignment still stands. See `Work`."""

    lease: timedelta

    def held(self, task_id: str, first_attempt: int) -> AssignedTask | None: ...

    def handed_in(self) -> None: ...


class Job:
    """An assignment. Its methods may be called from any thread, and repeated."""

    def __init__(self, miner: Reporter, work: Assigner, held: AssignedTask, clock: Clock) -> None:
        self.task_id = held.task_id
        self.task_type = held.task_type
        self.payload_uri = held.payload_uri
        """Where the input lies; it is the user's to fetch and to check."""
        self.payload_sha256 = held.payload_sha256
        self.payload_bytes = held.payload_bytes
        self.checkpoint_uri = held.checkpoint_uri
        """Where to go on from, when an attempt before this one, or this one, has left it."""
        self.progress_ppm = held.progress_ppm
        """Progress that was reported before it was handed out, in millionths."""
        self._miner, self._work, self._held, self._clock = miner, work, held, clock
        self._begun = clock.event_now()
        self._work_ms: int | None = None
        """As it was handed in first: only what is equal in all is a repeat."""
        self._done = False

    @property
    def mine(self) -> bool:
        """False once the log has its end: handed in, given up, expired or cancelled."""
        return self._now() is not None

    def _now(self) -> AssignedTask | None:
        return self._work.held(self.task_id, self._held.first_attempt)

    @property
    def attempt(self) -> int:
        """The number of the attempt; it rises when another node manages the task."""
        return (self._now() or self._held).attempt

    def progress(self, progress_ppm: int, *, checkpoint_uri: str | None = None) -> None:
        """Report progress, 0 to 1,000,000, and prolong the lease, also without any since the last.

        Raises: Refusal: it is no longer this miner's, or progress went back. DeadlineExceeded.
        """
        self._miner.report_progress(
            self.task_id, self.attempt, progress_ppm, checkpoint_uri=checkpoint_uri,
            lease=self._work.lease,
        )  # fmt: skip

    def hand_in(self, uri: str, sha256: str, size: int, *, work_ms: int | None = None) -> None:
        """Hand the solution in; `size` in bytes. `work_ms`: since it was handed out, without it.

        Raises: Refusal: it is no longer this miner's. DeadlineExceeded.
        """
        if work_ms is None:
            work_ms = (self._clock.event_now() - self._begun) // timedelta(milliseconds=1)
        if self._work_ms is None:
            self._work_ms = max(1, work_ms)
        self._miner.submit_solution(
            self.task_id, self.attempt, uri, sha256, size, work_ms=self._work_ms
        )
        if not self._done:
            self._done = True
            self._work.handed_in()

    def give_up(self, reason: str, *, permanent: bool = False) -> None:
        """Give the attempt up; `permanent`: nobody else shall try.

        Raises: Refusal: it is no longer this miner's. DeadlineExceeded.
        """
        self._miner.report_failure(self.task_id, self.attempt, reason, permanent=permanent)
