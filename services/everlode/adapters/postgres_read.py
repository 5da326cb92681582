"""A generation of the projection in PostgreSQL, to read: queries, and which one is current.

It knows nothing of folds or of what the tables hold, so that what checks a projection shares
nothing with what wrote it. Shell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import psycopg
from psycopg import sql

from everlode.errors import ContractError, EverlodeError, IntegrityError, NotFound, Unavailable
from everlode.topics.names import schema_of

_OF_THE_VALUES = ("22", "23", "54")
"""SQLSTATE classes that say that what was to be stored cannot be: data exception, constraint,
program limit."""
_OF_THE_DATABASE = ("0A", "26", "34", "3D", "3F", "42", "XX")
"""It is not as we made it: unknown names, rights, damage."""

STREAMED = 2000
"""Rows that are fetched at once of what is read a piece at a time."""


def fate(what: str, error: Exception) -> EverlodeError:
    """The fate of an error of the database's client, by its SQLSTATE; `what` was under way.

    ContractError: the values' own fault, the same again each time. IntegrityError: the database is
    not what it should be. Unavailable: all else, which may pass: connections, locks, room, rights
    to write that a server in recovery does not give.
    """
    text = f"PostgreSQL, {what}: {str(error).strip()}"
    if not isinstance(error, psycopg.Error):
        return ContractError(text, code="unstorable")
    state = error.sqlstate or ""
    if state.startswith(_OF_THE_VALUES) or (not state and isinstance(error, psycopg.DataError)):
        return ContractError(text.partition("\n")[0], code="unstorable")
    if state.startswith(_OF_THE_DATABASE) or (
        not state and isinstance(error, psycopg.ProgrammingError | psycopg.NotSupportedError)
    ):
        return IntegrityError(
            text, code="postgres_damaged", hint="it is not as everlode made it; everlode recover"
        )
    return Unavailable(text, code="postgres")


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Errors of the database as ours; names what was under way.

    Raises: Unavailable; ContractError; IntegrityError: see `fate`.
    """
    try:
        yield
    except (psycopg.Error, OverflowError, UnicodeError) as error:
        raise fate(what, error) from None


class Generation:
    """One generation's tables, to read; over one connection. Not thread-safe."""

    def __init__(self, conninfo: str, generation: int) -> None:
        """Connect. Raises: Unavailable."""
        self.generation = generation
        self._g = schema_of(generation)
        with translated("connecting"):
            self._db = psycopg.connect(conninfo, autocommit=True, connect_timeout=10)
            # one that was stopped within a transaction must not hold its successor up for ever
            self._db.execute("set idle_in_transaction_session_timeout = '30s'")

    @classmethod
    def current(cls, conninfo: str) -> Self:
        """The generation that is current in a database. Raises: Unavailable."""
        return cls(conninfo, current_generation(conninfo))

    @classmethod
    def over(cls, db: psycopg.Connection[Any]) -> Self:
        """The current generation, over a connection that is somebody else's to close.

        Raises: Unavailable.
        """
        found = cls.__new__(cls)
        with translated("reading the generation"):
            found.generation = _current(db)
        found._g, found._db = schema_of(found.generation), db
        return found

    def close(self) -> None:
        """Disconnect."""
        self._db.close()

    @contextmanager
    def at_one_moment(self, *, held: bool = False) -> Iterator[None]:
        """Within it all queries see the database as the first of them did.

        `held`: for however long; between two queries of it others may be read. Raises: Unavailable.
        """
        with translated("reading at one moment"), self._db.transaction():
            self._db.execute("set transaction isolation level repeatable read, read only")
            if held:
                self._db.execute("set local idle_in_transaction_session_timeout = 0")
            yield

    def newest(self) -> int:
        """The generation that is current by now, maybe another one. Raises: Unavailable."""
        with translated("reading the generation"):
            return _current(self._db)

    def query(self, text: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a query; `{g}` in it is this generation's schema.

        Raises: NotFound: no projector has made the generation's tables yet. Unavailable.
        """
        with translated("a query"), self._made():
            return self._db.execute(self._sql(text), values).fetchall()

    def queries(self, *asked: tuple[str, Sequence[Any]]) -> list[list[tuple[Any, ...]]]:
        """As `query`, of several, in one go: a busy database is slow to answer. Raises: as it."""
        with translated("queries"), self._made(), self._db.pipeline():
            found = [self._db.execute(self._sql(text), values) for text, values in asked]
            return [cursor.fetchall() for cursor in found]

    def stream(self, text: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """As `query`, some rows at a time; within `at_one_moment` only. Raises: as `query`."""
        with translated("a query"), self._db.cursor("rows", binary=True) as cursor:
            cursor.itersize = STREAMED
            cursor.execute(self._sql(text), values)
            yield from cursor

    @contextmanager
    def _made(self) -> Iterator[None]:
        """Raises: NotFound: the generation's tables are not there."""
        try:
            yield
        except psycopg.errors.UndefinedTable:
            raise NotFound(
                f"there is no projection {self._g} in this database yet",
                code="no_projection",
                hint="everlode projector run makes it",
            ) from None

    def _sql(self, text: str, component: str = "") -> sql.Composed:
        return sql.SQL(text).format(
            g=sql.Identifier(self._g), c=sql.Identifier(component or "none")
        )


def current_generation(conninfo: str) -> int:
    """The generation that is current in a database; 1 in an empty one. Raises: Unavailable."""
    with (
        translated("reading the generation"),
        psycopg.connect(conninfo, autocommit=True, connect_timeout=10) as db,
    ):
        return _current(db)


def _current(db: psycopg.Connection[Any]) -> int:
    found = db.execute("select to_regclass('everlode.current')").fetchone()
    if found is None or found[0] is None:
        return 1
    value = db.execute("select generation from everlode.current").fetchone()
    return int(value[0]) if value else 1
