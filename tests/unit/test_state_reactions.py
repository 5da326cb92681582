"""Reactions: the whole loop from a solution to its payout and to fraud found, in one small home."""

from __future__ import annotations

from datetime import timedelta
from math import log
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.errors import Refusal
from everlode.events import commands as c
from everlode.events import validations as ve
from everlode.events.base import Fact
from everlode.events.miners import ReputationChanged
from everlode.events.states import FraudState, RewardState, ValidationState, Vote
from everlode.events.tasks import TaskSolved
from everlode.state import fraudrules
from everlode.state.auditing import drawn_for_audit, seed_of, vote_wanted
from everlode.state.cases import evidence
from everlode.state.equal import Equal
from everlode.state.formulas import penalty_of
from everlode.state.fraud import case_id, solution_case_id
from everlode.state.fraudrules import Record
from everlode.state.judging import choose_reviewers
from everlode.state.reactions import command_id, react
from everlode.state.reward import slash_id
from everlode.state.view import HomeView
from tests.support.facts.state_commands import NOW, fact_of, register, sha256_of, solution, submit
from tests.support.world.state_home import COMPONENTS, MINERS, WHERE, Home


def test_good_solution_goes_all_the_way_to_its_reward() -> None:
    home = Home()
    home.work("t", "a", "inference")
    assert home.state("miners", "a").locks == {"t": 200_000}
    assert home.review("t").kind == "automatic"
    home.vote("t", "auto", "automatic", True)
    assert home.state("tasks", "t").status == "validated"
    assert home.state("rewards", "t|a").amount_micro == 900_000
    home.pay("t", "a")
    assert home.state("tasks", "t").status == "rewarded"
    miner = home.state("miners", "a")
    assert (miner.locks, miner.accepted, miner.reputation_ppm) == ({}, 1, 509_000)
    assert home.folds["fraud"] == {}


@pytest.mark.parametrize(
    ("task_type", "planted", "kind"),
    [
        ("inference", None, "automatic"),
        ("evaluation", None, "automatic"),
        ("data-processing", None, "automatic"),
        ("training", None, "peer-review"),
        ("fine-tuning", None, "peer-review"),
        ("training", "ts", "automatic"),
    ],
)
def test_kind_of_validation_follows_the_type(
    task_type: str, planted: str | None, kind: str
) -> None:
    home = Home()
    home.work("t", "a", task_type, planted=planted)
    review = home.review("t")
    assert review.kind == kind
    assert len(review.reviewers) == review.quorum == 3 or kind == "automatic"
    assert "a" not in review.reviewers


def test_too_few_reviewers_leave_it_to_an_expert() -> None:
    home = Home()
    for miner in "bcdef":
        home.send("miners", miner, c.SuspendMiner(reason="r"))
    home.work("t", "a", "training")  # only g and h are left
    assert (home.review("t").kind, home.review("t").quorum) == ("expert", 1)


@given(st.text(min_size=1), st.integers(0, 30), st.integers(0, 30))
def test_reviewers_are_three_others_or_none(seed: str, count: int, solver: int) -> None:
    names = [f"m{n:02}" for n in range(count)]
    chosen = choose_reviewers(seed, names, {f"m{solver:02}"})
    others = set(names) - {f"m{solver:02}"}
    assert chosen == choose_reviewers(seed, names, {f"m{solver:02}"})
    assert set(chosen) <= others
    assert len(set(chosen)) == len(chosen) == (3 if len(others) >= 3 else 0)


def test_reviewers_are_drawn_evenly() -> None:
    names = [f"m{n}" for n in range(10)]
    drawn = [name for n in range(2000) for name in choose_reviewers(str(n), names, {"m0"})]
    counts = [drawn.count(name) for name in names[1:]]
    assert min(counts) > 550
    assert max(counts) < 790


