"""Damage to PostgreSQL: rows, positions, fences, the pointer to the current generation."""

from __future__ import annotations

from collections.abc import Callable

from everlode.adapters.postgres_next import NextGeneration
from everlode.avro.codec import encode_state
from tests.support.damage.world import EPOCH, FENCED, GENERATION, OLDER, World

Harm = Callable[[World], None]
_G = f"g{GENERATION}"


def _does(*statements: str) -> Harm:
    """These statements, on each of the tables that there are."""

    def harm(world: World) -> None:
        with world.database() as db:
            for statement in statements:
                db.execute(statement.encode())

    return harm


def _put_back(table: str) -> tuple[str, ...]:
    return f"delete from {_G}.{table}", f"insert into {_G}.{table} select * from {OLDER}.{table}"


def _fences(*statements: str) -> Harm:
    """With `{t}` for each table that holds fences."""

    def harm(world: World) -> None:
        with world.database() as db:
            for table in set(world.tables()) & {"opened", "openings"}:
                for statement in statements:
                    db.execute(statement.format(t=table).encode())

    return harm


def rows_made_again(world: World) -> None:
    """The generation's tables are dropped and made, all of them."""
    db = NextGeneration(world.region.conninfo, GENERATION, "test")
    db.drop()
    db.create()
    db.close()


def row_changed(world: World) -> None:
    """A task has another reward; its version is what it was."""
    with world.database() as db:
        found = db.execute(
            f"select key, doc from {_G}.tasks where status = 'rewarded' order by key".encode()
        ).fetchone()
        assert found is not None
        other = world.other_reward(found[1])
        db.execute(
            f"update {_G}.tasks set doc = %s, reward_micro = %s where key = %s".encode(),
            (encode_state(other), other.reward_micro, found[0]),
        )


ROWS: dict[str, Harm] = {
    "emptied": _does(f"delete from {_G}.tasks"),
    "truncated": _does(f"delete from {_G}.tasks where part = 1"),
    "older copy put back": _does(*_put_back("tasks")),
    "made again": rows_made_again,
    "one record changed": row_changed,
    "another region's": _does(f"update {_G}.tasks set key = 'us-' || key"),
}
POSITIONS: dict[str, Harm] = {
    "emptied": _does(f"delete from {_G}.positions"),
    "truncated": _does(f"delete from {_G}.positions where part = 1 and topic = 'eu.1.tasks'"),
    "older copy put back": _does(*_put_back("positions")),
    "made again": _does(
        f"update {_G}.positions set seq = 0, stamp = 0, next_offset = 0, published_seq = 0"
    ),
    "one record changed": _does(
        f"update {_G}.positions set seq = seq + 5 where part = 0 and topic = 'eu.1.tasks'"
    ),
    "another region's": _does(f"update {_G}.positions set topic = 'us' || substr(topic, 3)"),
}
FENCES: dict[str, Harm] = {
    "emptied": _fences("delete from " + _G + ".{t}"),
    "truncated": _fences("delete from " + _G + ".{t} where part = 1"),
    "older copy put back": _fences(
        "delete from " + _G + ".{t}", "insert into " + _G + ".{t} select * from " + OLDER + ".{t}"
    ),
    "one record changed": _fences(
        f"update {_G}.{{t}} set epoch = {EPOCH - 1} where scope = '{FENCED}' and part = 0"
    ),
    "another region's": _fences(f"update {_G}.{{t}} set scope = 'us-' || scope"),
}
POINTER: dict[str, Harm] = {
    "emptied": _does("delete from everlode.current"),
    "older copy put back": _does("update everlode.current set generation = 1"),
    "made again": _does("drop table everlode.current"),
    "one record changed": _does("update everlode.current set generation = 999"),
}
