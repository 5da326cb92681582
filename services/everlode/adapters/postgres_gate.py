"""Compares what a generation's tables hold with what else should be the same, inside PostgreSQL.

What is compared comes in as a stream and is sorted by PostgreSQL, on its disk when need be: the
memory used is a batch, whatever the number of keys. Shell.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from everlode.adapters.postgres_batch import storable
from everlode.adapters.postgres_read import Generation, translated

NAMED = 3
"""Keys that are named of those that differ."""
_AT_ONCE = 2000


class Different(NamedTuple):
    """How many keys are not the same, and the first of them."""

    total: int
    keys: tuple[str, ...]


class WaitingFact(NamedTuple):
    """A fact that waits: its place and its key."""

    topic: str
    partition: int
    offset: int
    key: str


class Waiting(NamedTuple):
    """A key with facts that wait: how many, and what explains it as far as the tables show."""

    key: str
    facts: int
    since_the_cut: bool
    unapplied: bool
    behind_loss: bool


class WaitingKeys(NamedTuple):
    """How many keys wait, of how many nothing explains it, and some: the unexplained first."""

    total: int
    unexplained: int
    some: tuple[Waiting, ...]


class Comparison(Generation):
    """Comparisons of one generation. Not thread-safe."""

    def __init__(self, conninfo: str, generation: int) -> None:
        """Connect, with room for what comes in. Raises: Unavailable."""
        super().__init__(conninfo, generation)
        with translated("making room to compare"):
            self._db.execute(
                'create temp table found (part integer, key text collate "C", at bigint, sha bytea)'
                " on commit delete rows"
            )
            self._db.execute(
                "create temp table waits (topic text, part integer, at bigint, key text,"
                " since_cut boolean)"
            )

    def states(
        self, component: str, records: Iterable[tuple[int, str, int, bytes | None]]
    ) -> Different:
        """Rows against all state records: (partition number, key, offset, state or None).

        Of a key in a partition the newest record counts; a deleted key has neither row nor record.
        Raises: Unavailable.
        """
        with translated("comparing states"), self._db.transaction():
            with self._db.cursor() as cursor, cursor.copy("copy found from stdin") as copy:
                for partition, key, offset, value in records:
                    sha = None if value is None else hashlib.sha256(value).digest()
                    copy.write_row((partition, storable(key), offset, sha))
            found = self._db.execute(self._sql(_DIFFERENT, component)).fetchone()
        count, keys = found or (0, None)
        return Different(int(count), tuple(keys or ()))

    def waiting(
        self,
        component: str,
        now: Iterable[WaitingFact],
        at_the_cut: Iterable[WaitingFact],
        most: int,
    ) -> WaitingKeys:
        """The keys that wait now; `at_the_cut`: what the backup holds as waiting; `most`: of some.

        Neither may be read over this connection. Raises: Unavailable.
        """
        first = next(waiting := iter(now), None)
        if first is None:
            return WaitingKeys(0, 0, ())
        with translated("comparing what waits"), self._db.transaction():
            self._db.execute("truncate waits")
            for items, since in ((at_the_cut, True), (chain((first,), waiting), False)):
                with self._db.cursor() as cursor, cursor.copy("copy waits from stdin") as copy:
                    for item in items:
                        copy.write_row((*item[:3], storable(item.key), since))
            values = {"of": f"%.{component}", "most": most}
            rows = self._db.execute(self._sql(_WAITING), values).fetchall()
        if not rows:
            return WaitingKeys(0, 0, ())
        total, unexplained = rows[0][:2]
        return WaitingKeys(total, unexplained, tuple(Waiting(*row[2:]) for row in rows))

    def known(self, component: str) -> int:
        """How many aggregates a component's table knows, deleted ones too. Raises: Unavailable."""
        ((found,),) = self.query(f"select count(*) from {{g}}.{component}")
        return int(found)


class Unlike(NamedTuple):
    """A row whose state topic is behind: its version, and the topic's; None: none, or deleted."""

    key: str
    version: int
    there: int | None