def test_copied_solution_is_found_judged_by_an_expert_and_slashed() -> None:
    home = Home()
    home.work("t1", "a", "training", solution="same")
    home.work("t2", "b", "training", solution="same")
    case = home.case("copied-solution", "t2-1")
    assert case is not None
    assert (case.status, case.suspects, case.validation_id) == ("suspected", ("b",), "v-t2-1")
    assert case.evidence[0].offset == 42
    assert home.review("t2").kind == "expert"
    home.vote("t2", "x", "expert", False, 0)
    case = home.case("copied-solution", "t2-1")
    assert case is not None
    assert (case.status, case.decided_by, case.penalty_micro) == ("confirmed", "x", 900_000)
    miner = home.state("miners", "b")
    assert (miner.status, miner.stake_slashed_micro) == ("suspended", 900_000)
    slash: RewardState = home.state("rewards", slash_id(case.key, "b"))
    assert (slash.status, slash.amount_micro) == ("collected", 900_000)
    assert home.state("miners", "a").stake_slashed_micro == 0


def test_suspicion_is_cleared_by_an_expert_and_costs_nothing() -> None:
    home = Home()
    home.work("t1", "a", "training", solution="same")
    home.work("t2", "b", "training", solution="same")
    home.vote("t2", "x", "expert", True)
    case = home.case("copied-solution", "t2-1")
    assert case is not None
    assert case.status == "cleared"
    assert home.state("miners", "b").stake_slashed_micro == 0
    home.pay("t2", "b")
    assert home.state("tasks", "t2").status == "rewarded"


@pytest.mark.parametrize(
    ("miner", "payload", "planted"),
    [("a", "t2", None), ("b", "t1", None), ("b", "t2", "same")],
    ids=["own solution", "same input", "planted answer"],
)
def test_same_solution_with_a_good_reason_is_no_copy(
    miner: str, payload: str, planted: str | None
) -> None:
    home = Home()
    home.work("t1", "a", "training", solution="same", payload="t1")
    home.work("t2", miner, "training", solution="same", payload=payload, planted=planted)
    assert home.folds["fraud"] == {}


def like_solutions(shuffle: Any) -> Home:
    """Five like solutions, two of them by their maker, read and judged in any order."""
    home = Home(shuffle)
    makers = {"t1": "a", "t2": "b", "t3": "c", "t4": "a", "t5": "d"}
    for task, miner in makers.items():
        home.begin(task, miner, "inference" if task == "t3" else "training")
    for task, miner in makers.items():  # in this order in the log, before any is read
        home.solve(task, miner, "same")
    while home.queue:
        home.drain(shuffle.randrange(1, 5))
        task = shuffle.choice(sorted(makers))
        if shuffle.random() < 0.5:
            home.hasty_vote(task, makers[task] == "a")
    for task in makers:
        home.judge(task, good=makers[task] == "a")
    return home


@given(st.randoms(use_true_random=False))
def test_of_two_like_solutions_the_later_one_is_the_copy_whichever_is_read_first(
    random: Any,
) -> None:
    home = like_solutions(random)
    found = {
        case.key: (case.status, case.suspects)
        for case in home.folds["fraud"].values()
        if isinstance(case, FraudState)
    }
    confirmed = {"t2": "b", "t3": "c", "t5": "d"}
    assert found == {
        # like b's earlier one too, but an expert finds it good
        solution_case_id("copied-solution", "v-t4-1"): ("cleared", ("a",)),
        **{
            solution_case_id("copied-solution", f"v-{task}-1"): ("confirmed", (miner,))
            for task, miner in confirmed.items()
        },
    }
    assert home.state("miners", "a").status == "active"


def test_two_copies_of_one_batch_are_found_at_the_decision() -> None:
    home = Home()
    view = home.views["validations"]
    home.work("t1", "a", "training", solution="same")
    equal, view._equal = view._equal, Equal()
    home.work("t2", "b", "training", solution="same")  # the first is not seen yet
    assert home.folds["fraud"] == {}
    view._equal = equal
    for reviewer in home.review("t2").reviewers:
        home.vote("t2", reviewer, "peer-review", True)
    case = home.case("copied-solution", "t2-1")
    assert case is not None
    assert case.status == "suspected"  # what peers accept clears nothing
    assert home.state("rewards", "t2|b").status in ("withheld", "calculated")
    home.vote("t2", "x", "expert", False, 0)
    case = home.case("copied-solution", "t2-1")
    assert case is not None
    assert case.status == "confirmed"
    assert home.state("rewards", "t2|b").status == "reversed"


