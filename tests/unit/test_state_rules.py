"""Rules of the aggregates, one by one: what is refused, what changes nothing, what follows."""

from __future__ import annotations

from collections.abc import Container
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from everlode.errors import ContractError, NotFound, Refusal
from everlode.events import commands as c
from everlode.events import miners as me
from everlode.events import rewards as re
from everlode.events import tasks as te
from everlode.events import validations as ve
from everlode.events.barriers import Barrier
from everlode.events.base import Command, Event, Evidence, Fact
from everlode.events.states import MinerState, RewardState, TaskState, ValidationState
from everlode.events.types import LONGEST_ID
from everlode.state import dispatch
from everlode.state.formulas import penalty_of, reputation_after, reward_of, stake_of
from everlode.state.miner import MOST_DEPOSITS, average_score_ppm
from everlode.state.minerfolds import locks_after
from everlode.state.reward import slash_id
from everlode.state.shape import NAME_MOST
from everlode.state.task import OVERDUE
from everlode.state.taskreports import used_attempts
from tests.support.facts.state_commands import ANYBODY, fact_of
from tests.support.facts.state_commands import solution as solution_of
from tests.support.facts.state_commands import submit as submit_task

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
DEADLINE = NOW + timedelta(days=1)
SHA = "a" * 64


class Aggregate:
    """One aggregate, its facts, and a hand on the clock."""

    def __init__(self, component: str, key: str) -> None:
        self.component, self.key = component, key
        self.state: Any = None
        self.facts: list[Fact] = []
        self.now = NOW
        self.operators: tuple[str, ...] = ()
        self.validators: Container[tuple[str, str]] = ANYBODY
        self.own = False

    def do(self, *commands: Command) -> list[str]:
        """Types of the events of the last command."""
        events: tuple[Event, ...] = ()
        for command in commands:
            ctx = dispatch.Context(
                self.key, "eu", self.now, operators=self.operators, validators=self.validators,
                own=self.own,
            )  # fmt: skip
            events = dispatch.decide(self.component, command, self.state, ctx)
            for event in events:
                self.fold(event)
        return [type(event).__name__ for event in events]

    def fold(self, event: Event) -> None:
        n = len(self.facts) + 1
        fact = fact_of(event, self.key, n, version=n, origin="us.1", epoch=3, at=self.now)
        self.facts.append(fact)
        self.state = dispatch.evolve_fact(self.state, fact, 1)

    def refused(self, command: Command) -> str:
        """Code of the refusal; the state stays."""
        before = self.state
        with pytest.raises(Refusal) as caught:
            self.do(command)
        assert self.state is before
        return caught.value.code


def submit(**changes: Any) -> c.SubmitTask:
    training = {
        "task_type": "training", "payload_sha256": SHA, "max_attempts": 2, "deadline_at": DEADLINE
    }  # fmt: skip
    return submit_task(**training | changes)


def assign(miner: str = "m1", node: str = "n1", until: datetime = LATER) -> c.AssignTask:
    return c.AssignTask(miner_id=miner, manager_node=node, lease_until=until)


def progress(ppm: int, attempt: int = 1, miner: str = "m1", **more: Any) -> c.ReportProgress:
    until = more.pop("until", LATER)
    return c.ReportProgress(
        miner_id=miner, attempt=attempt, progress_ppm=ppm, lease_until=until, **more
    )


def solve(attempt: int = 1, solution: str = "s1", miner: str = "m1") -> c.SubmitSolution:
    return solution_of(miner, attempt, solution, SHA, work_ms=7)


def validated(accepted: bool = True, solution: str = "s1") -> c.RecordValidation:
    return c.RecordValidation(
        validation_id=f"v-{solution}",
        solution_id=solution,
        miner_id="m1",
        accepted=accepted,
        score_ppm=900_000,
    )


MIGRATE = c.MigrateTask(from_node="n1", to_node="n2", lease_until=LATER)
REWARD = c.RecordReward(miner_id="m1", reward_id="t|m1", amount_micro=5)


def a_task(*commands: Command) -> Aggregate:
    made = Aggregate("tasks", "t")
    made.do(submit(), *commands)
    return made


def test_task_goes_the_whole_way() -> None:
    task = a_task(assign(), progress(1), solve(), validated(), REWARD)
    state: TaskState = task.state
    assert (state.status, state.reward_micro, state.score_ppm) == ("rewarded", 5, 900_000)
    assert (state.home, state.origin, state.epoch, state.partition) == ("eu", "us.1", 3, 1)
    assert task.do(c.DeleteTask(reason="old")) == ["TaskDeleted"]
    assert task.state is None
    assert task.do(c.DeleteTask(reason="old")) == []


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (submit(task_type="nonsense"), "unknown_task_type"),
        (submit(max_attempts=0), "bad_attempts"),
        (submit(deadline_at=NOW), "deadline_passed"),
    ],
)
def test_task_that_breaks_a_rule_is_refused(command: Command, code: str) -> None:
    assert Aggregate("tasks", "t").refused(command) == code


