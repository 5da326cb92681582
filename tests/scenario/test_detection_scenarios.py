"""The detector, as transcripts: what the partition holds, and the verdicts that must follow.

A line is `second: what`; seconds are the barriers' own. Every whole second up to the last named
one has a barrier, unless `no barriers` says otherwise. `a..c beat` beats a, b and c each second
from there on; `a stops` ends that.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.detection.detector import Detector, Verdict
from everlode.detection.phi import CONVICTED, PAUSE_MS, phi
from everlode.events.barriers import Barrier
from everlode.events.base import Envelope, Event, Fact
from everlode.events.health import NodeLost, NodeSuspected
from everlode.events.heartbeats import NodeBeat, ProbeAnswered
from everlode.failover import heartbeats

BEGAN_MS = 1_800_000_000_000
TOPIC = "eu.1.heartbeats"


def fact(key: str, at_ms: int, data: Event) -> Fact:
    envelope = Envelope(
        event_id="e", aggregate_id=key, version=0, origin="eu.1", scope="", epoch=0, seq=1,
        stamp=(BEGAN_MS + at_ms) << 16, occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
        correlation_id="c",
    )  # fmt: skip
    return Fact(envelope, data)


def beat(node: str, at_ms: int, *, work: int = 0, queue: int = 0, status: str = "healthy") -> Fact:
    data = NodeBeat.model_validate(
        {
            "component": "task-manager", "kind": "", "role": "secondary", "held_epoch": 0,
            "endpoint": f"{node}:1", "status": status, "load_ppm": 0, "current_tasks": 0,
            "max_concurrent": 10, "work_done": work, "queue_size": queue, "specialties": (),
            "interval_ms": 1000,
        }
    )  # fmt: skip
    return fact(node, at_ms, data)


def answer(
    node: str, at_ms: int, said: str, endpoint: str | None = None, *, ended: bool = False
) -> Fact:
    data = ProbeAnswered.model_validate(
        {
            "endpoint": endpoint or f"{node}:1", "answer": said, "elapsed_ms": 1,
            "connection_ended": ended,
        }
    )  # fmt: skip
    return fact(node, at_ms, data)


def barrier(at_ms: int) -> Fact:
    return fact("co", at_ms, Barrier(writer_id="co"))


def _nodes(word: str) -> list[str]:
    first, _, last = word.partition("..")
    return [chr(c) for c in range(ord(first), ord(last or first) + 1)]


class Play:
    """Turns a transcript into the records of a partition."""

    def __init__(self) -> None:
        self.beating: dict[str, str] = {}
        self.skew: dict[str, int] = {}
        self.barriers = True
        self.records: list[Fact] = []

    def state(self, what: str) -> None:
        match what.split():
            case [who, "beat", *status]:
                self.beating.update(dict.fromkeys(_nodes(who), (*status, "healthy")[0]))
            case [who, "stops"]:
                for node in _nodes(who):
                    del self.beating[node]
            case [who, "is", seconds, "behind"]:
                self.skew[who] = int(seconds) * 1000
            case ["no", "barriers"]:
                self.barriers = False
            case ["barriers"]:
                self.barriers = True
            case [_, "probed" | "ended", _]:
                pass
            case other:
                raise AssertionError(other)

    def second(self, at: int, acts: list[str]) -> None:
        for what in acts:
            self.state(what)
        if self.barriers:
            self.records.append(barrier(at))
        for what in acts:
            match what.split():
                case [who, "probed" | "ended" as how, said]:
                    ended = how == "ended"
                    self.records.extend(answer(n, at + 100, said, ended=ended) for n in _nodes(who))
        for node, status in self.beating.items():
            self.records.append(beat(node, at + 500 - self.skew.get(node, 0), status=status))


def partition(script: str) -> list[Fact]:
    """The records of a transcript, in order."""
    acts: dict[int, list[str]] = {}
    for line in filter(None, map(str.strip, script.splitlines())):
        second, _, what = line.partition(": ")
        acts.setdefault(int(second), []).append(what)
    play = Play()
    for number in range(max(acts) + 1):
        play.second(number * 1000, acts.get(number, []))
    return play.records


def observe(records: Iterable[Fact], detector: Detector | None = None) -> list[Verdict]:
    detector = detector or Detector(TOPIC, 0)
    return [v for offset, f in enumerate(records) for v in detector.observe(offset, f)]


def verdicts(script: str) -> list[str]:
    """`node: type rule` of each verdict."""
    found = []
    for v in observe(partition(script)):
        rule = getattr(v.data, "rule", "")
        held = "" if getattr(v.data, "actionable", True) or rule != "phi" else " held"
        found.append(f"{v.node_id}: {type(v.data).__name__} {rule}{held}".rstrip())
    return found


def test_node_that_beats_is_never_suspected() -> None:
    assert verdicts("0: a..c beat\n120: a beat") == []


def test_node_that_ended_and_is_refused_is_lost_before_it_misses_a_beat() -> None:
    script = """
    0: a..c beat
    10: a stops
    10: a ended refused
    60: b stops
    """
    found = observe(partition(script))
    assert [(v.node_id, type(v.data)) for v in found] == [("a", NodeLost)]
    lost = found[0].data
    assert isinstance(lost, NodeLost)
    assert (lost.rule, lost.phi, lost.actionable) == ("refused-and-ended", 0.0, True)
    assert lost.silence_ms < 1000
    assert [e.note for e in lost.evidence] == [
        "last beat", "barrier or probe", "the probe: refused",
    ]  # fmt: skip


@pytest.mark.parametrize("answer", ["alive", "no-answer"])
def test_connection_that_ended_convicts_nobody_who_is_not_refused(answer: str) -> None:
    assert verdicts(f"0: a..c beat\n10: a ended {answer}\n60: a beat") == []


def test_draining_node_that_ended_and_is_refused_is_left_to_phi() -> None:
    script = "0: a beat draining\n0: b..c beat\n10: a stops\n10: a ended refused\n30: b beat"
    lost = [v.data for v in observe(partition(script)) if isinstance(v.data, NodeLost)]
    assert [v.rule for v in lost] == ["phi"]


def test_beat_of_an_ended_node_that_comes_late_rehabilitates_it_until_it_is_refused_again() -> None:
    """What it sent before its end may be stored after the refusal; it is asked again."""
    script = "0: a..c beat\n10: a ended refused\n11: a stops\n11: a ended refused\n40: b beat"
    assert verdicts(script) == [
        "a: NodeLost refused-and-ended", "a: NodeRecovered", "a: NodeLost refused-and-ended",
    ]  # fmt: skip


def test_node_that_answers_no_probe_is_lost_a_second_sooner() -> None:
    found = {}
    for said in ("no-answer", "nothing"):
        probed = f"12: a probed {said}\n" if said == "no-answer" else ""
        script = f"0: a..c beat\n10: a stops\n{probed}40: b beat"
        (lost,) = [v.data for v in observe(partition(script)) if isinstance(v.data, NodeLost)]
        found[said] = lost.silence_ms
    assert found["nothing"] - found["no-answer"] == 1_000


def test_node_refused_on_its_first_missed_beat_is_lost_at_once() -> None:
    script = """
    0: a..c beat
    10: a stops
    12: a probed refused
    20: b beat
    """
    assert verdicts(script) == ["a: NodeSuspected missed-beat", "a: NodeLost refused-and-silent"]
    lost = next(v.data for v in observe(partition(script)) if isinstance(v.data, NodeLost))
    assert lost.actionable
    assert lost.silence_ms <= 3000
    assert {e.topic for e in lost.evidence} == {TOPIC}
    assert [e.note for e in lost.evidence] == [
        "last beat", "barrier or probe", "the probe: refused",
    ]  # fmt: skip


def test_node_that_gives_no_answer_is_lost_by_phi_and_later() -> None:
    script = """
    0: a..c beat
    10: a stops
    12: a probed no-answer
    20: b beat
    """
    records = partition(script)
    lost = [v.data for v in observe(records) if isinstance(v.data, NodeLost)]
    assert [v.rule for v in lost] == ["phi"]
    assert PAUSE_MS + 1000 < lost[0].silence_ms < 6000
    assert lost[0].phi >= CONVICTED


def test_node_that_is_alive_but_silent_waits_longer() -> None:
    script = """
    0: a..c beat
    10: a stops
    12: a probed alive
    40: b beat
    """
    lost = [v.data for v in observe(partition(script)) if isinstance(v.data, NodeLost)]
    assert len(lost) == 1
    assert lost[0].silence_ms > 12_000


def test_node_alive_at_first_and_refused_later_is_lost_by_the_later_answer() -> None:
    script = """
    0: a..c beat
    10: a stops
    12: a probed alive
    15: a probed refused
    16: b beat
    """
    assert verdicts(script) == [
        "a: NodeSuspected missed-beat",
        "a: NodeSuspected still-silent",
        "a: NodeLost refused-and-silent",
    ]


def test_node_that_only_missed_a_beat_recovers() -> None:
    script = """
    0: a..c beat
    10: a stops
    12: a beat
    30: b beat
    """
    assert verdicts(script) == ["a: NodeSuspected missed-beat", "a: NodeRecovered"]


def test_probe_of_the_endpoint_before_convicts_nobody() -> None:
    records = partition("0: a..c beat\n10: a stops\n11: b beat")
    records += [barrier(12_000), answer("a", 12_100, "refused", "a:old")]
    assert not [v for v in observe(records) if isinstance(v.data, NodeLost)]


def test_refused_node_that_beats_is_not_lost() -> None:
    assert verdicts("0: a..c beat\n10: a probed refused\n20: b beat") == []


def test_most_nodes_silent_at_once_blinds_the_detector() -> None:
    script = """
    0: a..e beat
    10: a..d stops
    30: e beat
    """
    said = verdicts(script)
    assert said[0] == f"{TOPIC}: DetectorBlind"
    assert not [line for line in said if "NodeLost" in line]


def test_blind_detector_is_proved_otherwise_by_a_refusal() -> None:
    script = """
    0: a..e beat
    10: a..d stops
    12: a probed refused
    13: b probed refused
    """
    said = verdicts(script)
    lost = [line for line in said if "NodeLost" in line]
    assert lost == ["a: NodeLost refused-and-silent", "b: NodeLost refused-and-silent"]


def test_half_of_the_nodes_silent_is_no_blindness() -> None:
    script = """
    0: a..f beat
    10: a..c stops
    20: f beat
    """
    lost = [line for line in verdicts(script) if "NodeLost" in line]
    assert lost == [f"{n}: NodeLost phi" for n in "abc"]


def test_silence_before_the_grace_is_over_is_forgiven() -> None:
    assert verdicts("0: a..c beat\n1: a stops\n3: b beat") == []
    assert "a: NodeLost phi" in verdicts("0: a..c beat\n1: a stops\n12: b beat")


def test_barriers_that_were_silent_convict_nobody() -> None:
    """Kafka, or the coordinator, was silent: the nodes' beats came in one go afterwards."""
    script = """
    0: a..c beat
    10: a..c stops
    10: no barriers
    30: barriers
    31: a..c beat
    60: a beat
    """
    assert verdicts(script) == []


