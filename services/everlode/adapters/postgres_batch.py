"""What one batch writes: rows, positions, notes, in one transaction of one connection.

Invariants: nothing is committed unless every position stood where its owner left it; a row only
moves to a greater version. Shell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import psycopg
from psycopg import sql

from everlode.errors import FencedOut
from everlode.projection.fold import Outcome, PartitionFold, Prefix
from everlode.projection.tables import column_names

Rows = Mapping[str, Sequence[tuple[Any, ...]]]
"""Component → rows, each key once."""

_MOVE = (
    "update {g}.positions as p set seq = v.seq, stamp = v.stamp, next_offset = v.next_offset,"
    " published_seq = v.published"
    " from unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],"
    " %s::bigint[]) as v (topic, seq, stamp, next_offset, published, old_seq)"
    " where p.topic = v.topic and p.part = %s and p.owner = %s and p.seq = v.old_seq"
)
_PROBLEM = "insert into {g}.problems values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing"
_PARK = "insert into {g}.parked values (%s, %s, %s, %s) on conflict do nothing"
_RELEASE = "delete from {g}.parked where (topic, part, at_offset) = (%s, %s, %s)"
_OPENING = "insert into {g}.openings values (%s, %s, %s, %s, %s) on conflict do nothing"
_OPENED_BEFORE = (
    "insert into {g}.openings select topic, part, scope, epoch, 0 from {g}.opened"
    " where (topic, part, scope) = (%s, %s, %s) on conflict do nothing"
)
"""By a build that kept no history, or by what a recovery restored: where is not known."""
_OPEN = (
    "insert into {g}.opened as o values (%s, %s, %s, %s) on conflict"
    " (topic, part, scope) do update set epoch = greatest(o.epoch, excluded.epoch)"
)
_COUNT = (
    "insert into {g}.counters as c values (%s, %s) on conflict (name)"
    " do update set value = c.value + excluded.value"
)


class Batch:
    """Writes batches of one owner. Not thread-safe."""

    def __init__(self, db: psycopg.Connection[Any], schema: str, owner: str) -> None:
        self._db = db
        self._schema = schema
        self._owner = owner
        self._temps: set[str] = set()

    def write(
        self,
        fold: PartitionFold,
        before: Mapping[str, Prefix],
        outcome: Outcome,
        rows: Rows,
        published: Mapping[str, int],
        counter: str,
    ) -> None:
        """See `Projection.apply`. Raises: FencedOut: another owns the partition."""
        self._temporary(rows)
        filled = [component for component, found in rows.items() if found]
        with self._db.transaction():
            for component in filled:
                self._copy(component, rows[component])
            with self._db.pipeline():  # a busy database is slow to answer: once for all of these
                moved = self._move(fold, before, published)
                for component in filled:
                    self._db.execute(self._sql(_statements(component)[1], component))
                self._notes(fold.partition, outcome)
                self._db.execute(self._sql(_COUNT), (counter, outcome.folded))
            if moved.rowcount != len(fold.positions):
                raise FencedOut(f"partition {fold.partition} has another projector")

    def _move(
        self, fold: PartitionFold, before: Mapping[str, Prefix], published: Mapping[str, int]
    ) -> psycopg.Cursor[Any]:
        """All positions, each from where its owner left it: others are not moved."""
        start = Prefix()
        moves = [
            (topic, p.seq, p.stamp, p.next_offset, published.get(topic, 0),
             before.get(topic, start).seq)
            for topic, p in fold.positions.items()
        ]  # fmt: skip
        columns = (list(column) for column in zip(*moves, strict=True))
        return self._db.execute(self._sql(_MOVE), (*columns, fold.partition, self._owner))

    @contextmanager
    def no_new_tables(self) -> Iterator[None]:
        """Around a transaction that is undone, and temporary tables made in it too."""
        before = set(self._temps)
        try:
            yield
        finally:
            self._temps = before

    def _temporary(self, rows: Rows) -> None:
        """The tables that are COPYed into, before the transaction, so that they stay."""
        for component in rows.keys() - self._temps:
            text = "create temp table if not exists {t} (like {g}.{c}) on commit delete rows"
            self._db.execute(self._sql(text, component))
            self._temps.add(component)

    def _copy(self, component: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """COPY into the temporary table, to be upserted from; each key once."""
        with (
            self._db.cursor() as cursor,
            cursor.copy(self._sql(_statements(component)[0], component)) as copy,
        ):
            for values in rows:
                copy.write_row(values)

    def _notes(self, partition: int, outcome: Outcome) -> None:
        for problem in outcome.problems:
            self._db.execute(
                self._sql(_PROBLEM),
                (
                    problem.kind, problem.topic, partition, problem.offset,
                    storable(problem.key), storable(problem.event_id), problem.expected,
                    problem.found,
                ),
            )  # fmt: skip
        for item in outcome.parked:
            at = (item.topic, partition, item.offset, item.value)
            self._db.execute(self._sql(_PARK), at)
        for item in outcome.released:
            self._db.execute(self._sql(_RELEASE), (item.topic, partition, item.offset))
        for (topic, scope), epoch in outcome.opened.items():
            self._db.execute(self._sql(_OPENED_BEFORE), (topic, partition, scope))
            self._db.execute(self._sql(_OPEN), (topic, partition, scope, epoch))
        for (topic, scope, epoch), seq in outcome.openings.items():
            self._db.execute(self._sql(_OPENING), (topic, partition, scope, epoch, seq))

    def _sql(self, text: str, component: str = "none") -> bytes:
        return _composed(text, self._schema, component)


def storable(text: str) -> str:
    """A name as PostgreSQL can hold it, for people: a record that it refuses must be noted too."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


@cache
def _composed(text: str, schema: str, component: str) -> bytes:
    """Of few texts: none has a value in it."""
    return (
        sql.SQL(text)
        .format(
            g=sql.Identifier(schema),
            c=sql.Identifier(component),
            t=sql.Identifier(f"new_{component}"),
        )
        .as_bytes(None)
    )


@cache
def _statements(component: str) -> tuple[str, str]:
    """COPY into the temporary table; and from it, where a row only moves to a greater version."""
    columns = column_names(component)
    names = ", ".join(columns)
    updates = ", ".join(f"{c} = excluded.{c}" for c in columns[1:])
    return (
        f"copy {{t}} ({names}) from stdin",
        f"insert into {{g}}.{{c}} as r ({names}) select {names} from {{t}} on conflict (key)"
        f" do update set {updates} where r.version < excluded.version",
    )
