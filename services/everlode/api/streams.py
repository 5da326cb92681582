"""Routes that follow: events as they come, and operations as they stand. Shell."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from everlode.api.answers import Events, Plain, problems
from everlode.api.asking import Id, Net, needs
from everlode.api.network import MACHINERY, STREAMS
from everlode.api.ring import Wanted
from everlode.api.tokens import Role
from everlode.errors import NotFound
from everlode.operators.desk import shown

router = APIRouter(dependencies=[needs(Role.VIEWER)], default_response_class=Plain)
LISTED = 100
Text = Annotated[str, Query(max_length=255)]
_OK: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events: each is a CloudEvent in JSON, its id a position.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


@router.get("/events", response_class=Events, responses=problems() | _OK)
async def events(
    *,
    network: Net,
    of: Annotated[
        str,
        Query(
            description="machinery: recoveries and health; else facts of that component.",
            pattern=f"^({'|'.join(STREAMS)})$",
        ),
    ] = MACHINERY,
    type: Annotated[  # noqa: A002
        list[str] | None, Query(max_length=50, description="Types of event; all without it.")
    ] = None,
    scope: Text = "",
    region: Text = "",
    operation: Text = "",
    position: Annotated[
        str | None, Query(max_length=4096, description="Where to begin; from now on without it.")
    ] = None,
    last_event_id: Annotated[
        str | None, Header(max_length=4096, description="Where to go on; it goes before position.")
    ] = None,
) -> Response:
    """Follow a stream. It goes on exactly after the position, also on another server of the region.

    One `stale` event comes first when that cannot be: read the snapshot that it names anew.
    """
    feed = network.feed(of)
    await feed.require_room()
    wanted = Wanted(frozenset(type or ()), scope, region, operation)
    return Events(feed.listen(last_event_id or position, wanted))


@router.get("/operations", response_model=dict[str, Any], responses=problems())
async def operations(network: Net) -> Response:
    """The last operations, newest first, and the position in `/events` that goes on from here.

    `wishes`: what operators have asked for, the open ones first; by the control log.
    """
    _, position = network.feed(MACHINERY).kept()
    found = [operation.shown() for operation in network.operations.newest(LISTED)]
    known = network.control().wishes
    wishes = [*known.open, *reversed(known.ended)][:LISTED]
    return Plain({"operations": found, "wishes": [*map(shown, wishes)], "position": position})


@router.get(
    "/operations/{id:path}",
    response_model=dict[str, Any],
    responses=problems(HTTPStatus.NOT_FOUND),
)
async def operation(id: Id, network: Net) -> Response:  # noqa: A002
    """One operation as it stands, and the position in `/events` that goes on from here.

    An operator's wish has an `outcome`: open, done, refused, timed-out or overtaken.
    """
    _, position = network.feed(MACHINERY).kept()
    wish = network.control().wishes.get(id)
    if wish is not None:
        return Plain(shown(wish) | {"position": position})
    found = network.operations.get(id)
    if found is None:
        raise NotFound(f"no operation is named {id!r}", hint="GET /operations lists the last ones")
    return Plain(found.shown() | {"position": position})