@pytest.mark.parametrize("name", ["x" * 101, "a|b", "a\nb"])
def test_name_that_cannot_be_part_of_a_key_is_refused(name: str) -> None:
    assert Aggregate("tasks", name).refused(submit()) == "bad_name"
    assert Aggregate("miners", name).refused(REGISTER) == "bad_name"
    task = a_task(assign())
    assert task.refused(solve(solution=name)) == "bad_name"
    assert task.do(solve(solution="x" * 100)) == ["TaskSolved"]


def test_free_task_goes_the_whole_way_and_its_reward_of_0_is_paid_and_booked() -> None:
    """See the door: 0 is lawful. No stake is locked for it: `LockStake` would be of 0."""
    task = Aggregate("tasks", "t")
    free = REWARD.model_copy(update={"amount_micro": 0})
    task.do(submit(base_reward_micro=0), assign(), solve(), validated(), free)
    assert (task.state.status, task.state.reward_micro) == ("rewarded", 0)
    reward = Aggregate("rewards", "t|m")
    assert reward.do(calculate().model_copy(update={"base_micro": 0}), PAY) == ["RewardPaid"]
    assert (reward.state.status, reward.state.amount_micro) == ("paid", 0)
    assert stake_of(0) == 0


def test_task_submitted_again_changes_nothing_and_another_is_refused() -> None:
    task = a_task()
    assert task.do(submit()) == []
    assert task.do(submit(deadline_at=DEADLINE + timedelta(1))) == []
    assert task.state.deadline_at == DEADLINE
    for other in ({"payload_sha256": "b" * 64}, {"base_reward_micro": 1}, {"max_attempts": 9}):
        assert task.refused(submit(**other)) == "exists"


def test_command_to_no_task_says_so() -> None:
    with pytest.raises(NotFound) as caught:
        Aggregate("tasks", "t9").do(assign())
    assert (caught.value.code, caught.value.exit_code) == ("no_task", 10)
    assert "t9" in caught.value.message


def test_progress_never_goes_back() -> None:
    task = a_task(assign(), progress(500_000, checkpoint_uri="cp1"))
    assert task.refused(progress(499_999)) == "progress_back"
    assert task.do(progress(500_001)) == ["TaskProgressed"]
    assert task.state.checkpoint_uri == "cp1"


def test_miner_that_is_stuck_but_alive_keeps_its_lease_and_its_newest_checkpoint() -> None:
    task = a_task(assign(), progress(500_000, checkpoint_uri="cp1"))
    # all that it asks for is so already
    assert task.do(progress(500_000)) == []
    assert task.do(progress(500_000, checkpoint_uri="cp1", until=NOW)) == []
    # equal progress, and time is asked for
    later = LATER + timedelta(hours=1)
    assert task.do(progress(500_000, until=later)) == ["TaskProgressed"]
    # equal progress, and work was saved
    assert task.do(progress(500_000, until=later, checkpoint_uri="cp2")) == ["TaskProgressed"]
    assert (task.state.lease_until, task.state.checkpoint_uri) == (later, "cp2")
    # nobody gets beyond the deadline
    task.do(progress(500_000, until=DEADLINE))
    assert task.do(progress(500_000, until=DEADLINE + timedelta(1))) == []


def test_lease_is_extended_up_to_the_deadline_and_never_shortened() -> None:
    task = a_task(assign(until=LATER))
    task.do(progress(1, until=NOW))
    assert task.state.lease_until == LATER
    task.do(progress(2, until=DEADLINE + timedelta(days=9)))
    assert task.state.lease_until == DEADLINE


def test_migration_keeps_the_assignment_and_takes_reports_of_both_attempts() -> None:
    task = a_task(assign(), progress(300_000), MIGRATE)
    state: TaskState = task.state
    assert (state.attempt, state.attempt_floor, state.progress_ppm) == (2, 1, 300_000)
    assert (state.miner_id, state.manager_node, used_attempts(state)) == ("m1", "n2", 1)
    assert task.do(MIGRATE) == []
    assert task.refused(c.MigrateTask(from_node="n9", to_node="n3", lease_until=LATER)) == (
        "other_manager"
    )
    assert task.do(progress(400_000, attempt=1)) == ["TaskProgressed"]
    assert task.do(progress(500_000, attempt=2)) == ["TaskProgressed"]
    assert task.refused(progress(600_000, attempt=3)) == "wrong_attempt"
    assert task.refused(progress(600_000, attempt=0)) == "wrong_attempt"
    assert task.refused(progress(600_000, miner="m2")) == "wrong_miner"


