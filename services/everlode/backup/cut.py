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
    heads          v1
    cut            v1 + v2 + v3 = v3@38
    moment         cut + v4 = v4@45      must be what the row was

What a topic holds is not believed: it is compared. The rows of the moment come to the same states
by another way. So the cut is folded on, to the moment, and must be every row there: no older
version, and of one version the same state. What is older is not in the state topic any more, or
its facts have to be read from further back.

The protocol, as docs/format.md counts it; (1) is done once, (2) to (5) for each partition number:

 1. The moment (snapshot). What PostgreSQL holds is read in one transaction, begun before any topic
    is read: where the projector stands, fences and when they were opened, facts that wait, rows.
    Nothing may move from the one to the other unseen, and nothing counts that was not applied
    then. T.
 2. Heads (gather). The state topics to their ends: per key the newest state ≤ T. Deletions come
    from rows: a tombstone has no version, and is compacted away.
 3. Facts (gather). From some time before T to the moment: those up to T, and those after it.
 4. The cut (here), a slice of the keys at a time. The facts up to T are folded onto the heads;
    those after it onto a copy, which is compared with the rows. Of a row that has not changed
    since T the state may be taken as it is; of another one (3) again from further back, in the
    end from the log's start, or there is no backup.
 5. Seal. Each object under a new random key, to the store.
 6. The manifest, signed, last.

Facts that wait in the projector, behind a gap or for an epoch, are in no state: they are cut off
by stamp like all others and kept as they are. An epoch that was opened after T is not in force
yet; the one before it is.

Invariants: the cut is the fold of every partition up to its `seq`; a deleted key stays deleted.
Memory: a slice of the keys and its facts. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from everlode.avro.codec import encode_state
from everlode.backup.facts import Facts, in_force
from everlode.backup.heads import Heads, foreign
from everlode.backup.standing import Row, Standing
from everlode.errors import ContractError, IntegrityError
from everlode.events.states import State
from everlode.projection.fold import UNKNOWN, Incoming, Key, Known, PartitionFold, Prefix
from everlode.projection.tables import topic_of

WINDOWS_MS = (5_000, 30_000, 600_000, 1 << 62)
"""How far before T the facts are read; further when that does not reach."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Some of the keys of a partition number, as the stores have them."""

    heads: Heads
    rows: Mapping[Key, Row]
    """Of the moment, without those that were deleted."""
    deleted: Mapping[Key, Known]
    from_rows: Mapping[Key, Known] = field(default_factory=dict)
    """States that no topic has, as the rows have them."""


@dataclass(frozen=True, slots=True)
class SliceCut:
    """The cut of a slice."""

    states: Mapping[Key, Known]
    """State None: deleted."""
    unequal: Mapping[Key, State]
    """Of the moment: their bytes are not those of their rows. One state may have two forms."""
    without_row: int
    """States up to T that had no row, or an older one, though their facts were applied."""


class Lacking(NamedTuple):
    """What has to be brought before a slice can be cut."""

    from_rows: frozenset[Key]
    """Their states at T are those of their rows."""
    older: frozenset[Key]
    """Their facts have to be read from further back."""


def further(partition: int, back_ms: int = -1, lacking: Iterable[Key] = ()) -> int:
    """How far before T to read the facts, first or after `back_ms` was too short.

    Raises: IntegrityError: they were read from the log's start.
    """
    for window in WINDOWS_MS:
        if window > back_ms:
            return window
    names = [" ".join(key) for key in sorted(lacking)]
    of = f" of {len(names)} keys, e.g. {', '.join(names[:3])}," if names else ""
    raise IntegrityError(
        f"partition {partition}: facts{of} that the cut needs are no longer in the log, and no"
        " state topic has what they led to",
        code="snapshot_gap",
        hint="when the region is quiet the rows have it: try again then; or retention is shorter"
        " than the projector's lag: build a new generation with everlode recover",
    )


