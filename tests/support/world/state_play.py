"""A small world of aggregates, and dice that give it commands: lawful histories from a seed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from everlode.avro.codec import Codec
from everlode.errors import Refusal
from everlode.events import commands as c
from everlode.events import tasks as te
from everlode.events.base import Command, Event, Evidence, Fact
from everlode.events.catalogue import COMMANDS as CATALOGUE
from everlode.events.states import (
    FraudState,
    MinerState,
    RewardState,
    State,
    TaskState,
    ValidationState,
)
from everlode.state import dispatch, fraud, miner, minerfolds, reward, task, taskreports, validation
from tests.support.facts.state_commands import ANYBODY, fact_of

START = datetime(2026, 1, 1, tzinfo=UTC)
HASHES = ("a" * 64, "b" * 64, "c" * 64)
EVIDENCE = (Evidence(topic="", partition=-1, offset=-1, note="seen"),)
KEYS = {
    "tasks": ("t1", "t2"),
    "miners": ("m1", "m2"),
    "validations": ("v-s1", "v-s2"),
    "rewards": ("t1|m1", "t1|m2", "slash|case|m1"),
    "fraud": ("case-1",),
}
SCOPES = {
    "tasks": "task-manager/eu",
    "miners": "miner-registry/eu",
    "validations": "validation/eu",
    "rewards": "rewards/eu",
    "fraud": "validation/eu",
}
MODULES: dict[str, Any] = {
    "tasks": task,
    "miners": miner,
    "validations": validation,
    "rewards": reward,
    "fraud": fraud,
}
BOOK = Codec()


class Dice:
    """Parameters of commands: near to what the state allows, or, one time in five, anything."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def one(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def near(self, value: Any, *others: Any) -> Any:
        return value if self.random.random() < 0.8 and value is not None else self.one(*others)

    def tasks(self, state: Any, now: datetime) -> Command:
        who = self.near(state and state.miner_id, "m1", "m2")
        attempt = self.near(state and state.attempt, 0, 1, 2, 3)
        later = now + timedelta(seconds=self.one(-5, 1, 60, 600))
        solution = self.near(state and state.solution_id, "s1", "s2", "s3")
        node = self.near(state and state.manager_node, "n1", "n2")
        progress = (state.progress_ppm if state else 0) + self.one(-1, 0, 1, 300_000)
        status = state.status if state else None
        lawful: dict[str | None, tuple[type[Command], ...]] = {
            None: (c.SubmitTask,),
            "submitted": (*[c.AssignTask] * 6, c.CancelTask, c.ExpireTask),
            "assigned": (
                *(c.ReportProgress, c.ReportProgress, c.SubmitSolution, c.SubmitSolution),
                *(c.ReportFailure, c.ExpireLease, c.MigrateTask, c.CancelTask),
            ),
            "solved": (c.RecordValidation, c.RecordValidation, c.RecordReward),
            "validated": (c.RecordReward,),
            "rewarded": (c.RecordValidation, c.DeleteTask),
        }
        kind = self.one(*self.near(lawful.get(status, (c.DeleteTask,)), TASK_COMMANDS))
        fields: dict[str, Any] = {
            "miner_id": self.one("m1", "m2") if kind is c.AssignTask else who,
            "attempt": attempt,
            "progress_ppm": max(0, min(progress, 1_000_000)),
            "lease_until": later,
            "manager_node": self.one("n1", "n2"),
            "from_node": node,
            "to_node": self.one("n1", "n2"),
            "solution_id": self.one("s1", "s2", "s3") if kind is c.SubmitSolution else solution,
            "validation_id": f"v-{solution}",
            "client_id": "c",
            "task_type": self.one("training", "inference", "inference", "nonsense"),
            "payload_sha256": self.one(*HASHES),
            "solution_sha256": self.one(*HASHES),
            "planted_sha256": self.one(None, *HASHES),
            "max_attempts": self.one(0, 2, 3, 3),
            "deadline_at": now + timedelta(seconds=self.one(-1, 600, 6000)),
            "checkpoint_uri": self.one(None, "cp"),
        }
        return self.build(kind, fields)

    def miners(self, state: Any, _: datetime) -> Command:
        kinds = (
            *(c.UpdateMiner, c.DepositStake, c.LockStake, c.LockStake, c.ReleaseStake),
            *(
                c.RecordOutcome,
                c.RecordOutcome,
                c.SlashStake,
                c.RecordClearing,
                c.SuspendMiner,
                c.ReinstateMiner,
            ),
        )
        rare = (c.RetireMiner, c.RegisterMiner)
        kind = c.RegisterMiner if state is None else self.one(*self.near(kinds, rare))
        held = self.one(*sorted(state.locks)) if state and state.locks else "t1"
        fields = {
            "task_id": self.near(held, None, "t2")
            if kind is c.SlashStake
            else self.one("t1", "t2"),
            "operator_id": "o",
            "outcome": self.one("accepted", "rejected", "failed", "expired"),
            "max_concurrent": self.one(1, 2, 2, 0),
            "specialties": (),
            "reason": self.one("r1", "fraud:copied-solution"),
            "decided_by": self.one("op", "r1"),
        }
        return self.build(kind, fields)

    def validations(self, state: Any, now: datetime) -> Command:
        if state is None:
            kind: type[Command] = c.RequestValidation
        else:
            votes = (c.CastVote, c.CastVote, c.CastVote, c.CastVote)
            kind = self.one(*votes, c.EscalateValidation, c.DeferValidation)
        level = self.one("automatic", "peer-review", "peer-review", "expert")
        panel = ("p1", "p2", "p3") if level == "peer-review" else self.one((), ("p1",))
        voter = self.near(state and state.kind, "automatic", "peer-review", "expert", "expert")
        fields = {
            "kind": level,
            "to_kind": level,
            "quorum": self.near(3 if level == "peer-review" else 1, 0, 1, 2, 3),
            "reviewers": self.near(panel, (), ("p1", "m1"), ("p1", "p2", "p3", "p3")),
            "voter_id": self.near(self.one("p1", "p2", "p3"), "x1", "m1"),
            "voter_kind": voter,
            "planted_sha256": self.one(None, None, *HASHES),
            "solution_id": "s1",
            "miner_id": self.near("m1", "m2"),
            "deadline_at": now + timedelta(seconds=self.one(-50, 600)),
            "accept": self.one(True, True, False),
        }
        return self.build(kind, fields)

    def rewards(self, state: Any, _: datetime) -> Command:
        first = (c.CalculateReward, c.CalculateReward, c.CollectSlash)
        later = (
            *(c.WithholdReward, c.WithholdReward, c.ReleaseReward, c.ReleaseReward, c.PayReward),
            *(c.ReverseReward, c.ReduceReward, c.ReduceReward, c.RepayDebt, c.RepayDebt),
        )
        kind = self.one(*self.near(first if state is None else later, first, later))
        fields = {
            "case_id": "case" if kind is c.CollectSlash else self.one("case", "case2"),
            "validation_id": self.one("v-s1", "v-s1", "v-s2"),
            "miner_id": self.one("m1", "m2") if kind is c.CalculateReward else "m1",
            "task_id": "t1",
        }
        if kind in (c.ReduceReward, c.RepayDebt) and state is not None:
            whole = state.debt_micro if kind is c.RepayDebt else state.amount_micro
            fields["amount_micro"] = self.one(whole, whole // 2, 1, 0)
            fields["owed_micro"] = self.near(state.debt_micro, 1)
            fields["due_micro"] = self.near(state.amount_micro - state.reduced_micro, 1)
        return self.build(kind, fields)

    def fraud(self, state: Any, _: datetime) -> Command:
        kind = self.one(*self.near((c.OpenFraudCase,) if state is None else FRAUD, FRAUD))
        fields = {
            "rule": self.one("copied-solution", "impossible-speed"),
            "suspects": self.near(("m2", "m1"), (), ("m1",)),
            "evidence": self.near(EVIDENCE, (), (EVIDENCE[0].model_copy(update={"note": "n"}),)),
        }
        return self.build(kind, fields)

    def build(self, kind: type[Command], fields: dict[str, Any]) -> Command:
        """The command, with `fields` where it has them, else values by the field's name."""
        values = {}
        for name in kind.model_fields:
            if name in fields:
                values[name] = fields[name]
            elif name.endswith("_sha256"):
                values[name] = self.one(*HASHES)
            elif name.endswith("_ppm"):
                values[name] = self.one(0, 1, 333_333, 500_000, 1_000_000)
            elif name.endswith("_micro"):
                values[name] = self.random.randrange(3_000_000)
            elif kind.model_fields[name].annotation is bool:
                values[name] = self.one(True, True, False)
            elif kind.model_fields[name].annotation is int or name.endswith(("_stamp", "_bytes")):
                values[name] = self.random.randrange(10)
            else:
                values[name] = self.one("r1", "r2")
        return kind(**values)


TASK_COMMANDS = tuple(m for m in CATALOGUE.values() if m.component == "tasks")
FRAUD = (c.OpenFraudCase, c.ResolveFraudCase)
Sent = tuple[str, str, Command]


class World:
    """Folds of everything, with a fact log; event time moves on a minute a command."""

    def __init__(self) -> None:
        self.states: dict[tuple[str, str], State | None] = {}
        self.log: list[tuple[str, Fact]] = []
        self.sent: list[tuple[Sent, datetime]] = []
        self.now = START
        self.command_id = ""

    def send(
        self, component: str, key: str, command: Command, command_id: str = ""
    ) -> tuple[Fact, ...]:
        state = self.states.get((component, key))
        self.sent.append(((component, key, command), self.now))
        self.command_id = command_id or f"c{len(self.sent)}"
        ctx = dispatch.Context(
            key,
            "eu",
            self.now,
            command_id=self.command_id,
            operators=("op",),
            validators=ANYBODY,
            own=True,
        )
        try:
            events = dispatch.decide(component, command, state, ctx)
        except Refusal:
            events = ()
        facts = tuple(self.append(component, key, event) for event in events)
        self.now += timedelta(seconds=20)
        return facts

    def append(self, component: str, key: str, event: Event) -> Fact:
        before = self.states.get((component, key))
        n = len(self.log) + 1
        fact = fact_of(
            event,
            key,
            n,
            version=1 + (before.version if before else 0),
            scope=SCOPES[component],
            at=self.now,
            command_id=self.command_id or None,
        )
        after = dispatch.evolve(component, before, fact, 0)
        self.check_step(component, before, fact, after)
        self.states[component, key] = after
        self.log.append((component, fact))
        return fact

    def check_step(
        self, component: str, before: State | None, fact: Fact, after: State | None
    ) -> None:
        if after is None:
            assert isinstance(fact.data, te.TaskDeleted)
            return
        assert after.version == (before.version if before else 0) + 1
        assert after[:8] == (
            fact.envelope.aggregate_id,
            1,
            fact.envelope.version,
            fact.envelope.stamp,
            dispatch.FOLD_VERSION,
            "eu.1",
            0,
            fact.envelope.seq,
        )
        assert after.home == "eu"
        CHECKS[type(after)](before, after)


def check_task(before: TaskState | None, after: TaskState) -> None:
    assert 0 <= after.attempt_floor <= after.attempt
    assert taskreports.used_attempts(after) <= after.max_attempts
    assert (after.lease_until is not None) == (after.status == "assigned")
    if before is not None and before.attempt_floor == after.attempt_floor:
        assert after.progress_ppm >= before.progress_ppm
    if before is not None and before.status in task.ENDED:
        assert (before.status, after.status) == ("rewarded", "rewarded")
    assert (after.ended_at is not None) == (after.status in task.ENDED)


def check_miner(before: MinerState | None, after: MinerState) -> None:
    assert min(after.stake_free_micro, after.stake_locked_micro) >= 0
    assert sum(after.locks.values()) == after.stake_locked_micro
    assert all(held > 0 for held in after.locks.values()) or 0 in after.locks.values()
    assert 0 <= after.reputation_ppm <= 1_000_000
    assert len(after.recent) <= minerfolds.RECENT
    assert list(after.cases) == sorted(set(after.cases))


def check_validation(before: ValidationState | None, after: ValidationState) -> None:
    voters = [vote.voter_id for vote in after.votes]
    assert len(voters) == len(set(voters))
    assert after.miner_id not in voters
    assert (after.accepted is not None) == (after.status == "decided")
    if before is not None:
        assert before.accepted in (None, after.accepted)
        assert validation.RANK[after.kind] >= validation.RANK[before.kind]
        if after.kind == before.kind:
            assert after.quorum >= before.quorum


def check_reward(before: RewardState | None, after: RewardState) -> None:
    assert sum(entry.amount_micro for entry in after.entries) == 0
    if before is not None:
        assert before.status not in ("reversed", "repaid", "collected")
        assert before.status != "paid" or after.status == "reclaimed"
        assert 0 <= after.reduced_micro <= after.amount_micro
        assert (after.debt_micro > 0) == (after.status == "reclaimed")


def check_fraud(_: FraudState | None, after: FraudState) -> None:
    assert after.suspects == tuple(sorted(set(after.suspects)))
    assert after.suspects
    assert after.evidence


CHECKS: dict[type[Any], Any] = {
    TaskState: check_task,
    MinerState: check_miner,
    ValidationState: check_validation,
    RewardState: check_reward,
    FraudState: check_fraud,
}


def fold(facts: Iterable[tuple[str, Fact]]) -> dict[tuple[str, str], State | None]:
    states: dict[tuple[str, str], State | None] = {}
    for component, fact in facts:
        key = (component, fact.envelope.aggregate_id)
        states[key] = dispatch.evolve(component, states.get(key), fact, 0)
    return states


def play(seed: int, length: int, *components: str) -> World:
    """A world after `length` commands, all from the seed. Each step was checked."""
    world, dice = World(), Dice(seed)
    for _ in range(length):
        component = dice.one(*(components or sorted(KEYS)))
        key = dice.one(*KEYS[component])
        state = world.states.get((component, key))
        world.send(component, key, getattr(dice, component)(state, world.now))
    return world
