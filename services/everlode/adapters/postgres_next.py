"""A generation of the projection that a recovery fills, and makes the current one. Shell.

Nothing of the generation that is read meanwhile is touched, until the switch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from psycopg import sql

from everlode.adapters.postgres import Projection
from everlode.adapters.postgres_batch import storable
from everlode.adapters.postgres_read import translated
from everlode.errors import Precondition
from everlode.events.states import State
from everlode.projection.fold import Known, Prefix
from everlode.projection.tables import COMPONENTS, column_names, row, topic_of

_LOCK = "lock table {g}.{c} in share row exclusive mode"
_LOADED = "select count(*) from {g}.{c} where part = %s and doc is not null"
_LEFT_OUT = (
    "select at_offset from {g}.problems where kind = 'unapplied' and part = %s"
    " and at_offset between %s and %s"
)
_COUNTED = "select value from {g}.counters where name = %s"
_PLACES = 1 << 40
"""Of a component, beside another's: fraud has the topics of validations."""


def places_of(component: str) -> tuple[int, int]:
    """From which place to which one, below 0, the states of a component stand for an offset."""
    high = -1 - COMPONENTS.index(component) * _PLACES
    return high - _PLACES + 1, high


class Filled(NamedTuple):
    """How much of a component is restored in one partition number."""

    loaded: int
    """States in the table."""
    left_out: set[int]
    """Places, below 0, of states that could not be stored."""
    published: int
    """Records that the state topic surely has."""


