"""`stack doctor` compares all states with all rows, in whatever part of a topic they stand."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from everlode.views.contents_asked import contents_of
from tests.support.world.backed import TOPOLOGY, Backed
from tests.support.world.filled import fill

pytestmark = pytest.mark.timeout(180)
KEYS = 12_000
"""More than any batch that is read."""
OF_PAIRS = ("rows_lost", "states_lost", "state_conflict", "state_foreign")
FIRST, SECOND = "task-0-0000000000", "task-0-0000000001"


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backed]:
    with Backed(tmp_path_factory.mktemp("pairs")) as region:
        fill(region, 0, KEYS)
        yield region


def found(region: Backed) -> list[tuple[str, str]]:
    """(kind, text) of what states and rows do not agree about."""
    examined = contents_of(TOPOLOGY, region.endpoints, None)
    assert not examined.unreachable
    assert {one.where for one in examined.findings if one.kind in OF_PAIRS} <= {"state.g1.tasks/0"}
    return [(one.kind, one.text) for one in examined.findings if one.kind in OF_PAIRS]


def test_every_state_and_every_row_is_compared_whatever_their_number(region: Backed) -> None:
    assert found(region) == []
    with psycopg.connect(region.conninfo, autocommit=True) as db:
        db.execute("create table kept as select * from g1.tasks where key = %s", (FIRST,))
        last = "length(doc) - 1"
        db.execute(f"update g1.tasks set doc = set_byte(doc, {last}, 255 - get_byte(doc, {last}))"
                   " where key = %s", (FIRST,))  # fmt: skip
        assert found(region) == [
            ("state_conflict", f"{FIRST} has another state than its row of one version")
        ]
        db.execute("delete from g1.tasks where key = %s", (FIRST,))
        assert found(region) == [("rows_lost", f"the row of {FIRST} is not there, its state of 1")]
        db.execute("update kept set key = 'task-without-state'")
        db.execute("insert into g1.tasks select * from kept")
        db.execute("update g1.tasks set version = 2, doc = '' where key = %s", (SECOND,))
        lost = f"2 rows have no such state, e.g. {SECOND} of version 2: there is one of version 1"
        assert ("states_lost", lost) in found(region)
