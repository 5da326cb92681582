"""What a primary does because of a fact: commands to itself.

`react(component, fact, view, where)` is asked by the primary of `component` for every fact that
it reads (its own, once committed, too). Rules give commands, not facts: `decide` judges them like
any other, so a rule may fire for what is no longer lawful and is then refused or changes nothing.
A reaction's command id is derived from the causing event's id, the rule and the aggregate, so it
happens once, whoever is primary, and nobody else can use it up (see `events.ids`). Facts that
concern another home give nothing. Pure.

| component | fact | commands |
|---|---|---|
| tasks | ValidationDecided, RewardPaid | RecordValidation, RecordReward |
| miners | TaskAssigned; TaskCancelled | LockStake; ReleaseStake |
| miners | ValidationDecided, TaskAttemptFailed, TaskLeaseExpired | RecordOutcome |
| miners | FraudConfirmed; FraudCleared | SlashStake, SuspendMiner; RecordClearing |
| validations | TaskSolved | RequestValidation, OpenFraudCase |
| validations | ValidationDecided, ValidationAudited | OpenFraudCase, ResolveFraudCase |
| rewards | ValidationDecided (accepted) | CalculateReward |
| rewards | FraudSuspected; FraudCleared; FraudConfirmed | Withhold; Release; ReverseReward |
| rewards | StakeSlashed | CollectSlash |

Not here, because they need more than facts: assignments, leases and deadlines (timers of the task
primary), votes (validator nodes and reviewers), payouts (the payout sink, then `PayReward`).
"""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from everlode.events import commands as c
from everlode.events import miners as me
from everlode.events import rewards as re
from everlode.events import tasks as te
from everlode.events import validations as ve
from everlode.events.base import Command, Fact
from everlode.events.ids import own_id
from everlode.events.states import RewardState
from everlode.state.formulas import stake_of
from everlode.state.judging import on_audited, on_decided, on_solved
from everlode.state.reward import reward_id, slash_id
from everlode.state.view import View, Where


class Reaction(NamedTuple):
    """A command to oneself, and the rule that gave it (unique for one fact and aggregate)."""

    aggregate_id: str
    command: Command
    rule: str


Reactions = tuple[Reaction, ...]


def command_id(event_id: str, reaction: Reaction) -> str:
    """Id of a reaction's command: the same whoever derives it."""
    return own_id("reaction", event_id, reaction.rule, reaction.aggregate_id)


def react(component: str, fact: Fact, view: View, where: Where | None = None) -> Reactions:
    """Commands that `fact` asks of the primary of `component`, in order.

    `view` must already include the fact when it is one of the primary's own. `where` is the
    fact's place in this region's cluster, for evidence. Deterministic; idempotent through
    `command_id` and `decide`.
    """
    return tuple(Reaction(*item) for item in _RULES[component](fact, view, where))


Caused = tuple[tuple[str, Command, str], ...]


def _is_ours(fact: Fact, view: View) -> bool:
    """True for facts of the region's own origin, whatever scope it served with them."""
    return fact.envelope.origin.rpartition(".")[0] == view.home


def _tasks(fact: Fact, view: View, _: Where | None) -> Caused:
    data = fact.data
    if isinstance(data, ve.ValidationDecided):
        if view.task(data.task_id) is None:
            return ()
        note = c.RecordValidation(
            validation_id=fact.envelope.aggregate_id,
            solution_id=data.solution_id,
            miner_id=data.miner_id,
            accepted=data.accepted,
            score_ppm=data.score_ppm,
        )
        return ((data.task_id, note, "validation-decided"),)
    if isinstance(data, re.RewardPaid) and view.task(data.task_id) is not None:
        paid = c.RecordReward(
            miner_id=data.miner_id,
            reward_id=fact.envelope.aggregate_id,
            amount_micro=data.amount_micro,
        )
        return ((data.task_id, paid, "reward-paid"),)
    return ()


def _miners(fact: Fact, view: View, _: Where | None) -> Caused:
    data, key = fact.data, fact.envelope.aggregate_id
    if isinstance(data, ve.FraudConfirmed):
        return tuple(
            item
            for suspect in data.suspects
            if view.miner(suspect) is not None
            for item in (
                (
                    suspect,
                    c.SlashStake(
                        case_id=key, task_id=data.task_id, amount_micro=data.penalty_micro
                    ),
                    "fraud-slash",
                ),
                (suspect, c.SuspendMiner(reason=f"{c.FRAUD}{data.rule}"), "fraud-suspend"),
            )
        )
    if isinstance(data, ve.FraudCleared):
        cleared = c.RecordClearing(case_id=key)
        return tuple((s, cleared, "fraud-cleared") for s in data.suspects if view.miner(s))
    miner = getattr(data, "miner_id", None)
    if miner is None or view.miner(miner) is None:
        return ()
    match data:
        case te.TaskAssigned():
            stake = stake_of(data.base_reward_micro)
            if stake == 0:
                return ()
            return ((miner, c.LockStake(task_id=key, amount_micro=stake), "task-assigned"),)
        case te.TaskCancelled():
            return ((miner, c.ReleaseStake(task_id=key), "task-cancelled"),)
        case te.TaskAttemptFailed():
            return ((miner, _outcome(key, "failed", data.attempt), "attempt-failed"),)
        case te.TaskLeaseExpired():
            return ((miner, _outcome(key, "expired", data.attempt), "lease-expired"),)
        case ve.ValidationDecided():
            done = c.RecordOutcome(
                task_id=data.task_id,
                outcome="accepted" if data.accepted else "rejected",
                subject_id=key,
                work_ms=data.work_ms,
                score_ppm=data.score_ppm,
            )
            return ((miner, done, "validation-decided"),)
    return ()


