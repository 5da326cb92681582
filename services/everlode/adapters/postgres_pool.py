"""Connections to one region's database that are kept for whoever reads it next. Shell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg_pool import ConnectionPool

from everlode.adapters.postgres_read import Generation, translated

WAIT_S = 5.0
"""So long somebody waits for a connection."""


class ReadPool:
    """At most `most` connections, opened when they are needed. Thread-safe."""

    def __init__(self, conninfo: str, most: int = 4) -> None:
        self._pool = ConnectionPool(
            conninfo,
            min_size=0,
            max_size=most,
            timeout=WAIT_S,
            check=ConnectionPool.check_connection,
            kwargs={
                "autocommit": True,
                "connect_timeout": 5,
                "options": "-c statement_timeout=15000 -c default_transaction_read_only=on",
            },
            open=True,
        )

    @contextmanager
    def current(self) -> Iterator[Generation]:
        """The current generation's tables, to read, for the length of the block.

        Raises: Unavailable: no connection within `WAIT_S`.
        """
        with translated("connecting"):
            db = self._pool.getconn()
        try:
            yield Generation.over(db)
        finally:
            self._pool.putconn(db)

    def close(self) -> None:
        """Disconnect all."""
        self._pool.close()
