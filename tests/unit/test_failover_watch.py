"""What a coordinator knows by reading: which tasks a node manages, open epochs, heartbeats."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from everlode.events import tasks as t
from everlode.events.barriers import EpochOpened
from everlode.events.base import Envelope, Event, Evidence, Fact, ScopeEpoch
from everlode.events.heartbeats import MinerBeat, NodeBeat
from everlode.failover.epochs import OpenedEpochs
from everlode.failover.heartbeats import Heartbeats
from everlode.failover.planner import Beating
from everlode.tasks.active import ActiveTasks

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SCOPE = "task-manager/eu"


def fact(key: str, data: Event, **more: Any) -> Fact:
    envelope = Envelope.model_validate(
        {
            "event_id": "e", "aggregate_id": key, "version": 0, "origin": "eu.1", "scope": "",
            "epoch": 0, "seq": 1, "stamp": 1, "occurred_at": NOW, "correlation_id": "c", **more,
        }
    )  # fmt: skip
    return Fact(envelope, data)


def assigned(node: str) -> Event:
    values = {
        "attempt": 1, "miner_id": "m", "manager_node": node, "lease_until": NOW,
        "base_reward_micro": 1,
    }  # fmt: skip
    known = {k: v for k, v in values.items() if k in t.TaskAssigned.model_fields}
    return t.TaskAssigned.model_validate(known)


def migrated(old: str, new: str) -> Event:
    return t.TaskMigrated(attempt=2, miner_id="m", from_node=old, to_node=new, lease_until=NOW)


def opened(epoch: int) -> Event:
    return EpochOpened(node_id="n", scopes=(ScopeEpoch(scope=SCOPE, epoch=epoch),))


def beat() -> NodeBeat:
    return NodeBeat.model_validate(
        {
            "component": "task-manager", "kind": "", "role": "none", "held_epoch": 0,
            "endpoint": "e", "status": "healthy", "load_ppm": 5, "current_tasks": 1,
            "max_concurrent": 1, "work_done": 0, "queue_size": 3, "specialties": (),
            "interval_ms": 1000,
        }
    )  # fmt: skip


def test_tasks_under_way_follow_their_manager_until_they_end() -> None:
    tasks = ActiveTasks()
    for key in ("b", "a", "c"):
        tasks.observe(fact(key, assigned("n1")))
    tasks.observe(fact("b", migrated("n1", "n2"), command_id="move-b"))
    tasks.observe(fact("c", t.TaskCancelled(reason="r", miner_id="m")))
    assert (tasks.of("n1"), tasks.of("n2")) == (("a",), ("b",))
    assert (tasks.loads["n1"], tasks.loads["n2"]) == (1, 1)
    assert tasks.moved("n1") == (("b", "n2", "move-b"),)
    tasks.observe(fact("a", t.TaskLeaseExpired(attempt=1, miner_id="m", final=False)))
    tasks.observe(fact("a", assigned("n2")))
    assert tasks.of("n2") == ("a", "b")


def test_epoch_is_open_once_every_partition_has_it() -> None:
    epochs = OpenedEpochs(3)
    for partition, epoch in ((0, 1), (1, 1), (2, 1), (0, 2), (2, 2)):
        epochs.observe(partition, fact("e", opened(epoch)))
    assert epochs.lowest(SCOPE) == 1
    epochs.observe(1, fact("e", opened(2)))
    epochs.observe(1, fact("e", opened(1)))  # an old one again takes nothing back
    assert epochs.lowest(SCOPE) == 2
    assert epochs.lowest("rewards/eu") == 0


def test_verdict_is_overtaken_only_by_a_beat_behind_all_its_evidence() -> None:
    beats = Heartbeats()
    evidence = [Evidence(topic="h", partition=1, offset=offset, note="") for offset in (4, 9, 11)]
    assert not beats.since("n", evidence)
    for offset, overtaken in ((4, False), (10, False), (12, True)):
        beats.observe(fact("n", beat()), 1, offset, behind=True)
        assert beats.since("n", evidence) is overtaken


def test_node_is_fresh_only_by_what_was_read_live() -> None:
    beats = Heartbeats()
    beats.observe(fact("old", beat()), 0, 1, behind=True)
    beats.observe(fact("new", beat()), 0, 2, behind=False)
    miner = MinerBeat(running=(), work_done=0, interval_ms=1)
    beats.observe(fact("miner", miner), 0, 3, behind=False)
    assert beats.fresh() == {"new": Beating(3, 5, "healthy", None, leads=False)}
