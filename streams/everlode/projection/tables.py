"""The tables of a generation, and the row of a state. Pure.

A generation N is a PostgreSQL schema g<N>. Every component's table begins with the same columns;
`doc` is the state as it stands in the state topic (Avro), null when the aggregate was deleted.
The rest are columns to query by; times are event time. Sums are numeric: lawful amounts may add up
to more than 64 bits hold.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from everlode.avro.codec import encode_state
from everlode.events.states import (
    FraudState,
    MinerState,
    RewardState,
    State,
    TaskState,
    ValidationState,
)
from everlode.projection.fold import Known
from everlode.topics.names import fact_topic, schema_of

HEAD = (
    ("key", "text primary key"),
    ("epoch", "bigint not null"),
    ("version", "bigint not null"),
    ("stamp", "bigint not null"),
    ("topic", "text not null"),
    ("part", "integer not null"),
    ("seq", "bigint not null"),
    ("event_id", "text not null"),
    ("status", "text not null"),
    ("home", "text not null"),
    ("doc", "bytea"),
)
DOC = [name for name, _ in HEAD].index("doc")
"""Where a row of any component has its state."""
COLUMNS: dict[str, tuple[tuple[str, str], ...]] = {
    "tasks": (
        ("task_type", "text"),
        ("client_id", "text"),
        ("miner_id", "text"),
        ("manager_node", "text"),
        ("attempt", "bigint"),
        ("progress_ppm", "bigint"),
        ("reward_micro", "bigint"),
        ("submitted_at", "timestamptz"),
        ("ended_at", "timestamptz"),
    ),
    "miners": (
        ("specialties", "text[]"),
        ("reputation_ppm", "bigint"),
        ("stake_free_micro", "bigint"),
        ("stake_locked_micro", "bigint"),
        ("stake_slashed_micro", "bigint"),
        ("accepted", "bigint"),
    ),
    "validations": (
        ("task_id", "text"),
        ("miner_id", "text"),
        ("kind", "text"),
        ("accepted", "boolean"),
        ("score_ppm", "bigint"),
        ("upheld", "integer"),
        ("judged", "integer"),
        ("requested_at", "timestamptz"),
        ("decided_at", "timestamptz"),
        ("planted_wrong", "boolean"),
    ),
    "rewards": (
        ("task_id", "text"),
        ("miner_id", "text"),
        ("validation_id", "text"),
        ("amount_micro", "bigint"),
        ("payout_ref", "text"),
        ("entries", "jsonb"),
        ("calculated_at", "timestamptz"),
        ("paid_at", "timestamptz"),
    ),
    "fraud": (
        ("rule", "text"),
        ("suspects", "text[]"),
        ("task_id", "text"),
        ("validation_id", "text"),
        ("suspected_at", "timestamptz"),
        ("decided_at", "timestamptz"),
    ),
}
COMPONENTS = tuple(COLUMNS)
FACTS_OF = {"fraud": "validations"}
"""State component → component of the topic that its facts are on, where they differ."""


def column_names(component: str) -> tuple[str, ...]:
    """Columns of a component's table, in order."""
    return tuple(name for name, _ in (*HEAD, *COLUMNS[component]))


class Gone(NamedTuple):
    """Where an aggregate was deleted, and which home it had; all empty when it is not known."""

    topic: str = ""
    partition: int = 0
    seq: int = 0
    home: str = ""


NOWHERE = Gone()


def topic_of(component: str, state: State) -> str:
    """Topic of the fact that a state of a component follows from."""
    return fact_topic(state.origin, FACTS_OF.get(component, component))


def row(
    component: str, key: str, known: Known, gone: Gone = NOWHERE, seq: int | None = None
) -> tuple[Any, ...]:
    """The row of an aggregate, in the order of `column_names`.

    `seq`: the place of the change in its topic, where that is later than the fact's own (a fact
    that waited). Of a deleted aggregate only the head is left, so that it is never resurrected.
    """
    state = known.state
    if state is None:
        head = (
            key, 0, known.version, 0, gone.topic, gone.partition, gone.seq if seq is None else seq,
            known.event_id, "deleted", gone.home, None,
        )  # fmt: skip
        return (*head, *(None for _ in COLUMNS[component]))
    head_of_live = (
        key, state.epoch, known.version, state.stamp, topic_of(component, state), state.partition,
        state.seq if seq is None else seq, known.event_id, state.status, state.home,
        encode_state(state),
    )  # fmt: skip
    return (*head_of_live, *_tail(state))


