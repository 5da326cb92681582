"""Why a task waits, or a miner gets none: for operators, from one region's projection and its log.

Who may take a task is asked of the balancer's own rules (`balancing.assign`), on the states that
the projection has folded from the facts that the task primary has folded too; so the two agree, but
for the time that the projection lags. The last facts are read from the log itself. Shell: reads.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any, NamedTuple

from everlode.adapters.kafka import Reader
from everlode.adapters.postgres_read import Generation
from everlode.avro.codec import Codec
from everlode.balancing.assign import MANAGING, excluded, field_of, trust_for
from everlode.balancing.ejection import TRUSTED
from everlode.balancing.outliers import ALL_TRUSTED, Outliers, Trust
from everlode.errors import EverlodeError, NotFound, Refusal, Unavailable
from everlode.events.identity import home_of_id, qualified
from everlode.events.stamp import millis_of
from everlode.events.states import MinerState, State, TaskState
from everlode.sdk.lookback import last_facts
from everlode.settings.endpoints import Endpoints
from everlode.state.formulas import stake_of
from everlode.views.clusters import BEATS, Asked, event_clock
from everlode.views.overview import control_seen

EVENTS = 20
"""The last facts of an aggregate that are shown."""
WAITING_MOST = 5_000
"""Waiting tasks that a miner is held against, the oldest."""
LATER_MS = 60_000
"""A record is this much later than its stamp at most."""


def explained(
    endpoints: Endpoints, component: str, key: str, seen_from: str | None = None
) -> dict[str, Any]:
    """A task or miner, by the first region's projection that has it, or by `seen_from`'s.

    A name without its home is looked for in all of them. Raises: NotFound: no projection that
    answers has it. Refusal: several are named so. Unavailable: none answers. ConfigError.
    """
    control, _ = control_seen(endpoints)
    failed: list[EverlodeError] = []
    for region in [seen_from] if seen_from else endpoints.regions:
        place = endpoints.region(region)
        try:
            with closing(Generation.current(place.postgres_conninfo())) as tables:
                now_ms = time.time_ns() // 1_000_000
                asked = Asked(tables.query, region, place.origin, now_ms, control)
                ids = ids_of(key, endpoints.topology.regions)
                found, row = one_explained(asked, component, ids)
        except (NotFound, Unavailable) as error:
            failed.append(error)
            continue
        reader = Reader(place.kafka_bootstrap, "explain", wait_ms=20)
        try:
            events = last_events(reader, row)
        finally:
            reader.close()
        return found | {"events": events, "seen_from": region, "generation": tables.generation}
    raise next((e for e in failed if isinstance(e, Unavailable)), failed[0])


def one_explained(asked: Asked, component: str, ids: Sequence[str]) -> tuple[dict[str, Any], Row]:
    """An aggregate by the projection that is asked, and its row: a task or miner explained, else
    its state. `ids` as for `row_of`. Raises: NotFound. Refusal.
    """
    row = row_of(asked, component, ids)
    asked = asked._replace(region=row.state.home)
    match row.state:
        case TaskState():
            return task_explained(asked, row.state), row
        case MinerState():
            return miner_explained(asked, row.state), row
        case _:
            return row.state._asdict(), row


class Row(NamedTuple):
    """An aggregate as the projection has it."""

    state: State
    topic: str
    partition: int
    seq: int
    stamp: int


def ids_of(name: str, regions: Sequence[str]) -> list[str]:
    """The ids that a name may stand for: as it is, and at home in each region."""
    if home_of_id(name) in regions:
        return [name]
    return [name, *(qualified(region, name) for region in regions)]


def row_of(asked: Asked, component: str, ids: Sequence[str]) -> Row:
    """The row of the aggregate that has one of these ids.

    Raises: NotFound: there is none, or it was deleted. Refusal: there are several.
    """
    found = asked.query(
        f"select key, doc, topic, part, seq, stamp, status from {{g}}.{component}"
        " where key = any(%s) order by key",
        (list(ids),),
    )
    noun = component.removesuffix("s")
    if not found:
        raise NotFound(
            f"no {noun} is named {ids[0]!r}", hint="is the projection behind? --from REGION"
        )
    if len(found) > 1:
        raise Refusal(
            f"{len(found)} {component} are named {ids[0]!r}",
            code="ambiguous",
            hint=f"name one with its home: {', '.join(row[0] for row in found)}",
        )
    key, doc, topic, partition, seq, stamp, status = found[0]
    if doc is None:
        raise NotFound(f"{noun} {key!r} was {status}", code="deleted")
    state = Codec().decode_state(bytes(doc))
    return Row(state, topic, partition, seq, stamp)


def _states(asked: Asked, component: str, where: str, values: Sequence[Any]) -> list[Any]:
    codec = Codec()
    rows = asked.query(f"select doc from {{g}}.{component} where {where}", values)
    return [codec.decode_state(bytes(doc)) for (doc,) in rows if doc is not None]


class Beat(NamedTuple):
    """A miner's last heartbeat, in event time."""

    at: datetime | None
    silent: bool


