"""What has to be done so that what runs is what is wanted: ordered steps, as data.

    1. who was about to leave and is not wanted: the rest of that      (an apply that was killed)
    2. who is missing starts: task managers, registries, validators, reward distributors, then
       projectors, detectors, coordinators: the published order, a service before who watches it
    3. who runs with other priorities, specialties or policies is replaced, one after another
    4. each scope that has got its first nodes has a primary
    5. who is not wanted leaves, one after another: what it led and managed is given up first

What grows comes before what shrinks, so that there is room for what a leaving node gives up. What
no step can change, or would leave work to nobody, is refused, and then nothing is done at all.
Invariants: what runs as wanted needs no step; steps that are carried out lead to what is wanted,
from wherever they were cut off. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from everlode.events.services import BY_NODE
from everlode.stack.services import ALL, Member
from everlode.topology.model import Network

ORDER = tuple(ALL)
"""Kinds in the order in which they are started."""


class Running(NamedTuple):
    """What runs."""

    network: Network
    """What its supervisor keeps running."""
    leaving: frozenset[Member] = frozenset()
    """Who was asked to leave, and may not have given everything up."""
    down: frozenset[str] = frozenset()
    """Names of members that do not run as they should now: they are being started, or healed."""


class Start(NamedTuple):
    """Start a member, and wait until it has joined."""

    member: Member

    @property
    def why(self) -> str:
        """For people."""
        special = ", ".join(self.member.specialties)
        rank = f"priority {self.member.priority}" if self.member.kind in BY_NODE else ""
        return f"{rank}, special in {special}" if special else rank


class Replace(NamedTuple):
    """End a member's process, start another one in its place, and wait until that has joined."""

    member: Member
    before: Member

    @property
    def why(self) -> str:
        """What is different."""
        old, new = dict(self.before.settings), dict(self.member.settings)
        found = [
            f"{name} {old.get(name, 'not given')} → {new.get(name, 'not given')}"
            for name in sorted(old.keys() | new.keys())
            if old.get(name) != new.get(name)
        ]
        was, now = (", ".join(m.specialties) or "none" for m in (self.before, self.member))
        if was != now:
            found.insert(0, f"specialties {was} → {now}")
        if self.before.priority != self.member.priority:
            found.insert(0, f"priority {self.before.priority} → {self.member.priority}")
        return ", ".join(found)


class Leave(NamedTuple):
    """End a member for good, and wait until what it led and managed is others'."""

    member: Member
    why: str = ""


class Lead(NamedTuple):
    """Wait until a scope has a primary."""

    region: str
    kind: str
    why: str = ""


Step = Start | Replace | Leave | Lead


class Plan(NamedTuple):
    """What would be done."""

    steps: tuple[Step, ...]
    refused: tuple[str, ...] = ()
    """Why nothing of it may be done."""


def plan(wanted: Network, running: Running) -> Plan:
    """The steps from what runs to what is wanted; none where it is refused."""
    refused = (*_fixed(wanted, running.network), *_abandoned(wanted, running))
    return Plan((), tuple(refused)) if refused else Plan(tuple(_steps(wanted, running)))


def _fixed(wanted: Network, now: Network) -> Iterator[str]:
    """What a running stack cannot change."""
    for name in sorted(wanted.topology.model_fields_set):
        new, old = getattr(wanted.topology, name), getattr(now.topology, name)
        if new == old:
            continue
        why = "its topics and processes were made from it"
        if name == "regions":
            new, old = ", ".join(new), ", ".join(old)
            why = "regions are named once, when a stack is made; none is added, removed or renamed"
        yield f"{name}: {new}; the stack has {old}: {why}"
    for region in sorted({m.region for m in wanted.members} - set(now.topology.regions)):
        yield f"clusters.{region}: the stack has {', '.join(now.topology.regions)} only"
    if wanted.mirrors not in (None, now.mirrors):
        yield f"policies.replication.mirrors: the stack was made with {str(now.mirrors).lower()}"


def _cluster(member: Member) -> tuple[str, str, str]:
    return member.region, member.kind, member.validator_kind