def test_migrations_use_no_attempts_up() -> None:
    task = a_task(assign(), MIGRATE, c.MigrateTask(from_node="n2", to_node="n1", lease_until=LATER))
    task.do(progress(700_000))
    failed = c.ReportFailure(miner_id="m1", attempt=3, reason="oom", permanent=False)
    assert task.do(failed) == ["TaskAttemptFailed"]
    assert task.state.status == "submitted"
    assert task.do(failed) == []
    task.do(assign("m2"))
    assert (task.state.attempt, task.state.attempt_floor, task.state.progress_ppm) == (4, 4, 0)
    assert task.refused(progress(1, attempt=3, miner="m2")) == "wrong_attempt"
    task.do(c.ReportFailure(miner_id="m2", attempt=4, reason="oom", permanent=False))
    assert (task.state.status, task.state.miners) == ("failed", ("m1", "m2"))


def test_permanent_failure_ends_the_task_at_once() -> None:
    task = a_task(assign())
    task.do(c.ReportFailure(miner_id="m1", attempt=1, reason="bad input", permanent=True))
    assert (task.state.status, task.state.reason) == ("failed", "bad input")
    assert task.state.ended_at == NOW


def test_task_that_waits_past_its_deadline_is_cancelled_and_no_other_is() -> None:
    task = a_task()
    assert task.refused(c.ExpireTask()) == "deadline_ahead"
    task.do(assign())
    task.now = DEADLINE
    assert task.do(c.ExpireTask()) == []  # its lease ends the attempt first
    task.do(c.ReportFailure(miner_id="m1", attempt=1, reason="oom", permanent=False))
    assert task.do(c.ExpireTask()) == ["TaskCancelled"]
    assert (task.state.status, task.state.reason) == ("cancelled", OVERDUE)
    assert task.state.ended_at == DEADLINE
    assert task.do(c.ExpireTask()) == []
    assert task.refused(c.CancelTask(reason="client")) == "too_late"


def test_lease_expires_only_after_its_event_time() -> None:
    task = a_task(assign())
    assert task.refused(c.ExpireLease(attempt=1)) == "lease_good"
    task.now = LATER
    assert task.refused(c.ExpireLease(attempt=1)) == "lease_good"
    assert task.refused(c.ExpireLease(attempt=2)) == "wrong_attempt"
    task.now = LATER + timedelta(milliseconds=1)
    assert task.do(c.ExpireLease(attempt=0)) == []
    assert task.do(c.ExpireLease(attempt=1)) == ["TaskLeaseExpired"]
    assert task.do(c.ExpireLease(attempt=1)) == []
    assert task.state.status == "submitted"
    assert task.refused(solve()) == "not_assigned"


def test_assignment_needs_a_waiting_task_a_lease_and_time() -> None:
    task = a_task()
    assert task.refused(assign(until=NOW)) == "bad_lease"
    task.do(assign())
    assert task.do(assign()) == []
    assert task.refused(assign("m2")) == "not_waiting"
    late = a_task()
    late.now = DEADLINE
    assert late.refused(assign(until=DEADLINE + timedelta(1))) == "deadline_passed"


def test_rejected_solution_waits_again_until_attempts_are_used_up() -> None:
    task = a_task(assign(), progress(5, checkpoint_uri="cp"), solve(), validated(accepted=False))
    assert (task.state.status, task.state.checkpoint_uri) == ("submitted", None)
    assert task.do(validated(accepted=False)) == []
    assert task.do(solve()) == []  # the same solution again
    task.do(assign(), solve(2, "s2"), validated(False, "s2"))
    assert (task.state.status, task.state.reason) == ("failed", "solution_rejected")


def test_each_attempt_hands_in_though_the_miner_names_its_solutions_alike() -> None:
    task = a_task(assign(), solve(), validated(accepted=False))
    assert task.do(solve()) == []  # the first attempt's again, which was judged
    task.do(assign())
    assert task.refused(solve()) == "wrong_attempt"
    assert task.do(solve(2)) == ["TaskSolved"]
    assert task.do(solve(2)) == []
    assert task.refused(solve(1)) == "already_solved"
    late = validated(accepted=False).model_copy(update={"validation_id": "v-t-2"})
    assert task.do(late) == ["TaskSolutionRejected"]


def test_other_solution_under_the_same_id_is_no_repeat() -> None:
    task = a_task(assign(), solve())
    for change in ({"solution_sha256": "b" * 64}, {"solution_uri": "x"}, {"work_ms": 8}):
        assert task.refused(solve().model_copy(update=change)) == "already_solved"


def test_miner_that_gave_up_for_a_while_has_not_given_up_for_good() -> None:
    failed = c.ReportFailure(miner_id="m1", attempt=1, reason="oom", permanent=False)
    task = a_task(assign(), failed)
    assert task.do(failed) == []
    assert task.refused(failed.model_copy(update={"permanent": True})) == "not_assigned"