@pytest.mark.parametrize("task_type", ["inference", "training"])
def test_equal_small_answers_accuse_nobody_though_they_are_wrong(task_type: str) -> None:
    home = Home()
    for n, miner in enumerate("abcdef"):
        home.work(f"t{n}", miner, task_type, solution="yes", bytes=3)
        home.judge(f"t{n}", good=n != 3)
    assert home.folds["fraud"] == {}
    assert home.review("t3").accepted is False


def test_equal_answers_to_what_is_run_again_are_copies_once_they_are_found_bad() -> None:
    home = Home()
    for n, miner in enumerate("abc"):
        home.work(f"t{n}", miner, "inference", solution="same")
        assert home.review(f"t{n}").kind == "automatic"
    home.vote("t1", "auto", "automatic", True)
    assert home.folds["fraud"] == {}
    home.vote("t2", "auto", "automatic", False, 0)
    case = home.case("copied-solution", "t2-1")
    assert case is not None
    assert (case.status, case.suspects) == ("confirmed", ("c",))


def test_impossible_speed_is_suspected_and_confirmed_when_rejected() -> None:
    home = Home()
    home.work("t", "a", "inference", size=100 * fraudrules.READ_BYTES_PER_MS)
    assert home.folds["fraud"] == {}
    home.work("u", "a", "inference", size=100 * fraudrules.READ_BYTES_PER_MS + 1)
    home.vote("u", "x", "expert", False, 0)
    case = home.case("impossible-speed", "u-1")
    assert case is not None
    assert case.status == "confirmed"


def test_wrong_planted_answer_is_suspected_at_once_and_confirmed_by_the_record() -> None:
    home = Home()
    for n, status in enumerate(("suspected", "suspected", "confirmed")):
        home.work(f"t{n}", "a", "inference", planted="right" if n < 2 else None)
        home.vote(f"t{n}", "auto", "automatic", False, 0)
        case = home.case("wrong-planted-answer", "a")
        assert case is not None
        assert case.status == status
    assert home.state("miners", "a").status == "suspended"
    assert home.case("repeated-bad-work", "a") is None  # one case for the same work
    assert len(home.state("miners", "a").cases) == 1


def test_bad_work_again_and_again_is_suspected_then_confirmed_and_costs_once() -> None:
    home = Home()
    seen = []
    for n in range(4):
        home.work(f"t{n}", "a", "inference")
        home.vote(f"t{n}", "auto", "automatic", False, 0)
        case = home.case("repeated-bad-work", "a")
        seen.append(case and case.status)
    assert seen == [None, "suspected", "confirmed", "confirmed"]
    miner = home.state("miners", "a")
    assert (miner.status, miner.stake_slashed_micro) == ("suspended", 3 * 800_000)


def wrong(home: Home, *tasks: str, base: int = 1_000_000) -> None:
    """Miner a hands in bad work."""
    for task in tasks:
        home.work(task, "a", "inference", base=base)
        home.vote(task, "auto", "automatic", False, 0)


def test_conviction_costs_what_all_the_wrong_work_was_worth_not_only_the_last() -> None:
    home = Home()
    wrong(home, "t0", "t1")
    wrong(home, "dust", base=1)
    assert home.state("miners", "a").stake_slashed_micro == penalty_of(2_000_001, 800_000)


def test_reinstated_miner_begins_a_new_record_and_is_convicted_by_that() -> None:
    home = Home()
    wrong(home, "t0", "t1", "t2")
    assert home.state("miners", "a").stake_slashed_micro == 2_400_000
    home.send("miners", "a", c.ReinstateMiner(reason="trust", decided_by="op"))
    wrong(home, "t3")
    assert home.state("fraud", case_id("repeated-bad-work", "a", 2)) is None
    wrong(home, "t4", "t5")
    second: FraudState = home.state("fraud", case_id("repeated-bad-work", "a", 2))
    assert (second.status, second.record_wrong) == ("confirmed", 6)
    miner = home.state("miners", "a")
    assert (miner.status, miner.stake_slashed_micro) == ("suspended", 4_800_000)
    assert len(miner.cases) == 2


