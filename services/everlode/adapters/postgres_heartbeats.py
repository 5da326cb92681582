"""The last heartbeats of nodes and miners, in a generation's tables. Shell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from everlode.adapters.postgres import Projection
from everlode.adapters.postgres_read import translated


class Heartbeats(Projection):
    """A generation's tables, with those of the heartbeats. Not thread-safe."""

    def nodes(self, beats: Sequence[tuple[Any, ...]]) -> None:
        """Upsert the last one of each node; older stamps change nothing.

        Raises: ContractError: one holds what PostgreSQL cannot; none is written. Unavailable.
        """
        with translated("writing heartbeats"), self._db.transaction(), self._db.cursor() as cursor:
            cursor.executemany(
                self._sql(
                    "insert into {g}.nodes as n values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s,"
                    " %s, %s, %s, %s, %s, %s, %s) on conflict (node_id) do update set"
                    " role = excluded.role, held_epoch = excluded.held_epoch,"
                    " endpoint = excluded.endpoint, status = excluded.status,"
                    " load_ppm = excluded.load_ppm, current_tasks = excluded.current_tasks,"
                    " max_concurrent = excluded.max_concurrent, work_done = excluded.work_done,"
                    " queue_size = excluded.queue_size, specialties = excluded.specialties,"
                    " stamp = excluded.stamp, last_beat = excluded.last_beat,"
                    " waits_for = excluded.waits_for"
                    " where n.stamp < excluded.stamp"
                ),
                beats,
            )

    def miners(self, beats: Sequence[tuple[Any, ...]]) -> None:
        """Upsert heartbeats of miners, in order; older stamps change nothing.

        `pace` is event time over wall time between its last two heartbeats, so that a window in
        event time can be counted in heartbeats, however fast the work is paced. Raises: as `nodes`.
        """
        with translated("writing heartbeats"), self._db.transaction(), self._db.cursor() as cursor:
            cursor.executemany(
                self._sql(
                    "insert into {g}.miner_beats as b values (%s, %s, %s, %s, %s, %s)"
                    " on conflict (miner_id) do update set region = excluded.region,"
                    " interval_ms = excluded.interval_ms, running = excluded.running,"
                    " stamp = excluded.stamp, last_beat = excluded.last_beat, pace = coalesce("
                    "extract(epoch from excluded.last_beat - b.last_beat) * 1000"
                    " / nullif((excluded.stamp >> 16) - (b.stamp >> 16), 0), b.pace)"
                    " where b.stamp < excluded.stamp"
                ),
                beats,
            )
