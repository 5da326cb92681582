"""Whatever strangers ask, in whatever order and under whatever ids: what tasks', validations' and
rewards' primaries do of their own accord is the same. Of the miners' see `test_ids`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.events import commands as c
from everlode.events import rewards as re
from everlode.events import tasks as te
from everlode.events import validations as ve
from everlode.events.base import Command, Event, Evidence, Fact, OwnCommand
from everlode.events.catalogue import COMMANDS
from everlode.events.ids import NAMESPACE, OWN
from everlode.events.miners import MinerRegistered, StakeSlashed
from everlode.primary.inputs import Input
from everlode.rewards.component import RewardComponent
from everlode.state.fraud import solution_case_id
from everlode.tasks.component import TaskComponent
from everlode.topics import Topology
from everlode.validations.component import ValidationComponent
from tests.support.facts.state_commands import NOW, fact_of, register, sha256_of, solution, submit
from tests.support.world.bench import Bench
from tests.unit.test_payouts import Sink

TOPOLOGY = Topology(operators=("ops",))
LATER = NOW + timedelta(hours=1)
SEEN = (Evidence(topic="", partition=-1, offset=-1, note="seen"),)
T0, T1, T2, T3 = (f"eu/t{n}" for n in range(4))
MINER, CHEAT, FRIEND = "eu/m", "eu/cheat", "eu/friend"


class Cause(NamedTuple):
    """What a primary is to react to: a fact, or a lawful command of somebody whom it knows."""

    key: str
    data: Event | Command
    scope: str = "task-manager/eu"
    by: str = ""


class Play(NamedTuple):
    """One component: how it begins, what it is given, and what strangers may send it."""

    begin: Callable[[], Bench]
    causes: tuple[Cause, ...]
    keys: tuple[str, ...]
    outside: tuple[Command, ...]

    def asked(self) -> list[tuple[str, Command]]:
        """Each command to each aggregate."""
        return [(key, command) for key in self.keys for command in self.outside]


# -- tasks -----------------------------------------------------------------------------------


def decided(task: str, accepted: bool) -> ve.ValidationDecided:
    return ve.ValidationDecided(
        task_id=task, task_type="inference", solution_id="s", miner_id=MINER, kind="automatic",
        accepted=accepted, score_ppm=1_000_000 if accepted else 0, votes_for=1, votes_against=0,
        work_ms=1, base_reward_micro=1_000_000,
    )  # fmt: skip


def history(task: str, *steps: Event) -> list[Fact]:
    submitted = te.TaskSubmitted(**submit(max_attempts=1).__dict__)
    return [
        fact_of(
            data,
            task,
            event_id=f"{task} {n}",
            version=n + 1,
            stamp=n + 1,
            scope="task-manager/eu",
        )
        for n, data in enumerate((submitted, *steps))
    ]


def tasks() -> Bench:
    """T0 and T1 are solved, T2 waits, T3's lease is over once all commands are read."""

    def assigned(until: timedelta, miner: str = MINER) -> te.TaskAssigned:
        return te.TaskAssigned(
            attempt=1, miner_id=miner, manager_node="n", lease_until=NOW + until,
            base_reward_micro=0,
        )  # fmt: skip

    solved = te.TaskSolved(
        **solution(MINER, 1, "s", sha256_of("s")).__dict__, task_type="inference",
        payload_sha256=sha256_of("input"), payload_bytes=1, base_reward_micro=0,
    )  # fmt: skip
    hour, over = timedelta(hours=1), timedelta(seconds=-1)
    known = [
        *history(T0, assigned(hour), solved),
        *history(T1, assigned(hour), solved),
        *history(T2),
        *history(T3, assigned(over, FRIEND)),
    ]
    component = TaskComponent("eu", TOPOLOGY, "n", timedelta(minutes=1), 9)
    offer = MinerRegistered(**register().__dict__)
    component.observe(fact_of(offer, FRIEND, scope="miner-registry/eu"))
    stake = c.DepositStake(amount_micro=10**9)
    joined = component._miners[FRIEND]._replace(stake_free_micro=stake.amount_micro)
    component._miners[FRIEND] = joined
    component._roster.put(joined)
    return Bench(component, known)


