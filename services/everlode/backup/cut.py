"""The consistent cut: everything with a stamp up to T, of one region, without stopping anybody.

Theory of operation. Stamps are of a hybrid logical clock: an effect has a higher stamp than its
cause, and within a partition stamps rise with `seq`. So "all facts with stamp ≤ T" is a prefix of
every partition, and closed under causes: nothing in it refers to a fact that is not. T is the
smallest stamp that the projector has applied over the live partitions (barriers move the idle ones
on), so every live partition has its whole prefix in the log, in rows, or on the way between.

The states at T are in the state topics, but for three things. The projector publishes only the
newest state of a batch; it writes rows first, so states of its last batch may not be there yet;
and it goes on beyond T while we read. Hence heads, and the facts that follow them:

    one key; its versions, each @ its stamp; v2 to v4 came in one batch       T = 40
    log            v1@10   v2@20   v3@38 ┊ v4@45        facts
    state topic    v1@10                 ┊ v4@45        v2, v3 were never published
    heads          v1, and a jump: version 2 is looked for
    cut            v1 + v2 + v3 = v3@38                 v4 is seen, and left out

The protocol, as docs/format.md counts it; (1) is done once, (2) to (5) for each partition number:

 1. The moment (gather). What PostgreSQL says is read in one transaction, before any topic: where
    the projector stands, fences, facts that wait, rows whose states may not be published. Nothing
    may move from the one to the other unseen, and nothing counts that was not applied then. T.
 2. Heads (gather). The state topics to their ends: per key the newest state ≤ T. Deletions come
    from rows: a tombstone has no version, and is compacted away.
 3. Facts (gather). From some time before T to the ends, sifted: within the cut are those ≤ T that
    the projector had applied. Of the others it is noted that they were met.
 4. The cut (here). The facts within are folded onto the heads. When a version that is looked for
    was not met, or a key has a gap, or a topic does not begin before T, the facts did not reach
    back far enough: `TooShort`, and (3) again from further back, in the end from the log's start.
 5. Seal. Each object under a new random key, to the store.
 6. The manifest, signed, last.

Facts that wait in the projector, behind a gap or for an epoch, are in no state: they are cut off
by stamp like all others and kept as they are. An epoch that was opened after T is not yet in force.

Invariants: the cut is the fold of every partition up to its `seq`; a deleted key stays deleted.
Memory: one partition number. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from everlode.avro.heads import FactHead
from everlode.backup.heads import Heads
from everlode.errors import IntegrityError, Precondition
from everlode.events.barriers import EpochOpened
from everlode.projection.fold import UNKNOWN, Incoming, Key, Known, Outcome, PartitionFold, Prefix

STALE_MS = 30_000
"""A partition further behind the newest than this is stale: T does not wait for it."""
WINDOWS_MS = (5_000, 30_000, 600_000, 1 << 62)
"""How far before T the facts are read; further when that does not reach."""
Fence = tuple[str, str]
"""(topic, scope)."""


class Applied(NamedTuple):
    """Where the projector stands in one partition of one topic; `seq` 0: before the first."""

    topic: str
    partition: int
    seq: int
    stamp: int


class Chosen(NamedTuple):
    """The cut's stamp, and which (topic, partition) are stale or empty."""

    stamp: int
    status: dict[tuple[str, int], str]


