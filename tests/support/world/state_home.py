"""Four primaries of one small home, as pure functions: what one does, the others react to."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from everlode.errors import Refusal
from everlode.events import commands as c
from everlode.events.base import Command, Fact
from everlode.events.states import FraudState, State, ValidationState
from everlode.state import dispatch
from everlode.state.expected import is_expected
from everlode.state.fraud import case_id, solution_case_id
from everlode.state.reactions import Reaction, command_id, react
from everlode.state.reward import reward_id
from everlode.state.validation import validation_id
from everlode.state.view import HomeView, Where
from tests.support.facts.state_commands import (
    ANYBODY,
    DEADLINE,
    NOW,
    fact_of,
    register,
    sha256_of,
    solution,
    submit,
)

COMPONENTS = ("tasks", "miners", "validations", "rewards")
MINERS = tuple("abcdefgh")
WHERE = Where("eu.1.tasks", 1, 42)


class Home:
    """Four primaries of one region, who read each other's facts; `shuffle` mixes the order."""

    region = "eu"

    def __init__(
        self, shuffle: Any = None, repeat: bool = False, miners: tuple[str, ...] = MINERS
    ) -> None:
        self.folds: dict[str, dict[str, State]] = {name: {} for name in (*COMPONENTS, "fraud")}
        self.views = {name: HomeView(self.region, self.folds) for name in COMPONENTS}
        self.facts: list[tuple[str, Fact]] = []
        self.done: set[str] = set()
        self.queue: list[tuple[str, Fact]] = []
        self.now = NOW
        self.shuffle = shuffle
        self.repeat = repeat
        for miner in miners:
            self.send("miners", miner, register(operator_id=f"operator of {miner}"))
            self.send("miners", miner, c.DepositStake(amount_micro=10_000_000))

    def send(self, component: str, key: str, command: Command, at: datetime | None = None) -> None:
        """A command, and all that follows from it."""
        self.now += timedelta(seconds=1)
        self.carry_out(component, key, command, at or self.now)
        self.drain()

    def drain(self, most: int = 1_000_000) -> None:
        """The primaries read what they have not read, `most` facts of it."""
        for _ in range(most):
            if not self.queue:
                return
            at_index = self.shuffle.randrange(len(self.queue)) if self.shuffle else 0
            target, fact = self.queue.pop(at_index)
            for reaction in react(target, fact, self.views[target], WHERE):
                identity = command_id(fact.envelope.event_id, reaction)
                for _ in range(2 if self.repeat else 1):
                    if identity not in self.done or self.repeat:
                        self.done.add(identity)
                        self.react_to(target, reaction, fact)

    def react_to(self, component: str, reaction: Reaction, cause: Fact) -> None:
        """What it owes itself; a refusal that no rule expects is raised."""
        key, command, rule = reaction
        try:
            self.carry_out(component, key, command, cause.envelope.occurred_at, own=True)
        except Refusal as error:
            if not is_expected(component, rule, error.code):
                raise

    def carry_out(
        self, component: str, key: str, command: Command, at: datetime, *, own: bool = False
    ) -> None:
        name = dispatch.component_of_command(command)
        state = self.folds[name].get(key)
        ctx = dispatch.Context(key, self.region, at, operators=("op",), validators=ANYBODY, own=own)
        for event in dispatch.decide(component, command, state, ctx):
            n = len(self.facts) + 1
            version = 1 + (state.version if state else 0)
            place = {"scope": f"{component}/{self.region}", "origin": f"{self.region}.1"}
            fact = fact_of(event, key, n, version=version, at=at, **place)
            state = dispatch.evolve_fact(state, fact, 0)
            assert state is not None
            self.facts.append((component, fact))
            self.keep(component, fact, state)
            if component == "miners":
                self.views["validations"].miner_fact(fact)
            self.queue.extend((target, fact) for target in COMPONENTS)

    def keep(self, component: str, fact: Fact, state: State) -> None:
        """The state after a fact of a component is known, and looked at."""
        name = dispatch.component_of_state(type(fact.data))
        self.folds[name][state.key] = state
        for view in self.views.values():
            view.changed(state)

    def work(self, task: str, miner: str, task_type: str, **more: Any) -> None:
        """A task is submitted, assigned and solved."""
        given = {"solution": f"{task}s", "bytes": 4096, **more}
        self.begin(task, miner, task_type, **more)
        self.solve(task, miner, given["solution"], size=given["bytes"])
        self.drain()

    def begin(self, task: str, miner: str, task_type: str, **more: Any) -> None:
        """A task is submitted and assigned."""
        given = {"payload": task, "planted": None, "size": 1000, "base": 1_000_000, **more}
        self.send(
            "tasks",
            task,
            submit(
                task_type=task_type,
                payload_sha256=sha256_of(given["payload"]),
                payload_bytes=given["size"],
                deadline_at=DEADLINE,
                planted_sha256=given["planted"] and sha256_of(given["planted"]),
                base_reward_micro=given["base"],
            ),
        )
        self.send(
            "tasks", task, c.AssignTask(miner_id=miner, manager_node="n", lease_until=DEADLINE)
        )

    def solve(
        self, task: str, miner: str, answer: str, work_ms: int = 100, size: int = 4096
    ) -> None:
        """It is solved; nobody has read that yet."""
        self.now += timedelta(seconds=1)
        done = solution(miner, 1, f"{task}-1", sha256_of(answer), work_ms, size)
        self.carry_out("tasks", task, done, self.now)

    def hasty_vote(self, task: str, good: bool) -> None:
        """Somebody who may votes the truth; nobody has read that yet."""
        key = validation_id(task, 1)
        state: ValidationState | None = self.state("validations", key)
        if state is not None and state.status == "pending":
            voter = (*state.reviewers, f"node-{state.kind}")[0]
            vote = c.CastVote.model_validate(
                {"voter_id": voter, "voter_kind": state.kind, "accept": good, "score_ppm": 1}
            )
            if voter not in {v.voter_id for v in state.votes}:
                self.carry_out("validations", key, vote, self.now)

    def judge(self, task: str, good: bool) -> None:
        """Whoever is asked votes the truth, until nobody is."""
        for _ in range(3):
            state: ValidationState | None = self.state("validations", validation_id(task, 1))
            if state is None:
                return
            if state.status == "pending":
                voted = {vote.voter_id for vote in state.votes}
                for voter in state.reviewers or (f"node-{state.kind}",):
                    if voter not in voted:
                        self.vote(task, voter, state.kind, good)
            elif state.key in self.views["validations"].audits_due():
                self.vote(task, "node-expert", "expert", good)

    def vote(self, task: str, who: str, kind: str, accept: bool, score: int = 900_000) -> None:
        vote = c.CastVote(voter_id=who, voter_kind=kind, accept=accept, score_ppm=score)  # type: ignore[arg-type]
        self.send("validations", validation_id(task, 1), vote)

    def pay(self, task: str, miner: str) -> None:
        self.send("rewards", reward_id(task, miner), c.PayReward(payout_ref="p"))

    def state(self, component: str, key: str) -> Any:
        return self.folds[component].get(key)

    def review(self, task: str) -> ValidationState:
        found: ValidationState = self.state("validations", validation_id(task, 1))
        return found

    def case(self, rule: str, subject: str) -> FraudState | None:
        """Of a rule, on the record of a member, or on a solution (task and attempt)."""
        keys = case_id(rule, subject), solution_case_id(rule, f"v-{subject}")
        found = [self.state("fraud", key) for key in keys]
        return next((case for case in found if case is not None), None)
