"""Where the tail begins: the first fact after a cut, in a cluster's logs.

Offsets are valid in one cluster only, so the tail's beginning is looked for by `seq`. The cut says
which offset came next where it was made: most often it is this cluster, and the fact before that
offset is the cut's last. Else it is looked for from some time before the cut on, and from the
log's start when that is not long enough:

    cut: eu.1.tasks/0 up to seq 7      log from T - margin:  6   7   8   9
                                                                     ^ the tail begins

A log that was made anew counts from 1 again, and sooner or later has a `seq` 7 of its own. It is
known by its stamps, which rise with `seq`: one that is not on the cut's side shows a fork, and then
the whole log is the tail.

Invariant: nothing between the cut and the tail's beginning is passed over. Shell.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import NamedTuple

from everlode.adapters.kafka import Reader
from everlode.avro.codec import Codec
from everlode.backup.manifest import CutPosition
from everlode.errors import ContractError
from everlode.events.stamp import millis_of
from everlode.topics.place import End, TopicPartition, placed

HINT = 0
"""No margin: at the cut's last fact, by the offset that came next where the cut was made."""
READ_S = 120.0
MARGINS_MS = (15_000, 600_000)
"""The tail's beginning is looked for this long before the cut, then from the log's start."""


class Tail(NamedTuple):
    """Offsets of the first facts after a cut, and the places whose log is another one."""

    begins: dict[TopicPartition, int]
    forks: frozenset[TopicPartition] = frozenset()


def beginnings(bootstrap: str, codec: Codec, cut: Mapping[TopicPartition, CutPosition]) -> Tail:
    """Where the first fact after the cut stands in this cluster. Raises: Unavailable."""
    begins = {place: 0 for place, at in cut.items() if not at.seq}
    forks: set[TopicPartition] = set()
    with closing(Reader(bootstrap, "recovery-tail", wait_ms=50)) as reader:
        for margin in (HINT, *MARGINS_MS, None):
            left = {place: at for place, at in cut.items() if place not in begins}
            if left:
                search = Search(left, margin)
                search.read(reader, codec)
                begins |= search.found()
                forks |= search.forks
    return Tail(begins | dict.fromkeys(forks, 0), frozenset(forks))


def _starts(
    reader: Reader, ats: Mapping[TopicPartition, CutPosition], margin_ms: int | None
) -> dict[TopicPartition, int]:
    """Where to read from, to find what comes after the cut."""
    if margin_ms is None:
        return dict.fromkeys(ats, 0)
    if margin_ms == HINT:
        return {place: at.next_offset - 1 for place, at in ats.items() if at.next_offset > 0}
    return reader.at_time({k: millis_of(at.stamp) - margin_ms for k, at in ats.items()})


class Search:
    """Looks for the facts behind the last ones of the cut, read from so long before it.

    What stands there and is no fact is met by the replay, and reported. Places of which that is
    not long enough are left out; with None, from the log's start, none is.
    """

    def __init__(self, ats: Mapping[TopicPartition, CutPosition], margin_ms: int | None) -> None:
        self._ats, self._margin_ms = ats, margin_ms
        self._begins: dict[TopicPartition, int] = {}
        self._reached: set[TopicPartition] = set()
        """Places where nothing between the cut and what is read can be missing."""
        self._passed: set[TopicPartition] = set()
        """Places where the cut is behind."""
        self._same: set[TopicPartition] = set()
        """Places where the cut's last fact was met."""
        self._others: set[TopicPartition] = set()
        """Places where a fact was met that the cut's log did not have there."""

    @property
    def forks(self) -> set[TopicPartition]:
        """Places whose log is another one."""
        return self._others - self._same

    def found(self) -> dict[TopicPartition, int]:
        """Place → where the tail begins."""
        if self._margin_ms is None:
            return {place: self._begins.get(place, 0) for place in self._ats}
        return {place: self._begins[place] for place in self._reached - self.forks}

    def read(self, reader: Reader, codec: Codec) -> None:
        """Read what is needed. Raises: Unavailable."""
        starts = _starts(reader, self._ats, self._margin_ms)
        for batch in reader.to_ends(starts, READ_S):
            for raw in batch:
                place = (raw.topic, raw.partition)
                if place in self._passed:
                    continue
                try:
                    envelope = placed(codec, raw.topic, raw.key, raw.value).envelope
                except ContractError:
                    continue
                self.take(place, raw.offset, End(envelope.seq, envelope.stamp))
            if len(self._passed) == len(starts):
                break

    def take(self, place: TopicPartition, offset: int, end: End) -> None:
        """The next fact of a place, in the log's order; none once the cut is behind there."""
        at, (seq, stamp) = self._ats[place], end
        if (seq, stamp) == (at.seq, at.stamp):
            self._same.add(place)
        elif seq == at.seq or (seq > at.seq) != (stamp > at.stamp):
            self._others.add(place)
        if seq <= at.seq + 1:
            self._reached.add(place)
        if seq <= at.seq:
            self._begins[place] = offset + 1
        else:
            # what stands between the offset that came next and the next fact is met, too
            hint = self._margin_ms == HINT
            self._begins.setdefault(place, at.next_offset if hint else offset)
            self._passed.add(place)
