"""A listener's place: one word, read back exactly; what a ring no longer has is refused."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.api.positions import Stream
from everlode.api.ring import Cursor, Item, Ring, Wanted
from everlode.api.tail import begun
from everlode.errors import Refusal

PLACES = (("eu.1.recovery", 0), ("us.1.recovery", 0), ("us.1.health", 0))
STREAM = Stream("machinery", "c-1_x", PLACES)


def item(place: int, offset: int, kind: str = "OperationStep") -> Item:
    return Item(place, offset, kind, "eu", "", "", "{}")


@given(st.lists(st.integers(0, 2**63 - 1), min_size=3, max_size=3))
def test_word_read_back_is_the_same_offsets(offsets: list[int]) -> None:
    assert STREAM.offsets(STREAM.word(offsets)) == offsets


@given(st.text(max_size=60))
def test_any_text_is_a_position_or_refused(text: str) -> None:
    good = STREAM.word([1, 2, 3])
    for word in (text, good + text):
        found: list[int] = []
        with suppress(Refusal):
            found = STREAM.offsets(word)
        assert not found or STREAM.word(found) == word or word.startswith(good)


@pytest.mark.parametrize(
    "other",
    [
        Stream("tasks", "c-1_x", PLACES),
        Stream("machinery", "another", PLACES),
        Stream("machinery", "c-1_x", (*PLACES[:2], ("us.2.health", 0))),
        Stream("machinery", "c-1_x", PLACES[::-1]),
    ],
)
def test_position_of_another_stream_is_refused(other: Stream) -> None:
    with pytest.raises(Refusal) as caught:
        STREAM.offsets(other.word([1, 2, 3]))
    assert caught.value.code == "other_position"


@given(
    st.lists(st.integers(0, 2), max_size=40), st.integers(0, 40), st.randoms(use_true_random=False)
)
def test_listener_that_resumes_gets_each_event_once_whatever_the_order(
    places: list[int], stop: int, random: object
) -> None:
    """Another server has the same records, its partitions interleaved in another way."""
    mine, theirs = Ring([0, 0, 0], 100), Ring([0, 0, 0], 100)
    live = Cursor(mine)
    counts = [0, 0, 0]
    items = []
    for place in places:
        items.append(item(place, counts[place]))
        counts[place] += 2  # a transaction's mark lies between
    for it in items:
        assert mine.add(it)
    seen = live.take(Wanted(), 100)[:stop]
    for it in sorted(items, key=lambda it: it.place):  # in order within each, another one over all
        theirs.add(it)
        assert not theirs.add(it)
    offsets = seen[-1][1] if seen else [0, 0, 0]
    rest = Cursor(theirs, offsets).take(Wanted(), 100)
    got = [(i.place, i.offset) for i, _ in [*seen, *rest]]
    assert sorted(got) == sorted((i.place, i.offset) for i in items)
    assert len(set(got)) == len(got)


def test_what_made_room_is_refused_and_a_slow_listener_is_dropped() -> None:
    ring = Ring([5, 0], 3)
    slow = Cursor(ring)
    with pytest.raises(Refusal) as caught:
        Cursor(ring, [4, 0])
    assert caught.value.code == "position_expired"
    for offset in range(5, 9):
        ring.add(item(0, offset))
    assert slow.dropped
    assert slow.take(Wanted(), 10) == []
    assert ring.floors == [6, 0]
    with pytest.raises(Refusal):
        Cursor(ring, [5, 0])
    kept = Cursor(ring, [6, 0]).take(Wanted(), 10)
    assert [i.offset for i, _ in kept] == [6, 7, 8]
    assert kept[-1][1] == [9, 0]


def test_filter_passes_over_and_its_listener_stands_behind_what_it_passed() -> None:
    ring = Ring([0], 100)
    cursor = Cursor(ring)
    for offset in range(50):
        ring.add(item(0, offset, "NodeLost" if offset == 20 else "OperationStep"))
    found = cursor.take(Wanted(types=frozenset({"NodeLost"})), 100)
    assert [(i.offset, at) for i, at in found] == [(20, [21])]
    assert cursor.level
    assert cursor.offsets == [50]


def test_position_ahead_of_the_ring_waits_for_it() -> None:
    ring = Ring([0], 100)
    ahead = Cursor(ring, [2])
    assert ahead.ahead
    for offset in range(3):
        ring.add(item(0, offset))
    assert not ahead.ahead
    assert [i.offset for i, _ in ahead.take(Wanted(), 10)] == [2]


BOUNDS = {PLACES[0]: (5, 20_000), PLACES[1]: (0, 0), PLACES[2]: (7, 9)}


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ("beginning", [5, 0, 7]), ("end", [20_000, 0, 9]), (None, [16_667, 0, 7]),
        (STREAM.word([5, 0, 9]), [5, 0, 9]),
    ],
)  # fmt: skip
def test_tail_begins_where_the_position_says(position: str | None, expected: list[int]) -> None:
    assert begun(STREAM, BOUNDS, position) == expected


@pytest.mark.parametrize(
    ("offsets", "code"),
    [
        ([4, 0, 7], "position_expired"),
        ([5, 1, 7], "other_position"),
        ([5, 0, 10], "other_position"),
    ],
)
def test_tail_refuses_what_is_no_longer_or_not_yet_there(offsets: list[int], code: str) -> None:
    with pytest.raises(Refusal) as caught:
        begun(STREAM, BOUNDS, STREAM.word(offsets))
    assert caught.value.code == code
