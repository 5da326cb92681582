"""The proof's own reading of the facts: what each aggregate must look like in a projection.

Rules written from docs/format.md and the schemas' docs, over plain values; nothing of
`everlode.state` or `everlode.projection` is used. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

Fields = dict[str, Any]
"""Field of a state → its value; the fields are those of the Avro state record."""


class LoggedEvent(NamedTuple):
    """One fact as the proof reads it: type name and plain values."""

    kind: str
    envelope: dict[str, Any]
    data: dict[str, Any]
    partition: int


class Recounted(NamedTuple):
    """Aggregate → fields, and what cannot be."""

    found: dict[str, Fields]
    wrong: list[str]


MARKS = ("Barrier", "EpochOpened")
FRAUD = ("FraudSuspected", "FraudConfirmed", "FraudCleared")
REWARD_STATUS = {
    "RewardCalculated": "calculated", "RewardWithheld": "withheld", "RewardReleased": "calculated",
    "RewardPaid": "paid", "RewardReversed": "reversed", "SlashCollected": "collected",
    "RewardReclaimed": "reclaimed",
}  # fmt: skip
MINER_STATUS = {
    "MinerRegistered": "active", "MinerReinstated": "active", "MinerSuspended": "suspended",
    "MinerRetired": "retired",
}  # fmt: skip


def _task(state: Fields, event: LoggedEvent) -> str | None:
    """Apply an event to a task. Returns what is wrong with it, if anything."""
    data = event.data
    kept: tuple[str, ...]
    match event.kind:
        case "TaskSubmitted":
            kept = ("client_id", "task_type", "payload_sha256", "base_reward_micro", "gpus",
                    "deadline_at", "max_attempts")  # fmt: skip
            state.update({name: data[name] for name in kept})
            state.update(status="submitted", attempt=0, progress_ppm=0, reward_micro=0, miners=[])
        case "TaskProgressed":
            if data["progress_ppm"] < state["progress_ppm"]:
                return f"progress went back from {state['progress_ppm']} to {data['progress_ppm']}"
            state["progress_ppm"] = data["progress_ppm"]
            if data["checkpoint_uri"] is not None:
                state["checkpoint_uri"] = data["checkpoint_uri"]
        case "TaskSolved":
            kept = ("solution_id", "solution_sha256", "work_ms")
            state.update({name: data[name] for name in kept}, status="solved")
        case "TaskValidated" | "TaskRewarded" | "TaskCancelled" | "TaskDeleted":
            return _task_ending(state, event)
        case _:
            return _task_attempt(state, event)
    return None


def _task_attempt(state: Fields, event: LoggedEvent) -> str | None:
    data = event.data
    if event.kind == "TaskMigrated":
        state.update(attempt=data["attempt"], manager_node=data["to_node"])
    elif event.kind == "TaskAssigned":
        if state["status"] != "submitted":
            return f"assigned while {state['status']}: its progress went back"
        kept = ("attempt", "miner_id", "manager_node")
        state.update({name: data[name] for name in kept}, status="assigned", progress_ppm=0)
        if data["miner_id"] not in state["miners"]:
            state["miners"].append(data["miner_id"])
    else:  # TaskAttemptFailed, TaskLeaseExpired, TaskSolutionRejected
        state.update(status="failed" if data["final"] else "submitted", manager_node=None)
    return None


def _task_ending(state: Fields, event: LoggedEvent) -> str | None:
    data, before = event.data, state["status"]
    if event.kind == "TaskValidated":
        state.update(score_ppm=data["score_ppm"], validation_id=data["validation_id"])
        state["status"] = before if before == "rewarded" else "validated"
    elif event.kind == "TaskRewarded":
        state.update(status="rewarded", reward_micro=data["amount_micro"])
        if before == "rewarded":
            return "rewarded twice"
    elif event.kind == "TaskCancelled":
        state["status"] = "cancelled"
    else:
        state.clear()
        state["status"] = "deleted"
    return None


RECENT = 32
"""Of a miner's performances the last so many are kept."""


