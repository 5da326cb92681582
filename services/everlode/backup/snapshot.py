"""The moment of a backup: PostgreSQL in one transaction, held open until the cut is made.

Step (1) of the protocol in cut.py. What it holds is what the cut is compared with, row by row, so
it is read through cursors, a piece at a time. It only reads: nobody waits for it but for the
cleaning of dead rows. Shell.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from everlode.adapters.postgres import Projection
from everlode.backup.standing import Applied, Chosen, Fence, Opening, Row, choose
from everlode.backup.witnesses import position_back
from everlode.errors import IntegrityError
from everlode.events.catalogue import STATE_COMPONENTS
from everlode.projection.fold import Key, Known


@dataclass(frozen=True, slots=True)
class Moment:
    """What the projector had done, of all partition numbers."""

    chosen: Chosen
    applied: Mapping[tuple[str, int], Applied]
    problems: tuple[tuple[str, str, int, str], ...]
    """(kind, topic, partition, key) of what the projector could not fold."""
    openings: Mapping[int, Mapping[Fence, tuple[Opening, ...]]]
    parked: Mapping[int, Sequence[tuple[str, int, bytes]]]
    """Topic, offset and bytes of facts that wait."""


class Snapshot:
    """What PostgreSQL held at one moment, of these topics; `close` it. Not thread-safe."""

    def __init__(self, db: Projection, topics: Sequence[str]) -> None:
        """`db` is used for nothing else until `close`. T is chosen.

        Raises: Precondition: nothing is applied. Unavailable. NotFound: no such generation.
        """
        self._db = db
        with ExitStack() as begun:
            begun.enter_context(db.at_one_moment(held=True))
            self.moment = self._moment(topics)
            self._held = begun.pop_all()

    def close(self) -> None:
        """End the moment. Idempotent."""
        self._held.close()

    def _moment(self, topics: Sequence[str]) -> Moment:
        parked: defaultdict[int, list[tuple[str, int, bytes]]] = defaultdict(list)
        positions = self._db.query("select topic, part, seq, stamp, next_offset from {g}.positions")
        problems = self._db.query(
            "select kind, topic, part, coalesce(key, '') from {g}.problems"
            " order by 1, 2, 3, at_offset"
        )
        for topic, partition, offset, value in self._db.query(
            "select topic, part, at_offset, value from {g}.parked order by topic, at_offset"
        ):
            parked[partition].append((topic, offset, bytes(value)))
        applied = [Applied(*row) for row in positions if row[0] in topics]
        return Moment(
            choose(applied), {(a.topic, a.partition): a for a in applied},
            tuple((*row,) for row in problems), self._openings(), parked,
        )  # fmt: skip

    def _openings(self) -> dict[int, dict[Fence, tuple[Opening, ...]]]:
        """With those of which a build that kept no history knew the last one only."""
        found: defaultdict[int, defaultdict[Fence, dict[int, int]]] = defaultdict(
            lambda: defaultdict(dict)
        )
        rows = self._db.query("select topic, part, scope, epoch, 0 from {g}.opened")
        schema = f"g{self._db.generation}"
        if self._db.query("select to_regclass(%s)", (f"{schema}.openings",))[0][0] is not None:
            rows += self._db.query("select topic, part, scope, epoch, seq from {g}.openings")
        for topic, partition, scope, epoch, seq in rows:
            found[partition][topic, scope][epoch] = seq
        return {
            partition: {
                fence: tuple(Opening(epoch, seq) for epoch, seq in sorted(epochs.items()))
                for fence, epochs in fences.items()
            }
            for partition, fences in found.items()
        }

    def counts(self, partition: int) -> dict[str, int]:
        """State component → how many rows it has. Raises: Unavailable."""
        return {
            component: self._db.query(
                f"select count(*) from {{g}}.{component} where part = %s", (partition,)
            )[0][0]
            for component in STATE_COMPONENTS
        }

    def rows(self, partition: int) -> Iterator[tuple[Key, Row]]:
        """All that were not deleted.

        Raises: IntegrityError: one follows from a fact that its position is before. Unavailable.
        """
        for component in STATE_COMPONENTS:
            for key, *values, ahead in self._db.stream(
                "select r.key, r.version, r.stamp, sha256(r.doc),"
                " r.seq > coalesce(p.published_seq, 0), r.seq > coalesce(p.seq, 0)"
                f" from {{g}}.{component} r"
                " left join {g}.positions p on (p.topic, p.part) = (r.topic, r.part)"
                " where r.part = %s and r.doc is not null",
                (partition,),
            ):
                if ahead:
                    raise position_back(f"the facts of {key}", "before it", "its row is there")
                yield (component, key), Row(*values)

    def states(self, keys: Iterable[Key]) -> dict[Key, Known]:
        """As their rows have them. Raises: Unavailable. IntegrityError: a row cannot be read."""
        found = self._db.known(keys)
        for key, known in found.items():
            state = known.state
            if state is None or (state.key, state.version) != (key[1], known.version):
                raise IntegrityError(
                    f"{key[0]} {key[1]}: its row, of version {known.version}, has another state",
                    code="postgres_damaged",
                    hint="build a new generation with everlode recover",
                )
        return found