def test_validation_of_another_solution_is_refused() -> None:
    task = a_task(assign(), solve())
    assert task.refused(validated(solution="s9")) == "not_solved"
    assert task.do(solve()) == []
    assert task.refused(solve(solution="s2")) == "already_solved"


def test_payout_known_before_its_validation_ends_the_same() -> None:
    first = a_task(assign(), solve(), validated(), REWARD)
    second = a_task(assign(), solve(), REWARD, validated())
    assert first.state == second.state
    assert second.refused(validated(False, "s1").model_copy(update={"validation_id": "v2"})) == (
        "already_rewarded"
    )
    assert second.do(REWARD) == []


def test_solved_task_cannot_be_cancelled() -> None:
    task = a_task(assign(), solve())
    assert task.refused(c.CancelTask(reason="r")) == "too_late"
    waiting = a_task()
    assert waiting.do(c.CancelTask(reason="r")) == ["TaskCancelled"]
    assert waiting.do(c.CancelTask(reason="r")) == []
    assert waiting.state.ended_at == NOW
    running = a_task(assign())
    running.do(c.CancelTask(reason="r"))
    assert running.facts[-1].data == te.TaskCancelled(reason="r", miner_id="m1")


def test_task_in_work_cannot_be_deleted() -> None:
    assert a_task(assign()).refused(c.DeleteTask(reason="r")) == "not_ended"


REGISTER = c.RegisterMiner(
    operator_id="o",
    endpoint="e",
    specialties=("training",),
    gpus=1,
    gpu_model="A",
    cpu_milli=1,
    memory_mib=1,
    max_concurrent=2,
)


def outcome(kind: str, score: int = 1_000_000, task: str = "t") -> c.RecordOutcome:
    return c.RecordOutcome(
        task_id=task,
        outcome=kind,  # type: ignore[arg-type]
        subject_id="v",
        work_ms=5,
        score_ppm=score,
    )


def a_miner(*commands: Command) -> Aggregate:
    made = Aggregate("miners", "m")
    made.do(REGISTER, c.DepositStake(amount_micro=100), *commands)
    return made


def lock(amount: int, task: str = "t") -> c.LockStake:
    return c.LockStake(task_id=task, amount_micro=amount)


def test_second_attempt_that_fails_at_the_moment_of_the_first_counts_and_frees_its_stake() -> None:
    """The miner says when: it may say the same twice."""
    failed = [outcome("failed").model_copy(update={"attempt": n}) for n in (1, 2)]
    miner = a_miner(lock(60), failed[0])
    assert miner.do(failed[0]) == []
    miner.now += timedelta(milliseconds=1)
    miner.do(lock(60))
    miner.now = NOW
    assert "StakeReleased" in miner.do(failed[1])
    assert (miner.do(failed[1]), miner.state.failed, miner.state.locks) == ([], 2, {})


def test_stake_is_locked_and_released_with_the_outcome() -> None:
    miner = a_miner(lock(60))
    assert miner.do(lock(60)) == []
    assert miner.refused(lock(60, "t2")) == "insufficient_stake"
    assert miner.do(outcome("accepted")) == [
        "StakeReleased",
        "PerformanceRecorded",
        "ReputationChanged",
    ]
    state: MinerState = miner.state
    assert (state.stake_free_micro, state.stake_locked_micro, state.locks) == (100, 0, {})
    assert (state.reputation_ppm, state.accepted, state.work_ms) == (510_000, 1, 5)
    assert miner.do(outcome("accepted")) == []


def test_lock_that_comes_after_its_outcome_is_not_made() -> None:
    miner = a_miner()
    miner.now = LATER
    miner.do(outcome("accepted"))
    miner.now = NOW
    assert miner.do(lock(60)) == []
    miner.now = LATER + timedelta(seconds=1)  # another assignment of the same task
    assert miner.do(lock(60)) == ["StakeLocked"]


def test_slash_takes_locked_stake_first_once_a_case() -> None:
    miner = a_miner(lock(30, "t1"), lock(30, "t2"))
    slash = c.SlashStake(case_id="case", task_id="t2", amount_micro=45)
    assert miner.do(slash) == ["StakeSlashed", "ReputationChanged"]
    state: MinerState = miner.state
    assert (state.stake_free_micro, state.stake_locked_micro) == (40, 15)
    assert state.locks == {"t1": 15}
    assert (state.stake_slashed_micro, state.reputation_ppm) == (45, 250_000)
    assert miner.do(slash) == []
    miner.do(c.SlashStake(case_id="case2", amount_micro=10**9))
    assert (miner.state.stake_free_micro, miner.state.stake_slashed_micro) == (0, 100)
    assert miner.state.cases == ("case", "case2")
    assert miner.do(outcome("failed", 0, "t1"))[0] == "PerformanceRecorded"  # nothing to release