def test_no_time_passes_without_barriers() -> None:
    assert verdicts("0: a..c beat\n10: no barriers\n10: a stops\n60: b beat") == []


def test_node_whose_clock_is_behind_or_ahead_is_not_suspected() -> None:
    for seconds in (30, -30, 3600):
        assert verdicts(f"0: a is {seconds} behind\n0: a..c beat\n60: b beat") == []


def test_node_whose_clock_is_wrong_is_lost_as_soon_as_any() -> None:
    for seconds in (30, -30):
        script = f"""
        0: a is {seconds} behind
        0: a..c beat
        10: a stops
        13: a probed refused
        14: b beat
        """
        assert "a: NodeLost refused-and-silent" in verdicts(script)


def test_node_that_drains_is_not_convicted_by_its_closed_endpoint() -> None:
    script = """
    0: a..c beat
    5: a beat draining
    10: a stops
    12: a probed refused
    13: b beat
    """
    assert verdicts(script) == ["a: NodeSuspected missed-beat"]
    assert "a: NodeLost phi" in verdicts(script + "\n20: b beat")


def test_fenced_node_that_falls_silent_asks_for_no_action() -> None:
    script = """
    0: b..c beat
    0: a beat fenced
    10: a stops
    20: b beat
    """
    assert "a: NodeLost phi held" in verdicts(script)


