"""Which partition numbers a projector holds over rebalances, without any broker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from everlode.adapters.kafka import Raw
from everlode.errors import FencedOut
from everlode.projector.held import RETAKE_S, Held
from everlode.projector.worker import PartitionWorker

RAWS = [Raw("eu.1.tasks", 0, n, b"k", b"v", []) for n in range(3)]


class Owners:
    """Partition number → the worker that owns it, as PostgreSQL would say."""

    def __init__(self) -> None:
        self.of: dict[int, object] = {}
        self.closed: list[object] = []
        self.caught_up: list[int] = []
        self.now = 100.0

    def held(self) -> Held:
        def make(partition: int) -> PartitionWorker:
            return cast("PartitionWorker", Fake(self, partition))

        def catch_up(workers: Mapping[int, PartitionWorker]) -> int:
            self.caught_up += workers
            return 7

        return Held(make, catch_up, now_s=lambda: self.now)


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
    held = owners.held()
    worker = held.worker(0)
    assert held.assigned({0}) == {0}
    held.settle(0)
    assert held.worker(0) is worker
    assert owners.caught_up == []
    assert held.apply(0, RAWS, "live") == 3


def test_number_that_another_had_meanwhile_is_taken_anew_and_caught_up() -> None:
    owners = Owners()
    held = owners.held()
    worker = held.worker(0)
    owners.held().worker(0)
    held.assigned({0})
    held.settle(0)
    assert held.worker(0) is not worker
    assert owners.closed == [worker]
    assert owners.caught_up == [0]
    assert held.apply(0, RAWS, "live") == 3


def test_number_that_is_not_assigned_is_given_up_and_its_records_let_go() -> None:
    owners = Owners()
    held = owners.held()
    worker = held.worker(1)
    assert held.assigned({0}) == {0, 1}
    held.settle(1)
    assert owners.closed == [worker]
    assert held.apply(1, RAWS, "live") == 0
    assert owners.of[1] is worker  # nothing was taken


def test_woken_projector_takes_nothing_back_until_the_group_had_time_to_tell_it() -> None:
    owners = Owners()
    held = owners.held()
    held.assigned({0})
    held.settle(0)
    heir = owners.held().worker(0)
    assert held.apply(0, RAWS, "live") == 0
    owners.now += RETAKE_S - 1
    assert held.apply(0, RAWS, "live") == 0
    assert owners.of[0] is heir
    owners.now += 2  # still assigned here: the other is gone
    assert held.apply(0, RAWS, "live") == 3
    assert owners.of[0] is not heir
    assert owners.caught_up == [0, 0]


def test_number_given_back_is_applied_at_once() -> None:
    owners = Owners()
    held = owners.held()
    held.assigned({0})
    held.settle(0)
    owners.held().worker(0)
    assert held.apply(0, RAWS, "live") == 0
    held.assigned({0})
    held.settle(0)
    assert held.apply(0, RAWS, "live") == 3