SILENT = Beat(None, True)


class Load(NamedTuple):
    """What the miners and task managers of a home region have to do, as the task primary counts."""

    miners: dict[str, MinerState]
    running: Counter[str]
    """Miner → tasks that it works on."""
    promised: Counter[str]
    """Miner → stake that these are about to lock."""
    managed: Counter[str]
    """Task manager → tasks that it manages."""
    beats: dict[str, Beat]
    trust: Trust = ALL_TRUSTED
    """At the region's event clock."""

    def silent(self, miner: str) -> bool:
        """True when it has not beaten for as long as `status` calls a miner inactive."""
        return self.beats.get(miner, SILENT).silent


def load_of(asked: Asked) -> Load:
    """Of the region that is asked about."""
    miners = {m.key: m for m in _states(asked, "miners", "home = %s", (asked.region,))}
    running, promised, managed = Counter[str](), Counter[str](), Counter[str]()
    for task in _states(asked, "tasks", "status = 'assigned' and home = %s", (asked.region,)):
        miner = miners.get(task.miner_id)
        running[task.miner_id] += 1
        managed[task.manager_node] += 1
        if miner is not None and task.key not in miner.locks:
            promised[task.miner_id] += stake_of(task.base_reward_micro)
    return Load(miners, running, promised, managed, _beats(asked), _trust(asked, miners))


def _trust(asked: Asked, miners: Mapping[str, MinerState]) -> Trust:
    """What the task primary trusts the miners with, at the event clock of its region."""
    outliers, now = Outliers(), event_clock(asked)
    for miner in miners.values():
        outliers.observe(miner)
    active = sum(1 for miner in miners.values() if miner.status == "active")
    return ALL_TRUSTED if now is None else outliers.at(now, active)


def _beats(asked: Asked) -> dict[str, Beat]:
    rows = asked.query(
        "select miner_id, last_beat, last_beat + make_interval(secs => %s * interval_ms / 1000.0"
        " * pace) < %s::timestamptz from {g}.miner_beats where region = %s",
        (BEATS, event_clock(asked), asked.region),
    )
    return {miner: Beat(last, silent) for miner, last, silent in rows}


def last_events(reader: Reader, row: Row) -> list[dict[str, Any]]:
    """The last facts about an aggregate, oldest first, with their places in the reader's cluster.

    Raises: Unavailable.
    """
    at = row.topic, row.partition
    end = reader.at_time({at: millis_of(row.stamp) + LATER_MS})[at]
    first = row.state.version - EVENTS + 1
    found = last_facts(reader, at, row.state.key, lambda f: f.envelope.version <= first, end)
    return [
        {
            "version": fact.envelope.version,
            "event": type(fact.data).__name__,
            "at": fact.envelope.occurred_at.isoformat(timespec="milliseconds"),
            "place": f"{row.topic}/{row.partition}@{offset}",
            "seq": fact.envelope.seq,
            "epoch": fact.envelope.epoch,
        }
        for offset, fact in found
    ]


def task_explained(asked: Asked, task: TaskState) -> dict[str, Any]:
    """What a task is, and what it waits for; `asked` is about its home region."""
    waits_for: dict[str, Any] | None = None
    match task.status:
        case "submitted":
            waits_for = {"for": "a miner", **_miners_for(asked, task)}
        case "assigned":
            waits_for = {"for": f"miner {task.miner_id}", **_miner_at_work(asked, task)}
        case "solved":
            waits_for = {"for": "a validation", **_validation_of(asked, task)}
        case "validated":
            waits_for = {"for": "its reward", **_reward_of(asked, task)}
    return {
        "task_id": task.key, "status": task.status, "home": task.home, "version": task.version,
        "task_type": task.task_type, "gpus": task.gpus, "attempt": task.attempt,
        "max_attempts": task.max_attempts, "miner_id": task.miner_id, "had_it": list(task.miners),
        "reason": task.reason, "submitted_at": _text(task.submitted_at),
        "deadline_at": _text(task.deadline_at), "waits_for": waits_for,
    }  # fmt: skip