def test_flapping_node_is_named_and_its_silence_waits_until_it_settled() -> None:
    flaps = "\n".join(f"{t}: a stops\n{t + 3}: a beat" for t in (10, 16, 22, 28))
    script = f"0: a..c beat\n{flaps}\n33: a stops\n200: b beat"
    said = [line for line in verdicts(script) if "Suspected" not in line]
    assert said == [
        "a: NodeRecovered", "a: NodeRecovered", "a: NodeRecovered", "a: NodeRecovered",
        "a: NodeFlapping", "a: NodeLost phi held", "a: NodeLost phi",
    ]  # fmt: skip


def test_flapping_node_whose_probe_is_refused_is_lost_all_the_same() -> None:
    flaps = "\n".join(f"{t}: a stops\n{t + 3}: a beat" for t in (10, 16, 22, 28))
    script = f"0: a..c beat\n{flaps}\n33: a stops\n36: a probed refused\n37: b beat"
    lost = [v.data for v in observe(partition(script)) if isinstance(v.data, NodeLost)]
    assert [(v.rule, v.actionable) for v in lost] == [("refused-and-silent", True)]


def test_missed_single_beats_all_the_time_are_no_flapping() -> None:
    hiccups = "\n".join(f"{t}: a stops\n{t + 1}: a beat" for t in range(10, 60, 4))
    assert not [line for line in verdicts(f"0: a..c beat\n{hiccups}\n70: b beat") if "Flap" in line]


