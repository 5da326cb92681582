"""States and rows of a region, compared with each other: all of both, a partition at a time.

The projector writes rows first, and states of what is published only. So a state that was read has
a row by now, of its version or a later one; and what had been published before a topic was read
has a record there, of the row's version.

Memory: a batch, whatever the number of keys; what was seen is sorted by PostgreSQL. Shell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

from everlode.adapters.kafka import Raw, Reader
from everlode.adapters.postgres_gate import Published
from everlode.avro.codec import Codec
from everlode.avro.heads import StateHead
from everlode.errors import ContractError
from everlode.events.catalogue import STATE_COMPONENTS
from everlode.events.states import State
from everlode.state.shape import FOLD_VERSION
from everlode.topics import Topology
from everlode.topics.names import state_topic
from everlode.topics.partition import partition_of
from everlode.topics.place import TopicPartition
from everlode.views.contents import ANEW, Finding

STILL_S = 60.0
NO_STATE = StateHead("", 0, 0, 0, b"")
_Row = tuple[int, bytes | None]
"""Version, and the state as it is in its row; None: deleted."""


def compare_pairs(
    region: str, db: Published, bootstrap: str, topology: Topology, codec: Codec
) -> Iterator[Finding]:
    """Findings about states and rows, one of a kind of each partition.

    Raises: Unavailable; NotFound: the generation has no tables.
    """
    with closing(Reader(bootstrap, "doctor", wait_ms=50)) as reader:
        for component in STATE_COMPONENTS:
            for partition in range(topology.partitions):
                place = state_topic(db.generation, component), partition
                found = _Partition(region, component, place, topology, codec)
                db.begin(partition)
                for batch in reader.to_ends({place: 0}, STILL_S):
                    found.states(db, batch)
                found.rows(db)
                yield from found.findings.values()


class _Partition:
    """Findings about one partition, one of a kind."""

    def __init__(
        self, region: str, component: str, place: TopicPartition, topology: Topology, codec: Codec
    ) -> None:
        self._region, self._component, self._codec = region, component, codec
        (self._topic, self._partition), self._topology = place, topology
        self.findings: dict[str, Finding] = {}

    def _add(self, kind: str, text: str) -> None:
        where = f"{self._topic}/{self._partition}"
        self.findings.setdefault(kind, Finding(self._region, kind, where, text, ANEW))

    def states(self, db: Published, batch: Sequence[Raw]) -> None:
        """Each state has its row, of this version or a later one."""
        seen = [(raw, head) for raw in batch if (head := self._head(raw)) is not NO_STATE]
        db.add((_key(raw), raw.offset, head.version if head else None) for raw, head in seen)
        heads = [head for _, head in seen if head]
        rows = db.rows(self._component, [head.key for head in heads])
        for head in heads:
            self._state(head, rows.get(head.key))

    def _head(self, raw: Raw) -> StateHead | None:
        """None: a deletion; NO_STATE: no record of this topic."""
        try:
            key = _key(raw)
            if raw.value is None:
                return None
            head = self._codec.state_head(self._component, raw.value)
            if head.key != key:
                raise ContractError("it has another key")
            return head
        except (ContractError, UnicodeDecodeError) as error:
            self._add("state_foreign", f"offset {raw.offset} is no state: {error}")
            return NO_STATE

    def _state(self, head: StateHead, row: _Row | None) -> None:
        if row is not None and (row[0] > head.version or row == (head.version, head.value)):
            return
        state = _decoded(self._codec, head.value)
        if state is None:
            self._add("state_foreign", f"the state of {head.key} cannot be read")
        elif not self._belongs(state):
            text = f"{head.key} is of {state.origin}, and does not belong here"
            self._add("state_foreign", text)
        elif row is None or row[0] < head.version:
            have = f"of version {row[0]}" if row else "not there"
            self._add("rows_lost", f"the row of {head.key} is {have}, its state of {head.version}")
        elif not _same(self._codec, row[1], state):
            self._add("state_conflict", f"{head.key} has another state than its row of one version")

    def _belongs(self, state: State) -> bool:
        partition = partition_of(state.key, self._topology.partitions)
        return state.origin in self._topology.origins and partition == self._partition

    def rows(self, db: Published) -> None:
        """Each row that had been published has its state."""
        count, some = db.behind(self._component, self._partition)
        for row in some[:1]:
            there = "none" if row.there is None else f"one of version {row.there}"
            text = f"{count} rows have no such state, e.g. {row.key} of version {row.version}"
            self._add("states_lost", f"{text}: there is {there}")


def _key(raw: Raw) -> str:
    return (raw.key or b"").decode()


def _decoded(codec: Codec, value: bytes) -> State | None:
    try:
        return codec.decode_state(value)
    except ContractError:
        return None


def _same(codec: Codec, doc: bytes | None, state: State) -> bool:
    """Whether a row has this state; in an upgrade one state may have two forms, or two folds."""
    if doc is None:
        return True
    found = _decoded(codec, doc)
    if found is None or found == state:
        return found is not None
    return found.fold_version != state.fold_version and 1 <= found.fold_version <= FOLD_VERSION