def cut(stamp: int, standing: Standing, part: Slice, facts: Facts) -> SliceCut | Lacking:
    """The exact cut of a slice of the keys, or what has to be brought for it.

    Raises: IntegrityError: a state follows from no log of ours.
    """
    states = {**_believed(part), **part.from_rows, **part.deleted}
    begun = {topic: Prefix(seq, 0, offset) for topic, (seq, offset) in facts.begun.items()}
    fold = PartitionFold(standing.partition, begun, in_force(standing, facts), [])
    gaps = _fold(fold, facts.within, states)
    at_cut = {key: known for key, known in states.items() if known.version}
    # on to the moment
    gaps |= _fold(fold, facts.after, states)
    lacking = _behind_rows(part, states) | _without_rows(standing, part, facts, states, gaps)
    if lacking:
        unchanged = {key for key in lacking if key in part.rows and part.rows[key].stamp <= stamp}
        return Lacking(frozenset(unchanged), frozenset(lacking - unchanged))
    return SliceCut(at_cut, _unequal(part, states), _rowless(standing, part, at_cut))


def _believed(part: Slice) -> dict[Key, Known]:
    """The heads, but for a tombstone of a key whose row was never deleted: rows come first."""
    return {
        key: known
        for key, known in part.heads.states.items()
        if known.state is not None or key in part.deleted or key not in part.rows
    }


def _fold(
    fold: PartitionFold, batch: Sequence[Incoming], states: dict[Key, Known]
) -> dict[Key, int]:
    """Bring `states` up to date; keys behind a gap → the version that came too early."""
    items = list(batch)
    for key in PartitionFold.keys(items):
        states.setdefault(key, UNKNOWN)
    outcome = fold.fold(items, states)
    early = {(p.topic, p.offset) for p in outcome.problems if p.kind == "version_gap"}
    return {
        key: item.fact.envelope.version
        for item in items
        if early and (item.topic, item.offset) in early
        for key in PartitionFold.keys([item])
    }


def _behind_rows(part: Slice, states: Mapping[Key, Known]) -> set[Key]:
    """Keys that do not come to the version of their row."""
    return {key for key, row in part.rows.items() if states.get(key, UNKNOWN).version < row.version}


def _without_rows(
    standing: Standing, part: Slice, facts: Facts, states: Mapping[Key, Known],
    gaps: Mapping[Key, int],
) -> set[Key]:  # fmt: skip
    """Keys that have no row, and of which facts that were applied are missing all the same.

    A gap before which the projector stopped itself is none of ours.
    """
    stopped = standing.unlawful | {w.fact.envelope.aggregate_id for w in standing.parked}
    wanted = {key: version for key, version in gaps.items() if key[1] not in stopped}
    wanted |= {key: version for key, version in part.heads.jumps.items() if key[1] in facts.changed}
    return {
        key
        for key, version in wanted.items()
        if not (key in part.rows or key in part.deleted)
        and states.get(key, UNKNOWN).version < version
    }


def _unequal(part: Slice, states: Mapping[Key, Known]) -> dict[Key, State]:
    """States of the moment that have the version of their row, and other bytes."""
    found = {}
    for key, row in part.rows.items():
        known = states[key]
        if known.state is None or known.version != row.version or key in part.from_rows:
            continue
        version, digest = part.heads.digests.get(key, (0, b""))
        if version != row.version:
            digest = hashlib.sha256(encode_state(known.state)).digest()
        if digest != row.sha256:
            found[key] = known.state
    return found


def _rowless(standing: Standing, part: Slice, at_cut: Mapping[Key, Known]) -> int:
    """States that should have had a row, of their version or a later one.

    One may have come since the moment, of a topic that was behind then, or of a key that waited.
    Raises: IntegrityError: it is of a topic that is none of ours, or from behind where its log
    stood by then: no state of this region.
    """
    waited = {w.fact.envelope.aggregate_id for w in standing.parked}
    count = 0
    for key, known in at_cut.items():
        state, row = known.state, part.rows.get(key)
        if state is None or (row is not None and row.version >= known.version):
            continue
        applied = standing.applied.get(topic_of(key[0], state))
        if applied is None or (state.seq > applied.seq and state.stamp <= applied.stamp):
            raise foreign(
                f"state topic of {key[0]}, partition {standing.partition}",
                ContractError(f"{key[1]} has no row, and no log of ours has what it follows from"),
            )
        count += state.seq <= applied.seq and key[1] not in waited
    return count
