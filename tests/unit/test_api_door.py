"""Tokens, rates, problems and plain JSON: the pure parts of the HTTP face."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode import errors as e
from everlode.api.plain import as_json, plain
from everlode.api.problems import Denied, problem
from everlode.api.rates import MOST_KNOWN, Rates
from everlode.api.server import Site, check_site
from everlode.api.tokens import Member, Role, load, member_of, parsed
from everlode.events.health import NodeLost

HASH = hashlib.sha256(b"secret").hexdigest()


def test_token_is_known_by_its_hash_alone() -> None:
    tokens = parsed(f"# who\n\nann operator {HASH}\n", "f")
    assert member_of(tokens, "secret") == Member("ann", Role.OPERATOR)
    assert [member_of(tokens, text) for text in ("", HASH, "Secret", "secret ", "\udcff")] == [
        None
    ] * 5
    assert "secret" not in repr(tokens)


@pytest.mark.parametrize(
    "line", [f"ann root {HASH}", "ann viewer abc", f"ann {HASH}", f"a b viewer {HASH}", ""]
)
def test_line_that_is_no_token_is_an_error_that_names_it(line: str) -> None:
    with pytest.raises(e.ConfigError) as caught:
        parsed(line, "the-file")
    assert "the-file" in caught.value.message
    assert HASH not in caught.value.message


def test_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"ann viewer {HASH}\n")
    file.chmod(0o640)
    with pytest.raises(e.ConfigError, match="640") as caught:
        load(file)
    assert "chmod 600" in caught.value.hint
    file.chmod(0o600)
    assert len(load(file)) == 1
    with pytest.raises(e.ConfigError):
        load(tmp_path / "none")


def test_role_may_do_what_those_before_it_may() -> None:
    assert [[a.may(b) for b in Role] for a in Role] == [
        [True, False, False], [True, True, False], [True, True, True],
    ]  # fmt: skip


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.org"])  # noqa: S104 - refused
def test_server_without_tokens_listens_on_the_loopback_only(host: str) -> None:
    with pytest.raises(e.ConfigError, match="others could reach it"):
        check_site(Site(host, 0, None))
    check_site(Site("127.0.0.1", 0, None))
    check_site(Site("::1", 0, None))


def test_caller_beyond_its_rate_waits_and_others_do_not() -> None:
    rates = Rates(rate=10, burst=2)
    assert [rates.wait_s("a", 0.0) for _ in range(3)] == [0, 0, pytest.approx(0.1)]
    assert rates.wait_s("b", 0.0) == 0
    assert rates.wait_s("a", 0.1) == 0
    assert rates.wait_s("a", 0.1) > 0
    for n in range(MOST_KNOWN + 10):
        rates.wait_s(str(n), 1.0)
    assert len(rates._left) == MOST_KNOWN


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (e.NotFound("x"), 404), (e.Refusal("x"), 409), (e.Refusal("x", code="no_task"), 404),
        (e.Stale("x"), 409), (e.FencedOut("x"), 409), (e.Locked("x"), 409),
        (e.Precondition("x"), 409), (e.ContractError("x", code="too_large"), 413),
        (e.DeadlineExceeded("x"), 504), (e.Unavailable("x"), 503), (e.OutcomeUnknown("x"), 503),
        (e.IntegrityError("x"), 500), (e.WrongKey("x"), 500), (e.ConfigError("x"), 500),
        (Denied(HTTPStatus.MISDIRECTED_REQUEST, "x", code="wrong_host"), 421),
    ],
)  # fmt: skip
def test_problem_has_the_commands_code_and_the_fates_status(
    error: e.EverlodeError, status: int
) -> None:
    found = problem(error)
    assert (found["status"], found["code"]) == (status, error.code)
    assert (found["type"], found["detail"]) == (f"urn:everlode:{error.code}", "x")


class Pair(NamedTuple):
    stamp: int
    at: datetime


def test_integer_is_a_text_whatever_its_size() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert plain([Pair(2**62, at), {"n": 1, 2: True, "share": 0.5, "none": None}]) == [
        {"stamp": str(2**62), "at": "2026-01-02T03:04:05.000+00:00"},
        {"n": "1", "2": True, "share": 0.5, "none": None},
    ]
    lost = NodeLost(
        component="c", rule="<r>", silence_ms=2**62, phi=1.5, actionable=True, evidence=()
    )
    assert plain(lost)["silence_ms"] == str(2**62)
    with pytest.raises(TypeError):
        plain(object())
    with pytest.raises(ValueError, match="Out of range"):
        as_json(float("nan"))


@given(st.recursive(st.integers() | st.text() | st.booleans(), st.lists))
def test_plain_form_has_no_integer(value: object) -> None:
    def integers(found: object) -> bool:
        if isinstance(found, list):
            return any(map(integers, found))
        return isinstance(found, int) and not isinstance(found, bool)

    assert not integers(plain(value))
