"""Who is found to cheat, and who is not: a home whose honest miners and reviewers err, too. Seeded.

Of forty miners three hand in wrong work, two copy another's, two hand in rubbish at once, six vote
as reviewers for whatever a cheat hands in. Everybody else slips now and then, alone.
"""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from everlode.events.miners import ReputationChanged
from everlode.events.states import FraudState, MinerState, ValidationState
from everlode.events.tasktypes import DEFAULT_TASK_TYPES
from everlode.events.validations import FraudCleared
from everlode.state.fraudrules import GUILTY, weight
from tests.support.world.state_home import Home

SLIP = 0.03
"""How often the honest are wrong, as miners and as reviewers."""
GIGABYTE = 2**30


class Network:
    """A home, its cheats, and everybody who does something in it."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.miners = tuple(f"m{n:02}" for n in range(40))
        cast = self.random.sample(self.miners, 13)
        self.vice = dict(zip(cast, ["wrong"] * 3 + ["copier"] * 2 + ["hasty"] * 2, strict=False))
        self.colluders = frozenset(cast[7:])
        self.home = Home(miners=self.miners)
        self.good: dict[str, bool] = {}
        self.solver: dict[str, str] = {}
        self.shown: list[str] = []
        self.acted: set[str] = set()

    def cheats(self) -> set[str]:
        """All who would, if they could."""
        return {*self.vice, *self.colluders}

    def run(self, tasks: int) -> None:
        """All tasks, one after another."""
        for n in range(tasks):
            self.task(f"t{n}")

    def task(self, task: str) -> None:
        """One task, and what is asked of validators because of it."""
        active = [m for m in self.miners if self.miner(m).status == "active"]
        miner = self.random.choice(active)
        planted = self.random.random() < 0.1
        vice = self.vice.get(miner)
        good = vice is None and self.random.random() >= SLIP
        right = f"{task}-known" if planted else f"{task}-by-{miner}"
        answer = right if good else f"{task}-{miner}-bad"
        if vice == "copier" and self.shown:
            answer = self.shown[-1]
        if vice:
            self.acted.add(miner)
        elif good and not planted:
            self.shown = [*self.shown[-3:], answer]
        self.good[f"v-{task}-1"], self.solver[f"v-{task}-1"] = good, miner
        kind = self.random.choice(DEFAULT_TASK_TYPES)
        self.home.begin(
            task, miner, kind, size=GIGABYTE, planted=f"{task}-known" if planted else None
        )
        self.home.solve(task, miner, answer, work_ms=1 if vice == "hasty" else 60_000)
        self.home.drain()
        for _ in range(3):  # a decision, an expert after it, and those who are looked at again
            self.votes(f"v-{task}-1")
            for key in self.home.views["validations"].audits_due():
                self.votes(key)

    def miner(self, key: str) -> MinerState:
        state: MinerState = self.home.state("miners", key)
        return state

    def votes(self, key: str) -> None:
        """Those who are asked vote."""
        state: ValidationState = self.home.state("validations", key)
        task = key.removeprefix("v-").removesuffix("-1")
        if key in self.home.views["validations"].audits_due():
            self.home.vote(task, "expert", "expert", self.good[key])
        elif state.status == "pending":
            for voter in state.reviewers or (f"node-{state.kind}",):
                accept, score = self.good[key], 700_000 + 7_919 * len(task + voter) % 300_000
                if voter in state.reviewers and voter in self.colluders:
                    if self.solver[key] in self.vice:
                        accept, score = True, 950_000
                        self.acted.add(voter)
                elif voter in state.reviewers and self.random.random() < SLIP:
                    accept, score = not accept, self.random.randrange(700_000, 1_000_000)
                self.home.vote(task, voter, state.kind, accept, score if accept else 0)

    def confirmed(self, *rules: str) -> set[str]:
        """Who was found, by these rules or by any."""
        found: set[str] = set()
        for case in self.home.folds["fraud"].values():
            assert isinstance(case, FraudState)
            if case.status == "confirmed" and (not rules or case.rule in rules):
                found.update(case.suspects)
        return found


@pytest.fixture(scope="module", params=range(6))
def network(request: pytest.FixtureRequest) -> Network:
    made = Network(request.param)
    made.run(1000)
    return made


def test_nobody_honest_is_confirmed_though_the_honest_err(network: Network) -> None:
    honest = [key for key, solver in network.solver.items() if solver not in network.vice]
    slips = sum(not network.good[key] for key in honest)
    assert slips > 10
    assert network.confirmed() <= network.cheats()
    for miner in set(network.miners) - network.cheats():
        assert network.miner(miner).status == "active"
        assert network.miner(miner).stake_slashed_micro == 0


def test_every_miner_that_cheats_is_found_by_what_it_does_over_time(network: Network) -> None:
    acted = set(network.vice) & network.acted
    assert acted <= network.confirmed()
    at_once = network.confirmed("copied-solution", "impossible-speed")
    wrong = {miner for miner in acted if network.vice[miner] == "wrong"}
    assert wrong.isdisjoint(at_once)  # only their record shows them
    assert len(wrong) > 0
    found = network.confirmed() & network.acted
    assert len(found) >= 0.7 * len(network.acted)  # who voted once for a cheat is not found


def test_every_case_that_weighs_a_record_stands_on_it(network: Network) -> None:
    view = network.home.views["validations"]
    for case in network.home.folds["fraud"].values():
        assert isinstance(case, FraudState)
        (*_, subject) = case.suspects
        if case.rule == "repeated-bad-work":
            weighs = weight(view.work(subject))
            assert weighs >= GUILTY or case.status != "confirmed"
            assert weighs < GUILTY or case.status == "confirmed"
            assert weighs > 0 or case.status == "cleared"
    audited = [k for k, s in network.home.folds["validations"].items() if was_audited(s)]
    assert view.audits_due() == []
    assert audited


def was_audited(state: object) -> bool:
    """True when an expert looked at a decision."""
    return isinstance(state, ValidationState) and any(j.by == "expert" for j in state.judged)


def test_cleared_cases_have_evidence_and_move_reputation_once(network: Network) -> None:
    facts = [fact for _, fact in network.home.facts]
    cleared = [f for f in facts if isinstance(f.data, FraudCleared)]
    assert all(f.data.evidence for f in cleared if isinstance(f.data, FraudCleared))
    moved = Counter(
        (f.envelope.aggregate_id, f.data.subject_id)
        for f in facts
        if isinstance(f.data, ReputationChanged) and f.data.reason == "cleared"
    )
    assert set(moved.values()) <= {1}
    assert {subject for _, subject in moved} == {f.envelope.aggregate_id for f in cleared}
