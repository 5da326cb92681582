"""The tail: the facts after the cut, found in this cluster's logs and folded onto what is restored.

Offsets are valid in one cluster only, so the tail's beginning is looked for by `seq`. The cut says
which offset came next where it was made: most often it is this cluster, and the fact that stands
there is the one after the cut. Else it is looked for from some time before the cut on, and from the
log's start when that is not long enough:

    cut: eu.1.tasks/0 up to seq 7      log from T - margin:  6   7   8   9
                                                                     ^ the tail begins

Invariants: a gap in `seq` is named and counted, never passed over, also when a run before found
it; a replay resumes from where PostgreSQL stands. Shell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import NamedTuple

from everlode.adapters.kafka import Raw, Reader
from everlode.adapters.kafka_writer import Writer
from everlode.adapters.postgres import Projection
from everlode.avro.codec import Codec
from everlode.backup.manifest import CutPosition
from everlode.errors import ContractError
from everlode.events.stamp import millis_of
from everlode.log.learn import Learn
from everlode.projection.fold import Outcome
from everlode.projection.tables import FACTS_OF
from everlode.projector.bulk import catch_up
from everlode.projector.epochs import Decided
from everlode.projector.worker import Home, Outside, PartitionWorker
from everlode.recovery.planner import Replayed
from everlode.recovery.request import Target
from everlode.telemetry.pace import Pace
from everlode.telemetry.sink import Sink, silent
from everlode.topics.names import fact_topic
from everlode.topics.place import TopicPartition, placed

HINT = 0
"""No margin: at the offset that came next where the cut was made."""
MARGINS_MS = (15_000, 600_000)
"""The tail's beginning is looked for this long before the cut, then from the log's start."""


def beginnings(
    bootstrap: str, codec: Codec, cut: Mapping[TopicPartition, CutPosition]
) -> dict[TopicPartition, int]:
    """Where the first fact after the cut stands in this cluster. Raises: Unavailable."""
    found = {place: 0 for place, at in cut.items() if not at.seq}
    with closing(Reader(bootstrap, "recovery-tail", wait_ms=50)) as reader:
        for margin in (HINT, *MARGINS_MS, None):
            left = {place: at for place, at in cut.items() if place not in found}
            if left:
                found |= _after(reader, codec, left, margin)
    return found


def _starts(
    reader: Reader, ats: Mapping[TopicPartition, CutPosition], margin_ms: int | None
) -> dict[TopicPartition, int]:
    """Where to read from, to find what comes after the cut."""
    if margin_ms is None:
        return dict.fromkeys(ats, 0)
    if margin_ms == HINT:
        return {place: at.next_offset for place, at in ats.items() if at.next_offset}
    return reader.at_time({k: millis_of(at.stamp) - margin_ms for k, at in ats.items()})


def _after(
    reader: Reader, codec: Codec, ats: Mapping[TopicPartition, CutPosition], margin_ms: int | None
) -> dict[TopicPartition, int]:
    """Offsets behind the last facts of the cut, read from so long before it.

    What stands there and is no fact is met by the replay, and reported. Places of which that is
    not long enough are left out; with None, from the log's start, none is.
    """
    starts = _starts(reader, ats, margin_ms)
    begins: dict[TopicPartition, int] = {}
    reached: set[TopicPartition] = set()
    """Places where nothing between the cut and what is read can be missing."""
    passed: set[TopicPartition] = set()
    """Places where the cut is behind."""
    for batch in reader.to_ends(starts, 120):
        for raw in batch:
            place = (raw.topic, raw.partition)
            if place in passed:
                continue
            try:
                seq = placed(codec, raw.topic, raw.key, raw.value).envelope.seq
            except ContractError:
                continue
            if seq <= ats[place].seq + 1:
                reached.add(place)
            if seq <= ats[place].seq:
                begins[place] = raw.offset + 1
            else:
                # what stands between the offset that came next and the next fact is met, too
                begins.setdefault(place, starts[place] if margin_ms == HINT else raw.offset)
                passed.add(place)
        if len(passed) == len(starts):
            break
    if margin_ms is None:
        return {place: begins.get(place, 0) for place in ats}
    return {place: begins[place] for place in reached}


class Replay(NamedTuple):
    """What replays the tail of one generation."""

    target: Target
    generation: int
    partitions: int
    learn: Learn
    epochs: Decided
    writer: Callable[[int], Writer]
    """The one writer of a partition number's states."""
    report: Sink = silent

    def run(self, states: str) -> Replayed:
        """Fold the facts of a component after the cut that the region's log has.

        Raises: Unavailable; FencedOut: another recovery has taken over.
        """
        facts = FACTS_OF.get(states, states)
        target = self.target
        topics = [fact_topic(o, facts) for o in target.topology.origins]
        home = Home(target.region, target.bootstrap, target.conninfo, self.generation, "recovery")
        total, pace = Replayed(), Pace(self.report, f"replay {states}")
        outside = Outside(self.learn, self.epochs, report=self.report)
        workers = {
            p: _Counting(PartitionWorker(home, p, topics, outside, self.writer(p)), total, pace)
            for p in range(self.partitions)
        }
        try:
            catch_up(target.bootstrap, workers, topics, counter="replay")
            for worker in workers.values():
                worker.apply((), "replay")  # what waits and need not any more
        finally:
            for worker in workers.values():
                worker.close()
        self._holes(facts, total)
        return total

    def _holes(self, facts: str, total: Replayed) -> None:
        """What is missing, as noted in the generation itself: a killed run's findings count."""
        with closing(Projection(self.target.conninfo, self.generation, "recovery")) as db:
            for topic, partition, expected, found in db.query(
                "select topic, part, expected, found from {g}.problems where kind = 'seq_gap'"
                " and topic like %s order by 1, 2, 3",
                (f"%.{facts}",),
            ):
                total.lost_count += max(0, found - expected)
                total.lost.append(f"{topic}/{partition} seq {expected}..{found - 1}")


class _Counting:
    """A partition's worker; notes what its batches folded, and what they found missing."""

    def __init__(self, worker: PartitionWorker, total: Replayed, pace: Pace) -> None:
        self._worker, self._total, self._pace = worker, total, pace
        self.positions = worker.positions
        self.close = worker.close

    def apply(self, raws: Sequence[Raw], counter: str) -> Outcome:
        """As the worker does."""
        before = {t: p.stamp for t, p in self._worker.positions().items()}
        outcome = self._worker.apply(raws, counter)
        self._total.folded += outcome.folded
        self._pace.more(len(raws))
        for p in outcome.problems:
            if p.kind == "seq_gap":
                now = self._worker.positions()[p.topic].stamp
                span = millis_of(now) - millis_of(before[p.topic])
                self._total.lost_ms = max(self._total.lost_ms, span)
        return outcome
