"""Routes for people: the overview with its live timeline, and the way in. Shell.

A browser cannot send a bearer token with a page or a stream; it gives the token once and gets it
back as a cookie that only reads, for this site, until the browser is closed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from urllib.parse import parse_qs

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from everlode.api.asking import Net, body_of, needs
from everlode.api.audit import act_of
from everlode.api.guard import COOKIE
from everlode.api.lags import lag_s
from everlode.api.network import MACHINERY, Network
from everlode.api.overview import FILES, Seen, file, html, lines, regions_of
from everlode.api.queries import Kept
from everlode.api.tokens import NOBODY, Role, Tokens, member_of
from everlode.errors import EverlodeError

FRESH_S = 0.5
"""An overview is made so often at most, however many look."""
LONGEST_FORM = 2_000


def _seen(network: Network) -> Seen:
    trouble: EverlodeError | None = None
    lags: dict[str, float | None] = {}
    try:
        lags = lag_s(network)
    except EverlodeError as error:  # the page says so, and shows what else is known
        trouble = error
    return Seen(network.control(), lags, trouble)


def _overview(network: Network) -> str:
    seen = _seen(network)
    regions = regions_of(seen, network.endpoints.topology.regions)
    return html("overview.html.j2", regions=regions, trouble=seen.trouble)


def add_pages(app: FastAPI, tokens: Tokens | None) -> None:
    """Add the routes; `tokens` are those that the door knows."""
    router = APIRouter(include_in_schema=False)
    kept = Kept(FRESH_S)

    @router.get("/overview", dependencies=[needs(Role.VIEWER)])
    def overview(network: Net) -> Response:
        """The overview by itself, for the page's script."""
        return HTMLResponse(kept.get("", lambda: _overview(network)))

    @router.get("/", dependencies=[needs(Role.VIEWER)])
    async def page(network: Net) -> Response:
        """The page."""
        items, position = network.feed(MACHINERY).kept()
        seen = Seen(network.control(), {})
        regions = regions_of(seen, network.endpoints.topology.regions)
        values = {"regions": regions, "trouble": None, "events": lines(items)}
        return HTMLResponse(html("page.html.j2", position=position, **values))

    @router.get("/sign-in")
    async def sign_in() -> Response:
        """The form that takes a token."""
        return HTMLResponse(html("sign_in.html.j2", wrong=False))

    @router.post("/sign-in")
    async def signed_in(request: Request) -> Response:
        """Keep the token in the browser, when it is one."""
        form = (await body_of(request, LONGEST_FORM)).decode("utf-8", "replace")
        token = parse_qs(form).get("token", [""])[0]
        member = NOBODY if tokens is None else member_of(tokens, token)
        act = act_of(request)
        if member is None:
            act.code = "unauthorized"
            wrong = html("sign_in.html.j2", wrong=True)
            return HTMLResponse(wrong, HTTPStatus.UNAUTHORIZED)
        act.about = member.name
        answer = RedirectResponse("/", HTTPStatus.SEE_OTHER)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=secure)
        return answer

    for name, media in FILES.items():
        router.add_api_route(f"/{name}", _file(file(name), media))
    app.include_router(router)


def _file(content: bytes, media: str) -> Callable[[], Awaitable[Response]]:
    async def given() -> Response:
        return Response(content, media_type=media)

    return given