def test_votes_of_those_who_were_not_drawn_wash_no_record() -> None:
    home = Home()
    wrong(home, "bad")
    home.work("pending", "b", "training")
    panel = home.review("pending").reviewers
    outsider = next(m for m in MINERS if m not in (*panel, "a", "b"))
    for task in ("bad", "pending"):
        with pytest.raises(Refusal) as caught:
            home.vote(task, outsider, "peer-review", False, 0)
        assert caught.value.code == "not_a_reviewer"
    for reviewer in panel:
        home.vote("pending", reviewer, "peer-review", True)
    with pytest.raises(Refusal):
        home.vote("pending", outsider, "peer-review", False, 0)
    assert home.views["validations"].reviews(outsider) == Record(0, 0)


def test_nobody_reviews_a_solution_of_its_own_operator() -> None:
    home = Home(miners=())
    for name in "abcdefgh":
        operator = "one" if name in "abcde" else name
        home.send("miners", name, register(operator_id=operator))
        home.send("miners", name, c.DepositStake(amount_micro=10_000_000))
    home.work("t", "a", "training")
    assert home.review("t").reviewers == ("f", "g", "h")
    home.work("other", "f", "training")
    assert set(home.review("other").reviewers) & set("abcde")
    home.send("miners", "h", c.RetireMiner(reason="r"))
    home.work("few", "b", "training")  # nobody impartial is left in a panel
    assert (home.review("few").kind, home.review("few").reviewers) == ("expert", ())


def test_who_names_the_solution_draws_neither_its_panel_nor_its_audit() -> None:
    names = [f"m{n}" for n in range(10)]
    seeds = [seed_of("v-chosen", stamp) for stamp in range(1000)]
    assert len({choose_reviewers(seed, names, {"m0"}) for seed in seeds}) == 84  # all there are
    assert 30 < sum(drawn_for_audit("v-chosen", stamp) for stamp in range(1000)) < 100


def test_who_plants_a_wrong_answer_accuses_nobody_by_it() -> None:
    home = Home()
    home.work("t", "a", "inference", planted="a trap")
    home.vote("t", "auto", "automatic", True)
    home.vote("t", "x", "expert", True)
    assert home.folds["fraud"] == {}
    assert home.state("rewards", "t|a").status == "calculated"
    assert home.views["validations"].honeypots("a") == Record(1, 0)


def test_only_the_reward_of_the_solution_that_was_judged_waits_for_its_case() -> None:
    """The first solver's votes were bought; the second one's reward for the task is its own."""
    suspected = ve.FraudSuspected(
        rule="colluding-votes", suspects=("p",), task_id="t", severity_ppm=1,
        evidence=(evidence("n", None)), solver_id="a",
    )  # fmt: skip
    home = Home()
    home.work("t", "b", "inference")
    home.vote("t", "auto", "automatic", True)
    view = home.views["rewards"]
    assert react("rewards", fact_of(suspected, "case"), view) == ()
    theirs = suspected.model_copy(update={"solver_id": "b"})
    (held,) = react("rewards", fact_of(theirs, "case"), view)
    assert held.aggregate_id == "t|b"


def test_no_reward_waits_for_a_case_that_a_record_opened() -> None:
    home = Home()
    home.work("t0", "a", "inference")
    home.vote("t0", "auto", "automatic", False, 0)
    home.work("t1", "b", "inference")
    home.work("t2", "a", "inference")
    home.vote("t2", "auto", "automatic", True)  # calculated, not paid yet
    home.vote("t2", "x", "expert", False, 0)
    case = home.case("repeated-bad-work", "a")
    assert case is not None
    assert (case.status, case.task_id) == ("suspected", None)
    assert home.state("rewards", "t2|a").status == "calculated"


def test_good_work_clears_what_the_record_suspected_with_evidence_and_reputation() -> None:
    home = Home()
    for n in range(6):
        home.work(f"t{n}", "a", "inference")
        before = home.state("miners", "a").reputation_ppm
        home.vote(f"t{n}", "auto", "automatic", n > 1, 0)
    case = home.case("repeated-bad-work", "a")
    assert case is not None
    assert case.status == "cleared"
    assert case.evidence[-1].note == "2 of 6 proved solutions are bad"
    miner = home.state("miners", "a")
    assert (miner.status, miner.cleared) == ("active", (case.key,))
    assert miner.reputation_ppm == before + (1_000_000 - before) * 10_000 // 1_000_000


