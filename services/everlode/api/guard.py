"""The door of the server, before any route: headers, host, rate, who asks.

Invariants: nothing but `OPEN` is answered without a token, unless none is wanted; a browser's
cookie only reads, so that no other site can make it act; every answer has the headers that keep a
page to itself. Shell: ASGI.
"""

from __future__ import annotations

import math
import time
from collections.abc import MutableMapping
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from everlode.api.answers import refusal
from everlode.api.audit import READS, Audited
from everlode.api.problems import Denied
from everlode.api.rates import Rates
from everlode.api.tokens import NOBODY, Member, Role, Tokens, member_of
from everlode.telemetry.sink import Sink

OPEN = frozenset({"/livez", "/sign-in", "/page.css"})
COOKIE = "everlode_token"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class House(NamedTuple):
    """Who may come in, and how often."""

    tokens: Tokens | None
    """None: no token is wanted."""
    hosts: frozenset[str] | None
    """Names by which the server may be asked for, so that no other site's name leads to it; None:
    any."""
    rate: float
    """Requests a second of one caller."""
    report: Sink
    """Is given who asked for what."""


class Guard:
    """Around the routes; a route asks `scope["state"]["member"]` who it is."""

    def __init__(self, app: ASGIApp, house: House) -> None:
        self._app, self._house = app, house
        self._rates = Rates(house.rate, 2 * house.rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            return

        audited = Audited(scope, send, self._house.report)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await audited(message)

        headers = Headers(scope=scope)
        try:
            member = self._admitted(scope, headers)
        except Denied as error:
            audited.act.code = error.code
            await _denied(error, scope, headers)(scope, receive, with_headers)
            return
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        state["member"] = audited.member = member
        state["act"] = audited.act
        await self._app(scope, receive, with_headers)

    def _admitted(self, scope: Scope, headers: Headers) -> Member | None:
        """Raises: Denied."""
        _check_host(headers, self._house.hosts)
        member = self._member(scope, headers)
        caller = member.name if member and self._house.tokens else str((scope["client"] or [""])[0])
        wait_s = self._rates.wait_s(caller, time.monotonic())
        if wait_s and scope["path"] != "/livez":
            raise Denied(
                HTTPStatus.TOO_MANY_REQUESTS, "too many requests", code="too_many",
                hint=f"ask again in {math.ceil(wait_s)} s",
            )  # fmt: skip
        if member is None and scope["path"] not in OPEN:
            raise Denied(
                HTTPStatus.UNAUTHORIZED, "there is no token, or it is not one of ours",
                code="unauthorized", hint="Authorization: Bearer TOKEN",
            )  # fmt: skip
        return member

    def _member(self, scope: Scope, headers: Headers) -> Member | None:
        tokens = self._house.tokens
        if tokens is None:
            return NOBODY
        given = headers.getlist("authorization")
        scheme, _, token = (given[0] if len(given) == 1 else "").partition(" ")
        if given:
            return member_of(tokens, token.strip()) if scheme.lower() == "bearer" else None
        cookie = _cookie(headers.get("cookie", ""))
        if not cookie or scope["method"] not in READS:
            return None
        member = member_of(tokens, cookie)
        return member and member._replace(role=Role.VIEWER)


def _check_host(headers: Headers, hosts: frozenset[str] | None) -> None:
    """Raises: Denied: another host's name, or a page of another site asks."""
    named = headers.getlist("host")
    if len(named) != 1 or (hosts is not None and _name(f"//{named[0]}") not in hosts):
        raise Denied(
            HTTPStatus.MISDIRECTED_REQUEST, "the host's name is not this server's",
            code="wrong_host", hint="ask by the address that everlode serve prints",
        )  # fmt: skip
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != named[0]:
        raise Denied(HTTPStatus.FORBIDDEN, "a page of another site may not ask", code="cross_site")


def _name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _cookie(text: str) -> str:
    try:
        found = SimpleCookie(text).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _denied(error: Denied, scope: Scope, headers: Headers) -> Response:
    page = "text/html" in headers.get("accept", "") and scope["path"] == "/"
    if error.status == HTTPStatus.UNAUTHORIZED and page:
        return RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
    return refusal(error)
