"""What one more costs when there are many: equal answers, and tasks that nobody can take.

equal: milliseconds to read a solution and ask for its validation when 50,000 equal ones of 100
miners, each for another input, were read before; against the same with answers that all differ.
waiting: milliseconds of a task primary's turn while 20,000 tasks wait, each for a little less
reward, and no miner's stake covers any of them; against 50 ms, a quarter of the time between turns.
"""

from __future__ import annotations

import hashlib
import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import count

from benchmarks.result import MIN_ROUNDS, alternate, write
from everlode.control.fold import ControlState
from everlode.events import miners as me
from everlode.events import tasks as te
from everlode.events.base import Command, Envelope, Event, Fact
from everlode.events.states import State
from everlode.events.tasktypes import DEFAULT_TASK_TYPES
from everlode.log.facts import LoggedFact
from everlode.state.dispatch import Context, component_of_command, decide, evolve_fact
from everlode.state.reactions import react
from everlode.state.view import HomeView
from everlode.tasks.component import TaskComponent
from everlode.topics import Topology

EQUAL = 50_000
WAITING = 20_000
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


def main(equal: int = EQUAL, waiting: int = WAITING) -> None:
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


if __name__ == "__main__":
    main()
