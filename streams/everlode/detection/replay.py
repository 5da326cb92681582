"""The verdicts of a recorded partition, computed again: do they agree, and what would others say?

A detector is a pure function of its partition from where it began, and says where that was
(`DetectorStarted`). So whoever has the log can check each of its verdicts, byte for byte, and can
ask what other settings would have found in the same log. Answers to probes are as recorded: other
settings would have asked at other times.

    heartbeats  ──► fold from each DetectorStarted ──► verdicts ─┐
                                                                 ├─► the same id, the same bytes?
    health      ──► verdicts as they were published ─────────────┘

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from everlode.avro.codec import encode_fact
from everlode.detection.detector import Detector, Verdict
from everlode.detection.tuning import DEFAULT, Tuning
from everlode.errors import ContractError
from everlode.events.base import Event, Fact
from everlode.events.health import (
    DetectorBlind,
    DetectorStarted,
    NodeDegraded,
    NodeFlapping,
    NodeLost,
    NodeRecovered,
    NodeSuspected,
)
from everlode.events.stamp import millis_of

VERDICTS: tuple[type[Event], ...] = (
    NodeSuspected, NodeLost, NodeDegraded, NodeRecovered, NodeFlapping, DetectorBlind,
)  # fmt: skip
PENDING_MS = 5_000
"""What follows from the last records may not have been published yet."""


class Beat(NamedTuple):
    """A record of the partition, in the order of its offsets."""

    offset: int
    fact: Fact


class Published(NamedTuple):
    """A record of `<origin>.health` about the partition, in the order of that log."""

    fact: Fact
    value: bytes


class Given(NamedTuple):
    """A verdict of a fold, and the record that it follows from."""

    offset: int
    at_ms: int
    """Wall time of that record."""
    verdict: Verdict


class Disagreement(NamedTuple):
    """A verdict on which the log and its fold differ."""

    event_id: str
    node_id: str
    event: str
    what: str


class Replayed(NamedTuple):
    """What came of one partition."""

    partition: int
    agreed: int
    """Verdicts that are in both, byte for byte."""
    pending: int
    """Computed, not published yet, and too new for that to mean anything."""
    gone: int
    """Published from records that the log has not any more."""
    disagreements: tuple[Disagreement, ...]


def of_partition(topic: str, partition: int, fact: Fact) -> bool:
    """Whether a record of `<origin>.health` is a detector's about this partition."""
    if isinstance(fact.data, DetectorStarted):
        return fact.data.partition == partition
    places: Any = getattr(fact.data, "evidence", ()) if isinstance(fact.data, VERDICTS) else ()
    return any((e.topic, e.partition) == (topic, partition) for e in places[:1])


def folded(
    topic: str, partition: int, beats: Iterable[Beat], tuning: Tuning = DEFAULT
) -> list[Given]:
    """All verdicts of a detector that begins with the first of these records."""
    detector = Detector(topic, partition, tuning)
    return [
        Given(offset, millis_of(fact.envelope.stamp), verdict)
        for offset, fact in beats
        for verdict in detector.observe(offset, fact)
    ]


class _Fold(NamedTuple):
    """A detector that has run, computed again."""

    begins: int
    given: Mapping[str, Given]