def _tail(state: State) -> tuple[Any, ...]:
    match state:
        case TaskState():
            return (
                state.task_type, state.client_id, state.miner_id, state.manager_node,
                state.attempt, state.progress_ppm, state.reward_micro, state.submitted_at,
                state.ended_at,
            )  # fmt: skip
        case MinerState():
            return (
                list(state.specialties), state.reputation_ppm, state.stake_free_micro,
                state.stake_locked_micro, state.stake_slashed_micro, state.accepted,
            )  # fmt: skip
        case ValidationState():
            return (
                state.task_id, state.miner_id, state.kind, state.accepted, state.score_ppm,
                sum(j.upheld for j in state.judged), len(state.judged), state.requested_at,
                state.decided_at, state.planted_sha256 not in (None, state.solution_sha256),
            )  # fmt: skip
        case RewardState():
            entries = json.dumps({e.account: e.amount_micro for e in state.entries})
            return (
                state.task_id, state.miner_id, state.validation_id, state.amount_micro,
                state.payout_ref, entries, state.calculated_at, state.paid_at,
            )  # fmt: skip
        case FraudState():
            return (
                state.rule, list(state.suspects), state.task_id, state.validation_id,
                state.suspected_at, state.decided_at,
            )  # fmt: skip


def ddl(generation: int) -> list[str]:
    """Statements that make a generation; they change nothing where it is there."""
    g = schema_of(generation)
    found = [f"create schema if not exists {g}"]
    for component in COMPONENTS:
        columns = ", ".join(f"{n} {t}" for n, t in (*HEAD, *COLUMNS[component]))
        found.append(f"create table if not exists {g}.{component} ({columns})")
    found += [
        f"create table if not exists {g}.positions (topic text, part integer, seq bigint not null,"
        " stamp bigint not null, next_offset bigint not null, published_seq bigint not null,"
        " owner text not null, primary key (topic, part))",
        f"create table if not exists {g}.opened (topic text, part integer, scope text,"
        " epoch bigint not null, primary key (topic, part, scope))",
        f"create table if not exists {g}.openings (topic text, part integer, scope text,"
        " epoch bigint, seq bigint not null, primary key (topic, part, scope, epoch))",
        f"create table if not exists {g}.problems (kind text, topic text, part integer,"
        " at_offset bigint, key text, event_id text, expected bigint, found bigint,"
        " noted_at timestamptz default now(), primary key (kind, topic, part, at_offset))",
        f"create table if not exists {g}.parked (topic text, part integer, at_offset bigint,"
        " value bytea not null, primary key (topic, part, at_offset))",
        f"create table if not exists {g}.counters (name text primary key, value bigint not null)",
        f"create table if not exists {g}.nodes (node_id text primary key, region text,"
        " component text, kind text, role text, held_epoch bigint, endpoint text, status text,"
        " load_ppm bigint, current_tasks bigint, max_concurrent bigint, work_done bigint,"
        " queue_size bigint, specialties text[], stamp bigint, last_beat timestamptz)",
        f"alter table {g}.nodes add column if not exists waits_for text not null default ''",
        f"create table if not exists {g}.miner_beats (miner_id text primary key, region text,"
        " interval_ms bigint, running bigint, stamp bigint, last_beat timestamptz,"
        " pace double precision not null default 1)",
        f"drop view if exists {g}.ledger",  # its sums were of another type once
        f"create view {g}.ledger as select e.key as account,"
        f" sum(e.value::numeric) as amount_micro from {g}.rewards r,"
        " jsonb_each_text(r.entries) e group by e.key",
        "create schema if not exists everlode",
        "create table if not exists everlode.current (one boolean primary key default true"
        " check (one), generation integer not null)",
        "insert into everlode.current (generation) values (1) on conflict do nothing",
    ]
    return found