class NextGeneration(Projection):
    """A generation's tables, with what only a recovery does to them. Not thread-safe."""

    def load(self, component: str, states: Iterable[tuple[str, Known]]) -> int:
        """Put restored states where none is yet, all or nothing; returns how many.

        Raises: ContractError: one holds what PostgreSQL cannot. Unavailable.
        """
        columns = ", ".join(column_names(component))
        count = 0
        with (
            translated("loading states"),  # one statement: a transaction by itself
            self._db.cursor() as cursor,
            cursor.copy(self._sql(f"copy {{g}}.{{c}} ({columns}) from stdin", component)) as copy,
        ):
            for key, known in states:
                copy.write_row(row(component, key, known))
                count += 1
        return count

    def alone(self) -> bool:
        """Whether this connection is the one, until it closes, that builds a generation anew.

        Raises: Unavailable.
        """
        ((found,),) = self.query("select pg_try_advisory_lock(4712)")
        return bool(found)

    def loaded(self, component: str, partition: int) -> int:
        """How many restored states are there, once nobody who is gone can add more.

        Waits for what a killed run's connection has begun: it is undone, or counts. Raises:
        Unavailable.
        """
        with translated("counting states"), self._db.pipeline(), self._db.transaction():
            self._db.execute(self._sql(_LOCK, component))
            ((found,),) = self._db.execute(self._sql(_LOADED, component), (partition,)).fetchall()
        return int(found)

    def filled(self, component: str, partition: int, counter: str) -> Filled:
        """What a killed run has left, once nobody who is gone can add more: see `loaded`.

        Raises: Unavailable.
        """
        low, high = places_of(component)
        with translated("counting states"), self._db.pipeline(), self._db.transaction():
            self._db.execute(self._sql(_LOCK, component))
            loaded = self._db.execute(self._sql(_LOADED, component), (partition,))
            left_out = self._db.execute(self._sql(_LEFT_OUT), (partition, low, high))
            counted = self._db.execute(self._sql(_COUNTED), (counter,))
            ((count,),) = loaded.fetchall()
            places = {place for (place,) in left_out.fetchall()}
            return Filled(int(count), places, next((int(n) for (n,) in counted.fetchall()), 0))

    def counted(self, name: str) -> int:
        """What a counter has come to; 0 before its first. Raises: Unavailable."""
        found = self.query(_COUNTED, (name,))
        return int(found[0][0]) if found else 0

    def count(self, name: str, value: int) -> None:
        """Set a counter. Raises: Unavailable."""
        with translated("counting"):
            self._db.execute(
                self._sql(
                    "insert into {g}.counters values (%s, %s) on conflict (name)"
                    " do update set value = excluded.value"
                ),
                (name, value),
            )

    def left_out(self, component: str) -> int:
        """How many restored states could not be stored. Raises: Unavailable."""
        text = (
            "select count(*) from {g}.problems"
            " where kind = 'unapplied' and at_offset between %s and %s"
        )
        ((found,),) = self.query(text, places_of(component))
        return int(found)

    def bury(self, component: str, partition: int, deleted: Iterable[tuple[str, int, str]]) -> None:
        """Note restored deletions, (key, version, event id), so that nothing resurrects them."""
        text = (
            "insert into {g}.{c} (key, epoch, version, stamp, topic, part, seq, event_id,"
            " status, home) values (%s, 0, %s, 0, '', %s, 0, %s, 'deleted', '')"
            " on conflict (key) do nothing"
        )
        values = [(key, version, partition, event_id) for key, version, event_id in deleted]
        self._note("noting deletions", self._sql(text, component), values)

    def leave_out(self, state: State, component: str, place: int) -> None:
        """Note a restored state that cannot be stored; `place`, below 0, stands for an offset."""
        with translated("noting what cannot be restored"):
            self._db.execute(
                self._sql("insert into {g}.problems values (%s, %s, %s, %s, %s, '', %s, %s)"
                          " on conflict do nothing"),
                ("unapplied", topic_of(component, state), state.partition, place,
                 storable(state.key), state.version, state.version),
            )  # fmt: skip

    def park(self, partition: int, waiting: Iterable[tuple[str, int, bytes]]) -> None:
        """Restore (topic, offset, fact): who takes the partition over finds them waiting."""
        text = "insert into {g}.parked values (%s, %s, %s, %s) on conflict do nothing"
        values = [(topic, partition, offset, value) for topic, offset, value in waiting]
        self._note("noting what waits", self._sql(text), values)

    def reopen(self, opened: Iterable[tuple[str, int, str, int]]) -> None:
        """Restore (topic, partition, scope, epoch): what is below such an epoch is fenced."""
        text = (
            "insert into {g}.opened as o values (%s, %s, %s, %s) on conflict"
            " (topic, part, scope) do update set epoch = greatest(o.epoch, excluded.epoch)"
        )
        self._note("noting epochs", self._sql(text), list(opened))

    def place(self, partition: int, positions: Mapping[str, Prefix]) -> None:
        """Set where restored topics stand; what they hold counts as published."""
        text = (
            "insert into {g}.positions values (%s, %s, %s, %s, %s, %s, %s)"
            " on conflict (topic, part) do update set seq = excluded.seq,"
            " stamp = excluded.stamp, next_offset = excluded.next_offset,"
            " published_seq = excluded.published_seq, owner = excluded.owner"
        )
        values = [
            (topic, partition, p.seq, p.stamp, p.next_offset, p.seq, self.owner)
            for topic, p in positions.items()
        ]
        self._note("setting positions", self._sql(text), values)

    def _note(self, what: str, text: sql.Composed, values: Sequence[tuple[Any, ...]]) -> None:
        """All of these rows or none, in one go; of none nothing is asked."""
        if not values:
            return
        with (
            translated(what),
            self._db.pipeline(),
            self._db.transaction(),
            self._db.cursor() as cursor,
        ):
            cursor.executemany(text, values)

    def switch(self) -> None:
        """Make this generation the current one. Idempotent.

        Raises: Precondition: a later one is current.
        """
        with translated("switching"):
            done = self._db.execute(
                "update everlode.current set generation = %s where generation <= %s",
                (self.generation, self.generation),
            )
        if not done.rowcount:
            raise Precondition(f"generation {self.generation}: a later one is current")

    def exists(self) -> bool:
        """Whether it has been made, and not dropped. Raises: Unavailable."""
        ((found,),) = self.query("select to_regnamespace(%s) is not null", (self._g,))
        return bool(found)

    def drop(self) -> None:
        """Remove the generation, wherever it stands."""
        with translated("dropping a generation"):
            self._db.execute(self._sql("drop schema if exists {g} cascade"))
