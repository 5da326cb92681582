"""Verdicts computed again from a recorded partition, as transcripts of `test_detection_scenarios`.

A detector is played over a transcript and what it publishes is recorded, as on `<origin>.health`;
then it is asked whether the record agrees, what other settings would have found, and how good it
was. A planted lie of each kind must be found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from everlode.avro.codec import Codec, encode_fact
from everlode.detection.detector import Detector
from everlode.detection.measured import measured, times
from everlode.detection.replay import (
    VERDICTS,
    Beat,
    Published,
    differences,
    of_partition,
    replayed,
)
from everlode.detection.tuning import DEFAULT, Tuning, tuned
from everlode.errors import ConfigError
from everlode.events.base import Event, Fact
from everlode.events.health import DetectorStarted, NodeLost
from everlode.events.heartbeats import NodeBeat
from tests.scenario.test_detection_scenarios import TOPIC, fact, partition

SILENT = "0: a..c beat\n10: a stops\n12: a probed no-answer\n40: a beat\n60: b beat"
KILLED = "0: a..c beat\n10: a stops\n10: a ended refused\n60: b beat"
BUSY = "0: a..e beat\n10: a stops\n20: a beat\n30: b..e stops\n40: b..e beat\n70: a beat degraded"

FLAPS = "0: a..c beat\n" + "\n".join(f"{t}: a stops\n{t + 3}: a beat" for t in (10, 16, 22, 28))
"""A detector that takes over in their midst does not know the first ones."""


def beats_of(script: str) -> list[Beat]:
    return [Beat(offset, record) for offset, record in enumerate(partition(script))]


def published(key: str, event_id: str, at_ms: int, data: Event) -> Published:
    made = fact(key, at_ms, data)
    head = made.envelope.model_copy(update={"event_id": event_id})
    value = encode_fact(head, data)
    return Published(Codec().decode_fact(value), value)


def recorded(beats: list[Beat], *starts: int) -> list[Published]:
    """What detectors publish; each of `starts` takes over there, from twenty records before."""
    found = []
    for number, at in enumerate(starts or (0,)):
        begin = max(0, at - 20)
        begun = DetectorStarted(partition=0, from_offset=begin)
        found.append(published("det", f"started-{number}", begin * 100, begun))
        detector = Detector(TOPIC, 0)
        end = starts[number + 1] if number + 1 < len(starts) else len(beats)
        for offset, record in beats[begin:end]:
            found += [
                published(v.node_id, v.event_id, 10**6, v.data)
                for v in detector.observe(offset, record)
            ]
    return found


@pytest.mark.parametrize("script", [SILENT, KILLED, BUSY, FLAPS + "\n60: b beat"])
@pytest.mark.parametrize("starts", [(0,), (0, 45, 100)], ids=["one detector", "three in turn"])
def test_what_a_detector_published_agrees_with_its_record(
    script: str, starts: tuple[int, ...]
) -> None:
    beats = beats_of(script)
    found = replayed(TOPIC, 0, beats, recorded(beats, *starts))
    assert found.disagreements == ()
    assert found.agreed, "vacuous"
    assert (found.gone, found.partition) == (0, 0)


def leave_out(log: list[Published]) -> list[Published]:
    return [p for p in log if not isinstance(p.fact.data, NodeLost)]


def change(log: list[Published]) -> list[Published]:
    def changed(p: Published) -> Published:
        if not isinstance(p.fact.data, NodeLost):
            return p
        data = p.fact.data.model_copy(update={"silence_ms": p.fact.data.silence_ms + 1})
        return Published(Fact(p.fact.envelope, data), encode_fact(p.fact.envelope, data))

    return [changed(p) for p in log]


def invent(log: list[Published]) -> list[Published]:
    lost = next(p.fact.data for p in log if isinstance(p.fact.data, NodeLost))
    return [*log, published("b", "invented", 10**6, lost)]


def move(log: list[Published]) -> list[Published]:
    def moved(p: Published) -> Published:
        if not isinstance(p.fact.data, NodeLost):
            return p
        return published("c", p.fact.envelope.event_id, 10**6, p.fact.data)

    return [moved(p) for p in log]


@pytest.mark.parametrize(
    ("lie", "wanted"),
    [
        (leave_out, ("a", "NodeLost", "and was never published")),
        (change, ("a", "NodeLost", "says otherwise than what follows from offset")),
        (invent, ("b", "NodeLost", "follows from no record")),
        (move, ("c", "NodeLost", "says otherwise")),
    ],
)
@pytest.mark.parametrize("starts", [(0,), (0, 140)], ids=["one detector", "two in turn"])
def test_verdict_that_was_left_out_changed_invented_or_given_to_another_is_found(
    lie: Callable[[list[Published]], list[Published]],
    wanted: tuple[str, str, str],
    starts: tuple[int, ...],
) -> None:
    beats = beats_of(SILENT)
    (found,) = replayed(TOPIC, 0, beats, lie(recorded(beats, *starts))).disagreements
    assert (found.node_id, found.event) == wanted[:2]
    assert wanted[2] in found.what


def test_verdict_from_the_last_records_may_still_be_on_its_way() -> None:
    beats = beats_of("0: a..c beat\n10: a stops\n13: b beat")
    found = replayed(TOPIC, 0, beats, recorded(beats)[:1])
    assert (found.pending, found.disagreements) == (1, ())


def test_verdict_whose_records_have_left_the_log_is_counted_and_not_judged() -> None:
    beats = beats_of(SILENT)
    found = replayed(TOPIC, 0, beats[30:], recorded(beats))
    assert (found.agreed, found.disagreements) == (0, ())
    assert found.gone == len(recorded(beats)) - 1


def test_record_of_health_is_told_by_the_partition_of_its_evidence() -> None:
    log = recorded(beats_of(SILENT))
    assert all(of_partition(TOPIC, 0, p.fact) for p in log)
    assert not any(of_partition(TOPIC, 1, p.fact) for p in log)
    assert not any(of_partition("us.1.heartbeats", 0, p.fact) for p in log[1:])
    assert not of_partition(TOPIC, 0, beats_of(SILENT)[1].fact)
    assert {type(p.fact.data) for p in log[1:]} <= set(VERDICTS)


def shown(script: str, tuning: Tuning) -> list[tuple[str, str, float | None]]:
    """Node, event, and by how much sooner in seconds; None: not with these settings at all."""
    return [
        (d.node_id, d.event, None if d.with_ms is None or d.at_ms is None
         else (d.at_ms - d.with_ms) / 1000)
        for d in differences(TOPIC, 0, beats_of(script), tuning)
    ]  # fmt: skip


def test_settings_of_the_network_differ_in_nothing() -> None:
    assert differences(TOPIC, 0, beats_of(BUSY), DEFAULT) == []


def test_settings_that_are_quicker_or_slower_say_by_how_much_and_of_whom() -> None:
    assert shown(SILENT, DEFAULT._replace(pause_ms=500)) == [("a", "NodeLost", 0.9)]
    assert shown(SILENT, DEFAULT._replace(unanswered_ms=1)) == [("a", "NodeLost", -1.0)]
    assert shown(KILLED, DEFAULT._replace(pause_ms=500)) == []
    # too slow to find it at all; then it recovers from a suspicion only
    (never,) = differences(TOPIC, 0, beats_of(SILENT), DEFAULT._replace(pause_ms=60_000))
    assert (never.event, never.with_ms, never.actionable) == ("NodeLost", None, True)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"pause": 1}, "pause"),
        ({"pause_ms": 0}, "pause_ms"),
        ({"pause_ms": True}, "pause_ms"),
        ({"flaps": 2.5}, "flaps"),
        ({"convicted": "8"}, "convicted"),
        ({7: 1}, "7"),
    ],
)
def test_settings_that_are_none_are_refused_by_name(changes: Any, wanted: str) -> None:
    with pytest.raises(ConfigError, match=f"policy.yaml: .*{wanted}"):
        tuned(changes, "policy.yaml")


def test_settings_keep_their_kind() -> None:
    found = tuned({"flaps": 3, "pause_ms": 1500, "missed": 2}, "f")
    assert (found.flaps, found.pause_ms, found.missed) == (3, 1500.0, 2.0)
    assert found._replace(flaps=4, pause_ms=2000.0, missed=1.7) == DEFAULT


def judged(script: str, change: Callable[[list[Beat]], list[Beat]] = lambda b: b) -> Any:
    beats = change(beats_of(script))
    return measured(TOPIC, 0, beats, [p.fact for p in recorded(beats)])


def test_killed_node_was_found_and_how_soon() -> None:
    found = judged(KILLED)
    assert (found.lost, found.ended, found.stood_still) == (1, 1, 0)
    assert (found.false_positives, found.misses, found.nodes) == ((), (), 3)
    (of_rule,) = times([found])
    assert (of_rule.rule, of_rule.verdicts) == ("refused-and-ended", 1)
    assert of_rule.median_ms == of_rule.p95_ms == of_rule.most_ms < 1_000
    slower = found._replace(found_ms={"refused-and-ended": tuple(range(1000, 1019))})
    (of_both,) = times([found, slower])
    assert of_both == ("refused-and-ended", 20, 1008, 1017, 1018)


@pytest.mark.parametrize(("back", "false", "still"), [(18, 1, 0), (40, 0, 1)])
def test_process_that_beats_again_was_taken_for_lost_wrongly_or_had_stood_still(
    back: int, false: int, still: int
) -> None:
    found = judged(f"0: a..c beat\n10: a stops\n{back}: a beat\n60: b beat")
    assert (found.lost, len(found.false_positives), found.stood_still) == (1, false, still)
    if false:
        (wrong,) = found.false_positives
        assert (wrong.node_id, wrong.rule, wrong.silence_ms) == ("a", "phi", (back - 9) * 1000)


def test_process_that_was_started_anew_had_ended() -> None:
    def anew(beats: list[Beat]) -> list[Beat]:
        found = []
        for offset, (envelope, data) in beats:
            if isinstance(data, NodeBeat) and offset > 60 and envelope.aggregate_id == "a":
                data = data.model_copy(update={"endpoint": "a:2"})
            found.append(Beat(offset, Fact(envelope, data)))
        return found

    found = judged("0: a..c beat\n10: a stops\n18: a beat\n60: b beat", anew)
    assert (found.lost, found.ended, found.false_positives) == (1, 1, ())


def test_silence_that_was_never_found_is_a_miss() -> None:
    beats = beats_of("0: a..c beat\n10: a stops\n60: b beat")
    nothing = [p.fact for p in recorded(beats)[:1]]
    (miss,) = measured(TOPIC, 0, beats, nothing).misses
    assert (miss.node_id, miss.rule, miss.silence_ms) == ("a", "", 51_000)
    assert judged("0: a..c beat\n10: a stops\n60: b beat").misses == ()


def test_silence_that_a_blind_detector_held_is_a_miss_and_says_so() -> None:
    found = judged("0: a..e beat\n10: a..d stops\n60: a..d beat\n70: e beat")
    assert {(m.node_id, m.rule) for m in found.misses} == {(n, "blind") for n in "abcd"}
    assert found.blind == 1


def test_log_without_a_record_measures_nothing() -> None:
    found = measured(TOPIC, 0, [], [])
    assert (found.nodes, found.lost, found.found_ms, found.from_ms) == (0, 0, {}, 0)
