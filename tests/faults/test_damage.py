"""Everything that can be damaged, damaged in every way: no verb calls a success what is not equal.

The cells and their answers: tests/support/damage/cells.py; docs/damage.md is made of them. A cell
in which a verb is mistaken ends with UNEQUAL, whatever the verb said.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from everlode.backup.manifest import Manifest
from tests.support.damage.cells import CELLS, Cell
from tests.support.damage.seen import answers
from tests.support.damage.verdicts import contents, doctor
from tests.support.damage.world import World
from tests.support.world.backed import Backed

pytestmark = pytest.mark.timeout(280)
LONG = bool(os.environ.get("LONG_TESTS"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Backed(tmp_path_factory.mktemp("damaged")) as region:
        yield World(region)


@pytest.mark.parametrize(
    "cell",
    [cell for cell in CELLS if cell.short or LONG],
    ids=lambda cell: f"{cell.thing}, {cell.damage}",
)
def test_verbs_answer_as_the_table_has_it(world: World, cell: Cell) -> None:
    assert answers(world, cell.thing, cell.damage) == cell.answers


def test_doctor_finds_nothing_in_a_region_that_is_whole(world: World) -> None:
    world.restore()
    assert doctor(world) == "quiet"


def test_comparison_finds_what_a_backup_lacks(world: World) -> None:
    """The checker is checked: one fact more, a later position, another fence."""
    world.restore()
    whole, upto, written = world.latest, world.upto, world.region.written
    assert contents(world, whole, upto) == []
    assert contents(world, whole, upto._replace(facts=upto.facts - 1)) != []
    for flawed in (_further(whole), whole.model_copy(update={"opened": ()})):
        assert contents(world, flawed, upto) != []
    last = written.pop(upto.facts - 1)
    try:
        assert contents(world, whole, upto._replace(facts=upto.facts - 1)) != []
    finally:
        written.insert(upto.facts - 1, last)


def _further(manifest: Manifest) -> Manifest:
    positions = tuple(p.model_copy(update={"seq": p.seq + 5}) for p in manifest.positions)
    return manifest.model_copy(update={"positions": positions})