def test_locks_are_taken_by_task_id_after_the_task_concerned() -> None:
    locks = {"b": 5, "a": 5, "c": 5}
    assert locks_after(locks, "c", 7) == {"a": 3, "b": 5}
    assert locks_after(locks, None, 15) == {}
    assert locks == {"b": 5, "a": 5, "c": 5}


def test_only_the_last_pieces_of_work_are_kept() -> None:
    miner = a_miner()
    for n in range(40):
        miner.do(outcome("accepted", task=f"t{n}"))
    recent = [done.task_id for done in miner.state.recent]
    assert recent == [f"t{n}" for n in range(8, 40)]
    assert miner.state.accepted == 40
    assert average_score_ppm(miner.state) == 1_000_000
    assert average_score_ppm(a_miner().state) is None


def test_suspension_for_fraud_is_lifted_by_an_operator_only() -> None:
    miner = a_miner()
    miner.operators = ("op",)
    mine = c.ReinstateMiner(reason="r")
    assert miner.do(c.SuspendMiner(reason="holidays")) == ["MinerSuspended"]
    assert miner.do(c.SuspendMiner(reason="fraud:x")) == ["MinerSuspended"]
    assert miner.do(c.SuspendMiner(reason="holidays")) == []
    for by in ("", "o", "m"):
        named = mine.model_copy(update={"decided_by": by})
        assert miner.refused(named) == "operator_needed"
    lifted = mine.model_copy(update={"decided_by": "op"})
    assert miner.do(lifted) == ["MinerReinstated"]
    assert miner.do(c.SuspendMiner(reason="holidays")) == ["MinerSuspended"]
    assert miner.do(mine) == ["MinerReinstated"]


def test_suspended_and_retired_miners() -> None:
    miner = a_miner(lock(10))
    assert miner.do(c.ReinstateMiner(reason="r")) == []
    assert miner.do(c.SuspendMiner(reason="r")) == ["MinerSuspended"]
    assert miner.do(c.SuspendMiner(reason="r")) == []
    assert miner.do(c.ReinstateMiner(reason="r")) == ["MinerReinstated"]
    assert miner.refused(c.RetireMiner(reason="r")) == "stake_locked"
    assert miner.do(c.ReleaseStake(task_id="t")) == ["StakeReleased"]
    assert miner.do(c.ReleaseStake(task_id="t")) == []
    miner.do(c.RetireMiner(reason="r"))
    assert miner.do(c.RetireMiner(reason="r")) == []
    for command in (REGISTER, lock(1), c.DepositStake(amount_micro=1), c.SuspendMiner(reason="r")):
        assert miner.refused(command) == "retired"
    assert miner.do(outcome("accepted"))  # late news still count


def test_miner_deposits_so_often_and_no_more() -> None:
    miner = a_miner()
    marks = tuple(f"{n:016x}" for n in range(MOST_DEPOSITS - len(miner.state.deposits)))
    miner.state = miner.state._replace(deposits=(*miner.state.deposits, *marks))
    assert miner.refused(c.DepositStake(amount_micro=1)) == "too_many_deposits"


def test_miner_that_breaks_a_rule_is_refused() -> None:
    for most in (0, 1001):
        idle = REGISTER.model_copy(update={"max_concurrent": most})
        assert Aggregate("miners", "m").refused(idle) == "bad_capacity"
    typo = REGISTER.model_copy(update={"specialties": ("training", "trainig")})
    assert Aggregate("miners", "m").refused(typo) == "unknown_task_type"
    miner = a_miner()
    assert miner.do(REGISTER) == []
    for other in ({"operator_id": "p"}, {"gpus": 2}):
        assert miner.refused(REGISTER.model_copy(update=other)) == "exists"
    assert miner.do(REGISTER.model_copy(update={"endpoint": "e2"})) == ["MinerUpdated"]
    assert miner.state.endpoint == "e2"
    update = c.UpdateMiner(endpoint="f", specialties=(), max_concurrent=3)
    assert miner.do(update) == ["MinerUpdated"]
    assert miner.do(update) == []
    assert miner.refused(update.model_copy(update={"max_concurrent": 0})) == "bad_capacity"
    unnamed = update.model_copy(update={"specialties": ("",)})
    assert miner.refused(unnamed) == "unknown_task_type"


def request(**changes: Any) -> c.RequestValidation:
    fields: dict[str, Any] = {
        "task_id": "t",
        "task_type": "training",
        "payload_sha256": SHA,
        "solution_id": "s1",
        "solution_sha256": SHA,
        "miner_id": "m1",
        "work_ms": 5,
        "base_reward_micro": 100,
        "kind": "peer-review",
        "quorum": 3,
        "reviewers": ("p1", "p2", "p3"),
        "deadline_at": LATER,
    }
    return c.RequestValidation(**{**fields, **changes})


