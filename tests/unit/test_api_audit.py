"""Who asked a server for what, as its log has it."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from everlode.api.audit import LONGEST, act_of
from everlode.api.guard import Guard, House
from everlode.api.tokens import parsed
from everlode.telemetry.entries import AskedOverHttp, Entry

TOKEN = "a-token"
TOKENS = parsed(f"ann operator {hashlib.sha256(TOKEN.encode()).hexdigest()}\n", "f")
MINE = {"Authorization": f"Bearer {TOKEN}"}


async def route(scope: Scope, receive: Receive, send: Send) -> None:
    """A route as ours are: it says what it was asked for."""
    act = act_of(Request(scope))
    act.about, act.id = "drain eu-tm-1", "op-1"
    await PlainTextResponse("done", 202)(scope, receive, send)


def asked(*requests: tuple[str, str, dict[str, str]], rate: float = 100) -> list[Entry]:
    found: list[Entry] = []
    app = Guard(route, House(TOKENS, None, rate, found.append))

    async def ask() -> None:
        inside: Any = httpx.ASGITransport(app, client=("10.0.0.9", 1))
        async with httpx.AsyncClient(transport=inside, base_url="http://h") as client:
            for method, path, headers in requests:
                await client.request(method, path, headers=headers)

    asyncio.run(ask())
    return found


def test_act_is_reported_with_who_from_where_what_and_outcome() -> None:
    (entry,) = asked(("POST", "/operations", MINE))
    assert entry == AskedOverHttp(
        who="ann", role="operator", address="10.0.0.9", method="POST", path="/operations",
        about="drain eu-tm-1", id="op-1", status=202, code="",
    )  # fmt: skip
    assert entry.text == ("ann (operator) at 10.0.0.9: POST /operations drain eu-tm-1 op-1: 202")


@pytest.mark.parametrize(
    ("method", "headers", "status", "code"),
    [("POST", {}, 401, "unauthorized"), ("GET", {}, 401, "unauthorized"),
     ("GET", {"Authorization": "Bearer guess"}, 401, "unauthorized"),
     ("POST", MINE | {"Origin": "http://elsewhere"}, 403, "cross_site"),
     ("POST", {"Cookie": f"everlode_token={TOKEN}"}, 401, "unauthorized")],
)  # fmt: skip
def test_who_is_turned_away_is_reported_without_what_was_shown(
    method: str, headers: dict[str, str], status: int, code: str
) -> None:
    (entry,) = asked((method, "/operations", headers))
    assert isinstance(entry, AskedOverHttp)
    assert (entry.who, entry.status, entry.code) == ("", status, code)
    assert entry.about == ""  # it did not come to a route
    assert not {"guess", TOKEN} & set(entry.text.split())


def test_what_is_read_and_what_comes_too_often_is_not_reported() -> None:
    assert asked(("GET", "/operations", MINE)) == []
    assert len(asked(*[("POST", "/operations", MINE)] * 20, rate=1)) == 2  # the others are 429


def test_path_of_a_caller_cannot_break_a_line_or_fill_the_log() -> None:
    (entry,) = asked(("POST", "/x%0a%1b[2J" + "y" * 1000, MINE))
    assert isinstance(entry, AskedOverHttp)
    assert entry.path.isprintable()
    assert len(entry.path) == LONGEST