def replayed(
    topic: str, partition: int, beats: Sequence[Beat], published: Sequence[Published]
) -> Replayed:
    """Compare what was published about a partition with what follows from its records."""
    first = beats[0].offset if beats else 0
    folds, disagreements = list[_Fold](), list[Disagreement]()
    agreed, gone, seen, known_ms = set[str](), 0, set[str](), _begun_ms(published)
    for fact, value in published:
        data = fact.data
        if isinstance(data, DetectorStarted):
            known = [beat for beat in beats if beat.offset >= data.from_offset]
            given = folded(topic, partition, known) if data.from_offset >= first else []
            folds.append(_Fold(data.from_offset, {g.verdict.event_id: g for g in given}))
            continue
        seen.add(fact.envelope.event_id)
        if not folds or folds[-1].begins < first:
            gone += 1
            continue
        wrong = _wrong(fact, value, folds)
        if wrong:
            disagreements.append(_disagreement(fact.envelope.event_id, fact, wrong))
        else:
            agreed.add(fact.envelope.event_id)
    missing = [g for g in _due(folds, first) if g.verdict.event_id not in seen]
    missing = [g for g in missing if g.at_ms >= known_ms]
    end_ms = millis_of(beats[-1].fact.envelope.stamp) if beats else 0
    pending = [g for g in missing if g.at_ms > end_ms - PENDING_MS]
    for late in missing[: len(missing) - len(pending)]:
        made = late.verdict
        text = f"follows from offset {late.offset}, and was never published"
        disagreements.append(
            Disagreement(made.event_id, made.node_id, type(made.data).__name__, text)
        )
    return Replayed(partition, len(agreed), len(pending), gone, tuple(disagreements))


def _begun_ms(published: Sequence[Published]) -> int:
    """What is older than the first record about the partition may have left the log."""
    return millis_of(published[0].fact.envelope.stamp) if published else 2**63


def _due(folds: Sequence[_Fold], first: int) -> list[Given]:
    """What must have been published: of each detector up to where the next one began."""
    found: dict[str, Given] = {}
    for number, fold in enumerate(folds):
        later = folds[number + 1].begins if number + 1 < len(folds) else None
        if fold.begins >= first:
            found.update(
                (id_, g) for id_, g in fold.given.items() if later is None or g.offset < later
            )
    return sorted(found.values(), key=lambda g: g.offset)


def _wrong(fact: Fact, value: bytes, folds: Sequence[_Fold]) -> str:
    """How a published verdict differs from every fold that may have made it; empty: it does not."""
    made = [f.given[fact.envelope.event_id] for f in folds if fact.envelope.event_id in f.given]
    if not made:
        return "follows from no record"
    for given in reversed(made):  # an older detector may have gone on for a moment
        try:
            same = encode_fact(fact.envelope, given.verdict.data) == value
        except ContractError:
            same = False
        if same and given.verdict.node_id == fact.envelope.aggregate_id:
            return ""
    return f"says otherwise than what follows from offset {made[-1].offset}"


def _disagreement(event_id: str, fact: Fact, what: str) -> Disagreement:
    return Disagreement(event_id, fact.envelope.aggregate_id, type(fact.data).__name__, what)


class Difference(NamedTuple):
    """A verdict that other settings give at another time, alone, or not at all."""

    node_id: str
    event: str
    at_ms: int | None
    """Wall time as the network runs; None: not given."""
    with_ms: int | None
    """Wall time with the other settings; None: not given."""
    actionable: bool
    """Of that with the other settings, else as the network runs."""


def differences(
    topic: str, partition: int, beats: Sequence[Beat], tuning: Tuning
) -> list[Difference]:
    """What these settings would have found otherwise than the network's, in order of time."""
    ours = _firsts(folded(topic, partition, beats))
    others = _firsts(folded(topic, partition, beats, tuning))
    found = []
    for key in {**ours, **others}:
        here, there = ours.get(key), others.get(key)
        at, with_ = here.at_ms if here else None, there.at_ms if there else None
        if at != with_:
            said = [one.verdict.data for one in (there, here) if one is not None]
            actionable = getattr(said[0], "actionable", True)
            found.append(Difference(key[0], key[1], at, with_, actionable))
    return sorted(found, key=lambda d: (d.at_ms or d.with_ms or 0, d.node_id, d.event))


def _firsts(given: Iterable[Given]) -> dict[tuple[str, str, int], Given]:
    """The first of its kind in one silence: by node, type, and the beat that came before."""
    found: dict[tuple[str, str, int], Given] = {}
    for one in given:
        data: Any = one.verdict.data
        key = one.verdict.node_id, type(data).__name__, data.evidence[0].offset
        found.setdefault(key, one)
    return found
