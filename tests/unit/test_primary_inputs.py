"""What a primary will never read is named."""

from __future__ import annotations

import pytest

from everlode.primary.inputs import removed
from everlode.telemetry.entries import InputsRemoved

COMMANDS, FACTS = "eu.commands.tasks", "eu.1.miners"


@pytest.mark.parametrize(
    ("topic", "wanted", "first", "named"),
    [
        (COMMANDS, 7, 7, False),
        (COMMANDS, 7, 3, False),
        (COMMANDS, 7, 8, True),
        (COMMANDS, 0, 5, True),  # it has never read any
        (FACTS, 7, 8, False),  # the mark of a transaction
        (FACTS, 7, 9, True),
    ],
)
def test_inputs_that_were_removed_before_they_were_read_are_named(
    topic: str, wanted: int, first: int, named: bool
) -> None:
    found = removed({(topic, 1): wanted}, {(topic, 1): first}, COMMANDS)
    assert found == [InputsRemoved(topic, 1, wanted, first)] * named
    if named:
        assert found[0].text.startswith(f"{topic}/1: offsets {wanted} to {first - 1} were removed")
