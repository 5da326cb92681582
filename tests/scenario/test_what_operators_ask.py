"""A cheat is quicker than the primary: it opens its own case, names another, and picks its judges.

The primaries of validations, rewards and miners, each with its real core and rules. Before, each
of these was carried out for whoever asked.
"""

from __future__ import annotations

from datetime import timedelta

from everlode.events import commands as c
from everlode.events import validations as ve
from everlode.events.base import Command, Evidence, Fact
from everlode.events.rewards import RewardCalculated
from everlode.events.states import FraudState, MinerState, ValidationState
from everlode.events.tasks import TaskSolved
from everlode.miners.component import MinerComponent
from everlode.rewards.component import RewardComponent
from everlode.state.fraud import solution_case_id
from everlode.state.validation import TIME_ALLOWED
from everlode.topics import Topology
from everlode.validations.component import ValidationComponent
from tests.support.facts.state_commands import fact_of, register, sha256_of
from tests.support.world.bench import Bench
from tests.unit.test_payouts import Sink

TOPOLOGY = Topology(operators=("ops",))
SEEN = (Evidence(topic="", partition=-1, offset=-1, note="seen"),)
KEY, CASE = "eu/v-t-1", solution_case_id("impossible-speed", "eu/v-t-1")


def too_fast(task: str = "eu/t") -> Fact:
    """The cheat hands in what it had no time to read, as an operator's case or not."""
    data = TaskSolved(
        attempt=1, miner_id="eu/cheat", solution_id="s", solution_uri="u",
        solution_sha256=sha256_of("s"), solution_bytes=1, work_ms=1, task_type="inference",
        payload_sha256=sha256_of("p"), payload_bytes=10**9, base_reward_micro=1_000_000,
    )  # fmt: skip
    return fact_of(data, task, event_id=f"solved {task}", scope="task-manager/eu")


def case_against(suspect: str) -> c.OpenFraudCase:
    return c.OpenFraudCase(
        rule="impossible-speed", suspects=(suspect,), task_id="eu/t", validation_id=KEY,
        severity_ppm=0, evidence=SEEN, solver_id=suspect,
    )  # fmt: skip


def resolved(confirmed: bool) -> c.ResolveFraudCase:
    return c.ResolveFraudCase(
        confirmed=confirmed, decided_by="ops", penalty_micro=0, reason="r", evidence=SEEN
    )


def test_cheat_that_opens_its_case_first_on_another_is_convicted_all_the_same() -> None:
    judges = Bench(ValidationComponent("eu", TOPOLOGY))

    # the key of its case can be computed beforehand
    judges.turn(judges.asked(CASE, case_against("eu/victim"), "eu/cheat"))
    assert judges.answers() == ["operator_needed"]

    judges.turn(judges.caused(too_fast()))
    judges.turn(judges.asked(CASE, resolved(False), "eu/cheat"))
    assert judges.answers() == ["operator_needed"]

    vote = c.CastVote(voter_id="expert-1", voter_kind="expert", accept=False, score_ppm=0)
    judges.turn(judges.asked(KEY, vote, "expert-1"))
    judges.turn()
    case = judges.component.folds.get("fraud", CASE)
    assert isinstance(case, FraudState)
    assert (case.status, case.suspects) == ("confirmed", ("eu/cheat",))
    assert case.penalty_micro > 0


def test_operator_opens_and_resolves_a_case() -> None:
    judges = Bench(ValidationComponent("eu", TOPOLOGY))
    judges.turn(judges.asked("eu/case-1", case_against("eu/m"), "ops"))
    judges.turn(judges.asked("eu/case-1", resolved(True), "ops"))
    assert judges.answers() == ["done", "done"]


def test_who_is_judged_draws_no_panel_and_hurries_nothing_to_an_expert() -> None:
    judges = Bench(ValidationComponent("eu", TOPOLOGY))
    honest = too_fast()
    judges.turn(
        judges.caused(honest._replace(data=honest.data.model_copy(update={"payload_bytes": 1})))
    )

    def escalated(kind: str, *reviewers: str) -> list[str]:
        command = c.EscalateValidation.model_validate(
            {
                "to_kind": kind,
                "reason": "r",
                "quorum": 1,
                "reviewers": reviewers,
                "deadline_at": judges.now,
            }
        )
        judges.turn(judges.asked(KEY, command, "eu/cheat"))
        return judges.answers()

    # its friend's one vote would have decided
    assert escalated("peer-review", "eu/friend") == ["bad_reviewers"]
    assert escalated("expert", "eu/friend") == ["bad_reviewers"]
    assert escalated("expert") == ["not_late"]
    deferred = c.DeferValidation(reason="r", deadline_at=judges.now + timedelta(days=3650))
    judges.turn(judges.asked(KEY, deferred, "eu/cheat"))
    assert judges.answers() == ["operator_needed"]

    # late work goes to an expert, whoever asks
    judges.now += TIME_ALLOWED["automatic"]
    assert escalated("expert") == ["done"]
    state = judges.component.folds.get("validations", KEY)
    assert isinstance(state, ValidationState)
    assert (state.kind, state.reviewers) == ("expert", ())


def test_rival_takes_nobodys_reward_back() -> None:
    decided = ve.ValidationDecided(
        task_id="eu/t", task_type="inference", solution_id="s", miner_id="eu/m",
        kind="automatic", accepted=True, score_ppm=1_000_000, votes_for=1, votes_against=0,
        work_ms=1, base_reward_micro=1_000_000,
    )  # fmt: skip
    sink = Sink()
    payer = Bench(RewardComponent("eu", TOPOLOGY, sink))
    (calculated,) = payer.turn(payer.caused(fact_of(decided, KEY)))
    assert isinstance(calculated.data, RewardCalculated)
    rivals: list[Command] = [
        c.WithholdReward(case_id="eu/case-1", reason="r"),
        c.ReverseReward(reason="r"),
        c.ReverseReward(reason="r", case_id="eu/case-1"),  # of what is paid: a debt
        c.ReleaseReward(case_id="eu/case-1", reason="r"),
    ]
    for command in rivals:
        payer.turn(payer.asked("eu/t|eu/m", command, "eu/rival"))
        assert payer.answers() == ["operator_needed"]
    payer.turn()
    assert list(sink.paid) == ["eu/t|eu/m"]
    state = payer.component.folds.get("rewards", "eu/t|eu/m")
    assert state is not None
    assert state.status == "paid"


def test_nobody_is_suspended_for_fraud_but_after_a_case() -> None:
    registry = Bench(MinerComponent("eu", TOPOLOGY))
    registry.turn(registry.asked("eu/victim", register(), "eu/victim"))
    suspended = c.SuspendMiner(reason="fraud:copied-solution")
    for by in ("eu/victim", "eu/rival", "ops"):
        registry.turn(registry.asked("eu/victim", suspended, by))
        assert registry.answers()[-1] == "reserved_reason"
    confirmed = ve.FraudConfirmed(
        rule="copied-solution", suspects=("eu/victim",), decided_by="x", penalty_micro=1,
        evidence=SEEN,
    )  # fmt: skip
    registry.turn(registry.caused(fact_of(confirmed, "eu/case-1")))
    state = registry.component.folds.get("miners", "eu/victim")
    assert isinstance(state, MinerState)
    assert (state.status, state.reason) == ("suspended", "fraud:copied-solution")
