"""Regions that are fenced, and what of their facts counts, by the folded control log.

      RegionFenced us      each scope that us owned: its next epoch, and no primary
      PrefixReported eu    us.1.tasks/0: 41   us.1.tasks/1: 7
      PrefixReported ap    us.1.tasks/0: 40   us.1.tasks/1: 9   all members: accepted is 41, 9
      PrefixReported ap    us.1.tasks/0: 41   us.1.tasks/1: 9   ap is level
      ScopeAssigned        task-manager/us -> eu/tm-1, by a member that is level
      RegionReturned us    us.1.tasks/0: 44   us.1.tasks/1: 9   42 to 44 never count, 45 would
      ScopeAssigned        task-manager/us -> us/tm-2, by us, for a failback: eu's primary had
                           drained to eu.1.tasks/0: 96, and what us writes comes behind that

A copy is a prefix of one sequence, so the longest prefix of each partition holds all that any of
them does. The members are the sites that were not fenced when the region was; the accepted vector
is fixed by the first record with which all of them have reported, and never changes, so all who
fold the log have the same. Nothing is lawful by what compaction leaves out (see `control.keys`):
whether the region was lost at `based_on` is its coordinator's word, and only a word that was taken
back since makes it void.

A region that has returned is a member like any other, and owns nothing of what was taken, until a
scope goes home. It can be fenced again while it owns no scope of a service: then nothing that it
wrote since is in question. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from everlode.control.suspicions import Suspicions
from everlode.control.wishes import FAILBACK, Wishes
from everlode.events.base import Envelope, Position
from everlode.events.control import PrefixReported, RegionFenced, RegionReturned, ScopeAssigned


class Folded(Protocol):
    """What the control log says, see `fold.ControlState`."""

    @property
    def position(self) -> int: ...
    @property
    def scopes(self) -> Mapping[str, Any]: ...
    @property
    def fences(self) -> Fences: ...
    @property
    def wishes(self) -> Wishes: ...


Vector = Mapping[str, int]
"""`topic/partition` → the last `seq`."""


class Homecoming(NamedTuple):
    """A scope that has gone home to a region that has returned."""

    epoch: int
    """The first in which it is at home again."""
    topic: str
    """Of its facts while it was away."""
    upto: Vector
    """Their last ones, by partition: whoever folds the scope's facts of this epoch has these."""


NOWHERE: Mapping[str, Homecoming] = {}


class Fence(NamedTuple):
    """A region that is fenced."""

    region: str
    origin: str
    """Of its log: what of this counts is `accepted`."""
    offset: int
    """Control offset of its RegionFenced."""
    members: tuple[str, ...]
    """Regions that must report, sorted."""
    epochs: Mapping[str, int]
    """Scope that it owned → the epoch that the fence opened."""
    reports: Mapping[str, Vector]
    """Member → what its copy holds, by its last report."""
    accepted: Vector | None = None
    """What counts; None: not all members have reported yet."""
    ended: Vector | None = None
    """Where its log ended when it returned: from the accepted to here nothing counts, ever."""
    returned_at: int = -1
    """Control offset of its RegionReturned; -1: it is still fenced."""
    home: Mapping[str, Homecoming] = NOWHERE
    """Scope that was taken from it → how it went home."""

    @property
    def out(self) -> bool:
        """Whether it has not returned."""
        return self.returned_at < 0

    def level(self, member: str) -> bool:
        """Whether a member's copy holds all that counts."""
        return self.accepted is not None and not short(self.reports.get(member, {}), self.accepted)

    def lacks(self) -> tuple[str, ...]:
        """Members that have not reported."""
        return tuple(name for name in self.members if name not in self.reports)


Fences = Mapping[str, Fence]
"""Region → its fence, also of those that have returned: what counts of their facts is there."""


def out(known: Fences) -> frozenset[str]:
    """Regions that are fenced now."""
    return frozenset(region for region, fence in known.items() if fence.out)


def of_services(scopes: Iterable[str]) -> list[str]:
    """Those that are no coordinator's, which is its region's always."""
    return sorted(scope for scope in scopes if not scope.startswith("coordinator/"))


def place(topic: str, partition: int) -> str:
    """A partition's key in a vector."""
    return f"{topic}/{partition}"


def vector(positions: Iterable[Position]) -> dict[str, int]:
    """Positions as a vector."""
    return {place(at.topic, at.partition): at.seq for at in positions}


def longest(vectors: Iterable[Vector]) -> dict[str, int]:
    """The longest prefix of each partition."""
    found: dict[str, int] = {}
    for one in vectors:
        for at, seq in one.items():
            found[at] = max(seq, found.get(at, 0))
    return found


def short(have: Vector, wanted: Vector) -> dict[str, int]:
    """Place → the first `seq` that is missing, of those that do not reach what is wanted."""
    return {at: have.get(at, 0) + 1 for at, seq in wanted.items() if have.get(at, 0) < seq}


def taken_back(words: Suspicions, data: RegionFenced) -> str | None:
    """Who of its observers has heard the region again since; None: nobody, as far as is kept."""
    for observer in data.observers:
        word = words.get(f"{observer}/{data.region}")
        if word is not None and word.over and word.offset > data.based_on:
            return f"{observer} has taken its suspicion back at {word.offset}"
    return None


def why_not_fenced(log: Folded, data: RegionFenced, decider: str) -> str | None:
    """Why a region is not fenced by this record of a region's coordinator, whatever was late."""
    known, away = log.fences.get(data.region), out(log.fences)
    if data.region in away:
        return f"{data.region} is fenced since offset {log.fences[data.region].offset}"
    if decider in away or decider == data.region:
        return f"{decider} does not fence {data.region}"
    if 2 * len(set(data.observers) - {data.region}) <= data.sites:
        return f"{len(data.observers)} of {data.sites} sites are no majority"
    owned = of_services(s for s, led in log.scopes.items() if led.region == data.region)
    if known is not None and owned:
        return f"{data.region} was fenced before and owns {owned[0]} since: not known how"
    return None