def vote(
    who: str, accept: bool = True, score: int = 900_000, kind: str = "peer-review"
) -> c.CastVote:
    return c.CastVote(voter_id=who, voter_kind=kind, accept=accept, score_ppm=score)  # type: ignore[arg-type]


def a_validation(*commands: Command, **changes: Any) -> Aggregate:
    made = Aggregate("validations", "v-s1")
    made.do(request(**changes), *commands)
    return made


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"reviewers": ("m1", "p2", "p3")}, "own_solution"),
        ({"reviewers": ("p1", "p2")}, "bad_quorum"),
        ({"reviewers": ()}, "bad_quorum"),
        ({"reviewers": ("p1", "p2", "p2")}, "bad_reviewers"),
        ({"quorum": 0}, "bad_quorum"),
        ({"kind": "expert", "quorum": 2, "reviewers": ()}, "bad_quorum"),
    ],
)
def test_panel_that_breaks_a_rule_is_refused(changes: dict[str, Any], code: str) -> None:
    assert Aggregate("validations", "v-s1").refused(request(**changes)) == code


def test_peer_review_is_decided_by_two_thirds_with_the_lower_median() -> None:
    review = a_validation(vote("p1", True, 800_000), vote("p2", False, 0))
    assert review.do(vote("p3", True, 600_000)) == ["VoteCast", "ValidationDecided"]
    decided = review.facts[-1].data
    assert isinstance(decided, ve.ValidationDecided)
    assert (decided.accepted, decided.score_ppm) == (True, 600_000)
    assert (decided.votes_for, decided.votes_against, decided.kind) == (2, 1, "peer-review")
    assert review.do(request()) == []


def test_vote_counts_once_a_voter_and_only_from_reviewers() -> None:
    review = a_validation(vote("p1"))
    assert review.do(vote("p1")) == []
    assert review.refused(vote("p1", False, 0)) == "already_voted"
    assert review.refused(vote("m1")) == "own_solution"
    assert review.refused(vote("x")) == "not_a_reviewer"
    assert review.refused(vote("p2", kind="expert")) == "wrong_kind"
    review.do(vote("p2"), vote("p3"))
    assert review.refused(vote("x")) == "already_decided"
    assert review.do(vote("p2")) == []
    assert review.state.accepted is True


def test_split_vote_goes_to_an_expert_who_decides_alone() -> None:
    panel = ("p1", "p2", "p3", "p4")
    review = a_validation(vote("p1"), vote("p2"), vote("p3", False), quorum=4, reviewers=panel)
    assert review.do(vote("p4", False)) == ["VoteCast", "ValidationEscalated"]
    assert (review.state.kind, review.state.quorum, review.state.reviewers) == ("expert", 1, ())
    assert review.refused(vote("p5")) == "wrong_kind"
    assert review.do(vote("x", False, 0, "expert")) == ["VoteCast", "ValidationDecided"]
    decided = review.facts[-1].data
    assert isinstance(decided, ve.ValidationDecided)
    assert (decided.accepted, decided.score_ppm, decided.votes_against) == (False, 0, 1)
    assert len(review.state.votes) == 5


def test_decision_against_a_planted_answer_is_audited_and_goes_to_an_expert() -> None:
    right = {"kind": "automatic", "quorum": 1, "reviewers": (), "planted_sha256": SHA}
    review = a_validation(**right)
    assert review.do(vote("a", False, 0, "automatic")) == [
        "VoteCast",
        "ValidationAudited",
        "ValidationEscalated",
    ]
    assert [(j.by, j.upheld) for j in review.state.judged] == [("planted", False)]
    assert review.do(vote("x", True, 5, "expert")) == [
        "VoteCast",
        "ValidationDecided",
        "ValidationAudited",
    ]
    assert review.state.judged[-1].upheld is True
    agreed = a_validation(**right)
    assert agreed.do(vote("a", True, 5, "automatic")) == [
        "VoteCast",
        "ValidationDecided",
        "ValidationAudited",
    ]


@pytest.mark.parametrize("kind", ["automatic", "expert"])
def test_vote_of_who_is_no_validator_of_that_kind_decides_nothing(kind: str) -> None:
    """Named as a reviewer or not: who names itself is no validator."""
    for panel in ((), ("x",)):
        asked = a_validation(kind=kind, quorum=1, reviewers=panel)
        other = "automatic" if kind == "expert" else "expert"
        asked.validators = {("x", other), ("y", kind)}
        assert asked.refused(vote("x", kind=kind)) == "not_a_validator"
        assert asked.state.status == "pending"
        asked.validators = {("x", kind)}
        assert asked.do(vote("x", kind=kind)) == ["VoteCast", "ValidationDecided"]


def test_reviewer_who_calls_itself_an_expert_audits_nothing() -> None:
    review = a_validation(quorum=3, reviewers=("p1", "p2", "p3", "p4"))
    review.do(vote("p1"), vote("p2"), vote("p3"))
    review.validators = frozenset()
    assert review.refused(vote("p4", False, 0, "expert")) == "not_a_validator"


