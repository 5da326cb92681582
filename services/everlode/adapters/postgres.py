"""The projection's PostgreSQL: rows and positions in one transaction, guarded.

Invariants: a row only moves to a greater (epoch, version) (a deleted row keeps its version); a
position moves only from where its owner left it (compare-and-set), so a projector that was
stopped and has lost its partition changes nothing. Shell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from everlode.adapters.postgres_batch import Batch
from everlode.adapters.postgres_read import Generation, translated
from everlode.avro.codec import Codec
from everlode.errors import Precondition
from everlode.events.base import Fact
from everlode.projection.fold import UNKNOWN, Incoming, Key, Known, Outcome, PartitionFold, Prefix
from everlode.projection.tables import COMPONENTS, column_names, ddl, row


class Taken(NamedTuple):
    """What a projector finds when it takes a partition number over."""

    positions: dict[str, Prefix]
    opened: dict[tuple[str, str], int]
    parked: list[Incoming]


class Projection(Generation):
    """One generation in one database, over one connection. Not thread-safe."""

    def __init__(self, conninfo: str, generation: int, owner: str) -> None:
        """Connect. Raises: Unavailable."""
        super().__init__(conninfo, generation)
        self.owner = owner
        self._codec = Codec()
        self._batch = Batch(self._db, self._g, owner)

    def create(self) -> None:
        """Make the generation's tables where they are missing. Raises: Unavailable."""
        with translated("making tables"), self._db.transaction():
            self._db.execute("select pg_advisory_xact_lock(4711)")
            for statement in ddl(self.generation):
                self._db.execute(statement.encode())

    # -- taking partitions over ----------------------------------------------------------------

    def take(
        self, partition: int, topics: Sequence[str], decode: Callable[[bytes], Fact] | None = None
    ) -> Taken:
        """Become the owner of a partition number, of all its topics; who owned it writes no more.

        `decode` is for records that wait; it may know newer schemas. Raises: Unavailable.
        """
        decode = decode or self._codec.decode_fact
        with translated("taking a partition"), self._db.transaction():
            for topic in topics:
                self._db.execute(
                    self._sql(
                        "insert into {g}.positions values (%s, %s, 0, 0, 0, 0, %s)"
                        " on conflict (topic, part) do nothing"
                    ),
                    (topic, partition, self.owner),
                )
            self._db.execute(  # of all its topics, those of another stage of a recovery too
                self._sql("update {g}.positions set owner = %s where part = %s"),
                (self.owner, partition),
            )
            rows = self._db.execute(
                self._sql(
                    "select topic, seq, stamp, next_offset from {g}.positions where part = %s"
                ),
                (partition,),
            ).fetchall()
            opened = self._db.execute(
                self._sql("select topic, scope, epoch from {g}.opened where part = %s"),
                (partition,),
            ).fetchall()
            parked = self._db.execute(
                self._sql(
                    "select topic, at_offset, value from {g}.parked where part = %s"
                    " order by topic, at_offset"
                ),
                (partition,),
            ).fetchall()
        return Taken(
            {t: Prefix(s, st, o) for t, s, st, o in rows},
            {(t, s): e for t, s, e in opened},
            [Incoming(t, o, decode(bytes(v)), bytes(v)) for t, o, v in parked],
        )

    def owns(self, partition: int) -> bool:
        """True while every position of the number has this owner. Raises: Unavailable."""
        text = "select count(*) from {g}.positions where part = %s and owner <> %s"
        return not self.query(text, (partition, self.owner))[0][0]

    def unpublished(self, partition: int) -> Iterator[tuple[str, str, int, bytes | None]]:
        """(component, key, version, state) of rows newer than what the state topics surely hold.

        Not of rows that a recovery has loaded: it has written their states too. Raises:
        Unavailable.
        """
        for component in COMPONENTS:
            with translated("reading rows"):
                rows = self._db.execute(
                    self._sql(
                        "select r.key, r.version, r.doc from {g}.{c} r join {g}.positions p"
                        " on (p.topic, p.part) = (r.topic, r.part) where r.part = %s"
                        " and r.seq > p.published_seq",
                        component,
                    ),
                    (partition,),
                ).fetchall()
            for key, version, doc in rows:
                yield component, key, version, None if doc is None else bytes(doc)

    def known(self, keys: Iterable[Key]) -> dict[Key, Known]:
        """What is known of these aggregates; UNKNOWN of those that are not there.

        A query a component, all in one go. Raises: Unavailable.
        """
        found = dict.fromkeys(keys, UNKNOWN)
        wanted: dict[str, list[str]] = {}
        for component, key in found:
            wanted.setdefault(component, []).append(key)
        text = "select key, version, event_id, doc from {g}.{c} where key = any(%s)"
        with translated("reading states"), self._db.pipeline():
            answers = {
                component: self._db.execute(self._sql(text, component), (names,), binary=True)
                for component, names in wanted.items()
            }
            rows = {component: answer.fetchall() for component, answer in answers.items()}
        for component, found_rows in rows.items():
            for key, version, event_id, doc in found_rows:
                state = None if doc is None else self._codec.decode_state(bytes(doc))
                found[component, key] = Known(state, version, event_id)
        return found

    # -- writing -----------------------------------------------------------------------------

    def apply(
        self,
        fold: PartitionFold,
        before: Mapping[str, Prefix],
        outcome: Outcome,
        rows: Mapping[str, Sequence[tuple[Any, ...]]],
        published: Mapping[str, int],
        counter: str,
    ) -> None:
        """Write what a batch changed, and its positions, in one transaction.

        `before` are the positions that the batch started from; `published` is what the state
        topics surely hold by now. Raises: FencedOut: another owns the partition. Unavailable.
        """
        with translated("writing a batch"):
            self._batch.write(fold, before, outcome, rows, published, counter)

    # -- generations -------------------------------------------------------------------------

    def load(self, component: str, states: Iterable[tuple[str, Known]]) -> int:
        """Put restored states into an empty table; returns how many. Raises: Unavailable."""
        columns = ", ".join(column_names(component))
        count = 0
        with (
            translated("loading states"),
            self._db.transaction(),
            self._db.cursor() as cursor,
            cursor.copy(self._sql(f"copy {{g}}.{{c}} ({columns}) from stdin", component)) as copy,
        ):
            for key, known in states:
                copy.write_row(row(component, key, known))
                count += 1
        return count

    def clear(self, component: str) -> None:
        """Empty a component's table, so that loading it can be done again."""
        with translated("emptying a table"):
            self._db.execute(self._sql("truncate {g}.{c}", component))

    def bury(self, component: str, partition: int, deleted: Iterable[tuple[str, int, str]]) -> None:
        """Note restored deletions, (key, version, event id), so that nothing resurrects them."""
        with translated("noting deletions"), self._db.transaction(), self._db.cursor() as cursor:
            cursor.executemany(
                self._sql(
                    "insert into {g}.{c} (key, epoch, version, stamp, topic, part, seq, event_id,"
                    " status, home) values (%s, 0, %s, 0, '', %s, 0, %s, 'deleted', '')"
                    " on conflict (key) do nothing",
                    component,
                ),
                [(key, version, partition, event_id) for key, version, event_id in deleted],
            )

    def park(self, partition: int, waiting: Iterable[tuple[str, int, bytes]]) -> None:
        """Restore (topic, offset, fact): who takes the partition over finds them waiting."""
        with translated("noting what waits"), self._db.transaction(), self._db.cursor() as cursor:
            cursor.executemany(
                self._sql("insert into {g}.parked values (%s, %s, %s, %s) on conflict do nothing"),
                [(topic, partition, offset, value) for topic, offset, value in waiting],
            )

    def reopen(self, opened: Iterable[tuple[str, int, str, int]]) -> None:
        """Restore (topic, partition, scope, epoch): what is below such an epoch is fenced."""
        with translated("noting epochs"), self._db.transaction(), self._db.cursor() as cursor:
            cursor.executemany(
                self._sql(
                    "insert into {g}.opened as o values (%s, %s, %s, %s) on conflict"
                    " (topic, part, scope) do update set epoch = greatest(o.epoch, excluded.epoch)"
                ),
                list(opened),
            )

    def place(self, partition: int, positions: Mapping[str, Prefix]) -> None:
        """Set where restored topics stand; what they hold counts as published."""
        with translated("setting positions"), self._db.transaction():
            for topic, p in positions.items():
                self._db.execute(
                    self._sql(
                        "insert into {g}.positions values (%s, %s, %s, %s, %s, %s, %s)"
                        " on conflict (topic, part) do update set seq = excluded.seq,"
                        " stamp = excluded.stamp, next_offset = excluded.next_offset,"
                        " published_seq = excluded.published_seq, owner = excluded.owner"
                    ),
                    (topic, partition, p.seq, p.stamp, p.next_offset, p.seq, self.owner),
                )

    def switch(self) -> None:
        """Make this generation the current one. Idempotent.

        Raises: Precondition: a later one is current.
        """
        with translated("switching"), self._db.transaction():
            done = self._db.execute(
                "update everlode.current set generation = %s where generation <= %s",
                (self.generation, self.generation),
            )
        if not done.rowcount:
            raise Precondition(f"generation {self.generation}: a later one is current")

    def drop(self) -> None:
        """Remove the generation, wherever it stands."""
        with translated("dropping a generation"):
            self._db.execute(self._sql("drop schema if exists {g} cascade"))