def test_node_that_works_on_nothing_while_work_waits_is_degraded_once() -> None:
    records = []
    for second in range(40):
        records += [barrier(second * 1000), beat("a", second * 1000 + 1, work=5, queue=3)]
        records += [beat("b", second * 1000 + 2, work=second, queue=3)]
        records += [beat("c", second * 1000 + 3, work=5, queue=0)]
    assert [(v.node_id, type(v.data).__name__) for v in observe(records)] == [("a", "NodeDegraded")]


def test_node_that_says_for_long_that_it_cannot_work_is_degraded_once_a_time() -> None:
    script = """
    0: a..c beat
    10: a beat degraded
    30: a beat
    40: a beat degraded
    60: b beat
    """
    assert verdicts(script) == ["a: NodeDegraded says-so", "a: NodeDegraded says-so"]
    found = observe(partition(script))
    first, last = found[0].data.evidence  # type: ignore[attr-defined]
    assert (first.note, last.note) == ("it said so first", "last beat")
    assert last.offset > first.offset
    assert [v.data.actionable for v in found] == [True, True]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "script",
    [
        "0: a..c beat\n10: a beat degraded\n13: a beat\n14: a beat degraded\n17: a beat\n"
        "40: b beat",
        # the broker stood still: what it said before and after says nothing of what lies between
        "0: a..c beat\n10: a beat degraded\n11: no barriers\n11: a..c stops\n30: barriers\n"
        "30: a..c beat\n60: b beat",
        # it was silent meanwhile: what it says counts from its return on
        "0: a..c beat\n10: a beat degraded\n13: a stops\n17: a beat degraded\n20: a beat\n"
        "30: b beat",
    ],
    ids=["now and then", "broker", "silent"],
)
def test_node_that_says_so_for_a_moment_is_not_degraded(script: str) -> None:
    assert [line for line in verdicts(script) if "Degraded" in line] == []


def test_detector_that_starts_later_gives_the_same_ids() -> None:
    script = """
    0: a..c beat
    40: a stops
    42: a probed refused
    60: b beat
    """
    records = partition(script)
    early, late = Detector(TOPIC, 0), Detector(TOPIC, 0)
    first = observe(records, early)
    second = [v for offset, f in enumerate(records) if offset > 60 for v in late.observe(offset, f)]
    assert [v.event_id for v in first] == [v.event_id for v in second]
    assert len({v.event_id for v in first}) == len(first) == 2


