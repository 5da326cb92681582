"""The door of the server, before any route: headers, host, rate, who asks.

Invariants: nothing but `OPEN` is answered without a token, unless none is wanted; a browser's
cookie reads as a viewer, and acts by the page's own forms only (`FORMS`), as an operator at most:
each must bring a key that no other site can know; every answer has the headers that keep a page to
itself. Shell: ASGI.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
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
from everlode.api.members import Trusted, known
from everlode.api.problems import Denied
from everlode.api.rates import Rates
from everlode.api.tokens import NOBODY, Member, Role
from everlode.errors import EverlodeError, Unavailable
from everlode.telemetry.sink import Sink

OPEN = frozenset({"/livez", "/sign-in", "/page.css"})
FORMS = frozenset({"/act", "/sign-out"})
"""Where a cookie may do more than look."""
PAGES = "/pages/"
"""What stands below it is for people, as `/` is."""
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


class Browser(NamedTuple):
    """What a browser may that shows who it is by itself, with each request."""

    acts: bool
    """Its token may do what operators do."""
    form_key: str
    """What its forms must bring; empty of callers that are no browsers: they have no forms."""


NO_BROWSER = Browser(acts=False, form_key="")


class House(NamedTuple):
    """Who may come in, and how often."""

    tokens: Trusted | None
    """None: no token is wanted."""
    hosts: frozenset[str] | None
    """Names by which the server may be asked for, so that no other site's name leads to it; None:
    any."""
    rate: float
    """Requests a second of one caller."""
    report: Sink
    """Is given who asked for what."""


class Guard:
    """Around the routes; a route asks `scope["state"]["member"]` who it is, and `["browser"]`."""

    def __init__(self, app: ASGIApp, house: House) -> None:
        self._app, self._house = app, house
        self._secret = secrets.token_hex()
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
            member, browser = await self._admitted(scope, headers)
        except (Denied, Unavailable) as error:
            audited.act.code = error.code
            await _denied(error, scope, headers)(scope, receive, with_headers)
            return
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        state["member"] = audited.member = member
        state["browser"] = browser
        state["act"] = audited.act
        await self._app(scope, receive, with_headers)

    async def _admitted(self, scope: Scope, headers: Headers) -> tuple[Member | None, Browser]:
        """Raises: Denied; Unavailable: it is not known now whose tokens are."""
        _check_host(headers, self._house.hosts)
        open_to_all = scope["path"] in OPEN
        member, browser = (None, NO_BROWSER) if open_to_all else await self._member(scope, headers)
        caller = member.name if member and self._house.tokens else str((scope["client"] or [""])[0])
        wait_s = self._rates.wait_s(caller, time.monotonic())
        if wait_s and scope["path"] != "/livez":
            raise Denied(
                HTTPStatus.TOO_MANY_REQUESTS, "too many requests", code="too_many",
                hint=f"ask again in {math.ceil(wait_s)} s",
            )  # fmt: skip
        if member is None and not open_to_all:
            raise Denied(
                HTTPStatus.UNAUTHORIZED, "there is no token, or it is not one of ours",
                code="unauthorized", hint="Authorization: Bearer TOKEN",
            )  # fmt: skip
        return member, browser

    async def _member(self, scope: Scope, headers: Headers) -> tuple[Member | None, Browser]:
        """Raises: Denied; Unavailable."""
        tokens = self._house.tokens
        if tokens is None:
            return NOBODY, Browser(acts=True, form_key=form_key(self._secret))
        given = headers.getlist("authorization")
        scheme, _, token = (given[0] if len(given) == 1 else "").partition(" ")
        if given:
            member = await known(tokens, token.strip()) if scheme.lower() == "bearer" else None
            return member, NO_BROWSER
        cookie = _cookie(headers.get("cookie", ""))
        member = await known(tokens, cookie) if cookie else None
        if member is None:
            return None, NO_BROWSER
        browser = Browser(member.role.may(Role.OPERATOR), form_key(cookie))
        if scope["method"] in READS:
            return member._replace(role=Role.VIEWER), browser
        if scope["path"] not in FORMS:
            return None, NO_BROWSER
        if "origin" not in headers:  # a browser says with each form where it comes from
            raise Denied(HTTPStatus.FORBIDDEN, "the form does not say its site", code="cross_site")
        most = Role.OPERATOR if browser.acts else member.role
        return member._replace(role=most), browser


def form_key(secret: str) -> str:
    """What a form must bring to be of the page: who does not know the secret cannot make it. Pure.

    Of a token, so that it holds on every server of a region and after a restart, and ends with it.
    """
    return hmac.new(secret.encode(), b"everlode: a form of the page", hashlib.sha256).hexdigest()


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


def _denied(error: EverlodeError, scope: Scope, headers: Headers) -> Response:
    shown = scope["path"] in {"/", *FORMS} or scope["path"].startswith(PAGES)
    page = "text/html" in headers.get("accept", "") and shown
    if isinstance(error, Denied) and error.status == HTTPStatus.UNAUTHORIZED and page:
        return RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
    return refusal(error)