def test_expert_audits_a_decision_once_without_changing_it() -> None:
    review = a_validation(vote("p1"), vote("p2"), vote("p3"))
    assert review.do(vote("x", False, 0, "expert")) == ["VoteCast", "ValidationAudited"]
    state: ValidationState = review.state
    assert (state.status, state.accepted, state.judged[0].upheld) == ("decided", True, False)
    assert review.do(vote("x", False, 0, "expert")) == []
    assert review.refused(vote("y", True, 0, "expert")) == "already_audited"
    assert review.refused(vote("m1", True, 0, "expert")) == "own_solution"


def escalate(kind: str, quorum: int = 1, panel: tuple[str, ...] = ()) -> c.EscalateValidation:
    return c.EscalateValidation(
        to_kind=kind,  # type: ignore[arg-type]
        reason="r",
        quorum=quorum,
        reviewers=panel,
        deadline_at=LATER,
    )


def test_quorum_is_never_lowered_nor_the_kind() -> None:
    review = a_validation(vote("p1"))
    review.own = True
    assert review.do(escalate("peer-review", 1, ("p1",))) == []
    assert review.refused(escalate("automatic")) == "lower_kind"
    assert review.refused(escalate("expert", 1, ("m1",))) == "own_solution"
    assert review.state.quorum == 3
    assert review.do(escalate("expert")) == ["ValidationEscalated"]
    review.do(vote("x", True, 5, "expert"))
    assert review.do(escalate("expert")) == []


def test_from_outside_a_validation_goes_to_an_expert_alone_once_it_is_late() -> None:
    review = a_validation(vote("p1"))
    assert review.refused(escalate("expert")) == "not_late"
    review.now = review.state.deadline_at
    assert review.refused(escalate("expert", 1, ("friend",))) == "bad_reviewers"
    assert review.do(escalate("expert")) == ["ValidationEscalated"]
    cheap = a_validation(kind="automatic", quorum=1, reviewers=())
    cheap.now = cheap.state.deadline_at
    assert cheap.refused(escalate("peer-review", 1, ("friend",))) == "bad_reviewers"


def test_migration_prolongs_no_lease_beyond_the_deadline() -> None:
    task = a_task(assign())
    task.do(c.MigrateTask(from_node="n1", to_node="n2", lease_until=DEADLINE + (LATER - NOW)))
    assert task.state.lease_until == DEADLINE


def test_deferral_moves_the_deadline_only_on() -> None:
    review = a_validation()
    defer = c.DeferValidation(reason="r", deadline_at=DEADLINE)
    assert review.do(defer) == ["ValidationDeferred"]
    assert review.do(defer) == []
    assert (review.state.deferrals, review.state.deadline_at) == (1, DEADLINE)
    assert review.refused(c.DeferValidation(reason="r", deadline_at=LATER)) == "earlier"


def calculate(validation: str = "v") -> c.CalculateReward:
    return c.CalculateReward(
        task_id="t", miner_id="m", validation_id=validation, base_micro=1000, score_ppm=999_999
    )


HOLD = c.WithholdReward(case_id="case", reason="r")
FREE = c.ReleaseReward(case_id="case", reason="r")
PAY = c.PayReward(payout_ref="p")
REVERSE = c.ReverseReward(reason="r")


def a_reward(*commands: Command) -> Aggregate:
    made = Aggregate("rewards", "t|m")
    made.do(calculate(), *commands)
    return made


def test_reward_is_given_and_paid_once() -> None:
    given = a_reward()
    assert given.do(calculate()) == []
    assert given.refused(calculate("v2")) == "already_calculated"
    assert given.do(PAY) == ["RewardPaid"]
    assert given.do(PAY) == []
    assert given.refused(c.PayReward(payout_ref="q")) == "already_paid"
    assert given.refused(REVERSE) == "too_late"
    assert given.refused(HOLD) == "not_payable"
    state: RewardState = given.state
    assert (state.amount_micro, state.formula, state.payout_ref) == (999, 1, "p")
    assert {e.account: e.amount_micro for e in state.entries} == {
        "treasury": -999,
        "payable:m": 0,
        "paid:m": 999,
    }


def test_withheld_reward_is_not_paid_until_released() -> None:
    held = a_reward(HOLD)
    assert held.do(HOLD) == []
    assert held.refused(PAY) == "not_payable"
    assert held.refused(c.ReleaseReward(case_id="other", reason="r")) == "other_case"
    assert held.do(FREE) == ["RewardReleased"]
    assert held.do(FREE) == []
    assert held.do(PAY) == ["RewardPaid"]


