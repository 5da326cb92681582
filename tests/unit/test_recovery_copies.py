"""Where a tail begins, which log is another one, and what several copies hold between them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from everlode.adapters.kafka import Raw
from everlode.avro.codec import Codec
from everlode.backup.manifest import CutPosition
from everlode.recovery.copies import Copies, Fetched
from everlode.recovery.tail import HINT, Search
from everlode.topics.place import End, TopicPartition

PLACE = ("eu.1.tasks", 0)
CUT = CutPosition(
    topic="eu.1.tasks", partition=0, seq=7, stamp=70, next_offset=17, status="live"
)  # fmt: skip


def looked(margin_ms: int | None, *seen: tuple[int, int, int]) -> Search:
    """What is found behind records of (offset, seq, stamp)."""
    search = Search({PLACE: CUT}, margin_ms)
    for offset, seq, stamp in seen:
        search.take(PLACE, offset, End(seq, stamp))
    return search


@pytest.mark.parametrize(
    ("margin_ms", "seen", "begin"),
    [
        (HINT, [(16, 7, 70)], 17),
        (HINT, [(16, 7, 70), (19, 8, 80)], 17),
        (HINT, [(19, 8, 80)], 17),  # the cut's last fact is past retention, the next is there
        (600, [(3, 6, 60), (5, 7, 70), (6, 8, 80)], 6),
        (600, [(6, 8, 80)], 6),
        (None, [(3, 5, 50)], 4),  # the log has lost its end
        (None, [], 0),
        (None, [(9, 12, 120)], 9),  # and its beginning
    ],
)
def test_tail_begins_behind_the_cut(
    margin_ms: int | None, seen: list[tuple[int, int, int]], begin: int
) -> None:
    search = looked(margin_ms, *seen)
    assert (search.found(), search.forks) == ({PLACE: begin}, set())


@pytest.mark.parametrize("seen", [(), ((19, 9, 90),)])
def test_tail_is_looked_for_further_back_when_nothing_shows_that_it_is_whole(
    seen: tuple[tuple[int, int, int], ...],
) -> None:
    assert looked(HINT, *seen).found() == {}
    assert looked(600, *seen).found() == {}


@pytest.mark.parametrize(
    "seen",
    [
        (0, 1, 90),  # counted from 1 again, after the cut
        (16, 7, 71),
        (16, 7, 69),
        (19, 8, 60),
    ],
)
def test_log_whose_stamps_are_others_is_another_log(seen: tuple[int, int, int]) -> None:
    assert looked(None, seen).forks == {PLACE}
    assert looked(HINT, seen).found() == {}


class Held(Copies):
    """Copies in memory: region → `seq`s that it has."""

    def __init__(self, **has: list[int]) -> None:
        super().__init__(dict.fromkeys(has, ""), Codec())
        self._has = has

    def _read(self, region: str, place: TopicPartition, after: End, upto: int) -> Iterator[Fetched]:
        for seq in self._has[region]:
            if seq <= upto:
                yield Fetched(Raw(*place, -seq, None, None, []), End(seq, seq))


@pytest.mark.parametrize(
    ("us", "ap", "found"),
    [
        ([4, 5, 6, 7, 8], [], [6, 7, 8]),
        ([], [4, 5, 6, 7, 8, 9], [6, 7, 8]),
        ([6, 8], [7], [6, 7, 8]),
        ([6], [6, 7, 8], [6, 7, 8]),
        ([8], [6], [6, 8]),
        ([], [], []),
        ([1, 2, 3], [9], []),
    ],
)
def test_copies_give_what_any_of_them_has_in_order(
    us: list[int], ap: list[int], found: list[int]
) -> None:
    copies = Held(us=us, ap=ap)
    assert [one.end.seq for one in copies.between(PLACE, End(5, 5), 8)] == found
    assert list(Held().between(PLACE, End(5, 5), 8)) == []