def _miner(state: Fields, event: LoggedEvent) -> str | None:
    data = event.data
    match event.kind:
        case "MinerRegistered":
            state.update(
                stake_free_micro=0, stake_locked_micro=0, stake_slashed_micro=0, accepted=0,
                rejected=0, failed=0, expired=0, reputation_ppm=500_000, work_ms=0, locks={},
                cases=[], recent=[], **data,
            )  # fmt: skip
        case "MinerUpdated":
            state.update(data)
        case "ReputationChanged":
            if data["reputation_ppm"] != state["reputation_ppm"] + data["delta_ppm"]:
                return f"reputation {state['reputation_ppm']} moved by {data['delta_ppm']}"
            state["reputation_ppm"] = data["reputation_ppm"]
        case "PerformanceRecorded":
            state[data["outcome"]] += 1
            state["work_ms"] += data["work_ms"]
            kept = ("task_id", "outcome", "work_ms", "score_ppm")
            done = {name: data[name] for name in kept}
            done |= {"at": event.envelope["occurred_at"], "attempt": data.get("attempt", 0)}
            state["recent"] = [*state["recent"], done][-RECENT:]
        case _:
            _stake(state, event)
    state["status"] = MINER_STATUS.get(event.kind, state.get("status"))
    if min(state["stake_free_micro"], state["stake_locked_micro"]) < 0:
        return "stake below zero"
    return None


def _stake(state: Fields, event: LoggedEvent) -> None:
    """What is deposited, locked, released or slashed, and for which tasks it is locked."""
    data, locks = event.data, state["locks"]
    match event.kind:
        case "StakeDeposited":
            state["stake_free_micro"] += data["amount_micro"]
        case "StakeLocked":
            state["stake_free_micro"] -= data["amount_micro"]
            state["stake_locked_micro"] += data["amount_micro"]
            locks[data["task_id"]] = data["amount_micro"]
        case "StakeReleased":
            state["stake_free_micro"] += data["amount_micro"]
            state["stake_locked_micro"] -= data["amount_micro"]
            del locks[data["task_id"]]
        case "StakeSlashed":
            left = data["from_locked_micro"]
            state["stake_free_micro"] -= data["amount_micro"] - left
            state["stake_locked_micro"] -= left
            state["stake_slashed_micro"] += data["amount_micro"]
            state["cases"] = sorted({*state["cases"], data["case_id"]})
            for task in sorted(locks, key=lambda task: (task != data["task_id"], task)):
                taken = min(left, locks[task])
                left -= taken
                locks[task] -= taken
            state["locks"] = {task: held for task, held in locks.items() if held}


def _validation(state: Fields, event: LoggedEvent) -> str | None:
    data = event.data
    match event.kind:
        case "ValidationRequested":
            kept = ("task_id", "miner_id", "kind", "solution_sha256", "quorum", "reviewers")
            state.update({name: data[name] for name in kept})
            state.update(status="pending", accepted=None, score_ppm=0, votes=[], judged=[])
        case "ValidationEscalated":
            state.update(kind=data["to_kind"], quorum=data["quorum"], reviewers=data["reviewers"])
        case "ValidationDecided":
            if state["status"] == "decided":
                return "decided twice"
            state.update(status="decided", accepted=data["accepted"], score_ppm=data["score_ppm"])
        case "VoteCast":
            if data["voter_id"] == state["miner_id"]:
                return f"{data['voter_id']} voted on its own solution"
            state["votes"].append({**data, "at": event.envelope["occurred_at"]})
        case "ValidationAudited":
            state["judged"].append({name: data[name] for name in ("judged_kind", "by", "upheld")})
    return None


