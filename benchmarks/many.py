"""What one more costs when there are many: equal answers, tasks that nobody can take, payees whose
payout fails.

equal: milliseconds to read a solution and ask for its validation when 50,000 equal ones of 100
miners, each for another input, were read before; against the same with answers that all differ.
waiting: milliseconds of a task primary's turn while 20,000 tasks wait, each for a little less
reward, and no miner's stake covers any of them; against 50 ms, a quarter of the time between turns.
payouts: payouts a second of a reward primary, from decisions that it reads to payouts that are
booked, 20,000 rewards of 1,000 payees of whom 1 % can never be paid; against the same when all can.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import count

from benchmarks.result import MIN_ROUNDS, alternate, write
from everlode.control.fold import ControlState
from everlode.errors import Unavailable
from everlode.events import miners as me
from everlode.events import tasks as te
from everlode.events import validations as ve
from everlode.events.barriers import Barrier
from everlode.events.base import Command, Envelope, Event, Fact
from everlode.events.stamp import HybridClock
from everlode.events.states import State
from everlode.events.tasktypes import DEFAULT_TASK_TYPES
from everlode.log.facts import LoggedFact
from everlode.primary.core import Core
from everlode.primary.inputs import FactRead, Tick, Turn
from everlode.rewards.component import RewardComponent
from everlode.rewards.sink import Fence
from everlode.state.dispatch import Context, component_of_command, decide, evolve_fact
from everlode.state.reactions import react
from everlode.state.view import HomeView, Where
from everlode.tasks.component import TaskComponent
from everlode.topics import Topology

EQUAL = 50_000
WAITING = 20_000
REWARDS = 20_000
PAYEES = 1_000
SHARE = 100
"""One payee in so many can never be paid."""
READ = 500
MEASURED = 500
MINERS = 100
LIMIT_MS = 50.0
NOW = datetime(2026, 1, 1, tzinfo=UTC)
NUMBERS = count(1)


def fact_of(event: Event, key: str, scope: str, version: int = 1) -> Fact:
    """A fact of eu; each has its own number."""
    number = next(NUMBERS)
    envelope = Envelope(
        event_id=f"e{number}", aggregate_id=key, version=version, origin="eu.1", scope=scope,
        epoch=1, seq=number, stamp=number, occurred_at=NOW, correlation_id="c",
    )  # fmt: skip
    return Fact(envelope, event)


def sha256_of(text: str) -> str:
    """A hash that nothing else has."""
    return hashlib.sha256(text.encode()).hexdigest()


class Judging:
    """The folds of a validation primary, and what it does for each solution."""

    def __init__(self) -> None:
        self.folds: dict[str, dict[str, State]] = {"validations": {}, "fraud": {}}
        self.view = HomeView("eu", self.folds)

    def read(self, number: int, answer: str) -> None:
        """A solution is handed in, and what follows from it."""
        solved = te.TaskSolved(
            attempt=1, miner_id=f"m{number % MINERS}", solution_id=f"s{number}", solution_uri="u",
            solution_sha256=sha256_of(answer), solution_bytes=4096, work_ms=1000,
            task_type="inference", payload_sha256=sha256_of(f"input {number}"), payload_bytes=1,
            base_reward_micro=1000,
        )  # fmt: skip
        fact = fact_of(solved, f"t{number}", "task-manager/eu")
        for reaction in react("validations", fact, self.view):
            self.carry_out(reaction.aggregate_id, reaction.command)

    def carry_out(self, key: str, command: Command) -> None:
        """Decide and fold."""
        states = self.folds[component_of_command(command)]
        judges = {("v", "automatic"), ("v", "expert")}
        ctx = Context(key, "eu", NOW, validators=judges, own=True)
        for event in decide("validations", command, states.get(key), ctx):
            state = evolve_fact(states.get(key), fact_of(event, key, "validation/eu"), 0)
            if state is not None:
                states[key] = state
                self.view.changed(state)


def judging(many: int, equal: bool) -> float:
    """Milliseconds a solution, after `many`."""
    home = Judging()
    for number in range(many):
        home.read(number, "same" if equal else str(number))
    begin = time.perf_counter()
    for number in range(many, many + MEASURED):
        home.read(number, "same" if equal else str(number))
    found = (time.perf_counter() - begin) * 1000 / MEASURED
    print(f"{'equal' if equal else 'different'} answers: {found:.3f} ms", file=sys.stderr)
    return found


def crowd(waiting: int) -> TaskComponent:
    """A task primary with tasks that wait, and miners whose stake covers none of them."""
    component = TaskComponent("eu", Topology(), "eu-tm-1", timedelta(minutes=10), 1000)
    for number in range(MINERS):
        joined = me.MinerRegistered(
            operator_id="o", endpoint="e", specialties=DEFAULT_TASK_TYPES, gpus=1, gpu_model="A",
            cpu_milli=1, memory_mib=1, max_concurrent=9,
        )  # fmt: skip
        component.observe(fact_of(joined, f"m{number}", "miner-registry/eu"))
    for number in range(waiting):
        task = te.TaskSubmitted(
            client_id="c", task_type="inference", payload_uri="u", payload_sha256=sha256_of("i"),
            payload_bytes=1, cpu_milli=1, memory_mib=1, gpus=1, gpu_milli=1,
            base_reward_micro=1_000_000_000 - 10 * number, max_attempts=3,
            deadline_at=NOW + timedelta(days=30),
        )  # fmt: skip
        fact = fact_of(task, f"t{number}", "task-manager/eu")
        component.folds.fold(LoggedFact(fact, 0, number))
    return component


def turn(component: TaskComponent) -> float:
    """Milliseconds of a turn that assigns nothing."""
    begin = time.perf_counter()
    assert list(component.due(NOW, ControlState())) == []
    found = (time.perf_counter() - begin) * 1000
    print(f"a turn: {found:.2f} ms", file=sys.stderr)
    return found


class Till:
    """Pays at once, or never; by payee."""

    def __init__(self, bad: set[str]) -> None:
        self.bad, self.paid = bad, dict[str, str]()

    def pay(self, payout_key: str, miner_id: str, amount_micro: int, fence: Fence) -> str:
        """See PayoutSink."""
        if miner_id in self.bad:
            raise Unavailable("the account is closed")
        return self.paid.setdefault(payout_key, f"ref-{payout_key}")

    def find(self, payout_key: str, fence: Fence) -> str | None:
        """See PayoutSink."""
        return self.paid.get(payout_key)


class End:
    """As much of a fact log as a core needs."""

    def __init__(self) -> None:
        self.origin, self.topic, self.partitions, self.seqs = "eu.1", "eu.1.rewards", 1, [0]
        self.clock = HybridClock()

    def partition_of(self, _: str) -> int:
        """The one that there is."""
        return 0


def accepted(number: int) -> FactRead:
    """A decision that a reward follows from."""
    decided = ve.ValidationDecided(
        task_id=f"eu/t{number}", task_type="inference", solution_id="s",
        miner_id=f"eu/m{number % PAYEES}", kind="automatic", accepted=True,
        score_ppm=1_000_000, votes_for=1, votes_against=0, work_ms=1, base_reward_micro=1000,
    )  # fmt: skip
    fact = fact_of(decided, f"eu/v-t{number}-1", "validation/eu")
    return FactRead(Where("eu.1.validations", 0, number), fact)


def paying(rewards: int, failing: bool) -> float:
    """Payouts a second."""
    bad = {f"eu/m{n}" for n in range(0, PAYEES, SHARE)} if failing else set[str]()
    till, log = Till(bad), End()
    core = Core(RewardComponent("eu", Topology(), till), log, "eu", "node")
    wanted = sum(f"eu/m{n % PAYEES}" not in bad for n in range(rewards))
    inputs = [accepted(n) for n in range(rewards)]
    begin, booked, own = time.perf_counter(), 0, list[FactRead]()

    def tick() -> Tick:
        return Tick(NOW, time.time_ns() // 1_000_000, time.monotonic())

    core.committed(list(range(len(core.open({"eu": 1}, tick()).facts))))
    while booked < wanted:
        batch, inputs = [*inputs[:READ], *own], inputs[READ:]
        own = []
        for ready in core.turn(Turn({"eu": 1}, batch, tick(), ControlState())):
            for _, envelope, data in ready.facts:
                log.seqs[0] = envelope.seq
                booked += type(data).__name__ == "RewardPaid"
                if not isinstance(data, Barrier):
                    where = Where(log.topic, 0, envelope.seq)
                    own.append(FactRead(where, Fact(envelope, data)))
            core.committed(list(range(len(ready.facts))))
    found = booked / (time.perf_counter() - begin)
    print(f"payouts, {len(bad)} payees fail: {found:.0f} a second", file=sys.stderr)
    return found


def main(equal: int = EQUAL, waiting: int = WAITING, rewards: int = REWARDS) -> None:
    """Three rounds of each."""
    ours, theirs = alternate(
        MIN_ROUNDS, lambda: judging(equal, True), lambda: judging(equal, False)
    )
    against = "answers that all differ"
    write("many.equal", "milliseconds a solution", ours, against, theirs, answers=equal)
    component = crowd(waiting)
    turns = [turn(component) for _ in range(2 * MIN_ROUNDS)]
    limit = [LIMIT_MS] * len(turns)
    within = max(turns) <= LIMIT_MS
    write("many.waiting", "milliseconds a turn", turns, "the limit", limit, tasks=waiting,
          within_limit=within)  # fmt: skip
    some, none = alternate(
        MIN_ROUNDS, lambda: paying(rewards, True), lambda: paying(rewards, False)
    )
    write("many.payouts", "payouts a second", some, "no payee fails", none, rewards=rewards)


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description="python -m benchmarks.many --equal 500")
    for name, usual in (("equal", EQUAL), ("waiting", WAITING), ("rewards", REWARDS)):
        asked.add_argument(f"--{name}", type=int, default=usual)
    main(**vars(asked.parse_args()))
