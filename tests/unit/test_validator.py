"""A validator goes on, whatever its user's judge does with one solution."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from everlode.adapters.clock import WallClock
from everlode.balancing.judges import Judging, first_judges
from everlode.events.commands import CastVote, EscalateValidation
from everlode.events.states import ValidationState
from everlode.events.validations import ValidationRequested
from everlode.membership.hand import Nothing
from everlode.sdk.reference import Solution, Verdict
from everlode.state.dispatch import evolve_fact
from everlode.validations import limited as limiting
from everlode.validations import validator as validating
from everlode.validations.limited import MOST_LEFT, LimitedJudge, Overdue
from everlode.validations.validator import Validator
from tests.support.world.backed import story
from tests.support.world.region import until


def waiting() -> dict[str, ValidationState]:
    """Validations that wait for an automatic validator, one a task."""
    found: dict[str, ValidationState] = {}
    for _, fact in story(1, 12):
        if isinstance(fact.data, ValidationRequested) and fact.data.kind == "automatic":
            state = evolve_fact(None, fact, 0)
            assert isinstance(state, ValidationState)
            found.setdefault(state.task_id, state)
    assert len(found) > 2
    return {state.key: state for state in found.values()}


class Client:
    """Takes each vote; refuses the first one."""

    def __init__(self) -> None:
        self.votes: list[str] = []

    def send(self, key: str, command: CastVote, **_: Any) -> Future[Any]:
        self.votes.append(key)
        done: Future[Any] = Future()
        done.set_result(SimpleNamespace(outcome="refused" if len(self.votes) == 1 else "done"))
        return done


def test_judge_that_fails_and_a_vote_that_is_refused_are_asked_again_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(validating, "AGAIN_S", 0.4)
    pending, client = waiting(), Client()
    first, second, *others = pending
    asked: dict[str, list[float]] = {}

    def judge(solution: Solution) -> Verdict:
        key = next(k for k, s in pending.items() if s.task_id == solution.task_id)
        asked.setdefault(key, []).append(time.monotonic())
        if key == second and len(asked[key]) < 3:
            raise ValueError("the user's own mistake")
        return Verdict(accept=True, score_ppm=1)

    component: Any = SimpleNamespace(pending=pending)
    made = Validator("v-1", "automatic", component, client, WallClock(), LimitedJudge(judge, 60))  # type: ignore[arg-type]
    made.start()
    until(lambda: made.votes == len(pending), 20, "each has a vote")
    made.stop()
    assert sorted(client.votes) == sorted([first, first, second, *others])
    assert {key: len(times) for key, times in asked.items()} == {
        first: 2, second: 3, **dict.fromkeys(others, 1),
    }  # fmt: skip
    assert asked[second][2] - asked[second][0] >= 0.8, "not at once"
    assert "judging" in caplog.text


def test_validators_share_what_waits_and_take_over_what_another_leaves_undone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(validating, "HOLD_S", 600.0)
    pending = waiting()
    judges = dict.fromkeys(("v-1", "v-2", "v-3"), Judging())
    alike = dict.fromkeys(judges, 1.0)
    shares = {v: {k for k in pending if first_judges(k, alike, 1) == (v,)} for v in judges}
    assert all(shares.values()), "vacuous: one of them has no share"

    def started(name: str) -> tuple[Validator, Client]:
        component: Any = SimpleNamespace(pending=pending)
        client: Any = Client()
        client.votes.append("")  # refuse none
        made = Validator(name, "automatic", component, client, WallClock(), judges=lambda: judges)
        made.start()
        return made, client

    two = {name: started(name) for name in ("v-1", "v-2")}  # the third does not work
    until(lambda: all(two[v][0].votes == len(shares[v]) for v in two), 20, "their shares")
    time.sleep(2 * validating.TURN_S)
    assert {v: set(client.votes) - {""} for v, (_, client) in two.items()} == {
        v: shares[v] for v in two
    }
    monkeypatch.setattr(validating, "HOLD_S", 0.0)
    until(lambda: all(made.votes == len(pending) for made, _ in two.values()), 20, "all of it")
    for made, _ in two.values():
        made.stop()


class Hand(Nothing):
    """Nobody is blamed yet; keeps what stands."""

    def __init__(self) -> None:
        self.standing: list[str] = []

    def stands(self, what: str) -> None:
        self.standing.append(what)


def test_judge_that_does_not_come_back_is_left_alone_and_others_are_judged() -> None:
    pending, client, hand, end = waiting(), Client(), Hand(), threading.Event()
    stands, *others = pending
    asked = list[str]()

    def judge(solution: Solution) -> Verdict:
        asked.append(next(k for k, s in pending.items() if s.task_id == solution.task_id))
        if asked[-1] == stands:
            end.wait(60)
        return Verdict(accept=True, score_ppm=1)

    limited = LimitedJudge(judge, 0.3)
    component: Any = SimpleNamespace(pending=pending)
    made = Validator(
        "v-1", "automatic", component, cast("Any", client), WallClock(), limited, hand=hand
    )
    made.start()
    until(lambda: made.votes >= len(others), 20, "each of the others has a vote")
    assert set(client.votes) == set(others)
    assert asked.count(stands) == 1, "it is not tried again"
    assert hand.standing == [f"validation {stands}"]
    assert limited.stands().startswith("a judge that began ")
    assert limited.stands().endswith(pending[stands].task_id)
    end.set()
    until(lambda: not limited.stands(), 20, "it has come back")
    time.sleep(2 * validating.TURN_S)
    made.stop()
    assert stands not in client.votes, "its verdict is too late"


def test_late_case_that_the_own_judge_does_not_come_back_from_is_the_experts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(validating, "REVIEW_S", 0.2)
    pending, client, end = waiting(), Client(), threading.Event()
    stands = next(iter(pending))
    only = {stands: pending[stands]._replace(deadline_at=datetime(2000, 1, 1, tzinfo=UTC))}
    sent = list[Any]()
    client.send = lambda key, command, **_: sent.append(command) or Future()  # type: ignore[method-assign, func-returns-value]
    judge: Any = lambda _: end.wait(60)  # noqa: E731
    component: Any = SimpleNamespace(pending=only)
    made = Validator(
        "v-1", "automatic", component, cast("Any", client), WallClock(), LimitedJudge(judge, 0.2)
    )
    made.start()
    until(lambda: bool(sent), 20, "it is escalated")
    made.stop()
    end.set()
    assert [(type(c), c.to_kind) for c in sent] == [(EscalateValidation, "expert")]


def solution(name: str) -> Solution:
    return Solution(name, "m", "", None)


def test_few_threads_are_left_alone_and_then_nothing_is_judged_until_one_comes_back() -> None:
    ends = {f"t{n}": threading.Event() for n in range(MOST_LEFT)}

    def judge(solution: Solution) -> Verdict:
        ends[solution.task_id].wait(60)
        return Verdict(accept=True, score_ppm=1)

    limited = LimitedJudge(judge, 0.05)
    for name in ends:
        assert limited.free
        with pytest.raises(Overdue, match=r"not come back for 0\.05 s"):
            limited(solution(name))
    assert not limited.free
    assert limited.stands().endswith(f"on t0, and {MOST_LEFT - 1} more")
    ends["t0"].set()
    until(lambda: limited.free, 20, "one has come back")
    ends["t4"] = ends["t0"]
    assert limited(solution("t4")) == Verdict(accept=True, score_ppm=1)
    for end in ends.values():
        end.set()
    until(lambda: not limited.stands(), 20, "all have come back")


def test_judge_whose_process_was_stopped_has_a_moment_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def judge(solution: Solution) -> Verdict:
        time.sleep(0.3)
        return Verdict(accept=True, score_ppm=1)

    monkeypatch.setattr(limiting, "GRACE_S", 60.0)
    assert LimitedJudge(judge, 0.01)(solution("t")) == Verdict(accept=True, score_ppm=1)


def test_time_out_of_the_judges_own_is_its_error_and_not_overdue() -> None:
    def judge(solution: Solution) -> Verdict:
        raise TimeoutError("the judge's own")

    limited = LimitedJudge(judge, 60)
    with pytest.raises(TimeoutError, match="the judge's own"):
        limited(solution("t"))
    assert limited.stands() == ""
