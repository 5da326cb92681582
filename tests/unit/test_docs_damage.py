"""docs/damage.md is made from the cells: each thing damaged in each way, or why it is not."""

from __future__ import annotations

import pytest

from tests.support.damage.cells import CELLS, DAMAGES, NOT_DONE, THINGS, Cell
from tests.support.damage.document import DOCUMENT, document
from tests.support.damage.seen import HARMS


def test_document_is_made_from_the_cells() -> None:
    assert DOCUMENT.read_text() == document(), "run: python -m tests.support.damage"


def test_every_thing_is_damaged_in_every_way_or_it_says_why_not() -> None:
    cells = [(cell.thing, cell.damage) for cell in CELLS]
    assert len(cells) == len(set(cells))
    assert {*cells, *NOT_DONE} == {(thing, damage) for thing in THINGS for damage in DAMAGES}
    assert not set(cells) & set(NOT_DONE)
    assert set(cells) == {(thing, damage) for thing, of in HARMS.items() for damage in of}


def test_one_cell_of_each_thing_is_carried_out_in_every_run() -> None:
    assert [cell.thing for cell in CELLS if cell.short] == list(THINGS)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.thing}, {cell.damage}")
def test_no_answer_is_a_success_unless_its_contents_are_equal(cell: Cell) -> None:
    """One that is not is an open defect, and explained."""
    of_contents = [text for text in cell.answers[:3] if text]
    assert of_contents
    for text in of_contents:
        success = not text[0].isdigit()
        assert not success or text.startswith(("equal", "UNEQUAL"))
    assert not any("UNEQUAL" in text for text in of_contents) or cell.note