def _miners_for(asked: Asked, task: TaskState) -> dict[str, Any]:
    load = load_of(asked)
    field = field_of(task, list(load.miners.values()), load.running, load.promised, load.trust)
    free = sorted((*field.fresh, *field.again))
    held_up = _held_up(asked, load)
    if not load.miners:
        held_up.append(f"no miner is registered in {asked.region}")
    elif not free:
        held_up.append("no miner may take it now")
    silent = {reason: sum(map(load.silent, miners)) for reason, miners in field.excluded.items()}
    return {
        "miners": len(load.miners),
        "excluded": {reason: len(miners) for reason, miners in field.excluded.items()},
        "silent": {reason: count for reason, count in silent.items() if count},
        "may_take_it": len(free),
        "of_these_had_it": len(field.again),
        "of_these_silent": sum(map(load.silent, free)),
        "held_up_by": held_up or ["nothing: it is about to be assigned"],
    }


def _held_up(asked: Asked, load: Load) -> list[str]:
    """What keeps a region's tasks from being assigned, whoever the miners are."""
    scope = f"task-manager/{asked.region}"
    found: list[str] = []
    if asked.control is None:
        return ["unknown: the control log does not answer"]
    led = asked.control.scopes.get(scope)
    if led is None:
        return [f"nobody leads {scope}"]
    leader = asked.control.nodes.get(led.primary)
    if leader is not None and leader.status not in MANAGING:
        found.append(f"{led.primary} leads {scope}, and is {leader.status}")
    most = dict(asked.query("select node_id, max_concurrent from {g}.nodes"))
    nodes = [
        n.node_id
        for n in asked.control.nodes_of(asked.region, "task-manager")
        if n.status in MANAGING
    ]
    if nodes and all(load.managed[n] >= most.get(n, load.managed[n] + 1) for n in nodes):
        found.append("every task manager manages as many tasks as it takes")
    return found


def _miner_at_work(asked: Asked, task: TaskState) -> dict[str, Any]:
    beat = _beats(asked).get(task.miner_id or "", SILENT)
    return {
        "manager_node": task.manager_node,
        "assigned_at": _text(task.assigned_at),
        "lease_until": _text(task.lease_until),
        "progress_ppm": task.progress_ppm,
        "silent": beat.silent,
        "last_beat": _text(beat.at),
    }


def _validation_of(asked: Asked, task: TaskState) -> dict[str, Any]:
    rows = asked.query(
        "select key, kind, status, requested_at from {g}.validations where task_id = %s"
        " order by requested_at desc limit 1",
        (task.key,),
    )
    if not rows:
        return {"validation": None}
    key, kind, status, at = rows[0]
    return {"validation": key, "kind": kind, "status": status, "requested_at": _text(at)}


def _reward_of(asked: Asked, task: TaskState) -> dict[str, Any]:
    rows = asked.query("select key, status from {g}.rewards where task_id = %s", (task.key,))
    return {"reward": rows[0][0], "status": rows[0][1]} if rows else {"reward": None}


def miner_explained(asked: Asked, miner: MinerState) -> dict[str, Any]:
    """What a miner is, what it works on, and which waiting tasks it may not take, and why."""
    load = load_of(asked)
    working = _states(asked, "tasks", "status = 'assigned' and miner_id = %s", (miner.key,))
    waiting = _states(
        asked, "tasks", "status = 'submitted' and home = %s order by submitted_at limit %s",
        (asked.region, WAITING_MOST),
    )  # fmt: skip
    running, promised = load.running[miner.key], load.promised[miner.key]
    others = list(load.miners.values())

    def why_not(task: TaskState) -> str:
        trust = trust_for(task, others, load.trust)
        return str(excluded(task, miner, running, promised, trust) or "may take")

    why = Counter(map(why_not, waiting))
    standing = load.trust.standings.get(miner.key, TRUSTED)
    beat = load.beats.get(miner.key, SILENT)
    return {
        "miner_id": miner.key, "status": miner.status, "home": miner.home,
        "version": miner.version, "reason": miner.reason, "specialties": list(miner.specialties),
        "gpus": miner.gpus, "max_concurrent": miner.max_concurrent,
        "reputation_ppm": miner.reputation_ppm, "stake_free_micro": miner.stake_free_micro,
        "ejected": miner.key in load.trust.ejected, "ejections": standing.ejections,
        "given_at_once": load.trust.room(miner), "stake_promised_micro": promised,
        "stake_locked_micro": miner.stake_locked_micro,
        "silent": beat.silent, "last_beat": _text(beat.at),
        "working_on": [
            {"task_id": t.key, "attempt": t.attempt, "lease_until": _text(t.lease_until)}
            for t in working
        ],
        "waiting_tasks": dict(sorted(why.items())),
    }  # fmt: skip


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="milliseconds")