def test_work_of_a_watched_miner_goes_to_an_expert_and_its_peer_reviews_are_audited() -> None:
    for n in range(99):
        home, unaudited = Home(), f"t{n}"
        home.work(unaudited, "a", "training")
        state = home.review(unaudited)
        if not drawn_for_audit(state.key, state.solved_stamp):
            break
    for reviewer in home.review(unaudited).reviewers:
        home.vote(unaudited, reviewer, "peer-review", True)
    view = home.views["validations"]
    assert view.audits_due() == []
    home.work("bad", "a", "inference")
    home.vote("bad", "auto", "automatic", False, 0)
    assert view.audits_due() == [f"v-{unaudited}-1"]
    home.work("next", "a", "training")
    assert home.review("next").kind == "expert"
    home.vote("next", "x", "expert", True)
    home.vote(unaudited, "x", "expert", True)
    assert (view.watched("a"), view.audits_due()) == (False, [])
    home.work("later", "a", "training")
    assert home.review("later").kind == "peer-review"


def test_right_planted_answers_clear_one_accident() -> None:
    home = Home()
    home.work("t", "a", "inference", planted="right")
    home.vote("t", "auto", "automatic", False, 0)
    for n in range(4):
        home.work(f"t{n}", "a", "inference", planted=f"t{n}s")
        home.vote(f"t{n}", "auto", "automatic", True)
    case = home.case("wrong-planted-answer", "a")
    assert case is not None
    assert case.status == "cleared"
    assert case.evidence[-1].note == "1 of 5 proved solutions are bad"
    miner = home.state("miners", "a")
    assert (miner.status, miner.cleared) == ("active", (case.key,))


def collusion(*scores: int, paid: bool = False) -> tuple[Home, tuple[str, ...]]:
    """Reviewers who accept, with these scores, what an expert finds bad; the others reject it."""
    home = Home()
    home.work("t", "a", "training")
    panel = home.review("t").reviewers
    for reviewer, score in zip(panel, (*scores, 0, 0, 0), strict=False):
        home.vote("t", reviewer, "peer-review", score > 0, score)
    if paid:
        home.pay("t", "a")
    home.vote("t", "x", "expert", False, 0)
    return home, panel


def test_three_colluding_reviewers_are_found_by_an_audit() -> None:
    home, panel = collusion(810_000, 800_000, 805_000)
    case = home.case("colluding-votes", "t-1")
    assert case is not None
    assert (case.status, case.suspects) == ("confirmed", tuple(sorted(panel)))
    for reviewer in panel:
        assert home.state("miners", reviewer).stake_slashed_micro == 1_000_000
    assert home.state("rewards", "t|a").status == "reversed"


def test_reward_that_was_paid_is_a_debt_when_its_votes_were_bought() -> None:
    home, _ = collusion(800_000, 800_000, 800_000, paid=True)
    reward: RewardState = home.state("rewards", "t|a")
    assert (reward.status, reward.debt_micro) == ("reclaimed", 800_000)


@pytest.mark.parametrize("scores", [(900_000, 800_000, 700_000), (800_000, 800_000), (800_000,)])
def test_reviewers_who_erred_apart_or_in_a_pair_once_are_not_accused(scores: Any) -> None:
    home, _ = collusion(*scores)
    assert home.folds["fraud"] == {}


def test_reviewers_who_rejected_what_is_good_gave_no_like_scores() -> None:
    home = Home()
    home.work("t", "a", "training")
    for reviewer in home.review("t").reviewers:
        home.vote("t", reviewer, "peer-review", False, 0)
    home.vote("t", "x", "expert", True)
    assert home.folds["fraud"] == {}