@dataclass(frozen=True, slots=True)
class Gathered:
    """What was gathered of one partition number, but for the facts."""

    partition: int
    applied: Mapping[str, Applied]
    """Each fact topic → where the projector stood at the moment."""
    opened: Mapping[Fence, int]
    """The epochs in force at the moment."""
    parked: tuple[Incoming, ...]
    """Facts that waited at the moment."""
    unpublished: Mapping[Key, int]
    """Key → version of a row whose state may not be in the state topics yet."""
    unlawful: frozenset[str]
    """Aggregates with a fact that the projector could not fold: their gaps are not ours."""
    heads: Heads
    deleted: Mapping[Key, Known]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the logs of one partition number hold from `back_ms` before T on."""

    back_ms: int
    within: tuple[Incoming, ...]
    """In the cut: up to T, applied at the moment, and not waiting then; as in the log."""
    begun: Mapping[str, tuple[int, int]]
    """Topic → (`seq`, offset) before which the first fact within stands; absent: none was met."""
    met: frozenset[tuple[Key, int]]
    """Each (key, version) that does not wait, beyond the cut too, of those that were looked at."""
    reopened: frozenset[Fence]
    """Fences that were moved after T: what they were at T is in `within`, or not known."""


@dataclass(frozen=True, slots=True)
class PartitionCut:
    """The cut of one partition number."""

    partition: int
    states: Mapping[Key, Known]
    """State None: deleted."""
    positions: Mapping[str, Prefix]
    opened: Mapping[Fence, int]
    parked: tuple[Incoming, ...]


class TooShort(NamedTuple):
    """The facts have to be read from `back_ms` before T on."""

    back_ms: int


def choose(applied: Iterable[Applied]) -> Chosen:
    """The stamp of the cut.

    Raises: Precondition: the projector has applied nothing yet.
    """
    rows = list(applied)
    newest = max((r.stamp for r in rows), default=0)
    if newest == 0:
        raise Precondition(
            "the projector has applied nothing yet: there is nothing to back up",
            hint="is it running? everlode status",
        )
    bound = newest - (STALE_MS << 16)
    status = {
        (r.topic, r.partition): "empty" if not r.seq else "live" if r.stamp >= bound else "stale"
        for r in rows
    }
    live = [r.stamp for r in rows if status[r.topic, r.partition] == "live"]
    return Chosen(min(live), status)


def further(partition: int, back_ms: int = -1) -> TooShort:
    """Where to read the facts from, first or after that was too short.

    Raises: IntegrityError: they were read from the log's start.
    """
    for window in WINDOWS_MS:
        if window > back_ms:
            return TooShort(window)
    raise IntegrityError(
        f"partition {partition}: facts that the cut needs are no longer in the log",
        code="snapshot_gap",
        hint="retention is shorter than the projector's lag: build a new generation",
    )


def wanted(part: Gathered) -> frozenset[tuple[str, int]]:
    """(aggregate, version) of the facts that the states lack, whatever their stamps are."""
    return frozenset((key[1], version) for key, version in _known(part)[1].items())


def may_need(
    topic: str, head: FactHead, stamp: int, part: Gathered, lacking: Collection[tuple[str, int]]
) -> bool:
    """Whether the cut at `stamp` may need a fact, by its head alone; `lacking`: see `wanted`.

    Needed are what is within, the very first of a topic, fences that were moved, and what is looked
    for. Most of what a busy region has written since T is none of it, and is not decoded.
    """
    applied = head.seq <= part.applied[topic].seq
    within = applied and (head.stamp <= stamp or head.name == EpochOpened.__name__)
    return within or head.seq == 1 or (head.aggregate_id, head.version) in lacking


def sift(items: Iterable[Incoming], stamp: int, part: Gathered, back_ms: int) -> Facts:
    """What the cut at `stamp` needs of the facts from `back_ms` before it on, as they are read.

    Of `items` those may be left out that `may_need` refuses: the cut is the same.
    """
    waits = {(w.topic, w.offset) for w in part.parked}
    within: list[Incoming] = []
    begun: dict[str, tuple[int, int]] = {}
    met: set[tuple[Key, int]] = set()
    reopened: set[Fence] = set()
    for item in items:
        envelope, data = item.fact
        applied = envelope.seq <= part.applied[item.topic].seq
        inside = applied and envelope.stamp <= stamp
        # the very first too: then nothing of the topic is in the cut
        if item.topic not in begun and (inside or envelope.seq == 1):
            begun[item.topic] = (envelope.seq - 1, item.offset)
        if isinstance(data, EpochOpened) and applied and not inside:
            reopened.update((item.topic, s.scope) for s in data.scopes)
        if (item.topic, item.offset) in waits:
            continue
        met.update((key, envelope.version) for key in PartitionFold.keys([item]))
        if inside:
            within.append(item)
    return Facts(back_ms, tuple(within), begun, frozenset(met), frozenset(reopened))


def cut(stamp: int, part: Gathered, facts: Facts) -> PartitionCut | TooShort:
    """The exact cut of one partition number, or from where its facts have to be read.

    Raises: IntegrityError: facts that it needs are no longer in the log.
    """
    # 4. the facts within are folded onto the heads
    states, wanted = _known(part)
    begun = {topic: Prefix(seq, 0, offset) for topic, (seq, offset) in facts.begun.items()}
    in_force = {at: epoch for at, epoch in part.opened.items() if at not in facts.reopened}
    fold = PartitionFold(part.partition, begun, in_force, [])
    batch = list(facts.within)
    for key in PartitionFold.keys(batch):
        states.setdefault(key, UNKNOWN)
    outcome = fold.fold(batch, states)
    if not _reaches(stamp, part, facts, wanted, outcome):
        return further(part.partition, facts.back_ms)
    return PartitionCut(
        part.partition,
        {key: known for key, known in states.items() if known.version},
        {topic: fold.positions.get(topic) or _stood(at) for topic, at in part.applied.items()},
        fold.opened,
        tuple(w for w in part.parked if w.fact.envelope.stamp <= stamp),
    )


def _known(part: Gathered) -> tuple[dict[Key, Known], dict[Key, int]]:
    """States before the facts, a copy; and key → version that the facts must hold."""
    states = {**part.heads.states, **part.deleted}
    wanted = {k: v for k, v in part.heads.jumps.items() if k not in part.deleted}
    for key, version in part.unpublished.items():
        have = states.get(key, UNKNOWN).version
        if have < version:
            wanted.setdefault(key, have + 1)
    return states, wanted


def _stood(applied: Applied) -> Prefix:
    """Where a topic stands of which no fact within was met: as it was applied."""
    return Prefix(applied.seq, applied.stamp, 0)


def _reaches(
    stamp: int, part: Gathered, facts: Facts, wanted: Mapping[Key, int], outcome: Outcome
) -> bool:
    """Whether the facts held every one that the states lack."""
    if any(item not in facts.met for item in wanted.items()):
        return False
    stopped = part.unlawful | {w.fact.envelope.aggregate_id for w in part.parked}
    if any(p.kind == "version_gap" and p.key not in stopped for p in outcome.problems):
        return False
    return all(a.stamp <= stamp or topic in facts.begun for topic, a in part.applied.items())
