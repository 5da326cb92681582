"""What money obeys after each step of any history: hypothesis chooses the steps, and their order.

One region's four primaries, with clients, honest and cheating miners, reviewers who collude, cases
that are opened and resolved around them, a sink that fails, leases that run out, nodes that crash.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from everlode.errors import Unavailable
from everlode.events import commands as c
from everlode.events import miners as me
from everlode.events import rewards as re
from everlode.events.base import Command, Evidence
from everlode.events.states import FraudState, MinerState, RewardState, TaskState
from everlode.rewards.component import REPAID
from everlode.rewards.sink import Fence
from everlode.sdk.reference import solution_hash
from everlode.state.reward import due_micro, reward_id
from tests.simulation.test_state_simulation import (
    COMPONENTS,
    LIARS,
    MINERS,
    OPERATOR,
    TOPOLOGY,
    Region,
    check_logs,
)
from tests.support.facts.state_commands import register, submit

LONG = bool(os.environ.get("LONG_TESTS"))
pytestmark = pytest.mark.timeout(1800 if LONG else 120)
STEPS = 60 if LONG else 40
EXAMPLES = 500 if LONG else 20
EVIDENCE = (Evidence(topic="", partition=-1, offset=-1, note="seen"),)
OWED = ("calculated", "withheld")


class Market(Region):
    """A region whose leases are short and whose sink may be down."""

    down = False

    def send(self, key: str, command: Command, by: str = "c") -> None:
        """See Region."""
        if isinstance(command, c.AssignTask):
            until = self.now + timedelta(minutes=5)
            command = command.model_copy(update={"lease_until": until})
        super().send(key, command, by)

    def inputs(self, name: str) -> Iterator[tuple[str, Any]]:
        """See Region; the rewards' primary commits what came before it reads of a case."""
        if name != "rewards":
            yield from super().inputs(name)
            return
        positions, queues = Counter(self.positions), self.queues(name)
        topic = self.random.choice([*queues])
        queue = queues[topic]
        at = positions[name, topic]
        if at < len(queue):
            positions[name, topic] += 1
            yield topic, queue[at]
        self.read = positions

    def open_cases(self, key: str) -> list[str]:
        """Cases in the log, not cleared, that concern a reward."""
        return [
            case.key
            for case in self.all("fraud").values()
            if isinstance(case, FraudState)
            and case.status != "cleared"
            and case.task_id is not None
            and case.solver_id is not None
            and reward_id(case.task_id, case.solver_id) == key
        ]


