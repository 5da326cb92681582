"""The figures of the clusters of a region, computed from its projection when they are asked for.

Names are those of the published design (TaskManagerCluster, TaskManagerNode, ...). Windows lie on
event time and end at the region's event clock: the latest event time that its beats or facts have
shown; so they also hold when the work is paced. Freshness (`last_sync_timestamp`, sync lag, health)
is on wall time. Shares are 0 to 1, durations seconds, None when there is nothing to compute
from; docs/glossary.md has each figure's window, unit and clock. Pure, but for the query given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from everlode.control.fold import ControlState
from everlode.events.services import SERVICES
from everlode.health.score import NodeSeen, node_health

KINDS = tuple(service.scope for service in SERVICES)
"""Kinds of cluster, named as their scopes are."""
WINDOW = "interval '24 hours'"
BEATS = 3
"""A miner is active until so many beats have not come."""

Figures = dict[str, Any]


class Query(Protocol):
    """Rows of a query in one generation; `{g}` is its schema."""

    def __call__(self, text: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]: ...


class Asked(NamedTuple):
    """What the figures are of."""

    query: Query
    region: str
    origin: str
    now_ms: int
    """Wall time, for freshness only."""
    control: ControlState | None = None
    """Decides who is primary, and a node's status; without it the nodes' own beats do."""


def cluster(kind: str, asked: Asked) -> Figures:
    """Every field of one cluster. `kind` is one of KINDS."""
    made: dict[str, Callable[[Asked, datetime | None], Figures]] = {
        "task-manager": _task_managers,
        "miner-registry": _registry,
        "validation": _validation,
        "rewards": _rewards,
    }
    at = event_clock(asked)
    return {"kind": kind, "region_id": asked.region, **made[kind](asked, at), "event_clock": at}


def event_clock(asked: Asked) -> datetime | None:
    """The latest event time seen of a region; None when nothing was."""
    home = asked.region
    found = asked.query(
        "select greatest((select max(last_beat) from {g}.nodes where region = %s),"
        " (select max(last_beat) from {g}.miner_beats where region = %s),"
        " (select max(greatest(submitted_at, ended_at)) from {g}.tasks where home = %s),"
        " (select max(greatest(requested_at, decided_at)) from {g}.validations where home = %s),"
        " (select max(greatest(calculated_at, paid_at)) from {g}.rewards where home = %s))",
        (home,) * 5,
    )
    at: datetime | None = found[0][0]
    return None if at is None else at.astimezone(UTC)


def synced_to_ms(asked: Asked, component: str) -> int | None:
    """Wall time up to which all facts of the component are in; None before its first record."""
    found = asked.query(
        "select min(stamp) from {g}.positions where topic = %s", (f"{asked.origin}.{component}",)
    )
    return int(found[0][0]) >> 16 if found and found[0][0] else None


def nodes(asked: Asked, kind: str) -> list[Figures]:
    """The nodes of a kind in the region, by id, with the fields of TaskManagerNode and some more.

    `health_score`: see docs/health.md; of what is known here.
    """
    rows = asked.query(
        "select node_id, endpoint, status, load_ppm, max_concurrent, current_tasks, last_beat,"
        " specialties, kind, role, held_epoch, stamp, queue_size, waits_for from {g}.nodes"
        " where region = %s and component = %s order by node_id",
        (asked.region, kind),
    )
    return [_node(asked, row) for row in rows]


def _node(asked: Asked, row: tuple[Any, ...]) -> Figures:
    known = asked.control.nodes.get(row[0]) if asked.control else None
    status = known.status if known else row[2]
    silent_s = max(0.0, (asked.now_ms - (int(row[11]) >> 16)) / 1000)
    load = row[3] / 1_000_000
    seen = NodeSeen(row[0], known.status if known else None, row[2], silent_s, load)
    return {
        "node_id": row[0],
        "endpoint": row[1],
        "status": status,
        "said": row[2],
        "current_load": load,
        "max_concurrent_tasks": row[4],
        "current_tasks": row[5],
        "health_score": round(node_health(seen).score or 0.0, 3),
        "last_heartbeat": row[6].astimezone(UTC),
        "specialties": list(row[7]),
        "kind": row[8],
        "role": row[9],
        "held_epoch": row[10],
        "silent_s": round(silent_s, 3),
        "queue_size": row[12],
        "waits_for": row[13],
    }


def primary_of(asked: Asked, kind: str, found: list[Figures]) -> str | None:
    """Who leads: by the control log, else the node that beats as primary in the highest epoch."""
    if asked.control is not None:
        scope = asked.control.scopes.get(f"{kind}/{asked.region}")
        return scope.primary if scope else None
    return leading(found)


def leading(found: Sequence[Figures]) -> str | None:
    """The node that beats as primary in the highest epoch; None: none does."""
    primaries = [n for n in found if n["role"] == "primary"]
    best = max(primaries, key=lambda n: (n["held_epoch"], n["node_id"]), default=None)
    return None if best is None else best["node_id"]


def _led(asked: Asked, kind: str, one: str, others: str) -> Figures:
    found = nodes(asked, kind)
    leader = primary_of(asked, kind, found)
    first = next((n for n in found if n["node_id"] == leader), None)
    if first is None and leader is not None:
        first = {"node_id": leader, "status": "unknown"}  # decided, but it has never beaten here
    return {one: first, others: [n for n in found if n["node_id"] != leader]}


def _moment(ms: int | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)


def _task_managers(asked: Asked, at: datetime | None) -> Figures:
    rows = asked.query(
        "select count(*) filter (where status in ('assigned', 'solved', 'validated')),"
        " count(*) filter (where status = 'submitted'),"
        " count(*) filter (where status = 'rewarded' and lately),"
        " (avg(extract(epoch from ended_at - submitted_at))"
        "  filter (where status = 'rewarded' and lately))::float8,"
        " count(*) filter (where status = 'failed' and lately) from (select *,"
        f" ended_at > %s::timestamptz - {WINDOW} and ended_at <= %s::timestamptz as lately"
        " from {g}.tasks where home = %s) t",
        (at, at, asked.region),
    )
    active, pending, completed, seconds, failed = rows[0]
    return {
        **_led(asked, "task-manager", "primary_node", "secondary_nodes"),
        "active_tasks": active,
        "pending_tasks": pending,
        "completed_tasks_24h": completed,
        "average_completion_time": seconds,
        "failure_rate": _share(failed, completed + failed),
        "last_sync_timestamp": _moment(synced_to_ms(asked, "tasks")),
    }


def _registry(asked: Asked, at: datetime | None) -> Figures:
    rows = asked.query(
        "select count(*), count(*) filter (where m.status = 'active' and"
        " extract(epoch from %s::timestamptz - b.last_beat)::float8"
        " <= %s * b.interval_ms::float8 / 1000 * b.pace),"  # no interval holds all of these
        " avg(reputation_ppm)::float8 / 1000000 from {g}.miners m"
        " left join {g}.miner_beats b on b.miner_id = m.key"
        " where home = %s and m.status in ('active', 'suspended')",
        (at, BEATS, asked.region),
    )
    registered, active, reputation = rows[0]
    special = asked.query(
        "select s, count(*) from {g}.miners m, unnest(m.specialties) s"
        " where home = %s and status in ('active', 'suspended') group by s order by s",
        (asked.region,),
    )
    synced = synced_to_ms(asked, "miners")
    return {
        **_led(asked, "miner-registry", "primary_registry", "replica_registries"),
        "total_registered_miners": registered,
        "active_miners": active,
        "miners_by_specialization": dict(special),
        "average_miner_reputation": reputation,
        "registry_sync_lag": None if synced is None else max(0, asked.now_ms - synced) / 1000,
    }


def _validation(asked: Asked, at: datetime | None) -> Figures:
    rows = asked.query(
        "select count(*) filter (where status = 'pending'),"
        " (avg(extract(epoch from decided_at - requested_at))"
        f"  filter (where decided_at > %s::timestamptz - {WINDOW}"
        "   and decided_at <= %s::timestamptz))::float8,"
        " coalesce(sum(upheld), 0), coalesce(sum(judged), 0)"
        " from {g}.validations where home = %s",
        (at, at, asked.region),
    )
    waiting, seconds, upheld, judged = rows[0]
    wrong, caught = asked.query(
        "select count(*), count(*) filter (where exists (select 1 from {g}.fraud f"
        "  where f.status = 'confirmed' and f.suspects @> array[v.miner_id]))"
        " from {g}.validations v where v.home = %s and v.status = 'decided' and v.planted_wrong",
        (asked.region,),
    )[0]
    found = nodes(asked, "validation")
    return {
        "primary_node": primary_of(asked, "validation", found),
        "automatic_validators": [n for n in found if n["kind"] == "automatic"],
        "peer_review_coordinators": [n for n in found if n["kind"] == "peer-review"],
        "expert_validators": [n for n in found if n["kind"] == "expert"],
        "validation_queue_size": waiting,
        "average_validation_time": seconds,
        "validation_accuracy": _share(upheld, judged),
        "decisions_judged": judged,
        "fraud_detection_rate": _share(caught, wrong),
        "planted_answers_wrong": wrong,
    }


def _rewards(asked: Asked, at: datetime | None) -> Figures:
    rows = asked.query(
        "select count(*) filter (where status = 'calculated'),"
        " coalesce(sum(amount_micro) filter (where status = 'calculated'), 0),"
        " count(*) filter (where status = 'withheld'),"
        " count(*) filter (where lately),"
        " coalesce(sum(amount_micro) filter (where lately), 0),"
        " (avg(extract(epoch from paid_at - calculated_at))"
        "  filter (where lately))::float8 from (select *,"
        f" paid_at > %s::timestamptz - {WINDOW} and paid_at <= %s::timestamptz as lately"
        " from {g}.rewards where home = %s) r",
        (at, at, asked.region),
    )
    pending, pending_micro, withheld, paid, paid_micro, seconds = rows[0]
    balance = asked.query(
        "select coalesce(sum(e.value::numeric), 0) from {g}.rewards r,"
        " jsonb_each_text(r.entries) e where r.home = %s",
        (asked.region,),
    )[0][0]
    led = _led(asked, "rewards", "primary_node", "secondary_nodes")
    return {
        **led,
        "pending_payouts": pending,
        "pending_payouts_micro": int(pending_micro),
        "oldest_payout": _oldest_payout(asked, led["primary_node"] or {}),
        "withheld_payouts": withheld,
        "paid_24h": paid,
        "paid_24h_micro": int(paid_micro),
        "average_payout_time": seconds,
        "ledger_balance_micro": int(balance),
        "last_sync_timestamp": _moment(synced_to_ms(asked, "rewards")),
    }


def _oldest_payout(asked: Asked, primary: Figures) -> Figures | None:
    """The reward that has waited longest, and what its primary last said of such; None: none."""
    rows = asked.query(
        "select key, calculated_at from {g}.rewards where status = 'calculated' and home = %s"
        " order by calculated_at, key limit 1",
        (asked.region,),
    )
    if not rows:
        return None
    key, at = rows[0]
    since = at.astimezone(UTC) if at else None
    return {"reward_id": key, "calculated_at": since, "why": primary.get("waits_for") or None}


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
