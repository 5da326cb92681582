"""Asks, before a tail is replayed, how far the logs reached: all that does not come from them.

The cut, the other regions' copies, the generation that is current, the answers to clients since the
cut. What was learnt is in the journal: a resumed run knows it though a region is silent by then.
Order (must): asked before the own log is read to its end, which is never behind what was asked
before. Shell.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import NamedTuple

from everlode.adapters.kafka import Reader
from everlode.adapters.postgres_read import Generation
from everlode.avro.codec import Codec
from everlode.backup.manifest import Manifest
from everlode.errors import ContractError, IntegrityError, NotFound, Unavailable
from everlode.events.stamp import millis_of, stamp_at
from everlode.log.ends import ends_of
from everlode.recovery.copies import Copies
from everlode.recovery.journal import RecoveryJournal
from everlode.recovery.reach import ANSWERS, CUT, of_generation, of_region
from everlode.recovery.request import Target
from everlode.topics.names import reply_topic
from everlode.topics.place import End, TopicPartition

STEP = "evidence"
ANSWER_S = 15.0
"""A region that does not answer for so long is silent."""
ANSWERS_S = 120.0
MARGIN_MS = 15_000
_Line = tuple[str, int, str, int, int]
"""Topic, partition, source, `seq`, stamp."""


class Evidence(NamedTuple):
    """What is known of the ends of logs."""

    ends: dict[TopicPartition, dict[str, End]]
    """Place → source → how far it reaches by that."""
    silent: tuple[str, ...]
    """Regions of which nothing could be learnt, in this run or before."""
    copies: Copies


def ask(target: Target, manifest: Manifest, codec: Codec, journal: RecoveryJournal) -> Evidence:
    """Ask everybody, and note it. A region that does not answer is `silent`.

    Raises: Unavailable: the region's own parts do not answer.
    """
    before = journal.done.get(STEP, {"lines": []})["lines"]
    lines: dict[tuple[str, int, str], End] = {
        (topic, partition, source): End(seq, stamp)
        for topic, partition, source, seq, stamp in before
    }
    answering, found = _asked(target, manifest, codec)
    for topic, partition, source, seq, stamp in found:
        key = (topic, partition, source)
        lines[key] = max(lines.get(key, End()), End(seq, stamp))
    journal.note(STEP, lines=[(*key, *end) for key, end in lines.items()])
    ends: defaultdict[TopicPartition, dict[str, End]] = defaultdict(dict)
    for (topic, partition, source), end in lines.items():
        ends[topic, partition][source] = end
    known = {source for _, _, source in lines}
    silent = tuple(r for r in target.copies if of_region(r) not in known)
    return Evidence(dict(ends), silent, Copies(answering, codec))


def sources(journal: RecoveryJournal) -> tuple[str, ...]:
    """What the ends of logs have been compared with."""
    return tuple(sorted({line[2] for line in journal.done.get(STEP, {"lines": []})["lines"]}))


def _asked(target: Target, manifest: Manifest, codec: Codec) -> tuple[dict[str, str], list[_Line]]:
    """Region → bootstrap of those that answer, and what all have said."""
    at = {(p.topic, p.partition): End(p.seq, p.stamp) for p in manifest.positions}
    found = [(*place, CUT, *end) for place, end in at.items()]
    answering: dict[str, str] = {}
    with ThreadPoolExecutor(len(target.copies) + 1, "evidence") as threads:
        asked = {
            region: threads.submit(ends_of, bootstrap, codec, at, ANSWER_S)
            for region, bootstrap in target.copies.items()
        }
        answers = threads.submit(_of_answers, target, manifest, codec)
        found += _of_generation(target, at)
        for region, asking in asked.items():
            try:
                ends = asking.result()
            except Unavailable:
                continue
            answering[region] = target.copies[region]
            found += [(*place, of_region(region), *end) for place, end in ends.items()]
        found += answers.result()
    return answering, found


def _of_generation(target: Target, at: dict[TopicPartition, End]) -> Iterator[_Line]:
    """What the current generation has applied."""
    with closing(Generation.current(target.conninfo)) as db:
        try:
            rows = db.query("select topic, part, seq, stamp from {g}.positions where seq > 0")
        except (NotFound, IntegrityError):
            return  # gone, or damaged: what it knew is not known
        for topic, partition, seq, stamp in rows:
            if (topic, partition) in at:
                yield topic, partition, of_generation(db.generation), seq, stamp


def _of_answers(target: Target, manifest: Manifest, codec: Codec) -> list[_Line]:
    """What the region's clients have been given as done, since the cut."""
    topic = reply_topic(target.region)
    found: dict[TopicPartition, End] = {}
    places = [(topic, p) for p in range(manifest.partitions)]
    since = millis_of(manifest.cut_stamp) - MARGIN_MS
    with closing(Reader(target.bootstrap, "recovery-answers", uncommitted=True)) as reader:
        starts = reader.at_time(dict.fromkeys(places, since))
        for batch in reader.to_ends(starts, ANSWERS_S):
            for raw in batch:
                try:
                    answer = codec.decode_answer(raw.value)
                except ContractError:
                    continue
                stamp = stamp_at(round(answer.answered_at.timestamp() * 1000))
                for fact in answer.facts:
                    place = (fact.topic, fact.partition)
                    if place[0].startswith(f"{target.origin}."):
                        found[place] = max(found.get(place, End()), End(fact.seq, stamp))
    return [(*place, ANSWERS, *end) for place, end in found.items()]