def _outcome(task_id: str, outcome: str, attempt: int) -> c.RecordOutcome:
    return c.RecordOutcome(
        task_id=task_id,
        outcome=outcome,  # type: ignore[arg-type]
        subject_id=task_id,
        work_ms=0,
        score_ppm=0,
        attempt=attempt,
    )


def _validations(fact: Fact, view: View, where: Where | None) -> Caused:
    data = fact.data
    if not _is_ours(fact, view):
        return ()
    if isinstance(data, te.TaskSolved):
        return on_solved(fact, data, view, where)
    state = view.validation(fact.envelope.aggregate_id)
    if state is None:
        return ()
    if isinstance(data, ve.ValidationDecided):
        return on_decided(data, state, view, where)
    if isinstance(data, ve.ValidationAudited):
        return on_audited(data, state, view, where)
    return ()


def _rewards(fact: Fact, view: View, _: Where | None) -> Caused:
    data, key = fact.data, fact.envelope.aggregate_id
    if not _is_ours(fact, view):
        return ()
    match data:
        case ve.ValidationDecided():
            if not data.accepted:
                return ()
            due = c.CalculateReward(
                task_id=data.task_id,
                miner_id=data.miner_id,
                validation_id=key,
                base_micro=data.base_reward_micro,
                score_ppm=data.score_ppm,
            )
            return ((reward_id(data.task_id, data.miner_id), due, "accepted"),)
        case ve.FraudSuspected() | ve.FraudConfirmed():
            return _fraud_on_rewards(key, data, view)
        case ve.FraudCleared():
            free = c.ReleaseReward(case_id=key, reason="fraud_cleared")
            held = [r for r in view.rewards_of_case(key) if r.status == "withheld"]
            return tuple((r.key, free, "fraud-cleared") for r in held)
        case me.StakeSlashed():
            if data.amount_micro == 0:
                return ()
            booked = c.CollectSlash(
                miner_id=key, case_id=data.case_id, amount_micro=data.amount_micro
            )
            return ((slash_id(data.case_id, key), booked, "stake-slashed"),)
    return ()


def _fraud_on_rewards(key: str, data: ve.FraudSuspected | ve.FraudConfirmed, view: View) -> Caused:
    """Rewards that the case concerns: held back, or taken back, paid ones too."""
    if data.task_id is None:
        return ()
    found: list[tuple[str, Command, str]] = []
    for reward in _concerned(data, data.task_id, view):
        if isinstance(data, ve.FraudSuspected):
            if reward.status in {"calculated", "withheld"}:
                held = c.WithholdReward(case_id=key, reason="fraud_suspected")
                found.append((reward.key, held, "fraud-suspected"))
        elif reward.status in {"calculated", "withheld", "paid"}:
            back = c.ReverseReward(reason="fraud_confirmed", case_id=key)
            found.append((reward.key, back, "fraud-confirmed"))
    return tuple(found)


def _concerned(
    data: ve.FraudSuspected | ve.FraudConfirmed, task: str, view: View
) -> list[RewardState]:
    """Of the miner whose solution the case is about; facts of older builds do not name it."""
    if data.solver_id is not None:
        reward = view.reward(reward_id(task, data.solver_id))
        return [] if reward is None else [reward]
    named = (view.reward(reward_id(task, suspect)) for suspect in data.suspects)
    found = {r.key: r for r in (*view.rewards_of_task(task), *named) if r is not None}
    return [r for r in found.values() if concerns(data.rule, data.suspects, None, r.miner_id)]


def concerns(rule: str, suspects: Container[str], solver_id: str | None, miner_id: str) -> bool:
    """True when the reward of this miner, for the case's task, waits for the case."""
    if solver_id is not None:
        return miner_id == solver_id
    return rule == "colluding-votes" or miner_id in suspects


_RULES = {
    "tasks": _tasks,
    "miners": _miners,
    "validations": _validations,
    "rewards": _rewards,
}
