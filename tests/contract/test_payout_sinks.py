"""What a payment system must keep to, whoever writes it: the port's suite, on each that we have.

Each `sink()` is another process's look at one and the same system.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from everlode.errors import FencedOut
from everlode.rewards.sink import Fence, JournalSink, PayoutConflict
from tests.support.stores.memory_sink import MemorySink

Sink = JournalSink | MemorySink
Opened = Callable[[], Sink]
OLD, NEW = Fence("rewards/eu", 3), Fence("rewards/eu", 4)


@pytest.fixture(params=["journal", "memory"])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    opened: list[Sink] = []
    books: tuple[dict[str, tuple[str, int]], dict[str, int]] = ({}, {})

    def another() -> Sink:
        path = tmp_path / "payouts.jsonl"
        opened.append(JournalSink(path) if request.param == "journal" else MemorySink(*books))
        return opened[-1]

    yield another
    for one in opened:
        one.close()


def test_key_is_paid_once_and_its_reference_is_the_same_for_all(sink: Opened) -> None:
    one, two = sink(), sink()
    assert one.find("t|m", OLD) is None
    ref = one.pay("t|m", "m", 5, OLD)
    assert [two.pay("t|m", "m", 5, OLD), one.pay("t|m", "m", 5, NEW)] == [ref, ref]
    assert sink().find("t|m", NEW) == ref


def test_another_amount_for_a_key_is_refused(sink: Opened) -> None:
    one = sink()
    one.pay("t|m", "m", 5, OLD)
    with pytest.raises(PayoutConflict):
        one.pay("t|m", "m", 6, OLD)


@pytest.mark.parametrize("how", ["pay", "pay what is paid", "find"])
def test_epoch_below_one_that_was_shown_pays_nothing_and_learns_nothing(
    sink: Opened, how: str
) -> None:
    """Also when the successor has only asked, and when the system was started again since."""
    stopped, heir = sink(), sink()
    assert stopped.pay("paid|m", "m", 1, OLD)
    assert stopped.find("t|m", OLD) is None
    match how:
        case "pay":
            heir.pay("other|m", "m", 1, NEW)
        case "pay what is paid":
            heir.pay("paid|m", "m", 1, NEW)
        case _:
            assert heir.find("t|m", NEW) is None
    for late in (stopped, sink()):
        with pytest.raises(FencedOut) as caught:
            late.pay("t|m", "m", 5, OLD)
        assert caught.value.code == "payout_fenced"
        with pytest.raises(FencedOut):
            late.find("t|m", OLD)
    assert heir.find("t|m", NEW) is None
    assert sink().pay("t|m", "m", 5, NEW)


def test_epoch_of_one_scope_fences_no_other(sink: Opened) -> None:
    one = sink()
    one.find("t|m", Fence("rewards/us", 9))
    assert one.pay("t|m", "m", 5, OLD)
