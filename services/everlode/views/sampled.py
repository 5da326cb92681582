"""States and rows of a region, compared with each other: a partition of each state topic at a time.

The projector writes rows first, and states of what is published only. So a state that was read has
a row by now, of its version or a later one; and what was published has a record in its topic. The
last `LAST` records of a partition are looked at: all of it, where it has no more. Shell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import NamedTuple

from everlode.adapters.kafka import Reader
from everlode.adapters.postgres_read import Generation
from everlode.avro.codec import Codec
from everlode.avro.heads import StateHead
from everlode.errors import ContractError
from everlode.events.catalogue import STATE_COMPONENTS
from everlode.events.states import State
from everlode.topics import Topology
from everlode.topics.names import state_topic
from everlode.topics.partition import partition_of
from everlode.views.contents import ANEW, Finding

LAST = 5_000
READ_S = 60.0
_Row = tuple[int, bytes | None]
"""Version, and the state as it is in its row; None: deleted."""


class Tail(NamedTuple):
    """The last records of a partition of a state topic."""

    newest: Mapping[str, StateHead | None]
    """Key → its newest record; None: a tombstone."""
    is_whole: bool
    """They are all that it has."""
    offsets: int
    """How many it may have."""
    damaged: int


def sample(
    region: str, db: Generation, bootstrap: str, topology: Topology, codec: Codec
) -> Iterator[Finding]:
    """Findings about states and rows, the first of a kind of each partition.

    Raises: Unavailable; NotFound: the generation has no tables.
    """
    with closing(Reader(bootstrap, "doctor", wait_ms=50)) as reader:
        for component in STATE_COMPONENTS:
            for partition in range(topology.partitions):
                topic = state_topic(db.generation, component)
                count, published = _published(db, component, partition)  # before the topic
                tail = _tail(reader, codec, component, (topic, partition))
                found = _Partition(region, f"{topic}/{partition}")
                found.rows(codec, topology, tail, _rows(db, component, tail), partition)
                found.states(tail, count, published)
                yield from found.findings.values()


class _Partition:
    """Findings about one partition, one of a kind."""

    def __init__(self, region: str, where: str) -> None:
        self._region, self._where = region, where
        self.findings: dict[str, Finding] = {}

    def _add(self, kind: str, text: str) -> None:
        self.findings.setdefault(kind, Finding(self._region, kind, self._where, text, ANEW))

    def rows(
        self, codec: Codec, topology: Topology, tail: Tail, rows: Mapping[str, _Row],
        partition: int,
    ) -> None:  # fmt: skip
        """Each state has its row, of this version or a later one."""
        for key, head in tail.newest.items():
            if head is None:
                continue
            state = _decoded(codec, head.value)
            if state is None:
                self._add("state_foreign", f"the state of {key} cannot be read")
                continue
            if state.origin not in topology.origins or partition != partition_of(
                key, topology.partitions
            ):
                self._add("state_foreign", f"{key} is of {state.origin}, and does not belong here")
                continue
            row = rows.get(key)
            if row is None or row[0] < head.version:
                have = f"of version {row[0]}" if row else "not there"
                self._add("rows_lost", f"the row of {key} is {have}, its state of {head.version}")
            elif row[0] == head.version and not _same(codec, row[1], state, head.value):
                self._add("state_conflict", f"{key} has another state than its row of one version")

    def states(self, tail: Tail, count: int, published: Mapping[str, int]) -> None:
        """Each row that was published has its state: so many there are, and of these versions."""
        if tail.damaged:
            self._add("state_foreign", f"{tail.damaged} records are no states of this topic")
        if tail.offsets < count:
            text = f"it has {tail.offsets} records at most, of {count} rows"
            self._add("states_lost", text)
        if not tail.is_whole:
            return
        for key, version in published.items():
            if key not in tail.newest:
                self._add("states_lost", f"{key} has a row, and no state")
            head = tail.newest.get(key)
            if head is not None and head.version < version:
                text = f"the state of {key} is of version {head.version}, its row of {version}"
                self._add("states_lost", text)


def _published(db: Generation, component: str, partition: int) -> tuple[int, dict[str, int]]:
    """How many rows have been published, and key → version of them; empty of very many."""
    of_these = (
        f" from {{g}}.{component} r join {{g}}.positions p on (p.topic, p.part) = (r.topic, r.part)"
        " where r.part = %s and r.doc is not null and r.seq <= p.published_seq"
    )
    ((count,),) = db.query("select count(*)" + of_these, (partition,))
    if count > LAST:
        return count, {}
    rows = db.query("select r.key, r.version" + of_these, (partition,))
    return count, dict(rows)


def _rows(db: Generation, component: str, tail: Tail) -> dict[str, _Row]:
    keys = [key for key, head in tail.newest.items() if head is not None and "\0" not in key]
    rows = db.query(f"select key, version, doc from {{g}}.{component} where key = any(%s)", (keys,))
    return {key: (version, None if doc is None else bytes(doc)) for key, version, doc in rows}


def _decoded(codec: Codec, value: bytes) -> State | None:
    try:
        return codec.decode_state(value)
    except ContractError:
        return None


def _same(codec: Codec, doc: bytes | None, state: State, value: bytes) -> bool:
    """Whether a row has this state; in an upgrade one state may have two forms, or two folds."""
    if doc in (None, value):
        return True
    found = _decoded(codec, doc or b"")
    return found == state or (found is not None and found.fold_version != state.fold_version)


def _tail(reader: Reader, codec: Codec, component: str, place: tuple[str, int]) -> Tail:
    bounds = reader.bounds([place])
    begin, end = bounds[place]
    start = max(begin, end - LAST)
    newest: dict[str, StateHead | None] = {}
    damaged = 0
    for batch in reader.to_bounds({place: start}, bounds, READ_S):
        for raw in batch:
            try:
                head = None if raw.value is None else codec.state_head(component, raw.value)
                key = (raw.key or b"").decode()
                if head is not None and head.key != key:
                    raise ContractError("another key")
                newest[key] = head
            except (ContractError, UnicodeDecodeError):
                damaged += 1
    return Tail(newest, start == begin, end - begin, damaged)
