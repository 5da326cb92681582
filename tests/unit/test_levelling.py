"""What a copy lacks is fetched from a longer one, each record once and in order; what a primary
adopts is read from its copy in the same way. Kafka is a list here; `test_takeover` has a real one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast

import pytest

from everlode.adapters.kafka import Raw, Record
from everlode.avro.codec import Codec
from everlode.control.fences import Fence
from everlode.control.fold import ControlState
from everlode.errors import IntegrityError, Unavailable
from everlode.failover import levelling
from everlode.log import copied
from everlode.log.ends import standing
from everlode.log.folds import Folds
from everlode.primary.adopted import Adoption
from everlode.settings.endpoints import RegionParts
from everlode.topics.place import End
from tests.unit.test_projection_fold import TOPIC, Tape

ORIGIN = TOPIC.rpartition(".")[0]
REGION = ORIGIN.rpartition(".")[0]
AT = (TOPIC, 0)


def story(count: int) -> list[Raw]:
    """A partition's records; the end of a transaction stands between them."""
    tape, found = Tape(), list[Raw]()
    for name in ("t1", "t2", "t3"):
        for item in tape.story(f"{REGION}/{name}"):
            key = item.fact.envelope.aggregate_id.encode()
            found.append(Raw(TOPIC, 0, 2 * len(found), key, item.value, [("ce_id", b"x")]))
    return found[:count]


class Kafka:
    """Clusters by address, each with one partition."""

    now: Kafka

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **copies: list[Raw]) -> None:
        self.copies, self.read = copies, list[int]()
        Kafka.now = self
        monkeypatch.setattr(levelling, "Reader", Reader)
        monkeypatch.setattr(levelling, "Writer", Writer)
        monkeypatch.setattr(levelling, "ends_of", self.ends_of)
        monkeypatch.setattr(copied, "Reader", Reader)

    def ends_of(self, bootstrap: str, codec: Codec, _: object) -> dict[tuple[str, int], End]:
        return {AT: max(codec_end(codec, raw) for raw in self.copies[bootstrap])}


class Reader:
    """See `adapters.kafka.Reader`."""

    def __init__(self, bootstrap: str, *_: object, **__: object) -> None:
        self.log = Kafka.now.copies[bootstrap]

    def bounds(self, _: object) -> dict[tuple[str, int], tuple[int, int]]:
        return {AT: (self.log[0].offset, self.log[-1].offset + 2)}

    def beginnings(self, places: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], int]:
        return dict.fromkeys(places, self.log[0].offset)

    def to_ends(self, starts: Mapping[Any, int], *_: object, **__: object) -> Iterator[list[Raw]]:
        return self.to_bounds(starts)

    def to_bounds(self, starts: Mapping[Any, int], *_: object) -> Iterator[list[Raw]]:
        Kafka.now.read.append(starts[AT])
        found = [raw for raw in self.log if raw.offset >= starts[AT]]
        for at in range(0, len(found), 4):
            yield found[at : at + 4]

    def close(self) -> None:
        pass


class Writer:
    """See `adapters.kafka_writer.Writer`."""

    def __init__(self, bootstrap: str, transactional_id: str) -> None:
        assert transactional_id == f"level.{TOPIC}/0"
        self.log = Kafka.now.copies[bootstrap]

    def open(self) -> None:
        pass

    def write(self, records: list[Record]) -> None:
        for record in records:
            at = self.log[-1].offset + 2
            key = cast("bytes", record.key)
            self.log.append(Raw(TOPIC, 0, at, key, record.value, record.headers))


def codec_end(codec: Codec, raw: Raw) -> End:
    found = standing(codec, raw)
    assert found is not None
    return found


def test_short_copy_gets_what_it_lacks_in_order_with_key_and_headers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kafka = Kafka(monkeypatch, ap=story(3), eu=story(9))
    assert levelling.fetch("ap", "eu", Codec(), AT, 7) == 4
    assert [raw[3:] for raw in kafka.copies["ap"]] == [raw[3:] for raw in story(7)]
    assert levelling.fetch("ap", "eu", Codec(), AT, 7) == 0, "again changes nothing"


def test_donor_that_has_some_twice_gives_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was levelled itself, and its mirror has brought the same ones since."""
    twice = [*story(6), *(r._replace(offset=r.offset + 20) for r in story(9)[2:])]
    kafka = Kafka(monkeypatch, ap=story(3), eu=twice)
    assert levelling.fetch("ap", "eu", Codec(), AT, 9) == 6
    assert [raw[3:] for raw in kafka.copies["ap"]] == [raw[3:] for raw in story(9)]


def test_end_of_the_donors_copy_is_read_and_its_beginning_only_when_that_is_not_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(levelling, "MARGIN", 0)
    kafka = Kafka(monkeypatch, ap=story(13), eu=story(15))
    assert levelling.fetch("ap", "eu", Codec(), AT, 15) == 2
    assert kafka.read == [26]
    scattered = [r._replace(offset=r.offset * 5) for r in story(15)]
    kafka = Kafka(monkeypatch, ap=story(9), eu=scattered)
    assert levelling.fetch("ap", "eu", Codec(), AT, 15) == 6
    assert kafka.read[-1] == 0
    assert [raw[3:] for raw in kafka.copies["ap"]] == [raw[3:] for raw in story(15)]


@pytest.mark.parametrize("lost", [4, 6])
def test_donor_that_lacks_some_too_is_named_and_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    holes = [raw for n, raw in enumerate(story(7), start=1) if n != lost + 1]
    kafka = Kafka(monkeypatch, ap=story(3), eu=holes)
    with pytest.raises(IntegrityError, match="eu"):
        levelling.fetch("ap", "eu", Codec(), AT, 7)
    assert len(kafka.copies["ap"]) == 3


def adoption(upto: int) -> tuple[Adoption, Folds]:
    fence = Fence(
        REGION, ORIGIN, 7, ("xx",), {f"task-manager/{REGION}": 2}, {}, {f"{TOPIC}/0": upto}
    )
    control = ControlState(fences=MappingProxyType({REGION: fence}))
    folds = Folds(("tasks",), lambda *_: None)
    component = SimpleNamespace(name="tasks", states=("tasks",), folds=folds)
    parts = RegionParts("xx", "xx.1", "xx", 1)
    return Adoption(cast("Any", component), parts, lambda: control), folds


def test_what_counts_is_adopted_from_a_copy_that_has_some_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    twice = [*story(6), *(r._replace(offset=r.offset + 20) for r in story(12)[2:])]
    Kafka(monkeypatch, xx=twice)
    found, folds = adoption(9)
    assert found.able({"xx": 1, REGION: 3}) == {"xx": 1, REGION: 3}
    versions = [folds.version("tasks", f"{REGION}/{name}") for name in ("t1", "t2", "t3")]
    assert versions == [6, 3, 0]


def test_copy_that_is_too_short_is_waited_for_and_one_with_a_hole_is_not_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Kafka(monkeypatch, xx=story(5))
    with pytest.raises(Unavailable, match="ends at seq 5, 9 counts"):
        adoption(9)[0].able({REGION: 3})
    Kafka(monkeypatch, xx=story(9)[2:])
    found, _ = adoption(9)
    assert found.able({"xx": 1, REGION: 3}) == {"xx": 1}
