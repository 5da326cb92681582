"""One batch of a primary: what is refused leaves nothing, what is repeated happens once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from everlode.errors import Refusal, Unavailable
from everlode.events import commands as c
from everlode.events.base import Command, CommandAnswered, CommandHeader, Envelope
from everlode.events.miners import MinerRegistered
from everlode.events.stamp import MAX_AHEAD_MS, HybridClock, stamp_at
from everlode.events.states import MinerState
from everlode.log.facts import LoggedFact
from everlode.miners.component import MinerComponent
from everlode.primary.batch import FUTURE, Batch, Source
from everlode.primary.component import Component, Owed
from everlode.primary.inputs import Tick
from everlode.primary.pending import HOME, Pending
from everlode.rewards.component import RewardComponent
from everlode.rewards.sink import Fence
from everlode.topics import Topology
from tests.support.facts.state_commands import fact_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WALL_MS = 1_000_000
REGISTER = c.RegisterMiner(
    operator_id="o", endpoint="e", specialties=("inference",), gpus=1, gpu_model="x", cpu_milli=1,
    memory_mib=1, max_concurrent=1,
)  # fmt: skip
DEPOSIT = c.DepositStake(amount_micro=5)


class NoSink:
    """Nobody is paid."""

    def pay(self, payout_key: str, miner_id: str, amount_micro: int, fence: Fence) -> str:
        raise AssertionError(payout_key)

    def find(self, payout_key: str, fence: Fence) -> str | None:
        raise AssertionError(payout_key)


class Log:
    """As much of a fact log as a batch needs."""

    def __init__(self) -> None:
        self.origin, self.topic, self.partitions, self.seqs = "eu.1", "eu.1.miners", 2, [0, 0]
        self.clock = HybridClock()

    def partition_of(self, key: str) -> int:
        return len(key) % 2


def batch_of(component: Component, log: Log) -> Batch:
    return Batch(component, log, {"eu": 3}, "eu-mr-1", Tick(NOW, WALL_MS, 0.0))


def give(
    batch: Batch, command: Command, command_id: str, key: str = "eu/m", at: datetime = NOW
) -> None:
    header = CommandHeader(
        command_id=command_id, aggregate_id=key, issued_by="x", reply_to="r", issued_at=at,
        correlation_id="s",
    )  # fmt: skip
    batch.command(header, command, Source("eu.commands.miners", 0, 7))


def answers(component: Component, batch: Batch) -> list[CommandAnswered]:
    pending = Pending(component.folds, "eu.1.miners", "eu", "eu-mr-1")
    pending.committed(batch.answers)
    return pending.held(HOME, NOW)


def outcomes(component: Component, batch: Batch) -> list[tuple[str, str, int]]:
    return [(a.outcome, a.code, len(a.facts)) for a in answers(component, batch)]


def made() -> tuple[MinerComponent, Log, Batch]:
    component, log = MinerComponent("eu", Topology()), Log()
    return component, log, batch_of(component, log)


def commit(batch: Batch, log: Log) -> None:
    for partition, envelope, _ in batch.facts:
        log.seqs[partition] = envelope.seq
    batch.committed(list(range(len(batch.facts))))


def test_batch_repeated_deposit_is_known_when_its_answer_is_forgotten() -> None:
    component, log, batch = made()
    give(batch, REGISTER, "a")
    give(batch, DEPOSIT, "b")
    commit(batch, log)
    component.folds.answers.clear()
    for amount in (5, 6):
        late = batch_of(component, log)
        give(late, c.DepositStake(amount_micro=amount), "b")
        assert outcomes(component, late) == [("repeated", "", 0)]
        assert late.facts == []
    other = batch_of(component, log)
    give(other, DEPOSIT, "c")
    commit(other, log)
    state = component.folds.get("miners", "eu/m")
    assert isinstance(state, MinerState)
    assert (state.stake_free_micro, len(state.deposits)) == (10, 2)


def test_batch_repeat_in_the_same_batch_is_carried_out_once() -> None:
    component, log, batch = made()
    give(batch, REGISTER, "a")
    give(batch, DEPOSIT, "b")
    give(batch, DEPOSIT, "b")
    assert len(batch.facts) == 2
    commit(batch, log)
    assert outcomes(component, batch) == [("done", "", 1), ("done", "", 1), ("repeated", "", 1)]


def test_batch_id_is_its_aggregates_and_another_one_may_have_it_too() -> None:
    component, log, batch = made()
    for key in ("eu/m", "eu/n"):
        give(batch, REGISTER, "the-same", key)
        give(batch, DEPOSIT, "too", key)
    commit(batch, log)
    assert outcomes(component, batch) == [("done", "", 1)] * 4
    assert len({envelope.event_id for _, envelope, _ in batch.facts}) == 4
    for key in ("eu/m", "eu/n"):
        state = component.folds.get("miners", key)
        assert isinstance(state, MinerState)
        assert state.stake_free_micro == 5


def test_cause_too_far_ahead_leaves_no_trace_in_the_clock() -> None:
    clock = HybridClock()
    with pytest.raises(Refusal, match="clock skew"):
        clock.next(WALL_MS, stamp_at(WALL_MS + MAX_AHEAD_MS + 1))
    assert clock.next(WALL_MS) == stamp_at(WALL_MS)
    assert clock.next(WALL_MS, stamp_at(WALL_MS + 5)) == stamp_at(WALL_MS + 5, 1)


def test_batch_repeat_after_the_commit_is_answered_with_the_first_facts() -> None:
    component, log, first = made()
    give(first, REGISTER, "a")
    commit(first, log)
    again = batch_of(component, log)
    give(again, REGISTER, "a")
    assert again.facts == []
    (answer,) = answers(component, again)
    assert [f.event_id for f in answer.facts] == [first.facts[0][1].event_id]


def test_batch_that_is_thrown_away_leaves_nothing_and_its_repeat_has_the_same_ids() -> None:
    component, log, lost = made()
    give(lost, REGISTER, "a")
    again = batch_of(component, log)
    give(again, REGISTER, "a")
    ids = [[e.event_id for _, e, _ in b.facts] for b in (lost, again)]
    assert ids[0] == ids[1]
    assert again.facts[0][1].version == again.facts[0][1].seq == 1


def test_batch_command_whose_fact_does_not_fit_is_refused_and_the_next_one_is_carried_out() -> None:
    _, log, batch = made()
    refusal = batch.owed(Owed("i" * 321, "eu/m", REGISTER, NOW), None)
    assert refusal is not None
    assert (refusal.code, "command_id" in refusal.message) == ("does_not_fit", True)
    assert batch.facts == []
    give(batch, REGISTER, "a")
    assert [(e.version, e.seq) for _, e, _ in batch.facts] == [(1, 1)]
    commit(batch, log)


@pytest.mark.parametrize(
    ("command", "key", "at", "code"),
    [
        (DEPOSIT, "unknown", NOW, "no_miner"),
        (DEPOSIT, "eu/unknown", NOW, "no_miner"),
        (DEPOSIT, "us/m", NOW, "not_at_home"),
        (REGISTER, "us/m", NOW, "not_at_home"),
        (REGISTER, "m", NOW, "bad_name"),
        (REGISTER, "eu/", NOW, "bad_name"),
        (REGISTER, "eu/a|b", NOW, "bad_name"),
        (REGISTER, "eu/" + "n" * 101, NOW, "bad_name"),
        (REGISTER, "eu/m", NOW + FUTURE + timedelta(seconds=1), "from_the_future"),
        (c.CancelTask(reason="x"), "eu/m", NOW, "wrong_component"),
    ],
)
def test_batch_refusal_is_answered_and_stages_nothing(
    command: Command, key: str, at: datetime, code: str
) -> None:
    component, _, batch = made()
    give(batch, command, "a", key, at)
    assert batch.facts == []
    assert outcomes(component, batch) == [("refused", code, 0)]


def test_batch_with_a_clock_that_was_set_back_goes_on_above_its_log() -> None:
    component, log, batch = made()
    give(batch, REGISTER, "a")
    last = stamp_at(WALL_MS + 12 * MAX_AHEAD_MS)
    log.clock.observe(last)
    give(batch, DEPOSIT, "b")
    assert [answer[0] for answer in outcomes(component, batch)] == ["done", "done"]
    assert [(e.version, e.seq) for _, e, _ in batch.facts] == [(1, 1), (2, 2)]
    assert batch.facts[-1][1].stamp == last + 1


def test_batch_command_of_a_fast_clock_happens_now_not_ahead_of_what_follows() -> None:
    _, _, batch = made()
    give(batch, REGISTER, "a", "eu/m", NOW + FUTURE)
    give(batch, DEPOSIT, "b", "eu/m", NOW - FUTURE)
    assert [e.occurred_at for _, e, _ in batch.facts] == [NOW, NOW - FUTURE]


def test_batch_reaction_whose_cause_is_from_the_future_is_tried_later() -> None:
    _, log, batch = made()
    give(batch, REGISTER, "a")
    cause = Envelope(
        event_id="e", aggregate_id="t", version=1, origin="us.1", scope="task-manager/us", epoch=1,
        seq=1, stamp=stamp_at(WALL_MS + MAX_AHEAD_MS + 1), occurred_at=NOW, correlation_id="s",
    )  # fmt: skip
    with pytest.raises(Unavailable):
        batch.owed(Owed("r", "eu/m", DEPOSIT, NOW), None, cause)
    assert len(batch.facts) == 1
    assert log.seqs == [0, 0]


def test_batch_marks_are_in_every_partition_with_dense_seqs() -> None:
    _, _, batch = made()
    batch.open_epoch()
    give(batch, REGISTER, "a")
    batch.barrier()
    seqs: dict[int, list[int]] = {0: [], 1: []}
    for partition, envelope, _ in batch.facts:
        seqs[partition].append(envelope.seq)
    assert seqs == {0: [1, 2, 3], 1: [1, 2]}
    stamps = [e.stamp for _, e, _ in batch.facts]
    assert stamps == sorted(set(stamps))


def test_batch_aggregate_of_an_older_log_goes_on_and_no_new_one_is_named_so() -> None:
    component, log, _ = made()
    old = fact_of(MinerRegistered(**REGISTER.__dict__), "m", scope="miner-registry/eu")
    component.folds.fold(LoggedFact(old, 1, 0))
    batch = batch_of(component, log)
    give(batch, DEPOSIT, "a", "m")
    give(batch, REGISTER, "b", "m")
    give(batch, REGISTER, "c", "n")
    assert [answer[:2] for answer in outcomes(component, batch)] == [
        ("done", ""), ("repeated", ""), ("refused", "bad_name"),
    ]  # fmt: skip


def test_batch_fact_in_the_own_log_about_what_is_at_home_elsewhere_is_not_decided_on() -> None:
    """A program of an older build has written it; no projection shows it."""
    component, log, _ = made()
    for key in ("us/m", "alice/m"):
        stray = fact_of(MinerRegistered(**REGISTER.__dict__), key, scope="miner-registry/eu")
        component.folds.fold(LoggedFact(stray, 1, 0))
    batch = batch_of(component, log)
    give(batch, DEPOSIT, "a", "us/m")
    give(batch, DEPOSIT, "b", "alice/m")
    assert [answer[:2] for answer in outcomes(component, batch)] == [
        ("refused", "not_at_home"), ("done", ""),
    ]  # fmt: skip


def test_batch_what_is_derived_from_an_older_log_is_created_by_its_primary_alone() -> None:
    component, log = RewardComponent("eu", Topology(), NoSink()), Log()
    owed = c.CalculateReward(
        task_id="t", miner_id="m", validation_id="v", base_micro=1, score_ppm=1
    )
    batch = batch_of(component, log)
    give(batch, owed, "a", "t|m")
    assert [answer[:2] for answer in outcomes(component, batch)] == [("refused", "not_yours")]
    assert batch.owed(Owed("own", "t|m", owed, NOW), None) is None
    assert [envelope.aggregate_id for _, envelope, _ in batch.facts] == ["t|m"]
