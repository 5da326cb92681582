"""Signals: one envelope for all who write them; they count and rise in the order of the calls."""

from __future__ import annotations

import zlib

from everlode.adapters.clock import instant
from everlode.avro.cloudevents import URGENT_BYTES
from everlode.avro.codec import Codec
from everlode.avro.signals import Head, Now, SignalMaker
from everlode.events.barriers import Barrier, Marker
from everlode.events.heartbeats import MinerBeat, ProbeAnswered
from everlode.events.stamp import millis_of

BEAT = MinerBeat(running=(), work_done=1, interval_ms=1000)
NOW = Now(5_000, instant(7_000))
HURRIED = Head("m", "id", urgent=True)


def test_signal_decodes_to_its_envelope_and_says_the_same_in_its_headers() -> None:
    maker = SignalMaker("eu.1")
    made = maker.make(Head("m", "id", "coordinator/eu", 3, "n"), BEAT, NOW)
    fact = Codec().decode_fact(made.value)
    assert (fact.envelope, fact.data) == (made.envelope, BEAT)
    envelope = fact.envelope
    assert (envelope.aggregate_id, envelope.event_id) == ("m", "id")
    assert (envelope.origin, envelope.scope, envelope.epoch) == ("eu.1", "coordinator/eu", 3)
    assert (envelope.version, envelope.correlation_id) == (0, "n")
    assert envelope.occurred_at == NOW.at
    assert millis_of(envelope.stamp) == NOW.wall_ms
    headers = dict(made.headers)
    assert headers["ce_id"] == b"id"
    assert headers["ce_type"] == b"everlode.MinerBeat"
    assert maker.make(Head("m", "id2"), BEAT, NOW).envelope.correlation_id == "m"


def test_signals_count_densely_and_their_stamps_rise_though_the_wall_clock_falls() -> None:
    maker = SignalMaker("eu.1")
    walls = [5_000, 5_000, 4_000, 6_000]
    made = [maker.make(Head("m", "id"), BEAT, Now(wall, NOW.at)).envelope for wall in walls]
    assert [e.seq for e in made] == [1, 2, 3, 4]
    stamps = [e.stamp for e in made]
    assert stamps == sorted(set(stamps))
    assert millis_of(stamps[-1]) == 6_000


def test_what_a_failover_waits_for_outweighs_every_fetch_that_waits_compressed_too() -> None:
    answer = ProbeAnswered(endpoint="e", answer="refused", elapsed_ms=1)
    maker = SignalMaker("eu.1")
    urgent = maker.make(Head("m", "id"), answer, NOW), maker.make(HURRIED, BEAT, NOW)
    for made in urgent:
        assert len(zlib.compress(b"".join(v for _, v in made.headers))) > URGENT_BYTES
        assert Codec().decode_fact(made.value).envelope == made.envelope
    light = maker.make(Head("m", "id"), BEAT, NOW)
    assert sum(len(v) for _, v in light.headers) < URGENT_BYTES / 10


def test_mark_has_the_id_and_version_of_the_format() -> None:
    marker = Marker("eu.1.tasks", "eu.1", "task-manager/eu", 4, "n")
    envelope = marker.envelope(1, 9, 77, NOW.at)
    assert (envelope.event_id, envelope.version) == ("eu.1.tasks/1/9/4", 0)
    assert (envelope.aggregate_id, envelope.stamp) == ("n", 77)
    assert (envelope.scope, envelope.epoch) == ("task-manager/eu", 4)
    assert Barrier(writer_id="n").writer_id == envelope.correlation_id