def _abandoned(wanted: Network, running: Running) -> Iterator[str]:
    """Work that would be left to nobody."""
    kinds = {(m.region, m.kind) for m in wanted.members}
    kept = {_cluster(m) for m in wanted.members}
    names = {m.name for m in wanted.members}
    leaves = [
        m for m in sorted(running.network.members | running.leaving)
        if m.name not in names and m.kind in BY_NODE
    ]  # fmt: skip
    for region, kind, which in dict.fromkeys(_cluster(m) for m in leaves):
        if (region, kind, which) not in kept:
            what = f"{kind} of kind {which}" if which else kind
            yield f"clusters.{region}: the last {what} would leave: nobody could take its work over"
            continue
        for watcher in ("detector", "coordinator"):
            if (region, watcher) not in kinds:
                yield f"clusters.{region}: a {kind} leaves, and no {watcher} would see to its work"


def _steps(wanted: Network, running: Running) -> Iterator[Step]:
    now = {m.name: m for m in running.network.members}
    names = {m.name for m in wanted.members}
    gone = running.network.members | running.leaving
    # 1. what was begun
    yield from map(Leave, _backwards(m for m in running.leaving if m.name not in names))
    # 2. who is missing, or is on its way
    starts = [m for m in wanted.members if m.name not in now]
    starts += [m for m in wanted.members if now.get(m.name) == m and m.name in running.down]
    yield from map(Start, _ordered(starts))
    # 3. who is wanted otherwise
    changed = [m for m in wanted.members if now.get(m.name, m) != m]
    yield from (Replace(m, now[m.name]) for m in _rolled(changed, now))
    # 4. who leads
    led = {(m.region, m.kind) for m in running.network.members}
    first = {(m.region, m.kind): m for m in starts if m.kind in BY_NODE}
    yield from (
        Lead(m.region, m.kind) for m in _ordered(first.values()) if (m.region, m.kind) not in led
    )
    # 5. who is not wanted
    ends = [m for m in gone - running.leaving if m.name not in names]
    yield from map(Leave, _backwards(ends))


def _ordered(members: Iterable[Member]) -> list[Member]:
    """By kinds, regions, numbers."""
    return sorted(members, key=lambda m: (ORDER.index(m.kind), m.region, m.number))


def _backwards(members: Iterable[Member]) -> list[Member]:
    """The other way round, but nodes of the services before those who see to what they give up."""
    backwards = _ordered(members)[::-1]
    return sorted(backwards, key=lambda m: m.kind not in BY_NODE)


def _rolled(members: Iterable[Member], now: dict[str, Member]) -> list[Member]:
    """One after another; who judges leases last, or first where leases become longer.

    A coordinator that waits less than its primaries lead would only have them fenced needlessly.
    """

    def fence(member: Member) -> int:
        return dict(member.settings).get("fence_after_ms", 0)

    found = _ordered(members)
    longer = any(fence(m) > fence(now[m.name]) > 0 for m in found)
    return sorted(found, key=lambda m: (m.kind == "coordinator") != longer) if longer else found


def carried_out(running: Running, step: Step) -> Running:
    """What runs once a step has been carried out."""
    (network, leaving, down) = running
    if isinstance(step, Lead):
        return running
    name = step.member.name
    members = {m for m in network.members if m.name != name}
    leaving = frozenset(m for m in leaving if m.name != name)
    if not isinstance(step, Leave):
        members.add(step.member)
    return Running(network._replace(members=frozenset(members)), leaving, down - {name})


def begun(running: Running, step: Step) -> Running:
    """What is written down when a step begins: an apply that is killed then goes on from here."""
    if isinstance(step, Lead):
        return running
    after = carried_out(running, step)
    if isinstance(step, Leave):
        return after._replace(leaving=after.leaving | {step.member})
    return after._replace(down=after.down | {step.member.name})


def as_row(step: Step) -> dict[str, Any]:
    """A step as JSON has it."""
    verb = type(step).__name__.lower()
    if isinstance(step, Lead):
        return {"step": verb, "scope": scope_of(step.kind, step.region), "why": step.why}
    member = step.member
    return {
        "step": verb, "process": member.name, "node_id": member.node_id,
        "kind": member.kind, "why": step.why,
    }  # fmt: skip


def scope_of(kind: str, region: str) -> str:
    """The scope that nodes of a kind can lead; for others the one of their own name."""
    service = BY_NODE.get(kind)
    return f"{service.scope if service else kind}/{region}"
