"""A reader that is slow is no fault, and a topic of which nothing comes is. On a mock broker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from everlode.adapters.kafka import Reader
from everlode.errors import Unavailable
from tests.support.facts.poison import append, mock_broker

pytestmark = pytest.mark.timeout(60)
TOPIC = "state.g1.tasks"
STILL_S = 0.5


@pytest.fixture
def reader() -> Iterator[Reader]:
    with mock_broker() as broker:
        append(broker, TOPIC, [(b"k", b"%d" % n) for n in range(4)])
        with closing(Reader(broker, "slow", wait_ms=10)) as found:
            yield found


def test_reader_takes_as_long_as_its_work_takes(reader: Reader) -> None:
    """A deadline for all of it ended each read of a topic that was large enough."""
    found = []
    for batch in reader.to_ends({(TOPIC, 0): 0}, STILL_S, most=1):
        found += [raw.value for raw in batch]
        time.sleep(1.4 * STILL_S)
    assert found == [b"0", b"1", b"2", b"3"]


def test_reader_of_which_nothing_comes_ends_and_names_the_partition(reader: Reader) -> None:
    reader.assign({(TOPIC, 0): 0})
    with pytest.raises(Unavailable, match=rf"nothing came .* e\.g\. {TOPIC}/0"):
        list(reader.until({(TOPIC, 0): 9}, STILL_S))
