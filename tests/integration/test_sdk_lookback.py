"""Looking back for an aggregate's last facts: found at any age, and not by reading all there is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from everlode.adapters.kafka import Reader
from everlode.avro.codec import encode_fact
from everlode.sdk import lookback
from everlode.sdk.lookback import last_facts, pieces
from tests.support.facts.poison import append, mock_broker
from tests.support.world.projecting import fact

AT = ("eu.1.tasks", 0)
COUNT = 400
MINE = {30: 1, 31: 2, 250: 3, 390: 4}
"""Offset → version of the facts about `mine`; all else is about others, or junk."""


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with mock_broker() as found:
        other = encode_fact(*fact("tasks", "other", 1, 1))
        append(
            found,
            AT[0],
            [
                (b"mine", encode_fact(*fact("tasks", "mine", MINE[n], n)))
                if n in MINE
                else (b"mine", b"junk") if n % 50 == 5 else (b"other", other)
                for n in range(COUNT)
            ],
        )  # fmt: skip
        yield found


@pytest.fixture
def reader(broker: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    monkeypatch.setattr(lookback, "FIRST", 8)
    made = Reader(broker, "lookback", wait_ms=10)
    yield made
    made.close()


@pytest.mark.parametrize(("enough", "expected"), [(4, [4]), (3, [3, 4]), (2, [2, 3, 4])])
def test_last_facts_begin_with_the_last_that_is_enough(
    reader: Reader, enough: int, expected: list[int]
) -> None:
    found = last_facts(reader, AT, "mine", lambda f: f.envelope.version <= enough, COUNT)
    assert [f.envelope.version for _, f in found] == expected
    assert [offset for offset, _ in found] == [o for o, v in MINE.items() if v in expected]


def test_last_facts_before_an_offset_are_those_before_it(reader: Reader) -> None:
    found = last_facts(reader, AT, "mine", lambda _: True, 300)
    assert [f.envelope.version for _, f in found] == [3]


def test_first_version_ends_the_search_and_an_unknown_key_finds_nothing(reader: Reader) -> None:
    found = last_facts(reader, AT, "mine", lambda _: False, COUNT)
    assert [f.envelope.version for _, f in found] == [1, 2, 3, 4]
    assert last_facts(reader, AT, "never", lambda _: True, COUNT) == []


def test_pieces_grow_and_cover_each_record_once(reader: Reader) -> None:
    sizes = []
    seen: list[int] = []
    for piece in pieces(reader, AT, COUNT, lambda _: True):
        sizes.append(len(piece))
        seen[:0] = [raw.offset for raw in piece]
    assert sizes == [8, 32, 128, 232]
    assert seen == list(range(COUNT))
