"""Whose fault an error of PostgreSQL is: the record's, the database's, or of the moment."""

from __future__ import annotations

import psycopg
import pytest

from everlode.adapters.postgres_read import fate, translated
from everlode.errors import ContractError, EverlodeError, IntegrityError, NotFound, Unavailable

FATES: dict[type[EverlodeError], tuple[str, ...]] = {
    # the same values fail in the same way each time
    ContractError: (
        "22001", "22003", "22007", "22008", "22021", "22P02", "22P05", "23502", "23505", "23514",
        "54000", "54011",
    ),
    # these pass, or somebody mends them: the record is as good as before
    Unavailable: (
        "08000", "08006", "25006", "25P03", "28P01", "40001", "40P01", "53100", "53200", "53300",
        "53400", "55P03", "57014", "57P01", "57P02", "57P03", "58030", "F0000",
    ),
    # it is not as we made it: no record is to blame, and none is passed over
    IntegrityError: ("0A000", "26000", "34000", "3D000", "3F000", "42501", "42703", "42P01",
                     "XX000", "XX001", "XX002"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("expected", "state"), [(kind, state) for kind, states in FATES.items() for state in states]
)
def test_error_of_a_server_has_the_fate_of_its_class(
    expected: type[EverlodeError], state: str
) -> None:
    found = fate("writing", psycopg.errors.lookup(state)("words\nmore words"))
    assert type(found) is expected
    assert "writing" in found.message
    assert "words" in found.message


@pytest.mark.parametrize(
    ("expected", "error"),
    [
        (ContractError, psycopg.DataError("NUL")),
        (ContractError, OverflowError("too large")),
        (ContractError, UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates")),
        (Unavailable, psycopg.OperationalError("the connection is closed")),
        (Unavailable, psycopg.InterfaceError("the cursor is closed")),
        (IntegrityError, psycopg.ProgrammingError("cannot adapt")),
    ],
)
def test_error_of_the_client_itself_has_one_of_the_fates(
    expected: type[EverlodeError], error: Exception
) -> None:
    with pytest.raises(EverlodeError) as caught, translated("writing"):
        raise error
    assert type(caught.value) is expected


def test_error_that_has_its_fate_keeps_it() -> None:
    with pytest.raises(NotFound), translated("writing"):
        raise NotFound("nothing there")
