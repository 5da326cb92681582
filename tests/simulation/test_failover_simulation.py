"""A coordinator is killed at every effect it has, before and after it; the next one ends the same.

The handler is the real one; the logs are lists. Checked at the end: `two_decisions`,
`moved_twice`, `moved_before_fence`, `lost_task`, `ended_twice`, `step_twice`, and that the steps
are those of the kind, in their order.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.control.fold import ControlState, apply
from everlode.events import tasks as t
from everlode.events import validations as v
from everlode.events.barriers import EpochOpened
from everlode.events.base import Envelope, Event, Evidence, Fact, ScopeEpoch
from everlode.events.commands import DeferValidation, MigrateTask
from everlode.events.control import LeaseRenewed, NodeJoined, NodeStatusChanged, ScopeAssigned
from everlode.events.health import NodeLost
from everlode.events.heartbeats import NodeBeat
from everlode.events.recovery import (
    OperationStarted,
    OperationStep,
    RegistryChanged,
    RegistryRecoveryEnded,
    RewardRecoveryEnded,
    TaskManagerRecoveryEnded,
    ValidationRecoveryEnded,
)
from everlode.events.states import ValidationState
from everlode.failover.handler import Handler
from everlode.failover.heartbeats import Heartbeats
from everlode.failover.limits import Limits
from everlode.failover.orders import Orders
from everlode.failover.policy import of_all
from everlode.miners.policy import MinerPolicy
from everlode.rewards.policy import RewardPolicy
from everlode.state.validation import evolve
from everlode.tasks.policy import TaskPolicy
from everlode.validations.absent import absent_kinds, owed_for
from everlode.validations.policy import ValidationPolicy

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = Limits(10_000, 2_000)
COMPONENTS = {
    "task-manager": "tm", "rewards": "rd", "miner-registry": "mr", "validation": "val",
}  # fmt: skip
UNDER_WAY = 7
"""Of each node, by its last beat."""
SAME = ("", "", "")
AUTOMATIC = ("automatic", "automatic", "automatic")
LAST_EXPERT = ("expert", "automatic", "automatic")
LAST_AUTOMATIC = ("automatic", "expert", "expert")
LATER = NOW + timedelta(hours=1)


class Killed(BaseException):
    """SIGKILL."""


def fact(key: str, data: Event, stamp: int = 1, command: str | None = None, **more: Any) -> Fact:
    envelope = Envelope.model_validate(
        {
            "event_id": f"{stamp}", "aggregate_id": key, "version": 0, "origin": "eu.1",
            "scope": "", "epoch": 0, "seq": 0, "stamp": stamp << 16, "occurred_at": NOW,
            "command_id": command, "correlation_id": "c", **more,
        }
    )  # fmt: skip
    return Fact(envelope, data)


def requested(kind: str) -> v.ValidationRequested:
    return v.ValidationRequested.model_validate(
        {
            "task_id": "t", "task_type": "training", "payload_sha256": "0" * 64,
            "solution_id": "s", "solution_sha256": "0" * 64, "miner_id": "m", "work_ms": 1,
            "base_reward_micro": 1, "kind": kind, "quorum": 1, "reviewers": (),
            "deadline_at": LATER,
        }
    )  # fmt: skip


def decision(kind: str) -> v.ValidationDecided:
    return v.ValidationDecided.model_validate(
        {
            "task_id": "t", "task_type": "training", "solution_id": "s", "miner_id": "m",
            "kind": kind, "accepted": True, "score_ppm": 1, "votes_for": 1,
            "votes_against": 0, "work_ms": 1, "base_reward_micro": 1,
        }
    )  # fmt: skip


class Region:
    """All logs of a region, and the primaries' side of a failover."""

    def __init__(self, component: str, tasks: int, kinds: tuple[str, ...] = SAME) -> None:
        self.component, self.scope, self.kinds = component, f"{component}/eu", kinds
        self.read_stamp: dict[str, int] = {}
        self.control = ControlState()
        self.tasks: list[tuple[int, Fact]] = []
        self.recovery: list[Fact] = []
        self.health: list[Fact] = []
        self.beats: list[tuple[str, NodeBeat, int]] = []
        self.count = self.offset = self.clock = 0
        self.kill_at = -1
        self.silent: set[str] = set()
        self.short = COMPONENTS[component]
        for n in (1, 2, 3):
            self.write(
                NodeJoined(
                    node_id=f"{self.short}-{n}", region="eu", component=component,
                    kind=kinds[n - 1], endpoint="127.0.0.1:1", priority=9 - n,
                )
            )  # fmt: skip
            self.beat(f"{self.short}-{n}")
        for scope, primary in (("coordinator/eu", "co"), (self.scope, f"{self.short}-1")):
            self.decide(scope, primary)
        self.advance()
        if component == "validation":
            self.tasks += [(n % 2, fact(f"v{n}", requested(kinds[0]))) for n in range(tasks)]
            return
        for n in range(tasks):
            node = f"tm-{n % 3 + 1}"
            data = t.TaskAssigned.model_validate(
                {"attempt": 1, "miner_id": "m", "manager_node": node, "lease_until": NOW}
                | (
                    {"base_reward_micro": 1}
                    if "base_reward_micro" in t.TaskAssigned.model_fields
                    else {}
                )
            )
            self.tasks.append((0, fact(f"t{n}", data)))

    # -- effects -----------------------------------------------------------------------------

    def effect(self) -> None:
        self.count += 1
        if self.count == self.kill_at:
            raise Killed

    def write(self, data: Event, scope: str = "coordinator/eu", epoch: int = 0) -> int:
        at = self.control.position + 1
        self.control = apply(self.control, at, fact("k", data, scope=scope, epoch=epoch))
        return at

    def append(self, key: str, data: Event, *, node_id: str, scope: str, epoch: int = 0) -> int:
        self.effect()
        at = self.write(data, scope, epoch)
        self.effect()
        return at

    def signal(self, data: Event, *, topic: str, key: str, partition: int, event_id: str) -> None:
        self.effect()
        now_ms = time.time_ns() // 1_000_000
        self.recovery.append(fact(key, data, now_ms, event_id=event_id))
        self.effect()

    def send(self, task: str, command: MigrateTask, *, command_id: str) -> Future[Any]:
        """The primary: takes commands only in its own epoch, and each once."""
        self.effect()
        manager = self.managers()[task]
        if self.opened() == self.control.epoch(self.scope) and manager == command.from_node:
            self.clock += 1
            moved = t.TaskMigrated(
                attempt=2, miner_id="m", from_node=manager, to_node=command.to_node,
                lease_until=NOW,
            )  # fmt: skip
            self.tasks.append((0, fact(task, moved, self.clock, command_id)))
        done: Future[Any] = Future()
        done.set_result(SimpleNamespace(outcome="done"))
        self.effect()
        return done

    def decide(self, scope: str, primary: str) -> None:
        epoch = self.control.epoch(scope)
        data = ScopeAssigned.model_validate(
            {
                "scope_name": scope, "new_epoch": epoch + 1, "primary_node": primary,
                "region": "eu", "reason": "bootstrap",
                "based_on": max(0, self.control.position), "based_on_epoch": epoch,
            }
        )  # fmt: skip
        self.append(scope, data, node_id="co", scope="coordinator/eu")

    # -- the world ---------------------------------------------------------------------------

    def beat(self, node: str) -> None:
        self.offset += 1
        data = NodeBeat.model_validate(
            {
                "component": self.component, "kind": "", "role": "none", "held_epoch": 0,
                "endpoint": "e", "status": "healthy", "load_ppm": 0, "current_tasks": UNDER_WAY,
                "max_concurrent": 10, "work_done": 0, "queue_size": 0, "specialties": (),
                "interval_ms": 1000, "read_stamp": self.read_stamp.get(node),
            }
        )  # fmt: skip
        self.beats.append((node, data, self.offset))

    def lose(self, node: str, rule: str = "refused-and-silent") -> None:
        self.silent.add(node)
        self.offset += 1
        evidence = (Evidence(topic="h", partition=0, offset=self.offset, note="barrier"),)
        verdict = NodeLost(
            component=self.component, rule=rule, silence_ms=2_000, phi=0.0,
            actionable=True, evidence=evidence,
        )  # fmt: skip
        self.health.append(fact(node, verdict, 7))

    def advance(self) -> None:
        """The primary's part."""
        self.open()
        self.defer()

    def open(self) -> None:
        """The new primary opens its epoch and renews its lease."""
        led = self.control.scopes[self.scope]
        if led.epoch > self.opened():
            opened = EpochOpened(
                node_id=led.primary, scopes=(ScopeEpoch(scope=self.scope, epoch=led.epoch),)
            )
            self.clock += 1
            for partition in (0, 1):
                self.tasks.append((partition, fact("e", opened, self.clock)))
            self.write(
                LeaseRenewed(
                    scope_name=self.scope, node_id=led.primary, held_epoch=led.epoch, nonce="n"
                )
            )

    def defer(self) -> None:
        """The primary of validations does what it owes, by the real rules."""
        absent = absent_kinds(self.control, "eu")
        folded: dict[str, ValidationState] = {}
        for _, f in self.tasks:
            if self.component == "validation" and not isinstance(f.data, EpochOpened):
                state = evolve(folded.get(f.envelope.aggregate_id), f, 0)
                assert state is not None
                folded[state.key] = state
        for state in folded.values():
            command = owed_for(state, NOW, experts=False) if state.kind in absent else None
            if isinstance(command, DeferValidation):
                self.clock += 1
                data = v.ValidationDeferred(reason=command.reason, deadline_at=command.deadline_at)
                self.tasks.append((0, fact(state.key, data, self.clock, version=2)))

    def judged(self, count: int) -> None:
        """So many others were decided, one each second."""
        for n in range(count):
            self.clock += 1_000
            self.tasks.append((0, fact(f"earlier-{n}", decision(self.kinds[0]), self.clock)))

    def judge(self, last_ms: int) -> None:
        """What waits for the first kind is decided, the last so long after the handling's end."""
        ended = self.recovery[-1].envelope.stamp >> 16
        asked = [f for _, f in self.tasks if isinstance(f.data, v.ValidationRequested)]
        for n, one in enumerate(asked, 1):
            at = ended + last_ms * n // len(asked)
            data = decision(self.kinds[0])
            self.tasks.append((0, fact(one.envelope.aggregate_id, data, at, version=2)))

    def opened(self) -> int:
        return max(
            (f.data.scopes[0].epoch for _, f in self.tasks if isinstance(f.data, EpochOpened)),
            default=0,
        )

    def managers(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for _, f in self.tasks:
            if isinstance(f.data, t.TaskAssigned):
                found[f.envelope.aggregate_id] = f.data.manager_node
            elif isinstance(f.data, t.TaskMigrated):
                found[f.envelope.aggregate_id] = f.data.to_node
        return found


class Process:
    """A coordinator's process: what it has read, and its handler."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self.beats = Heartbeats()
        self.read = [0, 0, 0, 0]
        identity = SimpleNamespace(node_id="co", region="eu")
        agent = cast("Any", SimpleNamespace(identity=identity, log=region))
        agent.signal = region.signal
        agent.control_at = lambda _: region.control
        agent.leads = region.control.epoch
        self.agent = agent
        clock = cast("Any", SimpleNamespace(event_now=lambda: NOW))
        tasks = TaskPolicy(2, 1_000, timedelta(hours=1))
        policies = of_all((tasks, MinerPolicy(), ValidationPolicy(2), RewardPolicy()))
        self.policy = policies[region.component]
        orders = Orders(lambda: cast("Any", region), clock)
        self.handler = Handler(agent, self.beats, policies, orders, LIMITS)

    def turn(self) -> None:
        r, done = self.region, self.read
        for node, beat, offset in r.beats[done[0] :]:
            self.beats.observe(fact(node, beat), 0, offset, behind=node in r.silent)
        for partition, item in r.tasks[done[1] :]:
            self.policy.observe(partition, item)
        for item in r.recovery[done[2] :]:
            self.handler.log.observe(item)
        for item in r.health[done[3] :]:
            assert isinstance(item.data, NodeLost)
            self.handler.observe(item, item.data)
        self.read = [len(r.beats), len(r.tasks), len(r.recovery), len(r.health)]
        self.agent.control = r.control
        self.handler.turn(1)


def play(region: Region, kills: list[int]) -> None:
    """Turns until nothing happens any more; each kill is an effect of the then living process."""
    process, idle = Process(region), 0
    for _ in range(300):
        region.kill_at = region.count + kills[0] if kills and region.kill_at < 0 else region.kill_at
        before = region.count
        try:
            process.turn()
        except Killed:
            kills = kills[1:]
            region.kill_at = -1
            process = Process(region)
        region.advance()
        idle = idle + 1 if region.count == before else 0
        if idle == 3:
            return
    raise AssertionError("it goes on for ever")


def check(region: Region, lost: str, tasks: int) -> None:
    leader = lost.endswith("-1")
    assert region.control.epoch(region.scope) == (2 if leader else 1), "two_decisions"
    assert not region.control.void, "two_decisions"
    assert region.control.nodes[lost].status == "lost"
    moved = Counter(f.envelope.aggregate_id for _, f in region.tasks if _is_move(f))
    assert set(moved.values()) <= {1}, "moved_twice"
    managers = region.managers()
    assert len(managers) == (tasks if region.component == "task-manager" else 0), "lost_task"
    assert lost not in managers.values()
    if leader and moved:
        kinds = [type(f.data).__name__ for _, f in region.tasks]
        last_opened = len(kinds) - kinds[::-1].index("EpochOpened") - 1
        assert last_opened < kinds.index("TaskMigrated"), "moved_before_fence"
    events = {f.envelope.event_id: f.data for f in region.recovery}
    ended = [d for d in events.values() if type(d).__name__.endswith("Ended")]
    assert len(ended) == 1, "ended_twice"
    assert sum(isinstance(d, OperationStarted) for d in events.values()) == 1
    steps = [d for d in events.values() if isinstance(d, OperationStep)]
    assert all(b == a + 1 for a, b in pairwise([0, *(d.number for d in steps)]))
    names = [d.step for d in steps if d.step != "migrate"]
    assert len(set(names)) == len(names), "step_twice"
    assert names == steps_of(region, leader), "steps"
    changed = [d for d in events.values() if isinstance(d, RegistryChanged)]
    assert [(d.from_node, d.to_node, d.scope_epoch) for d in changed] == (
        [(lost, "mr-2", 2)] if "notify" in names else []
    )
    end = ended[0]
    if isinstance(end, TaskManagerRecoveryEnded):
        assert end.migrated_tasks == sum(moved.values())
        assert end.recovery_action == ("secondary-promoted" if leader else "secondary-removed")
        assert end.new_primary == ("tm-2" if leader else None)
        assert (end.detect_ms, end.success) == (2_000, True)
    elif isinstance(end, RewardRecoveryEnded):
        assert end.new_primary == ("rd-2" if leader else None)
        assert (end.failed_distributor, end.pending_payouts, end.success) == (lost, UNDER_WAY, True)
    elif isinstance(end, RegistryRecoveryEnded):
        assert end.backup_registry == ("mr-2" if leader else "")
        assert end.data_sync_completed is leader, "nobody took over from a secondary"
        assert (end.failed_registry, end.affected_miners, end.success) == (lost, UNDER_WAY, True)
    else:
        assert isinstance(end, ValidationRecoveryEnded)
        kind = region.kinds[int(lost[-1]) - 1]
        alone = region.kinds.count(kind) == 1
        assert (end.failed_validator, end.validator_type, end.success) == (lost, kind, True)
        assert end.redistributed_tasks == (0 if alone else tasks)
        deferred = [f.envelope.aggregate_id for _, f in region.tasks if _is_deferral(f)]
        assert len(set(deferred)) == len(deferred) == end.deferred_tasks
        assert end.deferred_tasks == (tasks if alone and kind == "expert" else 0)


def steps_of(region: Region, leader: bool) -> list[str]:
    """Those of a handler, in their order."""
    promoted = ["decide", "promote"] if leader else []
    if region.component == "miner-registry" and leader:
        return ["level", *promoted, "notify"]
    if region.component == "validation":
        alone = region.kinds.count(region.kinds[0]) == 1
        last = "defer" if region.kinds[0] == "expert" else "escalate"
        return [*promoted, last if alone else "redistribute"]
    return promoted


def _is_deferral(item: Fact) -> bool:
    return isinstance(item.data, v.ValidationDeferred)


def _is_move(item: Fact) -> bool:
    return isinstance(item.data, t.TaskMigrated)


def effects_of(component: str, lost: str, tasks: int, kinds: tuple[str, ...]) -> int:
    region = Region(component, tasks, kinds)
    region.lose(lost)
    before = region.count
    play(region, [])
    check(region, lost, tasks)
    return region.count - before


@pytest.mark.parametrize(
    ("component", "lost", "tasks", "kinds"),
    [("task-manager", "tm-1", 7, SAME), ("task-manager", "tm-3", 7, SAME),
     ("rewards", "rd-1", 0, SAME), ("rewards", "rd-2", 0, SAME),
     ("miner-registry", "mr-1", 0, SAME), ("miner-registry", "mr-2", 0, SAME),
     ("validation", "val-1", 5, AUTOMATIC), ("validation", "val-3", 5, AUTOMATIC),
     ("validation", "val-1", 5, LAST_EXPERT), ("validation", "val-1", 5, LAST_AUTOMATIC)],
)  # fmt: skip
def test_coordinator_killed_at_each_effect_is_followed_to_the_same_end(
    component: str, lost: str, tasks: int, kinds: tuple[str, ...]
) -> None:
    effects = effects_of(component, lost, tasks, kinds)
    assert effects >= 6, "vacuous"
    for at in range(1, effects + 1):
        region = Region(component, tasks, kinds)
        region.lose(lost)
        play(region, [at])
        check(region, lost, tasks)


@given(
    st.lists(st.integers(1, 12), max_size=12),
    st.sampled_from(
        [("tm-1", SAME), ("tm-2", SAME), ("mr-1", SAME), ("rd-1", SAME), ("val-1", AUTOMATIC),
         ("val-1", LAST_EXPERT)]
    ),
)  # fmt: skip
def test_coordinators_killed_again_and_again_come_to_the_same_end(
    kills: list[int], case: tuple[str, tuple[str, ...]]
) -> None:
    lost, kinds = case
    component = next(c for c, short in COMPONENTS.items() if short == lost.split("-")[0])
    tasks = 9 if component in ("task-manager", "validation") else 0
    region = Region(component, tasks, kinds)
    region.lose(lost)
    play(region, kills)
    check(region, lost, tasks)


def test_handler_without_commands_waits_for_no_others_answers() -> None:
    """The tasks of a lost manager may wait for their new primary; the registry need not."""
    region = Region("miner-registry", 0)
    region.lose("mr-1")
    process = Process(region)
    waits: Future[Any] = Future()
    process.handler._orders._waiting.append(waits)
    for _ in range(20):
        process.turn()
        region.advance()
    check(region, "mr-1", 0)


def test_verdict_that_the_node_has_outlived_changes_nothing() -> None:
    region = Region("task-manager", 3)
    region.lose("tm-1")
    region.silent.clear()
    region.beat("tm-1")
    play(region, [])
    assert region.control.nodes["tm-1"].status == "healthy"
    assert region.recovery == []


def test_task_given_to_a_lost_node_after_its_handling_moves_too() -> None:
    """The primary may not have known yet that the node is lost."""
    region = Region("task-manager", 6)
    region.lose("tm-3")
    play(region, [])
    _, given_before = next(x for x in region.tasks if isinstance(x[1].data, t.TaskAssigned))
    assert isinstance(given_before.data, t.TaskAssigned)
    late = given_before.data.model_copy(update={"manager_node": "tm-3"})
    region.tasks.append((0, fact("late", late)))
    process = Process(region)
    process.turn()
    assert region.managers()["late"] != "tm-3"
    ended = [f for f in region.recovery if isinstance(f.data, TaskManagerRecoveryEnded)]
    assert len({f.envelope.event_id for f in ended}) == 1


def test_node_that_came_back_meanwhile_ends_its_operation_without_success() -> None:
    region = Region("task-manager", 3)
    region.lose("tm-1")
    region.kill_at = region.count + 4  # noted and started, not decided
    with pytest.raises(Killed):
        Process(region).turn()
    assert isinstance(region.recovery[0].data, OperationStarted)
    joined = NodeJoined(
        node_id="tm-1", region="eu", component="task-manager", kind="", endpoint="e", priority=8
    )
    region.write(joined)
    region.silent.clear()
    region.beat("tm-1")
    play(region, [])
    ended = [f.data for f in region.recovery if isinstance(f.data, TaskManagerRecoveryEnded)]
    assert [(e.success, e.new_primary) for e in ended] == [(False, None)]
    assert region.control.epoch(region.scope) == 1


def test_primary_that_does_not_renew_while_the_log_goes_on_is_fenced() -> None:
    region = Region("task-manager", 3)

    def tick(count: int) -> None:
        for _ in range(count):
            region.write(
                LeaseRenewed(scope_name="coordinator/eu", node_id="co", held_epoch=1, nonce="n")
            )

    tick(LIMITS.silent_ticks)
    process = Process(region)
    process.turn()
    assert region.control.nodes["tm-1"].status == "healthy"
    tick(1)
    process.turn()
    assert region.control.nodes["tm-1"].status == "fenced"
    process.turn()
    assert region.control.scopes[region.scope].primary == "tm-2"


def test_status_written_for_a_node_that_moved_on_is_not_repeated() -> None:
    region = Region("task-manager", 0)
    region.lose("tm-2")
    process = Process(region)
    process.turn()
    region.write(
        NodeStatusChanged(
            node_id="tm-2", region="eu", from_status="lost", to_status="rejoining", reason="r"
        )
    )
    at = region.control.position
    process.turn()
    process.turn()
    assert region.control.nodes["tm-2"].status == "rejoining"
    assert region.control.position == at


def _move_again(region: Region) -> None:
    region.tasks.append(next(x for x in region.tasks if _is_move(x[1])))


def _move_before_the_fence(region: Region) -> None:
    moved = next(x for x in region.tasks if _is_move(x[1]))
    region.tasks.remove(moved)
    opened = max(n for n, x in enumerate(region.tasks) if isinstance(x[1].data, EpochOpened))
    region.tasks.insert(opened, moved)


def _decide_again(region: Region) -> None:
    region.decide(region.scope, "tm-3")


def _end_again(region: Region) -> None:
    end = next(f for f in region.recovery if isinstance(f.data, TaskManagerRecoveryEnded))
    region.recovery.append(fact("op", end.data, 9, event_id="another"))


def _lose_a_task(region: Region) -> None:
    region.tasks.pop(3)  # never moved: nothing else tells of it


@pytest.mark.parametrize(
    ("plant", "anomaly"),
    [
        (_move_again, "moved_twice"),
        (_move_before_the_fence, "moved_before_fence"),
        (_decide_again, "two_decisions"),
        (_end_again, "ended_twice"),
        (_lose_a_task, "lost_task"),
    ],
)
def test_checker_finds_the_planted(plant: Callable[[Region], None], anomaly: str) -> None:
    region = Region("task-manager", 7)
    region.lose("tm-1")
    play(region, [])
    check(region, "tm-1", 7)
    plant(region)
    with pytest.raises(AssertionError, match=anomaly):
        check(region, "tm-1", 7)


def test_silence_of_most_of_the_region_convicts_nobody_until_the_others_beat_again() -> None:
    """A verdict by phi, out of a partition that cannot tell its own blindness."""
    region = Region("task-manager", 3)
    process, before = Process(region), region.control.nodes["tm-1"].status
    region.silent = {"tm-1", "tm-2", "tm-3"}
    region.lose("tm-1", "phi")
    for _ in range(3):
        process.turn()
    assert region.control.nodes["tm-1"].status == before != "lost"
    region.silent = {"tm-1"}
    for node in ("tm-2", "tm-3"):
        region.beat(node)
    process.turn()
    assert region.control.nodes["tm-1"].status == "lost"


def test_refused_probe_convicts_though_most_of_the_region_are_silent() -> None:
    region = Region("task-manager", 3)
    region.silent = {"tm-1", "tm-2", "tm-3"}
    region.lose("tm-1")
    Process(region).turn()
    assert region.control.nodes["tm-1"].status == "lost"