def _reward(state: Fields, event: LoggedEvent) -> str | None:
    data, before = event.data, state.get("status")
    held = data.get("cases_left") if event.kind == "RewardReleased" else 0
    if held or event.kind == "RewardReduced":
        status = before
    elif event.kind == "DebtRepaid":
        status = "reclaimed" if data["left_micro"] else "repaid"
    else:
        status = REWARD_STATUS[event.kind]
    state["status"] = status
    if event.kind in ("RewardCalculated", "SlashCollected"):
        state.update(amount_micro=data["amount_micro"], miner_id=data["miner_id"])
        state.update(validation_id=data.get("validation_id", ""), reduced_micro=0)
        return None if before is None else f"{event.kind} after {before}"
    payable = ("calculated",) if event.kind == "RewardPaid" else ("calculated", "withheld")
    if event.kind in ("RewardPaid", "RewardReversed"):
        if before not in payable:
            return f"{event.kind} after {before}"
        due = state["amount_micro"] - state["reduced_micro"]
        if data["amount_micro"] != due:
            return f"{data['amount_micro']} in {event.kind}, {due} due"
    if event.kind == "RewardReduced":
        state["reduced_micro"] += data["amount_micro"]
    if event.kind == "RewardPaid":
        state["payout_ref"] = data["payout_ref"]
    return None


def _case(state: Fields, event: LoggedEvent) -> str | None:
    status = {"FraudSuspected": "suspected", "FraudConfirmed": "confirmed"}
    state.update(status=status.get(event.kind, "cleared"), rule=event.data["rule"])
    if event.kind != "FraudCleared":
        state["suspects"] = list(event.data["suspects"])
        state["penalty_micro"] = event.data.get("penalty_micro", 0)
    return None


RULES = {
    "tasks": _task, "miners": _miner, "validations": _validation, "rewards": _reward,
    "fraud": _case,
}  # fmt: skip


def elsewhere(key: str, scope: str, regions: Collection[str]) -> bool:
    """True when a key begins with another region than the home of the scope of its event."""
    first, slash, _ = key.partition("/")
    return slash == "/" and first in regions and first != scope.split("/")[-1]


def recount(
    component: str,
    events: Iterable[LoggedEvent],
    decided: Mapping[str, int] | None = None,
    regions: Collection[str] = (),
) -> Recounted:
    """Fields of every aggregate after its events, which must be in order of each key.

    `decided`: scope → highest epoch of the control log; an aggregate stands still from its first
    event above that on. `wrong` names what no lawful history has: a version out of turn, twice
    paid, twice decided, progress or money that went the wrong way, a first event that cannot be
    one, an epoch that nobody decided, an event about what is at home elsewhere (one of
    `regions`), which has no effect.
    """
    found: dict[str, Fields] = {}
    wrong: list[str] = []
    stopped: set[str] = set()
    for event in events:
        key, version = event.envelope["aggregate_id"], event.envelope["version"]
        scope, epoch = event.envelope["scope"], event.envelope["epoch"]
        if elsewhere(key, scope, regions):
            wrong.append(f"{component} {key}: {event.kind} by {scope}, at home elsewhere")
            continue
        if decided is not None and key not in stopped and epoch > decided.get(scope, 0):
            stopped.add(key)
            wrong.append(f"{component} {key}: epoch {epoch} of {scope} was never decided")
        if key in stopped:
            continue
        state = found.setdefault(key, {"version": 0})
        if version != state["version"] + 1:
            wrong.append(f"{component} {key}: version {version} follows {state['version']}")
        try:
            problem = RULES[component](state, event)
        except KeyError as error:
            problem = f"{event.kind} cannot follow what there is: no {error.args[0]}"
        if problem is not None:
            wrong.append(f"{component} {key}: {problem}")
        state["version"] = version
    return Recounted(found, wrong)


def epochs_decided(decisions: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Scope → its epoch after these `ScopeAssigned`, in log order: each must follow the last.

    One that names its coordinator's epoch must name the one that the last such decision opened.
    """
    found: dict[str, int] = {}
    for data in decisions:
        current = found.get(data["scope_name"], 0)
        leads = data.get("coordinator_epoch")
        if leads is not None and leads != found.get(f"coordinator/{data['region']}", 0):
            continue
        if (data["based_on_epoch"], data["new_epoch"]) == (current, current + 1):
            found[data["scope_name"]] = current + 1
    return found


def differing(expected: Fields, stored: Fields) -> str:
    """The first field that differs, with both values; empty when none does."""
    for name, value in expected.items():
        have = stored.get(name)
        if have != value:
            return f"{name} is {have!r}, {value!r} is right"
    return ""
