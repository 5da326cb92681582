"""What a primary knows of another home: a fenced region's facts, as far as they count.

    us.1.tasks, this region's copy, up to the vector ──► the folds of eu's primary of tasks
    eu.1.tasks: facts about us/job-1 from version n on ────► ┘

A region that has taken a lost one's scopes goes on with their aggregates on its own topic, so
whoever folds that, primary or secondary, first needs what came before, out of its region's copy.
It is read whole, once a process, before the first such fact is folded or decided; nothing of it is
written. What cannot be read whole is not served; this region's own scopes are. Shell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing

from everlode.adapters.kafka import Reader
from everlode.avro.codec import Codec
from everlode.control.fences import Fence, place
from everlode.control.fold import ControlState
from everlode.control.scopes import Scope
from everlode.errors import ContractError, IntegrityError, Unavailable
from everlode.events.barriers import Barrier, EpochOpened
from everlode.log.facts import LoggedFact, lacking
from everlode.log.folds import Folds
from everlode.primary.component import Component
from everlode.settings.endpoints import RegionParts
from everlode.state.shape import home_of
from everlode.telemetry.entries import Adopted, NotAdopted
from everlode.telemetry.sink import Sink, silent
from everlode.topics.names import fact_topic, split_fact_topic
from everlode.topics.place import TopicPartition, placed

STILL_S = 60.0


def nobody(_old: object, _new: object) -> None:
    """Folds that nobody looks at until they are whole."""


class Adoption:
    """Of one node. Not thread-safe."""

    def __init__(
        self,
        component: Component,
        parts: RegionParts,
        control: Callable[[], ControlState],
        report: Sink = silent,
    ) -> None:
        self._component, self._parts, self._control = component, parts, control
        self._report = report
        self._elsewhere = Folds(component.states, nobody)
        """What all fenced regions' facts have come to."""
        self._done: set[str] = set()
        """Regions whose facts are adopted."""
        self._failed: dict[str, IntegrityError] = {}
        self._codec = Codec()

    def fold(self, logged: LoggedFact) -> bool:
        """Fold a fact of the own topic, see `Folds.fold`; before one of another home, adopt that.

        Raises: Unavailable: what came before it is not known yet. IntegrityError.
        """
        folds, envelope = self._component.folds, logged.fact.envelope
        home = home_of(envelope)
        if home != self._parts.region and not isinstance(logged.fact.data, Barrier | EpochOpened):
            self.catch_up()
            if not self.serves(home):
                raise self._failed.get(home) or Unavailable(
                    f"{envelope.event_id}: what counts of {home} is not known here yet"
                )
        return folds.fold(logged)

    def serves(self, home: str) -> bool:
        """Whether all that is known of a home's aggregates counts here: its own, or adopted."""
        if home == self._parts.region:
            return True
        scope = str(Scope(self._component.name, home))
        owned = [f.region for f in self._control().fences.values() if scope in f.epochs]
        return bool(owned) and self._done.issuperset(owned)

    def marks(self) -> tuple[tuple[str, bool], ...]:
        """Changes whenever other facts of fenced regions begin to count."""
        fences = self._control().fences
        return tuple((region, fence.accepted is not None) for region, fence in fences.items())

    def able(self, led: dict[str, int]) -> dict[str, int]:
        """Of the homes that this node leads, those that it can serve. Raises: Unavailable."""
        if led.keys() <= {self._parts.region}:
            return led
        self.catch_up()
        return {home: epoch for home, epoch in led.items() if self.serves(home)}

    def anew(self, inputs: Iterable[TopicPartition]) -> list[TopicPartition]:
        """Inputs that are read from their beginning: who led a fenced region's scopes may not have
        come to all, and what follows from a fact has an id by it, so it happens once.
        """
        origins = {fence.origin for fence in self._control().fences.values()}
        return [at for at in inputs if split_fact_topic(at[0])[0] in origins]

    def counts(self, topic: str, partition: int, seq: int) -> bool:
        """Whether a fact counts: all but those of a fenced region that are above the vector, up to
        where its log ended when it returned, or whose region's vector is not known yet."""
        at = place(topic, partition)
        for fence in self._control().fences.values():
            if topic.startswith(f"{fence.origin}."):
                back = not fence.out and seq > (fence.ended or {}).get(at, 0)
                return back or seq <= (fence.accepted or {}).get(at, 0)
        return True

    def catch_up(self) -> None:
        """Adopt what counts of each fenced region, once. Raises: Unavailable."""
        for fence in sorted(self._control().fences.values(), key=lambda f: f.offset):
            known = fence.region in self._done or fence.region in self._failed
            if known or fence.accepted is None or fence.region == self._parts.region:
                continue
            try:
                count = self._adopt(fence)
            except IntegrityError as error:
                self._failed[fence.region] = error
                self._report(NotAdopted(fence.region, error.message))
            else:
                self._done.add(fence.region)
                self._report(Adopted(fence.region, self._component.name, count))

    def _adopt(self, fence: Fence) -> int:
        topic = fact_topic(fence.origin, self._component.name)
        accepted = fence.accepted or {}
        upto = {(topic, p): accepted.get(place(topic, p), 0) for p in range(self._parts.partitions)}
        last = {at: 0 for at, seq in upto.items() if seq}
        group = f"adopted-{self._component.name}-{self._parts.region}"
        with closing(Reader(self._parts.bootstrap, group, wait_ms=50)) as reader:
            starts = reader.beginnings(last)
            for batch in reader.to_ends(starts, STILL_S, go_on=True) if last else ():
                for raw in batch:
                    at = raw.topic, raw.partition
                    try:
                        fact = placed(self._codec, raw.topic, raw.key, raw.value)
                    except ContractError:
                        continue  # every fold quarantines it
                    seq = fact.envelope.seq
                    if not last[at] < seq <= upto[at]:
                        continue  # fenced, or brought by the mirror as well as by a leveller
                    if seq != last[at] + 1:
                        raise lacking(place(*at), last[at] + 1, seq - 1)
                    self._elsewhere.fold(LoggedFact(fact, raw.partition, raw.offset))
                    last[at] = seq
        for at, seq in last.items():
            if seq < upto[at]:
                raise _short(at, seq, upto[at])
        return self._component.folds.adopt(self._elsewhere, topic)


def _short(at: TopicPartition, seq: int, upto: int) -> Unavailable:
    return Unavailable(f"{place(*at)}: this region's copy ends at seq {seq}, {upto} counts")