def test_record_that_comes_again_gives_no_verdict() -> None:
    records = partition("0: a..c beat\n10: a stops\n13: b beat")
    detector = Detector(TOPIC, 0)
    first = observe(records, detector)
    assert len(first) == 1
    assert isinstance(first[0].data, NodeSuspected)
    assert observe(records, detector) == []


def test_beat_that_claims_an_epoch_that_is_over_says_that_its_node_lives_and_no_more() -> None:
    """Who leads is on the control log alone; a zombie that beats is no primary, nor lost."""
    script = "0: a..c beat\n10: a stops\n13: b beat\n20: c stops\n24: c probed refused\n30: b beat"
    records = partition(script)

    def claiming(fact: Fact) -> Fact:
        if not isinstance(fact.data, NodeBeat):
            return fact
        claim = {"role": "primary", "held_epoch": 1}
        return fact._replace(data=fact.data.model_copy(update=claim))

    claimed = [claiming(fact) for fact in records]
    assert claimed != records
    assert observe(claimed) == observe(records) != []
    for before, after in zip(records, claimed, strict=True):
        if isinstance(before.data, NodeBeat) and isinstance(after.data, NodeBeat):
            # that it leads is asked of the one alone whom the control log names
            heard = heartbeats.said(after.data)._replace(leads=False)
            assert heard == heartbeats.said(before.data), "a coordinator goes by it"


_acts = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.sampled_from(["beat", "refused", "ended", "no-answer", "alive"]),
        st.integers(0, 3000),
    ),
    max_size=120,
)


@given(_acts)
def test_any_partition_a_node_is_lost_only_when_it_is_silent_or_has_ended(
    acts: list[tuple[str, str, int]],
) -> None:
    """Whatever comes: lost is said of such a node, once, and its ids are its own."""
    at, last, records = 0, dict[str, int](), list[Fact]()
    for node, what, later in acts:
        at += later
        records.append(barrier(at))
        if what == "beat":
            records.append(beat(node, at))
            last[node] = at
        else:
            said = "refused" if what == "ended" else what
            records.append(answer(node, at, said, ended=what == "ended"))
    detector = Detector(TOPIC, 0)
    lost: set[str] = set()
    ids: list[str] = []
    for offset, f in enumerate(records):
        if isinstance(f.data, NodeBeat):
            lost.discard(f.envelope.aggregate_id)
        for v in detector.observe(offset, f):
            ids.append(v.event_id)
            if isinstance(v.data, NodeLost):
                assert v.node_id not in lost
                assert v.data.silence_ms > 1000 or v.data.rule == "refused-and-ended"
                lost.add(v.node_id)
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("intervals", [(), (1000.0,) * 20, (1000.0, 1500.0, 800.0)])
def test_phi_rises_with_the_silence(intervals: tuple[float, ...]) -> None:
    levels = [phi(s, intervals, 1000) for s in range(0, 20_000, 250)]
    assert levels == sorted(levels)
    assert levels[0] < 0.1
    assert levels[-1] >= CONVICTED


def test_phi_of_irregular_beats_is_lower() -> None:
    silence = 4500
    assert phi(silence, (200.0, 3000.0) * 8, 1000) < phi(silence, (1000.0,) * 16, 1000)


@pytest.mark.parametrize("clock", ["set back", "stands"])
def test_barriers_whose_clock_went_wrong_are_taken_as_a_second_apart(clock: str) -> None:
    """A node that dies after it is lost as soon as ever, and one that lives is not."""

    def shown(second: int) -> int:
        if second < 20:
            return second * 1000
        return second * 1000 - 3_600_000 if clock == "set back" else 20_000

    records = []
    for second in range(45):
        records += [beat("b", shown(second))] + ([beat("a", shown(second))] if second < 30 else [])
        records.append(barrier(shown(second)))
    found = [verdict for verdict in observe(records) if isinstance(verdict.data, NodeLost)]
    assert [verdict.node_id for verdict in found] == ["a"]
    (lost,) = found
    assert isinstance(lost.data, NodeLost)
    assert 2_000 < lost.data.silence_ms < 10_000
