"""What a projector's own look at the ends of its logs comes to, without any broker."""

from __future__ import annotations

from everlode.projector.standstill import Standing, Standstill

A, B, C = ("eu.1.tasks", 0), ("eu.1.miners", 0), ("eu.1.tasks", 1)


def test_place_that_has_moved_or_had_nothing_to_read_does_not_stand() -> None:
    seen = Standstill()
    assert seen.look({A: 40, C: 7}, {A: 60, C: 7}) == []  # new
    assert seen.look({A: 60, C: 7}, {A: 80, C: 9}) == []  # moved; came since the look before


def test_place_stands_when_records_were_there_at_the_look_before() -> None:
    seen = Standstill()
    seen.look({A: 40, C: 7}, {A: 60, C: 7})
    assert seen.look({A: 40, C: 7}, {A: 75, C: 9}) == [Standing(*A, 40, 60, 1)]
    assert seen.look({A: 40, C: 7}, {A: 75, C: 9}) == [
        Standing(*A, 40, 75, 2), Standing(*C, 7, 9, 1),
    ]  # fmt: skip
    assert seen.look({A: 41, C: 9}, {A: 75, C: 9}) == []
    assert seen.look({A: 41, C: 9}, {A: 75, C: 9}) == [Standing(*A, 41, 75, 1)]  # counted anew


def test_number_is_named_once_by_the_place_that_has_stood_longest() -> None:
    seen = Standstill()
    seen.look({A: 1, B: 1}, {A: 1, B: 5})
    seen.look({A: 1, B: 1}, {A: 5, B: 5})
    assert seen.look({A: 1, B: 1}, {A: 5, B: 5}) == [Standing(*B, 1, 5, 2)]


def test_end_that_a_reading_has_reached_is_no_reason_to_read_again() -> None:
    """Behind the last record there may be a transaction's marker, which no position passes."""
    seen = Standstill()
    seen.look({A: 40}, {A: 41})
    assert seen.look({A: 40}, {A: 41})
    seen.read(0, {A: 41, C: 99})
    assert seen.look({A: 40}, {A: 41}) == []
    assert seen.look({A: 40}, {A: 44}) == []
    assert seen.look({A: 40}, {A: 44}) == [Standing(*A, 40, 44, 1)]


def test_number_that_is_not_held_any_more_is_forgotten() -> None:
    seen = Standstill()
    seen.look({A: 40}, {A: 60})
    assert seen.look({}, {}) == []
    assert seen.look({A: 40}, {A: 60}) == []
