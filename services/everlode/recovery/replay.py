"""The replay: facts after the cut are folded onto what is restored, and none is missed unnoticed.

The region's own log is read to its end. Where `seq` jumps in it, and where it ends before what is
known of it (evidence.py), the missing records are fetched from other regions' copies and folded in
their place:

    own log        6 7     10 11 |            known: 14
    copies             8 9        12 13
    folded         6 7 8 9 10 11 12 13        14 is lost, by name; after 14: unknown

Invariants: a replay resumes from where PostgreSQL stands; each figure of its result follows from
what is committed: facts folded from a counter in the batches' transactions, holes from the
generation's problems, their spans from the journal, where they are noted before the batch that
passes them (must), ends from the logs and the journal. Shell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import NamedTuple

from everlode.adapters.kafka import Raw
from everlode.adapters.postgres_next import NextGeneration
from everlode.events.stamp import millis_of
from everlode.log.ends import ends_by, standing
from everlode.log.learn import Learn
from everlode.projection.fold import Prefix
from everlode.projection.tables import FACTS_OF
from everlode.projector.bulk import BATCH, catch_up
from everlode.projector.worker import Home, Lent, Outside, PartitionWorker
from everlode.recovery.grounds import Grounds
from everlode.recovery.part import Part
from everlode.recovery.planner import Finding, Replayed
from everlode.recovery.reach import CUT, furthest, is_short, reach
from everlode.telemetry.pace import Pace
from everlode.topics.names import fact_topic
from everlode.topics.place import End, TopicPartition


def counter_of(facts: str) -> str:
    """The generation's counter of what was folded of a component's facts."""
    return f"replay {facts}"


class Reached(NamedTuple):
    """Of one partition number, how far its logs and the fold of them go."""

    local: dict[TopicPartition, End]
    folded: dict[TopicPartition, End]


class Replay:
    """Replays the tail of one component's facts, partition numbers by themselves."""

    def __init__(
        self, grounds: Grounds, states: str, forks: Iterable[TopicPartition], learn: Learn
    ) -> None:
        """`forks`: places whose log is another one than the cut was made of."""
        self._grounds, self._learn = grounds, learn
        self._forks = frozenset(forks)
        self._facts = FACTS_OF.get(states, states)
        self._topics = [fact_topic(o, self._facts) for o in grounds.target.topology.origins]
        self._counter = counter_of(self._facts)
        self._pace = Pace(grounds.report, f"replay {states}")

    def of(self, part: Part) -> Reached:
        """Fold the facts after the cut, as far as any region's log has them.

        Raises: Stopped; Unavailable; FencedOut: another recovery has taken over.
        """
        target, grounds = self._grounds.target, self._grounds
        home = Home(target.region, target.bootstrap, target.conninfo, part.generation, "recovery")
        epochs = grounds.epochs
        outside = Outside(self._learn, epochs, report=grounds.report, bounds=epochs.bounds)
        lent = Lent(part.writer, part.db)
        inner = PartitionWorker(home, part.partition, self._topics, outside, lent)
        worker = _Whole(inner, self._counter, grounds, part, self._pace)
        places = [(topic, part.partition) for topic in self._topics]
        with closing(inner):
            # facts of before a fork come first: those behind it were made without them
            self._fetch(worker, [place for place in places if place in self._forks])
            catch_up(
                target.bootstrap, {part.partition: worker}, self._topics, counter=self._counter,
                reader=part.reader,
            )  # fmt: skip
            local = ends_by(part.reader, grounds.codec, places)
            short = [at for at in places if is_short(at, target.region, local[at], self._ends(at))]
            self._fetch(worker, short)
            worker.apply((), self._counter)  # what waits and need not any more
            at = worker.positions()
            folded = {(t, part.partition): End(p.seq, p.stamp) for t, p in at.items()}
        return Reached(local, folded)

    def all(self, db: NextGeneration, parts: Iterable[Reached]) -> Replayed:
        """What it comes to, once all partition numbers are there. Raises: Unavailable."""
        local, folded = dict[TopicPartition, End](), dict[TopicPartition, End]()
        for reached in parts:
            local |= reached.local
            folded |= reached.folded
        found = Replayed(folded=db.counted(self._counter))
        self._holes(db, found)
        self._behind(Reached(local, folded), found)
        return found

    def _ends(self, place: TopicPartition) -> Mapping[str, End]:
        return self._grounds.known.ends.get(place, {})

    def _fetch(self, worker: _Whole, places: Iterable[TopicPartition]) -> None:
        """What is known of and not there, from the copies."""
        for place in places:
            worker.fetch(place[0], furthest(self._ends(place)).seq)

    # -- what is missing -----------------------------------------------------------------------

    def _holes(self, db: NextGeneration, found: Replayed) -> None:
        """Within the logs: as noted in the generation itself; a killed run's findings count."""
        noted = self._grounds.journal.done
        for topic, partition, expected, after in db.query(
            "select topic, part, expected, found from {g}.problems where kind = 'seq_gap'"
            " and topic like %s order by 1, 2, 3",
            (f"%.{self._facts}",),
        ):
            name = named((topic, partition), expected, after - 1)
            span_ms = noted.get(f"hole {name}", {}).get("span_ms")
            found.lose(name, after - expected, span_ms)
        filled = {step.removeprefix("filled "): entry for step, entry in noted.items()
                  if step.startswith("filled ") and entry["facts"] == self._facts}  # fmt: skip
        found.fetched += sorted(filled.keys() - set(found.lost))

    def _behind(self, reached: Reached, found: Replayed) -> None:
        """Behind the logs' ends."""
        parts = range(self._grounds.manifest.partitions)
        for place in ((t, p) for t in self._topics for p in parts):
            ends, at, local = self._ends(place), reached.folded[place], reached.local[place]
            if place not in self._forks:
                at = max(at, local)  # a mark at the log's end is there, and moves no position
            verdict = reach(place, self._grounds.target.region, local, at, ends)
            first = max(local.seq, ends.get(CUT, End()).seq) + 1
            if verdict.short and first <= at.seq:
                found.fetched.append(named(place, first, at.seq))
            if verdict.lost:
                name = named(place, at.seq + 1, at.seq + verdict.lost)
                found.lose(name, verdict.lost, verdict.span_ms)
            forked = place in self._forks
            if verdict.unknown_after is not None or forked:
                after = max(at.seq, furthest(ends).seq)
                found.unknown.append(f"{place[0]}/{place[1]} after seq {after}")
            if forked:
                found.findings.append(
                    Finding("fork", f"{place[0]}/{place[1]} is not the log that the cut is of")
                )
        for region in self._grounds.known.silent:
            found.findings.append(
                Finding("silent", f"{region} does not answer: its copies were not compared")
            )


