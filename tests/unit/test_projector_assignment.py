"""Which partition numbers a projector holds over rebalances, without any broker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from everlode.adapters.kafka import Raw
from everlode.errors import FencedOut
from everlode.projector.assignment import RETAKE_S, Assignment
from everlode.projector.worker import PartitionWorker

RAWS = [Raw("eu.1.tasks", 0, n, b"k", b"v", []) for n in range(3)]


class Owners:
    """Partition number → the worker that owns it, as PostgreSQL would say."""

    def __init__(self) -> None:
        self.of: dict[int, object] = {}
        self.closed: list[object] = []
        self.caught_up: list[int] = []
        self.now = 100.0

    def assignment(self) -> Assignment:
        def make(partition: int) -> PartitionWorker:
            return cast("PartitionWorker", Fake(self, partition))

        def catch_up(workers: Mapping[int, PartitionWorker]) -> int:
            self.caught_up += workers
            return 7

        return Assignment(make, catch_up, now_s=lambda: self.now)


class Fake:
    def __init__(self, owners: Owners, partition: int) -> None:
        self.owners, self.partition = owners, partition
        owners.of[partition] = self

    def owns(self) -> bool:
        return self.owners.of[self.partition] is self

    def apply(self, raws: Sequence[Raw], counter: str) -> Any:
        if not self.owns():
            raise FencedOut("another")

    def close(self) -> None:
        self.owners.closed.append(self)


def test_worker_of_the_catch_up_is_kept_when_nobody_took_it() -> None:
    owners = Owners()
    assignment = owners.assignment()
    worker = assignment.worker(0)
    assert assignment.assign({0}) == {0}
    assignment.reconcile(0)
    assert assignment.worker(0) is worker
    assert owners.caught_up == []
    assert assignment.apply(0, RAWS, "live") == 3


def test_number_that_another_had_meanwhile_is_taken_anew_and_caught_up() -> None:
    owners = Owners()
    assignment = owners.assignment()
    worker = assignment.worker(0)
    owners.assignment().worker(0)
    assignment.assign({0})
    assignment.reconcile(0)
    assert assignment.worker(0) is not worker
    assert owners.closed == [worker]
    assert owners.caught_up == [0]
    assert assignment.apply(0, RAWS, "live") == 3


def test_number_that_is_not_assigned_is_given_up_and_its_records_let_go() -> None:
    owners = Owners()
    assignment = owners.assignment()
    worker = assignment.worker(1)
    assert assignment.assign({0}) == {0, 1}
    assignment.reconcile(1)
    assert owners.closed == [worker]
    assert assignment.apply(1, RAWS, "live") == 0
    assert owners.of[1] is worker  # nothing was taken


def test_woken_projector_takes_nothing_back_until_the_group_had_time_to_tell_it() -> None:
    owners = Owners()
    assignment = owners.assignment()
    assignment.assign({0})
    assignment.reconcile(0)
    heir = owners.assignment().worker(0)
    assert assignment.apply(0, RAWS, "live") == 0
    owners.now += RETAKE_S - 1
    assert assignment.apply(0, RAWS, "live") == 0
    assert owners.of[0] is heir
    owners.now += 2  # still assigned here: the other is gone
    assert assignment.apply(0, RAWS, "live") == 3
    assert owners.of[0] is not heir
    assert owners.caught_up == [0, 0]


def test_number_given_back_is_applied_at_once() -> None:
    owners = Owners()
    assignment = owners.assignment()
    assignment.assign({0})
    assignment.reconcile(0)
    owners.assignment().worker(0)
    assert assignment.apply(0, RAWS, "live") == 0
    assignment.assign({0})
    assignment.reconcile(0)
    assert assignment.apply(0, RAWS, "live") == 3
