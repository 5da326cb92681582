"""How good a detector was, from the log alone.

How soon it found, what it took for lost and was not, and what it never found:

    verdict ──► the same process beats again within 10 s ─────► false positive
            ├─► later ────────────────────────────────────────► it stood still
            └─► another process does, or nobody ──────────────► it had ended
    a silence of 20 s without a verdict that the node is lost ► miss

A process is known by its endpoint. Times are the barriers' own, as the detector's. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import NamedTuple

from everlode.detection.detector import Detector
from everlode.detection.replay import Beat
from everlode.events.base import Fact
from everlode.events.health import DetectorBlind, NodeLost
from everlode.events.heartbeats import NodeBeat
from everlode.events.stamp import millis_of

FALSE_MS = 10_000
"""A process that beats again so soon after it was taken as lost was not worth replacing."""
MISS_MS = 20_000
"""Whoever is silent for so long should have been found: also one that had answered its probe."""


class Wrong(NamedTuple):
    """A verdict that was wrong, or one that should have been."""

    node_id: str
    at_ms: int
    """Wall time: of the verdict, or of the last beat before the silence."""
    silence_ms: int
    """Until the node was back; of a miss, as far as the log goes."""
    rule: str
    """Of the verdict; of a miss `blind` when the detector had said that it was, else empty."""


class Times(NamedTuple):
    """Milliseconds from the last beat to the verdict, of one rule."""

    rule: str
    verdicts: int
    median_ms: int
    p95_ms: int
    most_ms: int


class Measured(NamedTuple):
    """What a detector did in one partition, or in several."""

    nodes: int
    from_ms: int
    """Wall time of the first record; 0: there is none."""
    to_ms: int
    lost: int
    ended: int
    stood_still: int
    false_positives: tuple[Wrong, ...]
    misses: tuple[Wrong, ...]
    blind: int
    """Times that it said that it was."""
    found_ms: Mapping[str, tuple[int, ...]]
    """Rule → milliseconds from the last beat to each verdict."""


@dataclass(slots=True)
class _Silence:
    """Of one node, since its last beat. Times of the barriers, but for `stamped_ms`."""

    offset: int
    at_ms: int
    stamped_ms: int
    endpoint: str
    lost: NodeLost | None = None
    lost_at_ms: int = 0
    lost_stamped_ms: int = 0


class _Judge:
    """Folds the partition beside its verdicts."""

    def __init__(self, published: Iterable[Fact]) -> None:
        self.silences: dict[str, _Silence] = {}
        self.found_ms: defaultdict[str, list[int]] = defaultdict(list)
        self.false: list[Wrong] = []
        self.misses: list[Wrong] = []
        self.stood_still = 0
        self.blind_ms: list[int] = []
        self._lost: defaultdict[int, dict[str, NodeLost]] = defaultdict(dict)
        """Offset that a verdict follows from → node → the verdict."""
        self._blind: set[int] = set()
        for fact in published:
            data = fact.data
            if isinstance(data, NodeLost):
                self._lost[data.evidence[1].offset][fact.envelope.aggregate_id] = data
            elif isinstance(data, DetectorBlind):
                self._blind.add(data.evidence[0].offset)

    def observe(self, offset: int, fact: Fact, now_ms: int) -> None:
        stamped_ms, data = millis_of(fact.envelope.stamp), fact.data
        if offset in self._blind:
            self.blind_ms.append(now_ms)
        for node, lost in self._lost.get(offset, {}).items():
            silence = self.silences.get(node)
            if silence is not None and silence.offset == lost.evidence[0].offset:
                silence.lost, silence.lost_at_ms = lost, now_ms
                silence.lost_stamped_ms = stamped_ms
                self.found_ms[lost.rule].append(lost.silence_ms)
        if isinstance(data, NodeBeat):
            node = fact.envelope.aggregate_id
            if node in self.silences:
                self._over(node, self.silences[node], now_ms, data.endpoint)
            self.silences[node] = _Silence(offset, now_ms, stamped_ms, data.endpoint)

    def end(self, now_ms: int) -> None:
        """The log goes no further."""
        for node, silence in self.silences.items():
            self._over(node, silence, now_ms, None)

    def _over(self, node: str, silence: _Silence, now_ms: int, endpoint: str | None) -> None:
        took_ms = now_ms - silence.at_ms
        if silence.lost is None:
            if took_ms >= MISS_MS:
                blind = any(silence.at_ms <= at <= now_ms for at in self.blind_ms)
                rule = "blind" if blind else ""
                self.misses.append(Wrong(node, silence.stamped_ms, took_ms, rule))
        elif endpoint == silence.endpoint:
            if now_ms - silence.lost_at_ms < FALSE_MS:
                at_ms = silence.lost_stamped_ms
                self.false.append(Wrong(node, at_ms, took_ms, silence.lost.rule))
            else:
                self.stood_still += 1


def measured(
    topic: str, partition: int, beats: Sequence[Beat], published: Iterable[Fact]
) -> Measured:
    """Of one partition; `published`: what detectors published about it."""
    judge, clock, now_ms = _Judge(published), Detector(topic, partition), 0
    for offset, fact in beats:
        clock.observe(offset, fact)
        now_ms = clock.time_of(fact)
        judge.observe(offset, fact, now_ms)
    judge.end(now_ms)
    found = sum(map(len, judge.found_ms.values()))
    ends = (
        [millis_of(beat.fact.envelope.stamp) for beat in (beats[0], beats[-1])] if beats else [0, 0]
    )
    return Measured(
        nodes=len(judge.silences), from_ms=ends[0], to_ms=ends[1], lost=found,
        ended=found - judge.stood_still - len(judge.false), stood_still=judge.stood_still,
        false_positives=tuple(judge.false), misses=tuple(judge.misses),
        blind=len(judge.blind_ms),
        found_ms={rule: tuple(took) for rule, took in sorted(judge.found_ms.items())},
    )  # fmt: skip


def times(each: Iterable[Measured]) -> list[Times]:
    """Of several partitions together, by rule."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for one in each:
        for rule, ms in one.found_ms.items():
            found[rule] += ms
    return [_times(rule, sorted(found[rule])) for rule in sorted(found)]


def _times(rule: str, found: Sequence[int]) -> Times:
    p95 = found[ceil(len(found) * 0.95) - 1]
    return Times(rule, len(found), round(median(found)), p95, found[-1])
