"""What money obeys after each step of any history: hypothesis chooses the steps, and their order.

The four primaries of two regions that read each other's facts, with clients, honest and cheating
miners of the same names in both, reviewers who collude, cases that are opened and resolved around
them, sinks that fail, leases that run out, nodes that crash.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from everlode.errors import Unavailable
from everlode.events import commands as c
from everlode.events import miners as me
from everlode.events import rewards as re
from everlode.events import tasks as te
from everlode.events.base import Command, Evidence
from everlode.events.identity import home_of_id
from everlode.events.ids import own_id
from everlode.events.states import FraudState, MinerState, RewardState, TaskState, ValidationState
from everlode.primary.component import Owed
from everlode.rewards.component import REPAID
from everlode.rewards.sink import Fence
from everlode.sdk.reference import solution_hash
from everlode.state.fraud import solution_case_id
from everlode.state.reward import due_micro, reward_id
from everlode.state.validation import validation_id
from tests.simulation.test_state_simulation import (
    COMPONENTS,
    HOMES,
    LIARS,
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

    def is_honest(self, miner_id: str) -> bool:
        """See Region; a cheat works now and then, and is paid."""
        return super().is_honest(miner_id) or self.random.random() < 0.5

    def expire(self, key: str, state: TaskState) -> None:
        """Its primary owes the end of a lease that has run out."""
        assert state.lease_until is not None
        name = own_id("expire", key, str(state.version))
        at = state.lease_until + timedelta(milliseconds=1)
        self.owed[name] = Owed(name, key, c.ExpireLease(attempt=state.attempt), at, rule="expire")

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
        self.markets = {home: Market(seed + n, crashes, home) for n, home in enumerate(HOMES)}
        for market in self.markets.values():
            market.others = [one for one in self.markets.values() if one is not market]
            market.sink = Till(market)  # type: ignore[assignment]
            market.nodes["rewards"] = market.start("rewards")
            for miner in market.miners:
                market.send(miner, register(specialties=TOPOLOGY.task_types))
        for home in HOMES:
            for kind in TOPOLOGY.task_types:
                self.client(home, kind, False, 1_000_003)
            self.all_primaries(home)

    @rule(
        home=st.sampled_from(HOMES),
        kind=st.sampled_from(TOPOLOGY.task_types),
        planted=st.booleans(),
        base=st.sampled_from([0, 3, 1_000_003]),
    )
    def client(self, home: str, kind: str, planted: bool, base: int) -> None:
        """A client has a task, sometimes worth next to nothing."""
        market = self.markets[home]
        key = f"{home}/t{len(market.tasks)}"
        market.tasks[key] = submit(
            task_type=kind,
            payload_sha256=solution_hash(key, "input"),
            planted_sha256=solution_hash(key, "planted") if planted else None,
            base_reward_micro=base,
        )
        market.send(key, market.tasks[key])

    @rule(home=st.sampled_from(HOMES), name=st.sampled_from(COMPONENTS), turns=st.integers(1, 6))
    def primary(self, home: str, name: str, turns: int) -> None:
        """A primary has its turns."""
        for _ in range(turns):
            self.markets[home].turn(name)

    @rule(home=st.sampled_from(HOMES))
    def all_primaries(self, home: str) -> None:
        """Everybody of a region catches up, and acts."""
        market = self.markets[home]
        for _ in range(12):
            for name in market.random.sample(COMPONENTS, 4):
                market.turn(name)
            market.act()

    @rule(home=st.sampled_from(HOMES))
    def sink_fails_or_works(self, home: str) -> None:
        """The payment system goes down, or comes back."""
        self.markets[home].down = not self.markets[home].down

    @rule(home=st.sampled_from(HOMES))
    def leases_run_out(self, home: str) -> None:
        """Nobody has renewed them."""
        market = self.markets[home]
        market.now += timedelta(minutes=10)
        for key, state in market.all("tasks").items():
            assert isinstance(state, TaskState)
            if state.status == "assigned":
                market.expire(key, state)

    @rule(
        home=st.sampled_from(HOMES),
        n=st.integers(0, 50),
        names=st.lists(st.sampled_from("xyz"), min_size=1, max_size=3),
    )
    def accuse(self, home: str, n: int, names: list[str]) -> None:
        """Cases are opened about a solution."""
        market = self.markets[home]
        states = sorted(market.all("validations").values())
        if not states:
            return
        about = states[n % len(states)]
        for name in names:
            opened = c.OpenFraudCase(
                rule="impossible-speed", suspects=(about.miner_id,), task_id=about.task_id,
                validation_id=about.key, severity_ppm=700_000, evidence=EVIDENCE,
                solver_id=about.miner_id,
            )  # fmt: skip
            market.send(f"{home}/case-{name}-{about.solution_id}", opened, OPERATOR)

    @rule(home=st.sampled_from(HOMES), n=st.integers(0, 50))
    def resolve(self, home: str, n: int) -> None:
        """A case is found true of liars, and false of others."""
        market = self.markets[home]
        cases = [s for s in market.all("fraud").values() if s.status == "suspected"]
        if cases:
            case = sorted(cases)[n % len(cases)]
            confirmed = set(case.suspects) <= LIARS
            resolved = c.ResolveFraudCase(
                confirmed=confirmed, decided_by="x", penalty_micro=10_000, reason="r",
                evidence=EVIDENCE,
            )  # fmt: skip
            market.send(case.key, resolved, OPERATOR)

    @rule(home=st.sampled_from(HOMES), miner=st.sampled_from(sorted(LIARS)))
    def wash(self, home: str, miner: str) -> None:
        """A cheat tries to begin anew, and to have its reward released."""
        market = self.markets[home]
        market.send(miner, c.SuspendMiner(reason="holidays"))
        market.send(miner, c.ReinstateMiner(reason="again", decided_by=miner))
        for case in sorted(market.all("fraud")):
            for key, state in sorted(market.all("rewards").items()):
                if state.status == "withheld":
                    for by in (miner, OPERATOR):  # who takes it for cleared
                        release = c.ReleaseReward(case_id=case, reason="please")
                        market.send(key, release, by)

    @rule(home=st.sampled_from(HOMES), miner=st.sampled_from(sorted(LIARS)))
    def cheat(self, home: str, miner: str) -> None:
        """A cheat asks for what is nobody's, or an operator's, of all that there is, anywhere."""
        market = self.markets[home]
        rival = market.miners[-1]
        for case in sorted(market.all("fraud")):
            verdict = c.ResolveFraudCase(
                confirmed=miner not in case, decided_by="op", penalty_micro=10**6, reason="r",
                evidence=EVIDENCE,
            )  # fmt: skip
            market.send(case, verdict, miner)
        for key in sorted(market.all("validations")):
            friends = c.EscalateValidation(
                to_kind="peer-review", reason="r", quorum=1, reviewers=(rival,),
                deadline_at=market.now,
            )  # fmt: skip
            market.send(key, friends, miner)
            accused = c.OpenFraudCase(
                rule="copied-solution", suspects=(rival,), validation_id=key, severity_ppm=1,
                evidence=EVIDENCE,
            )  # fmt: skip
            market.send(solution_case_id("copied-solution", key), accused, miner)
        for key in sorted(market.all("rewards")):
            market.send(key, c.ReverseReward(reason="r", case_id="none"), miner)
        for command in (
            c.SuspendMiner(reason="fraud:copied-solution"),
            c.SlashStake(case_id="none", amount_micro=1),
            register(operator_id=miner),
        ):
            market.send(rival, command, miner)

    # -- what must hold ----------------------------------------------------------------------

    @invariant()
    def stake_is_conserved_and_nobody_honest_is_slashed(self) -> None:
        """Deposits = free + locked + slashed."""
        for market in self.markets.values():
            self.check_stake(market)

    def check_stake(self, market: Market) -> None:
        """Of one region."""
        deposited: Counter[str] = Counter()
        for fact in market.logs["miners"].facts:
            if isinstance(fact.data, me.StakeDeposited):
                deposited[fact.envelope.aggregate_id] += fact.data.amount_micro
        for key, state in market.all("miners").items():
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
        for market in self.markets.values():
            self.check_rewards(market)

    def check_rewards(self, market: Market) -> None:
        """Of one region."""
        booked: Counter[str] = Counter()
        debts = 0
        for state in market.all("rewards").values():
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
                for f in market.logs["rewards"].facts
                if isinstance(f.data, re.RewardPaid) and f.data.payout_ref != REPAID
            }
        )
        assert booked["paid"] == sum(left.values())
        for key, amount in left.items():
            assert market.sink.paid[key] == amount

    def teardown(self) -> None:
        """All is carried out: then every promise is kept, or is no promise any more."""
        if not hasattr(self, "markets"):
            return
        quiet, turns = 0, 0
        for market in self.markets.values():
            market.down, market.crashes = False, 0.0
        while quiet < 60 and turns < 5000:
            turns += 1
            moved = [self.moves(home) for home in HOMES]
            quiet = 0 if any(moved) else quiet + 1
        assert quiet == 60, "it never comes to rest"
        self.stake_is_conserved_and_nobody_honest_is_slashed()
        self.rewards_are_conserved_and_paid_once()
        for market in self.markets.values():
            check_logs(market)
            check_answers(market)
            for component in (*COMPONENTS, "fraud"):
                assert {home_of_id(key) for key in market.all(component)} <= {market.home}
            check_promises(market)

    def moves(self, home: str) -> bool:
        """A region goes on; True while anything moves, or waits for what will come."""
        market = self.markets[home]
        for name in market.random.sample(COMPONENTS, 4):
            market.turn(name)
        if market.act() or market.unread():
            return True
        self.resolve(home, 0)
        waits = any(s.status == "calculated" for s in market.all("rewards").values())
        return market.unread() or waits


def check_answers(market: Market) -> None:
    """At rest each command has its answer, and a refusal says its code and its reason."""
    asked = {(h.aggregate_id, h.command_id) for q in market.commands.values() for h, _ in q}
    assert asked == {(a.to.aggregate_id, a.to.command_id) for a in market.answers}
    refused = [a.error for a in market.answers if a.outcome == "refused"]
    assert all(error is not None and error.code and error.message for error in refused)


def check_promises(market: Market) -> None:
    """At rest all that was promised to members is so."""
    # what was handed in is judged, and what was accepted is paid, held by a case, or taken back
    for fact in market.logs["tasks"].facts:
        if isinstance(fact.data, te.TaskSolved):
            key = validation_id(fact.envelope.aggregate_id, fact.data.attempt)
            assert key in market.all("validations"), f"{key} is never judged"
    rewards = market.all("rewards")
    for state in market.all("validations").values():
        assert isinstance(state, ValidationState)
        if state.accepted:
            assert reward_id(state.task_id, state.miner_id) in rewards, "no reward"
    for key, state in rewards.items():
        assert state.status != "calculated", f"{key} is never paid"
        cases = [market.all("fraud")[case] for case in market.open_cases(key)]
        if any(case.status == "confirmed" for case in cases):
            assert state.status in ("reversed", "reclaimed", "repaid"), "a cheat is paid"
        elif state.status != "withheld":
            assert state.status in ("paid", "collected"), f"{key}: {state.status} without a case"
        if state.status == "withheld":
            assert {case.key for case in cases} == set(state.cases)
    # no task ended without its stake free
    busy = {k for k, s in market.all("tasks").items() if s.status in ("assigned", "solved")}
    for state in market.all("miners").values():
        assert set(state.locks) <= busy, "a task ended, its stake is not free"


Economy.TestCase.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None
)
TestEconomy = Economy.TestCase