class Till:
    """The payment system: it pays a key once, and never under an open case."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.paid: dict[str, int] = {}

    def pay(self, payout_key: str, miner_id: str, amount_micro: int, fence: Fence) -> str:
        """See PayoutSink."""
        if self.market.down:
            raise Unavailable("down")
        if payout_key not in self.paid:
            assert self.market.open_cases(payout_key) == [], "paid under an open case"
        assert self.paid.setdefault(payout_key, amount_micro) == amount_micro, "paid twice"
        if self.market.random.random() < 0.1:
            raise Unavailable("no answer")
        return f"ref-{payout_key}"

    def find(self, payout_key: str, fence: Fence) -> str | None:
        """See PayoutSink."""
        return f"ref-{payout_key}" if payout_key in self.paid else None


class Economy(RuleBasedStateMachine):
    """One history."""

    @initialize(seed=st.integers(0, 2**20), crashes=st.sampled_from([0.0, 0.1, 0.3]))
    def begin(self, seed: int, crashes: float) -> None:
        """Everybody registers and deposits."""
        self.market = Market(seed, crashes)
        self.market.random = Random(seed)
        self.market.sink = Till(self.market)  # type: ignore[assignment]
        self.market.nodes["rewards"] = self.market.start("rewards")
        for miner in MINERS:
            self.market.send(miner, register(specialties=TOPOLOGY.task_types))

    @rule(
        kind=st.sampled_from(TOPOLOGY.task_types),
        planted=st.booleans(),
        base=st.sampled_from([0, 3, 1_000_003]),
    )
    def client(self, kind: str, planted: bool, base: int) -> None:
        """A client has a task, sometimes worth next to nothing."""
        key = f"eu/t{len(self.market.tasks)}"
        self.market.tasks[key] = submit(
            task_type=kind,
            payload_sha256=solution_hash(key, "input"),
            planted_sha256=solution_hash(key, "planted") if planted else None,
            base_reward_micro=base,
        )
        self.market.send(key, self.market.tasks[key])

    @rule(name=st.sampled_from(COMPONENTS), turns=st.integers(1, 6))
    def primary(self, name: str, turns: int) -> None:
        """A primary has its turns."""
        for _ in range(turns):
            self.market.turn(name)

    @rule()
    def all_primaries(self) -> None:
        """Everybody catches up, and acts."""
        for _ in range(12):
            for name in self.market.random.sample(COMPONENTS, 4):
                self.market.turn(name)
            self.market.act()

    @rule()
    def sink_fails_or_works(self) -> None:
        """The payment system goes down, or comes back."""
        self.market.down = not self.market.down

    @rule()
    def leases_run_out(self) -> None:
        """Nobody has renewed them."""
        self.market.now += timedelta(minutes=10)
        for key, state in self.market.all("tasks").items():
            assert isinstance(state, TaskState)
            if state.status == "assigned":
                self.market.send(key, c.ExpireLease(attempt=state.attempt))

    @rule(n=st.integers(0, 50), names=st.lists(st.sampled_from("xyz"), min_size=1, max_size=3))
    def accuse(self, n: int, names: list[str]) -> None:
        """Cases are opened about a solution."""
        states = sorted(self.market.all("validations").values())
        if not states:
            return
        about = states[n % len(states)]
        for name in names:
            opened = c.OpenFraudCase(
                rule="impossible-speed", suspects=(about.miner_id,), task_id=about.task_id,
                validation_id=about.key, severity_ppm=700_000, evidence=EVIDENCE,
                solver_id=about.miner_id,
            )  # fmt: skip
            self.market.send(f"eu/case-{name}-{about.solution_id}", opened, OPERATOR)

    @rule(n=st.integers(0, 50))
    def resolve(self, n: int) -> None:
        """A case is found true of liars, and false of others."""
        cases = [s for s in self.market.all("fraud").values() if s.status == "suspected"]
        if cases:
            case = sorted(cases)[n % len(cases)]
            confirmed = set(case.suspects) <= LIARS
            resolved = c.ResolveFraudCase(
                confirmed=confirmed, decided_by="x", penalty_micro=10_000, reason="r",
                evidence=EVIDENCE,
            )  # fmt: skip
            self.market.send(case.key, resolved, OPERATOR)

    @rule(miner=st.sampled_from(sorted(LIARS)))
    def wash(self, miner: str) -> None:
        """A cheat tries to begin anew, and to have its reward released."""
        self.market.send(miner, c.SuspendMiner(reason="holidays"))
        self.market.send(miner, c.ReinstateMiner(reason="again", decided_by=miner))
        for case in sorted(self.market.all("fraud")):
            for key, state in sorted(self.market.all("rewards").items()):
                if state.status == "withheld":
                    for by in (miner, OPERATOR):  # who takes it for cleared
                        release = c.ReleaseReward(case_id=case, reason="please")
                        self.market.send(key, release, by)

    # -- what must hold ----------------------------------------------------------------------

    @invariant()
    def stake_is_conserved_and_nobody_honest_is_slashed(self) -> None:
        """Deposits = free + locked + slashed."""
        deposited: Counter[str] = Counter()
        for fact in self.market.logs["miners"].facts:
            if isinstance(fact.data, me.StakeDeposited):
                deposited[fact.envelope.aggregate_id] += fact.data.amount_micro
        for key, state in self.market.all("miners").items():
            assert isinstance(state, MinerState)
            have = state.stake_free_micro + state.stake_locked_micro + state.stake_slashed_micro
            assert have == deposited[key]
            assert sum(state.locks.values()) == state.stake_locked_micro
            assert key in LIARS or (state.stake_slashed_micro, state.status) == (0, "active")
            if state.cases:
                assert state.status == "suspended", "only an operator lifts it"

    @invariant()
    def rewards_are_conserved_and_paid_once(self) -> None:
        """Owed = paid + held + revoked; and the accounts say the same."""
        booked: Counter[str] = Counter()
        debts = 0
        for state in self.market.all("rewards").values():
            assert isinstance(state, RewardState)
            for entry in state.entries:
                booked[entry.account.partition(":")[0]] += entry.amount_micro
            if state.status in OWED:
                booked["held"] += due_micro(state)
            debts += state.debt_micro
        assert booked["payable"] == booked["held"]
        assert booked["debt"] == -debts
        left = Counter(
            {
                f.envelope.aggregate_id: f.data.amount_micro
                for f in self.market.logs["rewards"].facts
                if isinstance(f.data, re.RewardPaid) and f.data.payout_ref != REPAID
            }
        )
        assert booked["paid"] == sum(left.values())
        for key, amount in left.items():
            assert self.market.sink.paid[key] == amount

    def teardown(self) -> None:
        """All is carried out: then every promise is kept, or is no promise any more."""
        if not hasattr(self, "market"):
            return
        market, quiet, turns = self.market, 0, 0
        market.down, market.crashes = False, 0.0
        while quiet < 60 and turns < 5000:
            turns += 1
            for name in market.random.sample(COMPONENTS, 4):
                market.turn(name)
            if market.act() or market.unread():
                quiet = 0
                continue
            self.resolve(0)
            waits = any(s.status == "calculated" for s in market.all("rewards").values())
            quiet = 0 if market.unread() or waits else quiet + 1
        assert quiet == 60, "it never comes to rest"
        check_logs(market)
        self.stake_is_conserved_and_nobody_honest_is_slashed()
        self.rewards_are_conserved_and_paid_once()
        for key, state in market.all("rewards").items():
            assert state.status != "calculated", f"{key} is never paid"
            cases = [market.all("fraud")[case] for case in market.open_cases(key)]
            if any(case.status == "confirmed" for case in cases):
                assert state.status in ("reversed", "reclaimed", "repaid"), "a cheat is paid"
            if state.status == "withheld":
                assert {case.key for case in cases} == set(state.cases)
        busy = {k for k, s in market.all("tasks").items() if s.status in ("assigned", "solved")}
        for state in market.all("miners").values():
            assert set(state.locks) <= busy, "a task ended, its stake is not free"


Economy.TestCase.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None
)
TestEconomy = Economy.TestCase