def test_reversed_reward_is_not_paid() -> None:
    back = a_reward(HOLD, REVERSE)
    assert back.do(REVERSE) == []
    assert back.refused(PAY) == "not_payable"
    assert {e.amount_micro for e in back.state.entries} == {0}
    assert back.do(calculate()) == []  # not given again either


def test_reward_under_another_key_is_refused() -> None:
    assert Aggregate("rewards", "t|x").refused(calculate()) == "wrong_key"
    slash = c.CollectSlash(miner_id="m", case_id="case", amount_micro=5)
    assert Aggregate("rewards", "slash|x|m").refused(slash) == "wrong_key"
    longest = c.CollectSlash(miner_id="m" * NAME_MOST, case_id="c" * LONGEST_ID, amount_micro=5)
    key = slash_id(longest.case_id, longest.miner_id)
    assert len(key) < LONGEST_ID
    assert Aggregate("rewards", key).do(longest) == ["SlashCollected"]
    assert key != slash_id("c" * (LONGEST_ID - 1), longest.miner_id)
    booked = Aggregate("rewards", "slash|case|m")
    assert booked.do(slash) == ["SlashCollected"]
    assert booked.do(slash) == []
    assert booked.refused(PAY) == "not_payable"


EVIDENCE = (Evidence(topic="", partition=-1, offset=-1, note="seen"),)
OPEN = c.OpenFraudCase(
    rule="copied-solution", suspects=("b", "a", "b"), severity_ppm=5, evidence=EVIDENCE
)


def resolve(confirmed: bool, **changes: Any) -> c.ResolveFraudCase:
    fields: dict[str, Any] = {
        "confirmed": confirmed,
        "decided_by": "x",
        "penalty_micro": 9,
        "reason": "r",
        "evidence": EVIDENCE,
    }
    return c.ResolveFraudCase(**{**fields, **changes})


def test_fraud_case_is_opened_on_evidence_and_closed_once() -> None:
    case = Aggregate("validations", "case")
    assert case.refused(OPEN.model_copy(update={"evidence": ()})) == "no_evidence"
    assert case.refused(OPEN.model_copy(update={"suspects": ()})) == "no_evidence"
    with pytest.raises(NotFound):
        case.do(resolve(True))
    case.do(OPEN)
    assert case.state.suspects == ("a", "b")
    assert case.do(OPEN) == []
    assert case.refused(resolve(True, evidence=())) == "no_evidence"
    assert case.do(resolve(True)) == ["FraudConfirmed"]
    assert case.do(resolve(True)) == []
    assert case.refused(resolve(False)) == "already_resolved"
    assert case.do(OPEN) == []


def test_cleared_case_opens_again_only_on_new_evidence() -> None:
    case = Aggregate("fraud", "case")
    case.do(OPEN, resolve(False))
    assert case.state.status == "cleared"
    assert case.do(OPEN) == []
    fresh = (EVIDENCE[0].model_copy(update={"note": "again"}),)
    assert case.do(OPEN.model_copy(update={"evidence": fresh})) == ["FraudSuspected"]
    assert (case.state.status, case.state.decided_by) == ("suspected", None)


def test_formulas_are_those_of_the_document() -> None:
    assert reputation_after(500_000, "accepted", 1_000_000) == 510_000
    assert reputation_after(500_000, "accepted", 0) == 500_000
    assert reputation_after(1_000_000, "accepted", 1_000_000) == 1_000_000
    losses = {"rejected": 475_000, "failed": 490_000, "expired": 485_000, "fraud": 250_000}
    assert {kind: reputation_after(500_000, kind) for kind in losses} == losses
    assert reputation_after(0, "fraud") == 0
    assert reward_of(1_999_999, 500_000) == 999_999
    assert stake_of(1_000_004) == 200_000
    assert penalty_of(1_000_000, 900_000) == 900_000


def test_command_for_another_component_is_a_contract_error() -> None:
    ctx = dispatch.Context("k", "eu", NOW)
    with pytest.raises(ContractError):
        dispatch.decide("miners", submit(), None, ctx)
    with pytest.raises(ContractError):
        dispatch.decide("tasks", OPEN, None, ctx)
    assert dispatch.component_of_command(OPEN) == "fraud"
    assert dispatch.component_of_command(submit()) == "tasks"


def test_component_of_state_knows_facts_and_nothing_else() -> None:
    assert dispatch.component_of_state(ve.FraudCleared) == "fraud"
    assert dispatch.component_of_state("VoteCast") == "validations"
    assert dispatch.component_of_state(me.StakeLocked) == "miners"
    assert dispatch.component_of_state(re.RewardPaid) == "rewards"
    for wrong in (Barrier, "Barrier", "Nonsense"):
        with pytest.raises(ContractError):
            dispatch.component_of_state(wrong)
    envelope = a_task().facts[0].envelope
    with pytest.raises(ContractError):
        dispatch.evolve_fact(None, Fact(envelope, Barrier(writer_id="n")), 0)