def named(place: TopicPartition, first: int, last: int) -> str:
    """Records of a partition, by name."""
    return f"{place[0]}/{place[1]} seq {first}..{last}"


class _Whole:
    """A partition's worker that gets what is missing between its records too."""

    def __init__(
        self, worker: PartitionWorker, counter: str, grounds: Grounds, part: Part, pace: Pace
    ) -> None:
        self._worker, self._counter, self._pace = worker, counter, pace
        self._copies, self._codec, self._journal = (
            grounds.known.copies, grounds.codec, grounds.journal,
        )  # fmt: skip
        self._go_on = part.go_on

    def positions(self) -> dict[str, Prefix]:
        """As the worker's."""
        return self._worker.positions()

    def apply(self, raws: Sequence[Raw], counter: str) -> None:
        """As the worker does. Raises: Stopped, too."""
        self._go_on()
        self._pace.more(len(raws))
        at = self._standing()
        if self._is_dense(raws, at):
            self._worker.apply(raws, counter)
        else:
            self._apply(self._filled(raws, at))

    def fetch(self, topic: str, upto: int) -> None:
        """Apply what copies have behind the position, up to `upto`."""
        place, at = (topic, self._worker.partition), self._standing()[topic]
        self._apply(raw for raw, _ in self._copied(place, at, upto))

    def _standing(self) -> dict[str, End]:
        return {t: End(p.seq, p.stamp) for t, p in self.positions().items()}

    def _apply(self, raws: Iterable[Raw]) -> None:
        left = iter(raws)
        while batch := list(islice(left, BATCH)):
            self._go_on()
            self._worker.apply(batch, self._counter)

    def _is_dense(self, raws: Sequence[Raw], at: Mapping[str, End]) -> bool:
        """Whether nothing is missing between these, by the first and the last of each topic."""
        of_topic: dict[str, list[Raw]] = {}
        for raw in raws:
            of_topic.setdefault(raw.topic, []).append(raw)
        for topic, found in of_topic.items():
            ends = [standing(self._codec, raw) for raw in (found[0], found[-1])]
            before = at[topic].seq
            if [end and end.seq for end in ends] != [before + 1, before + len(found)]:
                return False
        return True

    def _filled(self, raws: Iterable[Raw], at: dict[str, End]) -> Iterator[Raw]:
        """The records with what copies have of what is missing; holes that are left are noted."""
        for raw in raws:
            end = standing(self._codec, raw)
            if end is not None:
                before, place = at[raw.topic], (raw.topic, raw.partition)
                if end.seq > before.seq + 1:
                    first, count = before, 0
                    for copied, before in self._copied(place, first, end.seq - 1):  # noqa: B007
                        yield copied
                        count += 1
                    if count == end.seq - first.seq - 1:
                        name = named(place, first.seq + 1, end.seq - 1)
                        self._note(f"filled {name}", facts=raw.topic.rpartition(".")[2])
                    self._hole(place, before, end)
                at[raw.topic] = max(before, end)
            yield raw

    def _copied(self, place: TopicPartition, after: End, upto: int) -> Iterator[tuple[Raw, End]]:
        """What copies have, each with where it stands; holes in that are noted."""
        for raw, end in self._copies.between(place, after, upto):
            self._hole(place, after, end)
            self._pace.more()
            yield raw, end
            after = end

    def _hole(self, place: TopicPartition, before: End, behind: End) -> None:
        """Note it before any batch passes it (must): behind it, it is not met again."""
        if behind.seq > before.seq + 1:
            name = named(place, before.seq + 1, behind.seq - 1)
            self._note(f"hole {name}", span_ms=millis_of(behind.stamp) - millis_of(before.stamp))

    def _note(self, step: str, **detail: object) -> None:
        if step not in self._journal.done:
            self._journal.note(step, **detail)