PAID = re.RewardPaid(
    task_id=T0, miner_id=MINER, amount_micro=1, payout_key="k", payout_ref="p", entries=()
)
OTHERS_TASKS = (
    submit(base_reward_micro=1),
    c.ReportProgress(miner_id=CHEAT, attempt=1, progress_ppm=1, lease_until=LATER),
    solution(CHEAT, 1, "s", sha256_of("s")),
    solution(MINER, 1, "another", sha256_of("other")),
    c.ReportFailure(miner_id=CHEAT, attempt=1, reason="r", permanent=True),
    c.MigrateTask(from_node="n", to_node="m", lease_until=NOW - timedelta(minutes=1)),
    c.AssignTask(miner_id=CHEAT, manager_node="n", lease_until=LATER),
    c.ExpireLease(attempt=1),
    c.ExpireTask(),
    c.RecordValidation(
        validation_id="eu/v-t0-1", solution_id="s", miner_id=MINER, accepted=False, score_ppm=0
    ),
    c.RecordReward(miner_id=MINER, reward_id="eu/t0|eu/m", amount_micro=0),
)
"""Without what is lawful of a name that nobody signs yet: a client cancels or removes its task, a
miner or a coordinator prolongs its lease."""

# -- validations -----------------------------------------------------------------------------


def solved(task: str, miner: str, kind: str, answer: str, size: int) -> te.TaskSolved:
    return te.TaskSolved(
        attempt=1, miner_id=miner, solution_id="s", solution_uri="u",
        solution_sha256=sha256_of(answer), solution_bytes=4096, work_ms=1, task_type=kind,
        payload_sha256=sha256_of(task), payload_bytes=size, base_reward_micro=1_000_000,
    )  # fmt: skip


def vote(task: str, who: str, accept: bool) -> Cause:
    kind = who.removesuffix("-1").replace("auto", "automatic")
    cast = c.CastVote.model_validate(
        {"voter_id": who, "voter_kind": kind, "accept": accept, "score_ppm": 1}
    )
    return Cause(f"eu/v-{task.removeprefix('eu/')}-1", cast, by=who)


VALIDATIONS = tuple(f"eu/v-t{n}-1" for n in range(4))
CASES = (
    solution_case_id("impossible-speed", VALIDATIONS[0]),
    solution_case_id("copied-solution", VALIDATIONS[1]),
    solution_case_id("copied-solution", VALIDATIONS[3]),
)
OTHERS_VALIDATIONS = (
    c.CastVote(voter_id="invented", voter_kind="expert", accept=True, score_ppm=1),
    c.CastVote(voter_id="invented", voter_kind="automatic", accept=True, score_ppm=1),
    c.CastVote(voter_id=FRIEND, voter_kind="peer-review", accept=True, score_ppm=1),
    c.EscalateValidation(
        to_kind="peer-review", reason="r", quorum=1, reviewers=(FRIEND,), deadline_at=LATER
    ),
    c.EscalateValidation(
        to_kind="expert", reason="r", quorum=1, reviewers=(FRIEND,), deadline_at=LATER
    ),
    c.EscalateValidation(to_kind="expert", reason="r", quorum=1, reviewers=(), deadline_at=LATER),
    c.DeferValidation(reason="r", deadline_at=LATER),
    c.OpenFraudCase(
        rule="impossible-speed", suspects=(MINER,), task_id=T0, validation_id=VALIDATIONS[0],
        severity_ppm=0, evidence=SEEN, solver_id=MINER,
    ),
    c.ResolveFraudCase(
        confirmed=False, decided_by="ops", penalty_micro=0, reason="r", evidence=SEEN
    ),
    c.ResolveFraudCase(
        confirmed=True, decided_by="ops", penalty_micro=0, reason="r", evidence=SEEN
    ),
    c.RequestValidation(
        task_id=T0, task_type="training", payload_sha256=sha256_of("p"), solution_id="s",
        solution_sha256=sha256_of("s"), miner_id=MINER, work_ms=1, base_reward_micro=1,
        kind="peer-review", quorum=1, reviewers=(FRIEND,), deadline_at=LATER,
    ),
)  # fmt: skip

# -- rewards ---------------------------------------------------------------------------------