def reviewed(votes: str) -> tuple[Home, list[str | None]]:
    """Reviewer c accepts (a) or rejects (r) bad solutions, each of another miner; its case then."""
    home = Home(miners=("c", *(f"s{n}" for n in range(9))))
    seen = []
    for n, vote in enumerate(votes):
        for i in range(99):
            task = f"t{n}-{i}"
            home.work(task, f"s{n}", "training")
            if "c" in home.review(task).reviewers:
                break
        for voter in home.review(task).reviewers:
            accept = voter == "c" and vote == "a"
            home.vote(task, voter, "peer-review", accept, 800_000 if accept else 0)
        home.vote(task, "x", "expert", False, 0)
        case = home.case("colluding-votes", "c")
        seen.append(case and case.status)
    return home, seen


def test_reviewer_who_accepts_bad_work_again_and_again_is_confirmed() -> None:
    home, seen = reviewed("aaa")
    assert seen == [None, "suspected", "confirmed"]
    miner = home.state("miners", "c")
    assert (miner.status, miner.stake_slashed_micro) == ("suspended", 3_000_000)
    assert {m.status for k, m in home.folds["miners"].items() if k != "c"} == {"active"}


def test_case_of_colluding_votes_is_cleared_by_votes_that_were_right() -> None:
    home, seen = reviewed("aarrrr")
    assert seen == [None, *["suspected"] * 4, "cleared"]
    case = home.case("colluding-votes", "c")
    assert case is not None
    assert case.evidence[-1].note == "accepted 2 of 6 that an expert found bad"
    miner = home.state("miners", "c")
    assert (miner.status, miner.cleared, miner.stake_slashed_micro) == ("active", (case.key,), 0)
    changes = [f.data for _, f in home.facts if isinstance(f.data, ReputationChanged)]
    (moved,) = [d for d in changes if d.reason == "cleared"]
    assert (moved.subject_id, moved.delta_ppm) == (case.key, 5_000)


def test_failed_expired_and_cancelled_work_frees_the_stake() -> None:
    home = Home()
    for task in ("t1", "t2", "t3"):
        home.send("tasks", task, submit())
        assign = c.AssignTask(
            miner_id="a", manager_node="n", lease_until=home.now + timedelta(hours=1)
        )
        home.send("tasks", task, assign)
    assert set(home.state("miners", "a").locks) == {"t1", "t2", "t3"}
    failed = c.ReportFailure(miner_id="a", attempt=1, reason="oom", permanent=True)
    home.send("tasks", "t1", failed)
    home.send("tasks", "t2", c.ExpireLease(attempt=1), at=NOW + timedelta(days=1))
    home.send("tasks", "t3", c.CancelTask(reason="r"))
    miner = home.state("miners", "a")
    assert (miner.locks, miner.failed, miner.expired) == ({}, 1, 1)
    assert miner.stake_free_micro == 10_000_000


def test_second_attempt_under_the_first_ones_solution_id_is_judged_and_paid() -> None:
    """The miner names its solutions alike: by chance, or since two answers are equal."""
    home = Home()
    home.work("t1", "a", "inference")
    home.vote("t1", "auto", "automatic", False, 0)
    assert home.state("tasks", "t1").status == "submitted"
    again = c.AssignTask(miner_id="a", manager_node="n", lease_until=home.now + timedelta(hours=1))
    home.send("tasks", "t1", again)
    home.send("tasks", "t1", solution("a", 2, "t1-1", sha256_of("right"), 100))
    good = c.CastVote(voter_id="auto", voter_kind="automatic", accept=True, score_ppm=900_000)
    home.send("validations", "v-t1-2", good)
    home.pay("t1", "a")
    assert home.state("tasks", "t1").status == "rewarded"
    miner = home.state("miners", "a")
    assert (miner.locks, miner.rejected, miner.accepted) == ({}, 1, 1)


def busy(home: Home) -> Home:
    """All kinds of ends, honest and not."""
    home.work("t3", "d", "training")  # first: its panel is drawn by its stamp
    home.work("t1", "a", "inference", solution="same")
    home.vote("t1", "auto", "automatic", True)
    home.work("t2", "b", "training", solution="same")
    home.vote("t2", "x", "expert", False, 0)
    for n in range(3):
        home.work(f"p{n}", "c", "inference", planted="right")
        home.vote(f"p{n}", "auto", "automatic", False, 0)
    panel = home.review("t3").reviewers
    for n, reviewer in enumerate(panel):
        home.vote("t3", reviewer, "peer-review", n < 2, 800_000)
    home.vote("t3", "x", "expert", False, 0)
    home.pay("t1", "a")
    return home


