"""A validator goes on, whatever its user's judge does with one solution."""

from __future__ import annotations

import time
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from everlode.adapters.clock import WallClock
from everlode.balancing.judges import first_judges
from everlode.events.commands import CastVote
from everlode.events.states import ValidationState
from everlode.events.validations import ValidationRequested
from everlode.sdk.reference import Solution, Verdict
from everlode.state.dispatch import evolve_fact
from everlode.validations import validator as validating
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
    made = Validator("v-1", "automatic", component, client, WallClock(), judge)  # type: ignore[arg-type]
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
    judges = {"v-1": 1.0, "v-2": 1.0, "v-3": 1.0}
    shares = {v: {k for k in pending if first_judges(k, judges, 1) == (v,)} for v in judges}
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
