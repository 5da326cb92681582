"""Routes for people: the overview with its live timeline, and the way in. Shell.

A browser cannot send a bearer token with a page or a stream; it gives the token once and gets it
back as a cookie, for this site, until the browser is closed: it reads, and fills in the forms of
`acting`.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from urllib.parse import parse_qs

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from everlode.api import acting, kept, looking
from everlode.api.aside import Aged, Aside
from everlode.api.asking import Net, body_of, needs
from everlode.api.audit import act_of
from everlode.api.guard import COOKIE
from everlode.api.lags import lag_s
from everlode.api.members import Trusted, known
from everlode.api.network import MACHINERY, Network
from everlode.api.overview import FILES, Seen, file, html, lines, values_of
from everlode.api.problems import Denied
from everlode.api.queries import Kept, scores_of
from everlode.api.tokens import NOBODY, Role
from everlode.errors import EverlodeError

FRESH_S = 0.5
"""An overview is made so often at most, however many look."""
HEALTH_S = 5.0
"""Scores are computed so often at most, while somebody looks."""
LONGEST_FORM = 8_000


def _scores(network: Network, scores: Aside) -> Aged | None:
    return scores.newest(lambda: scores_of(network, list(network.endpoints.regions)))


def _seen(network: Network, scores: Aside) -> Seen:
    trouble: EverlodeError | None = None
    lags: dict[str, float | None] = {}
    try:
        lags = lag_s(network)
    except EverlodeError as error:  # the page says so, and shows what else is known
        trouble = error
    return Seen(network.control(), lags, _now_ms(), trouble, _scores(network, scores))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _overview(network: Network, scores: Aside) -> str:
    names = network.endpoints.topology.regions
    return html("overview.html.j2", **values_of(_seen(network, scores), names))


def add_pages(app: FastAPI, tokens: Trusted | None) -> None:
    """Add the routes; `tokens` are those that the door knows."""
    router = APIRouter(include_in_schema=False)
    answers, scores = Kept(FRESH_S), Aside(HEALTH_S)

    @router.get("/overview", dependencies=[needs(Role.VIEWER)])
    def overview(network: Net) -> Response:
        """The overview by itself, for the page's script."""
        return HTMLResponse(answers.get("", lambda: _overview(network, scores)))

    @router.get("/", dependencies=[needs(Role.VIEWER)])
    async def page(request: Request, network: Net) -> Response:
        """The page; who comes as the server starts waits for what it has to read."""
        await network.await_read()
        items, position = network.feed(MACHINERY).kept()
        seen = Seen(network.control(), {}, _now_ms(), health=_scores(network, scores))
        values = values_of(seen, network.endpoints.topology.regions) | {
            "events": lines(items), "position": position,
            "form_key": request.state.browser.form_key if tokens is not None else "",
        }  # fmt: skip
        return HTMLResponse(html("page.html.j2", **values))

    @router.get("/sign-in")
    async def sign_in() -> Response:
        """The form that takes a token."""
        return HTMLResponse(html("sign_in.html.j2", wrong=""))

    @router.post("/sign-in")
    async def signed_in(request: Request) -> Response:
        """Keep the token in the browser, when it is one."""
        form = (await body_of(request, LONGEST_FORM)).decode("utf-8", "replace")
        token = parse_qs(form).get("token", [""])[0]
        why = "this is not one of the server's tokens"
        try:
            member = NOBODY if tokens is None else await known(tokens, token)
        except Denied as error:
            member, why = None, error.message
        act = act_of(request)
        if member is None:
            act.code = "unauthorized"
            wrong = html("sign_in.html.j2", wrong=why)
            return HTMLResponse(wrong, HTTPStatus.UNAUTHORIZED)
        act.about = member.name
        answer = RedirectResponse("/", HTTPStatus.SEE_OTHER)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=secure)
        return answer

    for name, media in FILES.items():
        router.add_api_route(f"/{name}", _file(file(name), media))
    app.include_router(router)
    app.include_router(acting.router)
    app.include_router(looking.router)
    app.include_router(kept.router)


def _file(content: bytes, media: str) -> Callable[[], Awaitable[Response]]:
    async def given() -> Response:
        return Response(content, media_type=media)

    return given