def summary(home: Home) -> dict[tuple[str, str], dict[str, Any]]:
    """States, without what depends on the order of different keys' facts."""
    found = {}
    for component, states in home.folds.items():
        for key, state in states.items():
            fields = state._asdict()
            for name in ("seq", "stamp", "solved_stamp", "version", "recent", "reputation_ppm"):
                fields.pop(name, None)
            found[component, key] = fields
    return found


@given(st.randoms(use_true_random=False))
def test_order_in_which_primaries_read_changes_no_outcome(random: Any) -> None:
    assert summary(busy(Home(shuffle=random))) == summary(busy(Home()))


def test_reactions_carried_out_twice_change_nothing() -> None:
    once, twice = busy(Home()), busy(Home(repeat=True))
    assert twice.folds == once.folds
    assert [f for _, f in twice.facts] == [f for _, f in once.facts]


def test_view_built_from_the_states_is_the_view_that_was_kept() -> None:
    home = busy(Home())
    kept, fresh = home.views["validations"], HomeView("eu", home.folds)
    for states in home.folds.values():
        for state in states.values():
            fresh.changed(state)
            fresh.changed(state)
    for component, fact in home.facts:
        if component == "miners":
            fresh.miner_fact(fact)
            fresh.miner_fact(fact)
    assert fresh.reviewers() == kept.reviewers()
    assert set(fresh.reviewers()) < set(MINERS)
    assert fresh.audits_due() == kept.audits_due()
    assert fresh.honeypots("c") == kept.honeypots("c") == Record(0, 3)
    for key, state in home.folds["validations"].items():
        assert isinstance(state, ValidationState)
        assert fresh.firsts(state.solution_sha256) == kept.firsts(state.solution_sha256)
        first = fraudrules.handed_in(state)._replace(stamp=0)
        assert fresh.after(first) == kept.after(first) != []
        assert fresh.open_cases(key) == kept.open_cases(key)
    rewards = home.views["rewards"]
    for key, state in home.folds["rewards"].items():
        assert isinstance(state, RewardState)
        assert fresh.rewards_of_task(state.task_id) == rewards.rewards_of_task(state.task_id)
        assert state.key == key


def test_facts_of_other_homes_give_nothing_here() -> None:
    home = busy(Home())
    views = {name: HomeView("us", {n: {} for n in home.folds}) for name in COMPONENTS}
    for _, fact in home.facts:
        for name in COMPONENTS:
            assert react(name, fact, views[name], None) == ()


def test_command_id_differs_by_event_rule_and_aggregate() -> None:
    home = busy(Home())
    found = [
        (target, fact.envelope.event_id, reaction)
        for _, fact in home.facts
        for target in COMPONENTS
        for reaction in react(target, fact, home.views[target], WHERE)
    ]
    ids = {command_id(event, reaction) for _, event, reaction in found}
    assert len(ids) == len({(e, r.rule, r.aggregate_id) for _, e, r in found}) == len(found)


def test_votes_are_asked_of_those_who_can_decide() -> None:
    home = busy(Home())
    wanted = [vote_wanted(fact) for component, fact in home.facts if component == "validations"]
    experts = {v.validation_id for v in wanted if v is not None and v.kind == "expert"}
    assert {"v-t2-1", "v-t3-1"} <= experts
    assert {v.validation_id for v in wanted if v is not None and v.kind == "automatic"} == {
        "v-t1-1",
        "v-p0-1",
        "v-p1-1",
        "v-p2-1",
    }


def test_experts_are_shown_what_is_to_be_audited_until_one_has() -> None:
    home = Home()
    view = home.views["validations"]
    home.work("t", "a", "training")
    panel = home.review("t").reviewers
    for n, reviewer in enumerate(panel):
        assert view.audits_due() == []
        home.vote("t", reviewer, "peer-review", n < 2, 800_000 + n * 90_000)
    assert view.audits_due() == ["v-t-1"]
    home.vote("t", "x", "expert", True)
    assert view.audits_due() == []
    assert home.folds["fraud"] == {}  # the audit upheld it: nobody is accused
    assert view.open_cases("v-t-1") == []


