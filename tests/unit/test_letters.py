"""A dead letter says which record it is of, whatever the record itself says, and has one fate."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.errors import ContractError, NotFound, Refusal
from everlode.log.fates import (
    Fate,
    Filter,
    Kept,
    Wish,
    judged,
    listed,
    require_discardable,
    require_replayable,
)
from everlode.topics.letters import NO_PROVENANCE, DeadLetter, own_headers, read
from everlode.topics.names import dead_letter_topic
from everlode.topics.place import LARGEST_HEADERS, LARGEST_KEY, Letter, letter

AT = datetime(2026, 1, 1, tzinfo=UTC)
HEADERS = st.lists(
    st.tuples(st.sampled_from(["dlt-consumer", "dlt-offset", "ce_id", "x"]), st.binary(max_size=9))
)


@given(
    headers=HEADERS, partition=st.integers(0, 99), offset=st.integers(-(2**62), 2**62),
    message=st.text(max_size=40),
)  # fmt: skip
def test_letter_is_read_as_it_was_written_whatever_its_record_says(
    headers: list[tuple[str, bytes]], partition: int, offset: int, message: str
) -> None:
    at = ("eu.commands.tasks", partition, offset)
    error = ContractError(message, code="broken")
    made = letter("primary", at, Letter(b"k", b"v", headers), error)
    found = read(dead_letter_topic("primary", at[0]), 3, made.headers, 17)
    assert (found.consumer, found.topic, found.partition, found.offset) == ("primary", *at)
    assert (found.code, found.letter_offset, found.kept_at_ms) == ("broken", 3, 17)
    assert found.id == f"primary/eu.commands.tasks/{partition}/{offset}"
    assert own_headers(made.headers) == headers
    assert found.left_out == ()


def test_what_had_no_room_is_named() -> None:
    large = Letter(b"k" * (LARGEST_KEY + 1), b"v" * 900_001, [("h", b"h" * LARGEST_HEADERS)])
    made = letter("primary", ("eu.commands.tasks", 0, 1), large, ContractError("x"))
    found = read("dlt.primary.eu.commands.tasks", 0, made.headers, None)
    assert set(found.left_out) == {"value", "key", "headers"}


@pytest.mark.parametrize(
    "headers", [[], [("dlt-consumer", b"x")], [("dlt-consumer", b""), ("dlt-partition", b"x")]]
)
def test_record_without_provenance_is_of_its_own_place(headers: list[tuple[str, bytes]]) -> None:
    found = read("dlt.projector.eu.1.tasks", 9, headers, None)
    assert (found.consumer, found.topic, found.offset) == ("projector", "eu.1.tasks", 9)
    assert found.code == NO_PROVENANCE


def kept(topic: str = "eu.commands.tasks", status: str = "", **changes: object) -> Kept:
    made = DeadLetter("primary", topic, 0, 1, "broken", "m", (), 0, 5)._replace(**changes)  # type: ignore[arg-type]
    return Kept(made, Fate(status, AT, "ann", "") if status else None)


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (kept(), ""), (kept(status="replayed"), ""), (kept(status="discarded"), "discarded"),
        (kept("us.commands.tasks"), "not_replayable"), (kept("eu.1.tasks"), "not_replayable"),
        (kept("eu.1.heartbeats"), "not_replayable"), (kept(left_out=("value",)), "left_out"),
        (kept(code=NO_PROVENANCE), "not_replayable"),
    ],
)  # fmt: skip
def test_only_commands_of_the_region_go_back(found: Kept, code: str) -> None:
    wish = Wish(found.letter.id, "ann")
    if not code:
        assert judged([found], [wish], require_replayable, "eu") == [found]
        return
    with pytest.raises(Refusal) as caught:
        judged([found], [wish], require_replayable, "eu")
    assert caught.value.code == code
    assert caught.value.hint


@pytest.mark.parametrize(
    ("found", "reason", "code"),
    [
        (kept(), "old", ""), (kept("eu.1.tasks"), "old", ""), (kept(status="discarded"), "old", ""),
        (kept(), " ", "no_reason"), (kept(status="replayed"), "old", "replayed"),
    ],
)  # fmt: skip
def test_what_was_not_replayed_may_be_discarded_for_a_reason(
    found: Kept, reason: str, code: str
) -> None:
    wish = Wish(found.letter.id, "ann", reason)
    if not code:
        assert judged([found], [wish], require_discardable, "eu") == [found]
        return
    with pytest.raises(Refusal) as caught:
        judged([found], [wish], require_discardable, "eu")
    assert caught.value.code == code


def test_unknown_letter_is_not_found_and_nothing_is_judged() -> None:
    with pytest.raises(NotFound):
        judged([kept()], [Wish("x", "ann")], require_replayable, "eu")


def test_list_has_the_newest_oldest_first_and_counts_all() -> None:
    found = [kept(offset=n, letter_offset=n, kept_at_ms=n) for n in range(5)]
    found.append(kept("eu.1.tasks", "discarded", kept_at_ms=1))
    shown = listed(found, 2)
    assert [row["offset"] for row in shown["letters"]] == [3, 4]
    assert [row["count"] for row in shown["counts"]] == [1, 5]
    assert shown["total"] == 6
    assert [Filter().has(k) for k in found] == [True] * 5 + [False]
    assert [Filter("all", topic="eu.1.tasks").has(k) for k in found] == [False] * 5 + [True]
    assert [Filter("all", "detector").has(k) for k in found] == [False] * 6
    assert [Filter("all", code="other").has(k) for k in found] == [False] * 6