class Published(Generation):
    """Rows of one generation against what was seen on its state topics. Not thread-safe.

    A partition number at a time: `begin`, `add` for all that its topic holds, `behind`.
    """

    def __init__(self, conninfo: str, generation: int) -> None:
        """Connect, with room for what is seen. Raises: Unavailable."""
        super().__init__(conninfo, generation)
        self._positions: tuple[list[str], list[int]] = [], []
        with translated("making room to compare"):
            self._db.execute(
                'create temp table seen (key text collate "C", at bigint, version bigint)'
            )

    def begin(self, partition: int) -> None:
        """Note what has been published by now: before its topic is read (must).

        Raises: NotFound: the generation has no tables. Unavailable.
        """
        rows = self.query(
            "select topic, published_seq from {g}.positions where part = %s", (partition,)
        )
        self._positions = [topic for topic, _ in rows], [seq for _, seq in rows]
        with translated("making room to compare"):
            self._db.execute("truncate seen")

    def add(self, records: Iterable[tuple[str, int, int | None]]) -> None:
        """(key, offset, version; None: a deletion) of some records. Raises: Unavailable."""
        with (
            translated("comparing states"),
            self._db.cursor() as cursor,
            cursor.copy("copy seen from stdin") as copy,
        ):
            for key, offset, version in records:
                copy.write_row((storable(key), offset, version))

    def rows(self, component: str, keys: Sequence[str]) -> dict[str, tuple[int, bytes | None]]:
        """Key → version and state of a row, as it is now; None: deleted. Raises: as `begin`."""
        rows = self.query(
            f"select key, version, doc from {{g}}.{component} where key = any(%s)",
            ([storable(key) for key in keys],),
        )
        return {key: (version, None if doc is None else bytes(doc)) for key, version, doc in rows}

    def behind(self, component: str, partition: int) -> tuple[int, list[Unlike]]:
        """How many rows that had been published have no such state, and the first of them.

        A row that has changed since `begin` is not asked. Raises: as `begin`.
        """
        values = (*self._positions, partition)
        rows = self.query(_BEHIND.format(component), values)
        return (int(rows[0][0]) if rows else 0), [Unlike(*row[1:]) for row in rows]


class Parked(Generation):
    """What waits in a generation, one fact after the other."""

    def facts(self, component: str) -> Iterator[tuple[str, int, int, bytes]]:
        """(topic, partition, offset, fact) of a component's facts. Raises: Unavailable."""
        any_of = "select exists (select from {g}.parked where topic like %s)"
        if not self.query(any_of, (f"%.{component}",))[0][0]:
            return
        with (
            translated("reading what waits"),
            self._db.transaction(),
            self._db.cursor("parked") as cursor,
        ):
            cursor.itersize = _AT_ONCE
            cursor.execute(
                self._sql(
                    "select topic, part, at_offset, value from {g}.parked where topic like %s"
                    " order by 1, 2, 3"
                ),
                (f"%.{component}",),
            )
            for topic, partition, offset, value in cursor:
                yield topic, partition, offset, bytes(value)


_DIFFERENT = (
    "with newest as"
    "  (select distinct on (key, part) key, part, sha from found order by key, part, at desc),"
    " different as (select coalesce(r.key, t.key) as key"
    '  from (select key collate "C" as key, part, sha256(doc) as sha from {g}.{c}'
    "   where doc is not null) r"
    "  full join (select key, part, sha from newest where sha is not null) t"
    "   on r.key = t.key and r.part = t.part"
    "  where r.sha is distinct from t.sha)"
    f" select count(*), (array_agg(key order by key))[1:{NAMED}] from different"
)
_BEHIND = (
    "with newest as (select distinct on (key) key, version from seen order by key, at desc),"
    " published as (select * from unnest(%s::text[], %s::bigint[]) as p (topic, seq))"
    " select count(*) over (), r.key, r.version, n.version"
    " from {{g}}.{} r join published p on p.topic = r.topic and r.seq <= p.seq"
    " left join newest n on n.key = r.key"
    " where r.part = %s and r.doc is not null and (n.version is null or n.version < r.version)"
    f" order by r.key limit {NAMED}"
)
_WAITING = (
    "with now as (select key, topic, part, count(*) as facts from waits where not since_cut"
    "  group by key, topic, part),"
    " cut as (select distinct key from waits where since_cut),"
    " stopped as (select distinct key from {g}.problems where kind = 'unapplied'"
    "  and topic like %(of)s),"
    " holes as (select distinct topic, part from {g}.problems where kind = 'seq_gap'),"
    " keyed as (select now.key, sum(now.facts)::bigint as facts,"
    "  bool_or(cut.key is not null) as since, bool_or(stopped.key is not null) as unapplied,"
    "  bool_or(holes.topic is not null) as lost"
    "  from now left join cut on cut.key = now.key left join stopped on stopped.key = now.key"
    "  left join holes on (holes.topic, holes.part) = (now.topic, now.part) group by now.key)"
    " select count(*) over (), count(*) filter (where not (since or unapplied or lost)) over (),"
    " key, facts, since, unapplied, lost from keyed"
    " order by since or unapplied or lost, key limit %(most)s"
)