def fenced(log: Folded, data: RegionFenced, decider: str) -> dict[str, Any] | str:
    """`scopes` and `fences` after it, or why it has no effect."""
    reason = why_not_fenced(log, data, decider)
    if reason is not None:
        return reason
    at, region = log.position, data.region
    owned = {s: led for s, led in log.scopes.items() if led.region == region}
    epochs = {scope: led.epoch + 1 for scope, led in owned.items()}
    sites = (scope.partition("/") for scope in log.scopes)
    others = {home for name, _, home in sites if name == "coordinator"} - out(log.fences)
    members = tuple(sorted(others - {region}))
    fence = Fence(region, data.fenced_origin, at, members, epochs, {})
    known = log.fences.get(region)
    if known is not None:  # it has written nothing since it returned
        fence = known._replace(offset=at, members=members, returned_at=-1)
    after = {
        scope: led._replace(epoch=epochs[scope], primary="", decided_at=at, renewed_at=-1)
        for scope, led in owned.items()
    }
    return {
        "scopes": MappingProxyType({**log.scopes, **after}),
        "fences": MappingProxyType({**log.fences, region: fence}),
    }


def why_not_returned(log: Folded, fence: Fence | None) -> str | None:
    """What a fenced region waits for before it is a member again; None: nothing.

    What was taken from it must have an owner: who is a member again is nobody's to take from.
    """
    if fence is None or not fence.out:
        return "it is not fenced"
    if fence.accepted is None:
        return f"what counts of it waits for {', '.join(fence.lacks())}"
    owned = [s for s in of_services(fence.epochs) if log.scopes[s].region == fence.region]
    return f"{', '.join(owned)}: not taken yet" if owned else None


def returned(log: Folded, data: RegionReturned, by: Envelope) -> Fences | str:
    """The fences once a region is back, or why it has no effect."""
    fence = log.fences.get(data.region)
    if by.scope != f"coordinator/{data.region}":
        return f"{by.scope} does not speak for {data.region}"
    reason = why_not_returned(log, fence)
    if fence is None or fence.accepted is None or reason is not None:
        return f"{data.region}: {reason}"
    if fence.offset != data.fenced_at:
        return f"{data.region} was not fenced at offset {data.fenced_at}"
    ended = longest((fence.ended or {}, vector(data.positions)))
    missing = short(ended, fence.accepted)
    if missing:
        at, seq = min(missing.items())
        return f"{data.region} has lost {at} from seq {seq} on: it is not back with its disks"
    after = fence._replace(ended=ended, returned_at=log.position)
    return MappingProxyType({**log.fences, data.region: after})


def reported(known: Fences, data: PrefixReported, by: Envelope) -> Fences | str:
    """The fences with a member's report, or why it has no effect. A prefix never shrinks."""
    fence = known.get(data.region)
    if by.scope != f"coordinator/{data.observer}":
        return f"{by.scope} does not speak for {data.observer}"
    if fence is None or fence.offset != data.fenced_at:
        return f"{data.region} was not fenced at offset {data.fenced_at}"
    if data.observer not in fence.members:
        return f"{data.observer} was no member when {data.region} was fenced"
    now = longest((fence.reports.get(data.observer, {}), vector(data.positions)))
    reports = {**fence.reports, data.observer: now}
    accepted = fence.accepted
    if accepted is None and reports.keys() >= set(fence.members):
        accepted = longest(reports.values())
    after = fence._replace(reports=reports, accepted=accepted)
    return MappingProxyType({**known, data.region: after})


def why_not_taken(log: Folded, scope: str, decider: str) -> str | None:
    """Why a region's coordinator may not decide on a scope, by the fences; None: they allow it.

    A coordinator's scope is its region's own, always.
    """
    name, _, home = scope.partition("/")
    led, away = log.scopes.get(scope), out(log.fences)
    if name == "coordinator":
        return None
    if led is None:
        return f"{decider} is fenced" if decider in away else None
    if not log.fences.keys() & {home, led.region}:
        return None
    fence = log.fences.get(led.region)
    if fence is None or not fence.out:
        return None if decider == led.region else f"{led.region} owns it, {decider} does not"
    if decider in away or decider not in fence.members:
        return f"{led.region} is fenced, and {decider} is no member"
    if not fence.level(decider):
        return f"{led.region} is fenced, and {decider} is not level"
    return None


def gone_home(log: Folded, data: ScopeAssigned, decider: str) -> Fences | None:
    """The fences once a scope goes home by this decision; None: it is no such decision.

    It is its home's, a member again, and for a wish whose primary has drained: where that had come
    to is what the scope's later facts stand on.
    """
    home = data.scope_name.rpartition("/")[2]
    fence, led = log.fences.get(home), log.scopes.get(data.scope_name)
    wish = log.wishes.of(data.scope_name)
    if fence is None or fence.out or led is None or led.region == home:
        return None
    if wish is None or wish.asked.verb != FAILBACK or wish.id != data.operation_id:
        return None
    drained = wish.drained
    if {decider, data.region} != {home} or drained is None or drained.held_epoch != led.epoch:
        return None
    topic = next((at.topic for at in drained.positions), None)
    if topic is None:
        return None
    back = Homecoming(data.new_epoch, topic, vector(drained.positions))
    after = fence._replace(home={**fence.home, data.scope_name: back})
    return MappingProxyType({**log.fences, home: after})