REWARDS = (f"{T0}|{MINER}", f"{T1}|{MINER}", f"eu/slash|case-2|{MINER}")


def case(kind: type[Event], task: str) -> Event:
    kinds: dict[type[Event], dict[str, Any]] = {
        ve.FraudSuspected: {"task_id": task, "solver_id": MINER, "severity_ppm": 1},
        ve.FraudConfirmed: {"task_id": task, "solver_id": MINER, "penalty_micro": 1},
        ve.FraudCleared: {"reason": "r"},
    }
    more = kinds[kind]
    if kind is not ve.FraudSuspected:
        more["decided_by"] = "x"
    return kind.model_validate(
        {"rule": "impossible-speed", "suspects": (MINER,), "evidence": SEEN, **more}
    )


OTHERS_REWARDS = (
    c.WithholdReward(case_id="eu/case-1", reason="r"),
    c.WithholdReward(case_id="eu/case-9", reason="r"),
    c.ReleaseReward(case_id="eu/case-1", reason="r"),
    c.ReverseReward(reason="r"),
    c.ReverseReward(reason="r", case_id="eu/case-9"),
    c.PayReward(payout_ref="mine"),
    c.ReduceReward(debt_id="d", amount_micro=1, due_micro=1_000_000),
    c.RepayDebt(reward_id="r", amount_micro=1, owed_micro=1_000_000),
    c.CalculateReward(
        task_id=T0, miner_id=MINER, validation_id="v", base_micro=0, score_ppm=0
    ),
    c.CollectSlash(miner_id=MINER, case_id="eu/case-2", amount_micro=0),
)  # fmt: skip

JUDGE, PAYER, REGISTRY = "validation/eu", "rewards/eu", "miner-registry/eu"
PLAYS = {
    "tasks": Play(
        tasks,
        (
            Cause("eu/v-t0-1", decided(T0, True), JUDGE),
            Cause(REWARDS[0], PAID, PAYER),
            Cause("eu/v-t1-1", decided(T1, False), JUDGE),
        ),
        (T0, T1, T2, T3),
        OTHERS_TASKS,
    ),
    "validations": Play(
        lambda: Bench(ValidationComponent("eu", TOPOLOGY)),
        (
            Cause(T0, solved(T0, CHEAT, "inference", "a", 10**9)),
            Cause(T1, solved(T1, FRIEND, "inference", "a", 1)),
            Cause(T2, solved(T2, MINER, "training", "equal", 1)),
            Cause(T3, solved(T3, CHEAT, "training", "equal", 1)),
            vote(T0, "expert-1", False),
            vote(T1, "auto-1", False),
            vote(T2, "expert-1", True),
            vote(T3, "expert-1", False),
        ),
        (*VALIDATIONS, *CASES),
        OTHERS_VALIDATIONS,
    ),
    "rewards": Play(
        lambda: Bench(RewardComponent("eu", TOPOLOGY, Sink())),
        (
            Cause("eu/v-t0-1", decided(T0, True), JUDGE),
            Cause("eu/v-t1-1", decided(T1, True), JUDGE),
            Cause("eu/case-1", case(ve.FraudSuspected, T0), JUDGE),
            Cause("eu/case-1", case(ve.FraudCleared, T0), JUDGE),
            Cause("eu/case-2", case(ve.FraudSuspected, T1), JUDGE),
            Cause("eu/case-2", case(ve.FraudConfirmed, T1), JUDGE),
            Cause(
                MINER,
                StakeSlashed(case_id="eu/case-2", amount_micro=5, from_locked_micro=0),
                REGISTRY,
            ),
        ),
        REWARDS,
        OTHERS_REWARDS,
    ),
}

Sent = tuple[str, str, Command]
Turns = list[list[int | Sent]]


def read(bench: Bench, play: Play, step: int | Sent) -> Input:
    """A cause by its number, or what a stranger sends: (command id, aggregate, command)."""
    if not isinstance(step, int):
        name, key, command = step
        return bench.asked(key, command, CHEAT, name)
    key, data, scope, by = play.causes[step]
    if isinstance(data, Command):
        return bench.asked(key, data, by, f"drawn at random {step}")
    version = 2 if isinstance(data, ve.FraudCleared | ve.FraudConfirmed) else 1
    more: dict[str, Any] = {
        "event_id": f"cause-{step}",
        "stamp": step + 1,
        "seq": step + 1,
        "scope": scope,
    }
    return bench.caused(fact_of(data, key, version=version, **more))


