"""The projection's PostgreSQL: rows and positions in one transaction, guarded.

Invariants: a row only moves to a greater version (a deleted one keeps its version); a
position moves only from where its owner left it (compare-and-set), so a projector that was
stopped and has lost its partition changes nothing. Shell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from everlode.adapters.postgres_batch import Batch
from everlode.adapters.postgres_read import Generation, translated
from everlode.avro.codec import Codec
from everlode.errors import ContractError, IntegrityError
from everlode.events.base import Fact
from everlode.events.states import State
from everlode.projection.fold import UNKNOWN, Incoming, Key, Known, Outcome, PartitionFold, Prefix
from everlode.projection.tables import COMPONENTS, ddl


class Taken(NamedTuple):
    """What a projector finds when it takes a partition number over."""

    positions: dict[str, Prefix]
    opened: dict[tuple[str, str], int]
    parked: list[Incoming]
    refused: set[tuple[str, int]]
    """(topic, offset) of facts that could not be applied."""
    fenced_at: dict[str, int]
    """Topic of a fenced region → the `seq` that it stood at when that was known first."""


def _taken(rows: list[list[tuple[Any, ...]]], decode: Callable[[bytes], Fact]) -> Taken:
    """Decoded after the transaction: it may wait for a schema."""
    positions, opened, parked, refused, fenced_at = rows
    return Taken(
        {t: Prefix(s, st, o) for t, s, st, o in positions},
        {(t, s): e for t, s, e in opened},
        [Incoming(t, o, decode(bytes(v)), bytes(v)) for t, o, v in parked],
        {(t, o) for t, o in refused},
        dict(fenced_at),
    )


class Projection(Generation):
    """One generation in one database, over one connection. Not thread-safe."""

    def __init__(self, conninfo: str, generation: int, owner: str) -> None:
        """Connect. Raises: Unavailable."""
        super().__init__(conninfo, generation)
        self.owner = owner
        self._codec = Codec()
        self._batch = Batch(self._db, self._g, owner)

    def owned_by(self, owner: str) -> Projection:
        """The same over the same connection, of another owner; the two take turns."""
        found = Projection.__new__(Projection)
        found.generation, found._g, found._db = self.generation, self._g, self._db
        found.owner, found._codec = owner, self._codec
        found._batch = Batch(self._db, self._g, owner)
        return found

    def create(self) -> None:
        """Make the generation's tables where they are missing. Raises: Unavailable."""
        with translated("making tables"), self._db.pipeline(), self._db.transaction():
            self._db.execute("select pg_advisory_xact_lock(4711)")
            for statement in ddl(self.generation):
                self._db.execute(statement.encode())

    # -- taking partitions over ----------------------------------------------------------------

    def take(
        self, partition: int, topics: Sequence[str], decode: Callable[[bytes], Fact] | None = None
    ) -> Taken:
        """Become the owner of a partition number, of all its topics: the last owner writes no more.

        `decode` is for records that wait; it may know newer schemas. Raises: Unavailable.
        """
        decode = decode or self._codec.decode_fact
        with translated("taking a partition"), self._db.pipeline(), self._db.transaction():
            self._db.execute(
                self._sql(
                    "insert into {g}.positions select topic, %s, 0, 0, 0, 0, %s"
                    " from unnest(%s::text[]) as t (topic) on conflict (topic, part) do nothing"
                ),
                (partition, self.owner, list(topics)),
            )
            self._db.execute(  # of all its topics, those of another stage of a recovery too
                self._sql("update {g}.positions set owner = %s where part = %s"),
                (self.owner, partition),
            )
            rows = self._standing(partition)
        return _taken(rows, decode)

    def standing(self, partition: int, decode: Callable[[bytes], Fact]) -> Taken:
        """Where a partition number stands, to go on from; nobody becomes its owner by that.

        Raises: Unavailable.
        """
        with translated("reading a partition's place"), self._db.pipeline(), self._db.transaction():
            rows = self._standing(partition)
        return _taken(rows, decode)

    def _standing(self, partition: int) -> list[list[tuple[Any, ...]]]:
        asked = [
            self._db.execute(self._sql(text), (partition,))
            for text in (
                "select topic, seq, stamp, next_offset from {g}.positions where part = %s",
                "select topic, scope, epoch from {g}.opened where part = %s",
                "select topic, at_offset, value from {g}.parked where part = %s order by 1, 2",
                "select topic, at_offset from {g}.problems where kind = 'unapplied' and part = %s",
                "select topic, found from {g}.problems where kind = 'fence_known' and part = %s",
            )
        ]
        return [cursor.fetchall() for cursor in asked]

    def owns(self, partition: int) -> bool:
        """True while every position of the number has this owner. Raises: Unavailable."""
        text = "select count(*) from {g}.positions where part = %s and owner <> %s"
        return not self.query(text, (partition, self.owner))[0][0]

    def unpublished(self, partition: int) -> Iterator[tuple[str, str, int, bytes | None]]:
        """(component, key, version, state) of rows newer than what the state topics surely hold.

        Not of rows that a recovery has loaded: it has written their states too. Raises:
        Unavailable.
        """
        text = (
            "select r.key, r.version, r.doc from {g}.{c} r join {g}.positions p"
            " on (p.topic, p.part) = (r.topic, r.part)"
            " where r.part = %s and r.seq > p.published_seq"
        )
        with translated("reading rows"), self._db.pipeline():
            asked = {c: self._db.execute(self._sql(text, c), (partition,)) for c in COMPONENTS}
            found = {component: cursor.fetchall() for component, cursor in asked.items()}
        for component, rows in found.items():
            for key, version, doc in rows:
                yield component, key, version, None if doc is None else bytes(doc)

    def known(self, keys: Iterable[Key]) -> dict[Key, Known]:
        """What is known of these aggregates; UNKNOWN of those that are not there.

        A query a component, all in one go. Raises: Unavailable. IntegrityError: a row's state
        cannot be read.
        """
        found = dict.fromkeys(keys, UNKNOWN)
        wanted: dict[str, list[str]] = {}
        for component, key in found:
            if "\0" not in key:  # which no row can have
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
                state = None if doc is None else self._state(component, key, doc)
                found[component, key] = Known(state, version, event_id)
        return found

    def _state(self, component: str, key: str, doc: bytes) -> State:
        try:
            return self._codec.decode_state(bytes(doc))
        except ContractError as error:
            raise IntegrityError(
                f"{self._g}.{component}, {key}: {error.message}",
                code="postgres_damaged",
                hint="a row is not as it was written; build a new one with everlode recover",
            ) from None

    # -- writing -----------------------------------------------------------------------------

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Within it nothing is kept: what is written is undone at its end. Raises: Unavailable."""
        with (
            translated("a trial"),
            self._batch.no_new_tables(),
            self._db.transaction(force_rollback=True),
        ):
            yield

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
        topics surely hold by now. Raises: FencedOut: another owns the partition. ContractError: a
        row holds what PostgreSQL cannot; nothing is written. Unavailable.
        """
        with translated("writing a batch"):
            self._batch.write(fold, before, outcome, rows, published, counter)
