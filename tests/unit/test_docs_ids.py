"""docs/format.md says of every id who chooses it, its form, and what a collision does: as it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from uuid import UUID

import pytest

from everlode.errors import Refusal
from everlode.events import door
from everlode.events.barriers import Marker
from everlode.events.base import CommandHeader, Envelope
from everlode.events.ids import OWN, check_outside, fact_id, own_id
from everlode.events.types import LONGEST_ID
from everlode.membership.name import Incarnation
from everlode.sdk.lines import check_ids
from everlode.state.fraud import case_id, solution_case_id
from everlode.state.minerfolds import deposit_mark
from everlode.state.reward import reward_id, slash_id
from everlode.state.shape import NAME_MOST, check_name
from everlode.state.validation import validation_id
from tests.contract.test_avro_codec import bounds
from tests.support.facts.codes import documented
from tests.support.facts.state_commands import NOW
from tests.unit.test_docs import ROOT

FORMAT = ROOT / "docs/format.md"
T, M, C, R = "task", "miner", "case", "copied-solution"
LONG = "x" * LONGEST_ID


def rows() -> dict[str, dict[str, str]]:
    """Id → column → cell."""
    section = FORMAT.read_text().partition("\n## Ids\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    head, *body = [[cell.strip().replace("\\|", "|") for cell in line] for line in cells]
    return {line[0]: dict(zip(head, line, strict=True)) for line in body}


ROWS = rows()


def is_name(kind: str) -> bool:
    """A name of that kind has the form of a name, and no other."""
    check_name(kind, "x" * NAME_MOST)
    for bad in ("", "x" * (NAME_MOST + 1), "a|b", "a\nb"):
        with pytest.raises(Refusal):
            check_name(kind, bad)
    return NAME_MOST == 100


def formed(of: str, **parts: str) -> str:
    """The first form that a row shows, filled in."""
    shown = re.findall(r"`([^`]+)`", ROWS[of]["form"])[0]
    return re.sub(r"<(\w+)>", lambda found: parts[found[1]], shown)


def header(command_id: str) -> CommandHeader:
    return CommandHeader(
        command_id=command_id, aggregate_id="a", issued_by="x", reply_to="r", issued_at=NOW,
        correlation_id="s",
    )  # fmt: skip


def from_outside() -> bool:
    for good in ("x", LONG, "owner", "a/b|c"):
        check_outside(good)
        door.check(header(good), NOW)
    with pytest.raises(ValueError, match=f"at most {LONGEST_ID}"):
        header(LONG + "x")
    with pytest.raises(Refusal):
        door.check(header("a\x00"), NOW)
    with pytest.raises(Refusal) as caught:
        check_outside(own_id("pay", "t|m"))
    return caught.value.code == "reserved_id"


def of_a_producer() -> bool:
    check_ids(LONG, "k", None)
    with pytest.raises(Refusal):
        check_ids(LONG + "x", "k", None)
    return True


def any_id(model: type[CommandHeader] | type[Envelope], name: str) -> bool:
    """The field holds as many characters as an id."""
    field = model.model_fields[name]
    limits = bounds([field.annotation, *field.metadata])
    return (limits["min_length"], limits["max_length"]) == (1, LONGEST_ID)


CHECKS: dict[str, Callable[[], bool]] = {
    "task": lambda: is_name("task"),
    "miner": lambda: is_name("miner"),
    "solution": lambda: is_name("solution"),
    "validation": lambda: validation_id(T, 3) == formed("validation", task=T, attempt="3"),
    "case on a record": lambda: (
        case_id(R, M) == formed("case on a record", rule=R, miner=M)
        and case_id(R, M, 2) == f"{case_id(R, M)}|2"
    ),
    "case on a solution": lambda: (
        solution_case_id(R, "v") == formed("case on a solution", rule=R, validation="v")
    ),
    "case from outside": lambda: any_id(CommandHeader, "aggregate_id"),
    "reward": lambda: reward_id(T, M) == formed("reward", task=T, miner=M),
    "booked slash": lambda: (
        slash_id(C, M) == formed("booked slash", case=C, miner=M)
        and UUID(slash_id(LONG, M).removeprefix("slash|")).version == 5
    ),
    "command from outside": from_outside,
    "command to oneself": lambda: UUID(own_id("pay", "t|m").removeprefix(OWN)).version == 5,
    "fact of a primary": lambda: UUID(fact_id("a", "c", 0)).version == 5,
    "fact of an `EventProducer`": of_a_producer,
    "mark": lambda: (
        Marker("t", "eu.1", "s", 4, "n").envelope(2, 3, 1, NOW).event_id
        == formed("mark", topic="t", partition="2", seq="3", epoch="4")
    ),
    "signal": lambda: any_id(Envelope, "event_id"),
    "node": lambda: any_id(Envelope, "aggregate_id"),
    "incarnation": lambda: re.fullmatch(r"[0-9a-f]{32}", Incarnation().id) is not None,
    "deposit": lambda: re.fullmatch(r"[0-9a-f]{16}", deposit_mark("c")) is not None,
}  # fmt: skip
"""Row → whether its form is that of the code."""


def test_table_and_checks_have_the_same_ids() -> None:
    assert set(ROWS) == set(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_id_has_the_form_that_the_table_says(name: str) -> None:
    assert CHECKS[name](), ROWS[name]["form"]


def test_codes_that_the_table_names_are_answered() -> None:
    for row in ROWS.values():
        assert set(re.findall(r"`(\w+)`", row["a collision"])) <= documented()
        assert all(row.values())


def test_derived_ids_of_members_are_never_equal_for_other_names() -> None:
    names = ["a", "a-1", "1", "v-a-1", "b", "case-copied-solution-a"]
    found: dict[str, tuple[str, ...]] = {}
    for one in names:
        made = {case_id(R, one): ("record", one), case_id(R, one, 2): ("record", one, "2")}
        for n in (1, 2, 11):
            made[validation_id(one, n)] = ("validation", one, str(n))
            about = validation_id(one, n)
            made[solution_case_id(R, about)] = ("solution", about)
        for other in names:
            made[reward_id(one, other)] = ("reward", one, other)
            made[slash_id(one, other)] = ("slash", one, other)
        for key, about_it in made.items():
            assert found.setdefault(key, about_it) == about_it, key
