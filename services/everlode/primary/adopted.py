"""What a primary knows of a home whose scope was taken: what was written elsewhere, if it counts.

    us.1.tasks, eu's copy, up to the vector ──► the folds of eu's primary of tasks
    eu.1.tasks: facts about us/job-1 from version n on ─► ┘
    us.1.tasks up to the vector, eu.1.tasks, us's copy, up to where eu had drained ──► the folds
    us.1.tasks from where it is at home again on ─► ┘                         of us's primary

A region that has taken a lost one's scopes goes on with their aggregates on its own topic, so
whoever folds that, primary or secondary, first needs what came before, out of its region's copy.
It is read whole, once a process, before the first such fact is folded or decided; nothing of it is
written. What cannot be read whole is not served; this region's own scopes are.

When a scope has gone home, whoever had taken it forgets its aggregates, and a node at home takes
over what was made of them, a partition at a time: before the first fact that follows it is folded,
or any is decided. What such a region had beyond the vector is not folded, so its nodes begin with
their log, and not with a snapshot; one that has lived through the fence is started anew. Shell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from everlode.control.fences import Fence, Homecoming, place
from everlode.control.fold import ControlState
from everlode.control.scopes import Scope
from everlode.errors import IntegrityError, Unavailable
from everlode.events.barriers import Barrier, EpochOpened
from everlode.events.base import Envelope
from everlode.log.copied import copied
from everlode.log.facts import LoggedFact, lacking
from everlode.log.folds import Folds
from everlode.primary.component import Component
from everlode.settings.endpoints import RegionParts
from everlode.state.shape import home_of
from everlode.telemetry.entries import Adopted, BroughtHome, NotAdopted
from everlode.telemetry.sink import Sink, silent
from everlode.topics.names import fact_topic, split_fact_topic
from everlode.topics.place import TopicPartition


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
        self._topic = fact_topic(parts.origin, component.name)
        self._elsewhere = Folds(component.states, nobody)
        """What all fenced regions' facts have come to."""
        self._done: set[str] = set()
        """Regions whose facts are adopted."""
        self._failed: dict[str, IntegrityError] = {}
        self._brought: set[int] = set()
        """Partitions of which is taken over what was made elsewhere."""
        self._begun: int | None = None
        """Control offset of the own region's fence when the node began; -1: it was not fenced."""
        self._left: set[str] = set()
        """Homes that are forgotten: their scope has gone there."""

    def begin(self) -> bool:
        """The node begins; whether with its log, as what its snapshot says may not count."""
        own = self._own()
        self._begun = own.offset if own is not None else -1
        return own is not None

    def fenced(self) -> bool:
        """Whether the own region is fenced now: what counts of its facts is not settled then.

        Raises: IntegrityError: it was fenced since `begin`: what is remembered may not count.
        """
        own = self._own()
        if own is None or own.out:
            return own is not None
        if self._begun not in (None, own.offset):
            raise IntegrityError(
                f"{own.region} was fenced at control offset {own.offset}, and this node remembers "
                "facts from before: they may not count",
                code="fenced_memory", hint="start the node again: it begins with what counts",
            )  # fmt: skip
        return False

    def fold(self, logged: LoggedFact) -> bool:
        """Fold a fact of the own topic, see `Folds.fold`; before one of another home, adopt that.

        One that does not count is left out. Raises: Unavailable: what came before it is not known
        yet. IntegrityError.
        """
        folds, envelope = self._component.folds, logged.fact.envelope
        home = home_of(envelope)
        if not self.counts(self._topic, logged.partition, envelope.seq):
            return False
        if isinstance(logged.fact.data, Barrier | EpochOpened):
            return folds.fold(logged)
        back = self._home(home)
        if home == self._parts.region:
            if back is not None and envelope.epoch >= back.epoch:
                self._bring(back, logged.partition)
        elif back is not None:
            return False
        else:
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

    def marks(self) -> tuple[tuple[object, ...], ...]:
        """Changes whenever other facts of fenced regions begin to count."""
        fences = self._control().fences
        return tuple(
            (region, fence.accepted is not None, *fence.home) for region, fence in fences.items()
        )

    def able(self, led: dict[str, int]) -> dict[str, int]:
        """Of the homes that this node leads, those that it can serve. Raises: Unavailable.

        The aggregates of a scope that has gone home are forgotten.
        """
        self._leave()
        if led.keys() <= {self._parts.region}:
            return led
        self.catch_up()
        return {home: epoch for home, epoch in led.items() if self.serves(home)}

    def _leave(self) -> None:
        """Forget the aggregates of the homes that their scope has gone back to."""
        for home in self._control().fences.keys() - self._left - {self._parts.region}:
            if self._home(home) is not None:
                self._component.folds.forget(home)
                self._left.add(home)

    def bring_home(self) -> None:
        """Take over what was made elsewhere of what is at home here, once; the log was read.

        Raises: Unavailable. IntegrityError: a copy is not whole.
        """
        back = self._home(self._parts.region)
        if back is not None:
            for partition in range(self._parts.partitions):
                self._bring(back, partition)

    def anew(self, inputs: Iterable[TopicPartition]) -> list[TopicPartition]:
        """Inputs that are read from their beginning: who led a fenced region's scopes may not have
        come to all, and what follows from a fact has an id by it, so it happens once.
        """
        origins = {fence.origin for fence in self._control().fences.values()}
        return [at for at in inputs if split_fact_topic(at[0])[0] in origins]

    def counts(self, topic: str, partition: int, seq: int) -> bool:
        """Whether a fact counts: all but those of a fenced region that are above the vector, up to
        where its log ended when it returned, or whose region's vector is not known yet."""
        for fence in self._control().fences.values():
            if topic.startswith(f"{fence.origin}."):
                at = place(topic, partition)
                back = not fence.out and seq > (fence.ended or {}).get(at, 0)
                return back or seq <= (fence.accepted or {}).get(at, 0)
        return True

    def may_cause(self, topic: str, partition: int, envelope: Envelope) -> bool:
        """Whether what follows from a fact is owed: it counts, or is of an epoch that is not known
        here yet: then its region has returned, and that is not known either."""
        newer = envelope.epoch > self._control().epoch(envelope.scope)
        return newer or self.counts(topic, partition, envelope.seq)

    def catch_up(self) -> None:
        """Adopt what counts of each fenced region, once. Raises: Unavailable."""
        for fence in sorted(self._control().fences.values(), key=lambda f: f.offset):
            known = fence.region in self._done or fence.region in self._failed
            if known or fence.accepted is None or fence.region == self._parts.region:
                continue
            if self._home(fence.region) is not None:
                continue
            try:
                count = self._adopt(fence)
            except IntegrityError as error:
                self._failed[fence.region] = error
                self._report(NotAdopted(fence.region, error.message))
            else:
                self._done.add(fence.region)
                self._report(Adopted(fence.region, self._component.name, count))

    def _own(self) -> Fence | None:
        """The fence of the own region; None: it was never fenced."""
        return self._control().fences.get(self._parts.region)

    def _home(self, region: str) -> Homecoming | None:
        """How this component's scope of a region went home; None: it did not, or was never away."""
        fence = self._control().fences.get(region)
        return fence.home.get(str(Scope(self._component.name, region))) if fence else None

    def _adopt(self, fence: Fence) -> int:
        topic = fact_topic(fence.origin, self._component.name)
        accepted = fence.accepted or {}
        places = [(topic, p) for p in range(self._parts.partitions)]
        for logged in self._facts({at: accepted.get(place(*at), 0) for at in places}):
            self._elsewhere.fold(logged)
        return self._component.folds.adopt(self._elsewhere, topic)

    def _bring(self, back: Homecoming, partition: int) -> None:
        if partition in self._brought:
            return
        at, folds = (back.topic, partition), self._component.folds
        elsewhere = Folds(self._component.states, nobody)
        elsewhere.find = folds.entry  # it goes on from what this region's own log says
        for logged in self._facts({at: back.upto.get(place(*at), 0)}):
            if home_of(logged.fact.envelope) == self._parts.region:
                elsewhere.fold(logged)
        count = folds.adopt(elsewhere, back.topic)
        self._brought.add(partition)
        self._report(BroughtHome(place(*at), count))

    def _facts(self, upto: dict[TopicPartition, int]) -> Iterator[LoggedFact]:
        """This region's copy of these places, up to a `seq` each, as far as it counts, in order.

        Raises: Unavailable: it is too short, as yet. IntegrityError: it is not whole.
        """
        last = dict.fromkeys(upto, 0)
        group = f"adopted-{self._component.name}-{self._parts.region}"
        for at, logged in copied(self._parts.bootstrap, group, last, upto):
            seq = logged.fact.envelope.seq
            if seq != last[at] + 1:
                raise lacking(place(*at), last[at] + 1, seq - 1)
            last[at] = seq
            if self.counts(*at, seq):
                yield logged
        for at, seq in last.items():
            if seq < upto[at]:
                raise _short(at, seq, upto[at])


def _short(at: TopicPartition, seq: int, upto: int) -> Unavailable:
    return Unavailable(f"{place(*at)}: this region's copy ends at seq {seq}, {upto} counts")
