"""What follows from losses: start, wait, give up; the same, whoever asks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.errors import ConfigError
from everlode.stack.book import Kept, read_book, write_book
from everlode.stack.healing import (
    Exit,
    GiveUp,
    Limits,
    Lost,
    Start,
    Wait,
    plan,
    recent,
    wait_s,
)
from everlode.stack.services import (
    ALL,
    Member,
    as_rows,
    counted,
    members_of,
    parse_services,
    service_processes,
)

LIMITS = Limits()


def lost(*ends: float, status: int | None = -9, kind: str = "kafka", lacking: str = "") -> Lost:
    return Lost(kind, [Exit(at, status) for at in ends], lacking)


def test_first_loss_is_healed_at_once_and_the_next_ones_later_and_later() -> None:
    assert plan(lost(100.0), 100.0) == Start(1)
    assert isinstance(plan(lost(100.0, 101.0), 101.9), Wait)
    assert plan(lost(100.0, 101.0), 102.0) == Start(2)
    waits = [wait_s(n) for n in range(1, 11)]
    assert waits == [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_process_that_ended_after_each_of_ten_starts_is_given_up_with_its_last_end() -> None:
    ends = [100.0 + n for n in range(LIMITS.cap)]
    assert plan(lost(*ends), 1000.0) == Start(LIMITS.cap)
    found = plan(lost(*ends, 111.0), 1000.0)
    assert isinstance(found, GiveUp)
    assert found.attempts == LIMITS.cap
    assert "signal 9" in found.why


def test_losses_that_are_long_ago_do_not_count() -> None:
    ends = [float(n) for n in range(LIMITS.cap + 5)]
    later = ends[-1] + LIMITS.window_s + 1
    assert plan(lost(*ends, later), later) == Start(1)


@pytest.mark.parametrize("kind", ["projector", "task-manager", "guard"])
def test_wrong_setting_of_ours_is_given_up_at_once(kind: str) -> None:
    assert isinstance(plan(lost(1.0, status=2, kind=kind), 1.0), GiveUp)


def test_status_2_of_a_database_is_no_wrong_setting() -> None:
    assert plan(lost(1.0, status=2, kind="postgres"), 1.0) == Start(1)


def test_what_lacks_its_broker_waits_and_that_is_no_attempt() -> None:
    for now in (1.0, 1e6):
        found = plan(lost(1.0, kind="projector", lacking="eu/kafka"), now)
        assert found == Wait("eu/kafka does not serve")


def test_clock_that_was_set_back_delays_nothing() -> None:
    assert plan(lost(1e9, 1e9 + 1), 5.0) == Start(2)


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=30), st.floats(0, 1e6))
def test_every_loss_is_started_or_given_up_in_the_end(ends: list[float], later: float) -> None:
    ends.sort()
    found = plan(lost(*ends), ends[-1] + LIMITS.longest_wait_s + later)
    assert isinstance(found, GiveUp if len(recent(lost(*ends).exits)) > LIMITS.cap else Start)


def test_book_that_is_written_is_read_and_one_that_is_damaged_is_empty(tmp_path: Path) -> None:
    book = {"eu/kafka": Kept("kafka", [Exit(1.5, -9), Exit(2.0, None)], 2, 1.5, 2.5, "why", True)}
    write_book(tmp_path, book)
    assert read_book(tmp_path) == book
    (tmp_path / "healing.json").write_text('{"eu/kafka": {"kind": "kafka", "exits": 3}}')
    assert read_book(tmp_path) == {}


def test_services_are_all_none_or_counted_kinds() -> None:
    assert parse_services("all") == ALL
    assert parse_services("none") == {}
    assert parse_services("projector=1, validator=2") == {"projector": 1, "validator": 2}


@pytest.mark.parametrize("text", ["projector", "projector=0", "miner=1", "", "projector=x"])
def test_service_that_there_is_not_is_refused_and_the_kinds_are_named(text: str) -> None:
    with pytest.raises(ConfigError, match="expected KIND=COUNT") as caught:
        parse_services(text)
    assert "task-manager" in caught.value.hint


def test_service_knows_its_name_its_command_and_what_it_needs() -> None:
    members = counted({"projector": 1, "validator": 2}, ("eu",))
    found = service_processes(members, Path("/stack"))
    assert [(p.name, p.needs) for p in found] == [
        ("eu/proj-1", ("eu/kafka", "eu/postgres")), ("eu/val-1", ("eu/kafka",)),
        ("eu/val-2", ("eu/kafka",)),
    ]  # fmt: skip
    assert found[0].argv[3:] == (
        "projector", "run", "--region", "eu", "--node-id", "eu-proj-1", "--dir", "/stack",
    )  # fmt: skip
    assert "peer-review" in found[2].argv


def test_members_are_kept_as_rows_or_as_counts_for_every_region() -> None:
    members = (Member("eu", "task-manager", 2, 7, (("beat_ms", 500), ("lease_s", 60)), ("a", "b")),)
    rows = json.loads(json.dumps(as_rows(members)))
    assert members_of(rows, ("eu",)) == members
    del rows[0]["specialties"]  # of an older build
    assert members_of(rows, ("eu",)) == (members[0]._replace(specialties=()),)
    assert [m.name for m in members_of({"validator": 1}, ("eu", "us"))] == ["eu/val-1", "us/val-1"]
    with pytest.raises(ConfigError, match="cannot be read"):
        members_of([{"region": "eu"}], ("eu",))


def test_member_is_made_of_all_that_it_is_run_with() -> None:
    one = Member("eu", "task-manager", 1, 99)
    others = (
        one._replace(priority=98), one._replace(specialties=("a", "b")),
        one._replace(settings=(("beat_ms", 500),)),
    )  # fmt: skip
    assert one.made_of == Member("eu", "task-manager", 1, 99).made_of
    assert one.made_of not in {other.made_of for other in others}
    special, found = service_processes(others[1:], Path("/stack"))
    assert " --specialty a --specialty b " in " ".join(special.argv)
    assert found.env == {"EVERLODE_BEAT_MS": "500"}
