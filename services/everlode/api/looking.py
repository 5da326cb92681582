"""Routes of the pages that show one thing closely. They need no script.

    GET /pages/scope?name=task-manager/eu ─► who leads it and why; who else might
    GET /pages/task?id=eu/a ─► where it is, and what it waits for
    GET /pages/figures ─► the figures of this region's clusters over time

An id is a parameter: of a path, browsers take `.` and `..` away. What is known is shown, and beside
it what did not answer. They say what the command's `explain` says, by the same functions. Shell.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response

from everlode.api.asking import NO_CONTROL, Net
from everlode.api.audit import act_of
from everlode.api.guard import PAGES
from everlode.api.history import BOX, EVERY_S, charts
from everlode.api.lags import lag_s
from everlode.api.network import Network
from everlode.api.overview import html
from everlode.api.problems import Denied, status_of
from everlode.api.queries import Kept, aggregate, known_scope, led
from everlode.errors import EverlodeError, Precondition, Unavailable
from everlode.events.types import LONGEST_ID
from everlode.views.operations import MOST

router = APIRouter(include_in_schema=False, prefix=PAGES.rstrip("/"))
FRESH_S = 5.0
"""A scope that was explained for one who asked is shown to others for so long."""
READERS = 4
"""So many read at once for pages, so that parts that do not answer hold up no other request."""
WAIT_S = 5.0
SHOWN = 50
OPERATIONS = 10
"""Of the recoveries of a scope."""
_SCOPES = Kept(FRESH_S)
_READING = threading.BoundedSemaphore(READERS)
Values = dict[str, Any]


@contextmanager
def _one_of_few() -> Iterator[None]:
    """Raises: Unavailable: others read, and wait for what does not answer."""
    if not _READING.acquire(timeout=WAIT_S):
        raise Unavailable("others are reading now", code="busy", hint="load the page again")
    try:
        yield
    finally:
        _READING.release()


def text_of(request: Request, name: str) -> str:
    """A parameter that is a lawful id. Raises: Denied."""
    given = request.query_params.getlist(name)
    if len(given) == 1 and 1 <= len(given[0]) <= LONGEST_ID and re.fullmatch(NO_CONTROL, given[0]):
        return given[0]
    raise Denied(
        HTTPStatus.UNPROCESSABLE_ENTITY, f"{name}: not an id", code="bad_field",
        hint=f"once, 1 to {LONGEST_ID} characters, none of them a control character",
    )  # fmt: skip


async def shown(
    request: Request,
    template: str,
    values: Values,
    *steps: Callable[[Values], None],
    each_alone: bool = False,
) -> Response:
    """A page of what the steps put in, which says what did not answer; its status is the first's.

    A step that fails ends those after it, but for steps that stand `each_alone`.
    """
    troubles: list[EverlodeError] = []

    def fill() -> None:
        for step in steps:
            try:
                with _one_of_few():
                    step(values)
            except EverlodeError as error:
                if error.message not in {known.message for known in troubles}:
                    troubles.append(error)
                if not each_alone:
                    return

    await run_in_threadpool(fill)
    if troubles:
        act_of(request).code = troubles[0].code
    page = html(template, troubles=troubles, at=datetime.now(UTC), **values)
    return HTMLResponse(page, status_of(troubles[0]) if troubles else HTTPStatus.OK)


# -- a scope -------------------------------------------------------------------------------------


@router.get("/scope")
async def scope(request: Request, network: Net) -> Response:
    """Who leads `?name=` and why, who else might, and what has failed there."""
    values: Values = dict.fromkeys(("led", "told"), None) | {
        "name": request.query_params.get("name", "")[:LONGEST_ID], "decisions": [],
        "operations": [], "age_s": 0.0,
    }  # fmt: skip
    values["operations"] = [
        operation.shown() for operation in network.operations.newest(MOST)
        if operation.scope == values["name"]
    ][:OPERATIONS]  # fmt: skip

    def by_control(values: Values) -> None:
        name = text_of(request, "name")
        values["led"] = led(network.control(), known_scope(network, name))

    def by_logs(values: Values) -> None:
        values["told"], decisions, at = _SCOPES.get(
            f"{id(network)} {values['name']}", lambda: _explained(network, values["name"])
        )
        values["decisions"] = decisions[: -SHOWN - 1 : -1]
        values["age_s"] = time.monotonic() - at

    return await shown(request, "scope.html.j2", values, by_control, by_logs)


def _explained(network: Network, name: str) -> tuple[Values, list[Values], float]:
    if network.explained is None:
        raise Precondition("this server explains no scopes", code="not_here")
    told, decisions = network.explained(name)
    for node in told["candidates"]:
        node["excluded"] = node["excluded"] or "nothing: it may be promoted"
    return told, decisions, time.monotonic()


# -- a task --------------------------------------------------------------------------------------


@router.get("/task")
async def task(request: Request, network: Net) -> Response:
    """Where the task `?id=` is, and what it waits for, by the projection of `?from=`."""
    query = request.query_params
    seen_from = query.get("from") or network.region
    values: Values = {
        "asked": query.get("id", "")[:LONGEST_ID], "task": None, "lag_s": None,
        "seen_from": seen_from, "others": [r for r in network.endpoints.regions if r != seen_from],
    }  # fmt: skip
    if "id" not in query:
        return await shown(request, "task.html.j2", values)

    def by_projection(values: Values) -> None:
        found = text_of(request, "id")
        values["task"] = aggregate(network, "tasks", found, seen_from)

    def its_age(values: Values) -> None:
        if seen_from == network.region:
            values["lag_s"] = lag_s(network).get(values["task"]["home"])

    return await shown(request, "task.html.j2", values, by_projection, its_age)


# -- figures over time ----------------------------------------------------------------------------


@router.get("/figures")
async def figures(request: Request, network: Net) -> Response:
    """The figures of this region's clusters, as long as this server has known them."""
    samples = network.history.samples()
    ends = [datetime.fromtimestamp(s.at_s, UTC).strftime("%H:%M:%S") for s in samples]
    values = {
        "region": network.region, "groups": charts(samples), "box": BOX,
        "begin": ends[0] if ends else "", "end": ends[-1] if ends else "",
        "every_s": f"{EVERY_S:.0f}",
    }  # fmt: skip
    return await shown(request, "figures.html.j2", values)
