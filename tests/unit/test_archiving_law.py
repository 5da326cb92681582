"""Decisions are the same whether validations and fraud cases stay in memory or leave it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from everlode.errors import Refusal
from everlode.events import commands as c
from everlode.events.states import ValidationState
from everlode.state.ended import ended
from tests.support.world.archiving_home import ArchivingHome
from tests.support.world.state_home import MINERS, Home

TYPES = ("inference", "training", "fine-tuning")


class Story:
    """Work, copies, honeypots, votes and audits, right and wrong, late and early.

    A refusal leaves what was not read for later, here as there.
    """

    def __init__(self, home: Home, seed: int) -> None:
        self.home, self.chance = home, Random(seed)
        self.refused: list[str] = []

    def go_on(self, tasks: int) -> list[str]:
        """So many tasks; what was refused."""
        for n in range(tasks):
            self.task(f"t{n}", f"own-{n}")
            for _ in range(self.chance.randrange(5)):
                self.votes(f"v-t{self.chance.randrange(n + 1)}-1")
        for _ in range(100):
            self.attempt(self.home.drain)
        return self.refused

    def attempt(self, what: Callable[..., object], *arguments: object, **named: object) -> None:
        try:
            what(*arguments, **named)
        except Refusal as error:
            self.refused.append(error.code)

    def task(self, task: str, own: str) -> None:
        chance, home = self.chance, self.home
        miner = chance.choice(MINERS)
        planted = "known" if chance.random() < 0.3 else None
        kind, payload = chance.choice(TYPES), f"p{chance.randrange(4)}"
        size = 10**12 if chance.random() < 0.1 else 1000
        self.attempt(home.begin, task, miner, kind, planted=planted, payload=payload, size=size)
        self.attempt(home.solve, task, miner, chance.choice(("known", "a", "b", own)))
        self.attempt(home.drain, chance.randrange(12))

    def votes(self, key: str) -> None:
        chance, good = self.chance, self.chance.random() < 0.5
        state = self.home.state("validations", key)
        match chance.randrange(4):
            case 0:
                for due in self.home.views["validations"].audits_due()[:2]:
                    self.cast(due, "expert", good, "node-expert")
            case 1:
                voter = chance.choice((*MINERS, "node-expert"))
                self.cast(key, chance.choice(("expert", "peer-review", "automatic")), good, voter)
            case _ if state is not None:
                for voter in state.reviewers or (f"node-{state.kind}",):
                    self.cast(key, state.kind, good, voter)

    def cast(self, key: str, kind: str, good: bool, voter: str) -> None:
        vote = c.CastVote.model_validate(
            {"voter_id": voter, "voter_kind": kind, "accept": good, "score_ppm": 800_000}
        )
        self.attempt(self.home.send, "validations", key, vote)


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(0, 2**32), st.booleans(), st.integers(1, 60))
def test_decisions_are_the_same_with_and_without_archiving(
    seed: int, moments: int, shuffled: bool, tasks: int
) -> None:
    plain = Home(Random(seed) if shuffled else None)
    home = ArchivingHome(Random(moments), Random(seed) if shuffled else None)
    assert Story(home, seed).go_on(tasks) == Story(plain, seed).go_on(tasks)
    assert home.facts == plain.facts
    seen, all_seen = home.views["validations"], plain.views["validations"]
    assert seen.audits_due() == all_seen.audits_due()
    for miner in (*MINERS, "node-expert"):
        assert seen.work(miner) == all_seen.work(miner)
        assert seen.reviews(miner) == all_seen.reviews(miner)
        assert seen.honeypots(miner) == all_seen.honeypots(miner)
        assert seen.watched(miner) == all_seen.watched(miner)
    for component in ("validations", "fraud"):
        for key, state in plain.folds[component].items():
            assert home.folds[component].get(key) == state


def test_what_has_ended_does_leave() -> None:
    home = ArchivingHome(Random(1))
    Story(home, 7).go_on(60)
    for _ in range(100):
        home._archive_some()
    left = [state for state in home.in_memory() if ended(state)]
    due = home.views["validations"].audits_due()
    assert [state.key for state in left] == [k for k in due if k in {s.key for s in left}]
    gone = [s for s in home.folded.states["validations"].values() if isinstance(s, ValidationState)]
    assert len(gone) < 45, "most of sixty have left"
    assert home.archive.reads > 0, "some came back"
