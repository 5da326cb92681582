"""Gates: what must be true of a restored component before the next one follows.

Rows and state topic agree byte by byte; references hold; the ledger sums to zero; nothing waits but
behind what cannot be applied. A conflict in the log, and what cannot be applied, are told as
everywhere; they hold no recovery. Shell: reads PostgreSQL and Kafka.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from everlode.adapters.kafka import Reader
from everlode.adapters.postgres import Projection
from everlode.adapters.postgres_batch import storable
from everlode.avro.codec import Codec
from everlode.errors import ContractError
from everlode.topics.names import state_topic

_CODEC = Codec()


class Gate(NamedTuple):
    """Whether it passed, and if not, why."""

    passed: bool
    reasons: tuple[str, ...]


def topic_states(
    bootstrap: str, generation: int, component: str, partitions: int
) -> dict[str, bytes]:
    """Newest record of each key in a state topic; deleted keys are absent."""
    topic = state_topic(generation, component)
    reader = Reader(bootstrap, "gate", wait_ms=50)
    found: dict[str, bytes] = {}
    for batch in reader.to_ends({(topic, p): 0 for p in range(partitions)}, 120, 10_000):
        for raw in batch:
            key = (raw.key or b"").decode()
            if raw.value is None:
                found.pop(key, None)
            else:
                found[key] = raw.value
    reader.close()
    return found


_REACHED = (
    " and {alias}.stamp <= greatest(%s, (select coalesce(min(stamp), 0) from {{g}}.positions"
    " where seq > 0 and topic like %s))"
)
"""Only what is not newer than the facts that it refers to: the rest is still on its way."""
_REFERENCES = {
    "validations": (
        "validations whose task is unknown",
        "tasks",
        "select count(*) from {g}.validations v where v.task_id <> ''"
        " and not exists (select 1 from {g}.tasks t where t.key = v.task_id)"
        + _REACHED.format(alias="v"),
    ),
    "rewards": (
        "rewards whose validation is unknown",
        "validations",
        "select count(*) from {g}.rewards r where r.validation_id <> ''"
        " and not exists (select 1 from {g}.validations v where v.key = r.validation_id)"
        + _REACHED.format(alias="r"),
    ),
    "fraud": (
        "cases whose validation is unknown",
        "validations",
        "select count(*) from {g}.fraud f where f.validation_id is not null"
        " and not exists (select 1 from {g}.validations v where v.key = f.validation_id)"
        + _REACHED.format(alias="f"),
    ),
}


def gate_component(
    conninfo: str,
    generation: int,
    component: str,
    bootstrap: str,
    partitions: int,
    cut_stamp: int = 0,
) -> Gate:
    """Check a component of a generation. `cut_stamp`: up to it every reference must hold.

    Raises: Unavailable.
    """
    db = Projection(conninfo, generation, "gate")
    reasons: list[str] = []
    rows = {
        key: bytes(doc)
        for key, doc in db.query(f"select key, doc from {{g}}.{component} where doc is not null")
    }
    topic = topic_states(bootstrap, generation, component, partitions)
    if rows != topic:
        differing = sorted(k for k in rows.keys() | topic.keys() if rows.get(k) != topic.get(k))
        reasons.append(
            f"{len(differing)} keys differ between rows and state topic, e.g. {differing[:3]}"
        )
    if component in _REFERENCES:
        what, other, text = _REFERENCES[component]
        ((count,),) = db.query(text, (cut_stamp, f"%.{other}"))
        if count:
            reasons.append(f"{count} {what}")
    if component == "rewards":
        ((total,),) = db.query("select coalesce(sum(amount_micro), 0) from {g}.ledger")
        if total:
            reasons.append(f"the ledger sums to {total}, not to zero")
    parked = _waiting(db, component)
    if parked:
        reasons.append(f"{parked} facts are parked, behind a gap or of an epoch not decided")
    db.close()
    return Gate(not reasons, tuple(reasons))


def _waiting(db: Projection, component: str) -> int:
    """How many facts wait, but for those whose key was stopped by one that cannot be applied.

    Another build may apply that one; the next recovery would not.
    """
    of = (f"%.{component}",)
    stopped = {
        key
        for (key,) in db.query(
            "select key from {g}.problems where kind = 'unapplied' and topic like %s", of
        )
    }
    found = db.query("select value from {g}.parked where topic like %s", of)
    return sum(_key(bytes(value)) not in stopped for (value,) in found)


def _key(value: bytes) -> str | None:
    """The aggregate of a fact that waits, as the problems name it; None when it is not known."""
    try:
        return storable(_CODEC.decode_fact(value).envelope.aggregate_id)
    except ContractError:
        return None


def active_tasks(db: Projection) -> dict[str, Any]:
    """Active tasks: fully recovered, partly (with what is missing), task by task."""
    rows = db.query(
        "select t.key, t.status, m.key is not null, exists"
        " (select 1 from {g}.validations v where v.task_id = t.key) from {g}.tasks t"
        " left join {g}.miners m on m.key = t.miner_id"
        " where t.status in ('submitted', 'assigned', 'solved', 'validated')"
    )
    partly = []
    for key, status, has_miner, has_validation in rows:
        missing = []
        if status != "submitted" and not has_miner:
            missing.append("miner")
        if status == "validated" and not has_validation:
            missing.append("validation")
        if missing:
            partly.append({"task_id": key, "missing_components": missing})
    return {
        "total_tasks": len(rows),
        "fully_recovered": len(rows) - len(partly),
        "partially_recovered": len(partly),
        "partial_recovery_details": partly,
    }