def test_decision_under_suspicion_is_shown_to_experts() -> None:
    home = Home()
    view = home.views["validations"]
    home.work("t1", "a", "training", solution="same")
    equal, view._equal = view._equal, Equal()
    home.work("t2", "b", "training", solution="same")
    view._equal = equal
    for reviewer in home.review("t2").reviewers:
        home.vote("t2", reviewer, "peer-review", True)
    assert view.audits_due() == ["v-t2-1"]
    assert view.open_cases("v-t2-1") == ["case-copied-solution|v-t2-1"]
    home.vote("t2", "x", "expert", True)
    assert (view.audits_due(), view.open_cases("v-t2-1")) == ([], [])
    cleared = home.case("copied-solution", "t2-1")
    assert cleared is not None
    assert cleared.status == "cleared"
    assert home.state("rewards", "t2|b").status == "calculated"  # released again


def test_upheld_audit_accuses_nobody_even_of_like_scores() -> None:
    home = Home()
    home.work("t", "a", "training")
    for n, reviewer in enumerate(home.review("t").reviewers):
        home.vote("t", reviewer, "peer-review", n < 2, 800_000)
    home.vote("t", "x", "expert", True)
    assert home.folds["fraud"] == {}


def test_one_unanimous_peer_review_in_sixteen_is_audited() -> None:
    def decided(key: str) -> Fact:
        data = ve.ValidationDecided(
            task_id="t",
            task_type="training",
            solution_id="s",
            miner_id="m",
            kind="peer-review",
            accepted=True,
            score_ppm=1,
            votes_for=3,
            votes_against=0,
            work_ms=1,
            base_reward_micro=1,
            solved_stamp=7,
        )
        return fact_of(data, key)

    drawn = sum(vote_wanted(decided(f"v-{n}")) is not None for n in range(3200))
    assert 140 < drawn < 260


def test_record_weighs_as_its_likelihood_does() -> None:
    """Never more than the exact one, so that the bound on false accusations holds."""
    unit = log(16) / 7
    assert unit * fraudrules.WRONG == pytest.approx(log(0.80 / 0.05))
    assert unit * fraudrules.RIGHT <= log(0.20 / 0.95)
    assert unit * fraudrules.ALIKE <= log(300_000 / (2 * fraudrules.COLLUSION_SPREAD_PPM))
    assert unit * fraudrules.GUILTY == pytest.approx(log(4_096))
    rare = log(0.80 / 0.02) / 7  # who is wrong twice in 100
    assert rare * fraudrules.RIGHT <= log(0.20 / 0.98)
    assert rare * fraudrules.GUILTY == pytest.approx(log(64_000))
    once, twice = Record(0, 1), Record(0, 2)
    assert fraudrules.together([once, once]) < fraudrules.GUILTY
    assert fraudrules.together([once, twice]) >= fraudrules.GUILTY


def test_four_right_planted_answers_clear_each_wrong_one() -> None:
    assert not fraudrules.honeypots_cleared(Record(3, 1))
    assert fraudrules.honeypots_cleared(Record(4, 1))
    assert not fraudrules.honeypots_cleared(Record(7, 2))


def test_largest_close_group_is_accused() -> None:
    home = Home()
    home.work("t", "a", "training")
    base = home.review("t")
    scores = {"p1": 100_000, "p2": 500_000, "p3": 510_000, "p4": 520_000, "p5": 545_000}
    votes = tuple(Vote(who, "peer-review", True, score, NOW) for who, score in scores.items())
    (sign,) = fraudrules.colluding_votes(base._replace(accepted=True, votes=votes))
    assert sign.suspects == ("p2", "p3", "p4")


def test_speed_rule_needs_no_clock() -> None:
    solved = TaskSolved(
        **solution("m", 1, "s", sha256_of("a"), work_ms=0).__dict__,
        task_type="inference",
        payload_sha256=sha256_of("b"),
        payload_bytes=0,
        base_reward_micro=1,
    )
    assert fraudrules.impossible_speed(solved, "t") == []
    some = solved.model_copy(update={"payload_bytes": 1})
    assert len(fraudrules.impossible_speed(some, "t")) == 1