def own(play: Play, turns: Turns) -> list[Fact]:
    """What the primary does of its own accord, to the end."""
    bench = play.begin()
    found: list[Fact] = []
    for steps in turns:
        found += bench.turn(*(read(bench, play, step) for step in steps))
    for _ in range(4):
        found += bench.turn(over=True)
    return [fact for fact in found if (fact.envelope.command_id or "").startswith(OWN)]


def carried_out(play: Play, turns: Turns) -> list[tuple[str, str]]:
    """(aggregate, kind) of it, in the order of each aggregate. Where a version is part of an id
    that may be another one, and what is due by time comes in the turn that there is."""
    found = [(f.envelope.aggregate_id, type(f.data).__name__) for f in own(play, turns)]
    return sorted(found, key=lambda one: one[0])


def foreseen(play: Play) -> list[str]:
    """Ids that a stranger can compute: of what will follow, as it is today and as it once was."""
    facts = own(play, [[number] for number in range(len(play.causes))])
    names = {fact.envelope.command_id or "" for fact in facts}
    names |= {fact.envelope.event_id for fact in facts}
    names |= {f"cause-{number}" for number in range(len(play.causes))}
    names |= {name.removeprefix(OWN) for name in names}
    return sorted(names | {str(uuid5(NAMESPACE, name)) for name in names})


ALL = {name: (foreseen(play), play.asked()) for name, play in PLAYS.items()}


def steps(name: str) -> st.SearchStrategy[Turns]:
    ids, asked = ALL[name]
    sent = st.tuples(st.sampled_from(ids), st.sampled_from(asked)).map(lambda s: (s[0], *s[1]))
    step = st.one_of(st.integers(0, len(PLAYS[name].causes) - 1), sent)
    return st.lists(st.lists(step, max_size=6), max_size=10)


@pytest.mark.parametrize("name", PLAYS)
@given(st.data())
def test_no_lawful_commands_from_outside_change_what_another_primary_carries_out(
    name: str, data: st.DataObject
) -> None:
    play, turns = PLAYS[name], data.draw(steps(name))
    alone: Turns = [[one for one in turn if isinstance(one, int)] for turn in turns]
    assert carried_out(play, turns) == carried_out(play, alone)


@pytest.mark.parametrize("name", PLAYS)
def test_primary_that_is_sent_everything_all_the_time_carries_out_what_it_would_have(
    name: str,
) -> None:
    play, (ids, asked) = PLAYS[name], ALL[name]
    causes: Turns = [[number] for number in range(len(play.causes))]
    noise: Turns = [[(one, key, command) for one in ids] for key, command in asked]
    meanwhile: Turns = [[(f"free {n}", *one) for n, one in enumerate(asked)]]
    between = [turn for cause in causes for turn in ([*cause], *meanwhile)]
    assert carried_out(play, [*noise, *between, *noise]) == carried_out(play, causes)


EXPECTED = {
    "tasks": {
        "TaskAssigned", "TaskLeaseExpired", "TaskValidated", "TaskRewarded",
        "TaskSolutionRejected",
    },
    "validations": {"ValidationRequested", "FraudSuspected", "FraudConfirmed"},
    "rewards": {
        "RewardCalculated", "RewardWithheld", "RewardReleased", "RewardPaid", "RewardReversed",
        "RewardReclaimed", "SlashCollected",
    },
}  # fmt: skip
"""What each does by itself in its play: its reactions, but for those on longer records."""


@pytest.mark.parametrize("name", PLAYS)
def test_play_has_the_reactions_that_matter_and_all_own_commands(name: str) -> None:
    numbers = range(len(PLAYS[name].causes))
    orders: list[Turns] = [[[number] for number in numbers], [[*numbers]]]
    kinds = {kind for turns in orders for _, kind in carried_out(PLAYS[name], turns)}
    assert kinds == EXPECTED[name]
    own_ones = {m for m in COMMANDS.values() if issubclass(m, OwnCommand) and m.component == name}
    assert own_ones <= {type(command) for command in PLAYS[name].outside}
