"""The route by which operators ask for a switchover, a pause, a drain, …: as the command's verbs.

`Idempotency-Key` is the operation's id: what is asked again under it is carried out once. Shell.
"""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from everlode.api.answers import Plain, problems
from everlode.api.asking import Net, needs
from everlode.api.audit import act_of
from everlode.api.commands import JSON, Key, read_body, schema_of
from everlode.api.tokens import Role
from everlode.events.types import Count, OperatorVerb, Text
from everlode.operators.desk import Wanted, shown

router = APIRouter(dependencies=[needs(Role.OPERATOR)], default_response_class=Plain)


class WishAsked(BaseModel):
    """What an operator asks for; see `everlode scope --help`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    verb: OperatorVerb
    scope: Text = Field(
        "", description="E.g. task-manager/eu; empty of drain, rejoin, and of a node's ack."
    )
    node: Text = Field(
        "", description="The node to lead; of drain, rejoin and a node's ack that node."
    )
    reason: Text = ""
    until_ms: Annotated[
        Count | None, Field(description="When a pause ends, ms since 1970; null: when resumed.")
    ] = None
    timeout_s: Annotated[
        int, Field(ge=1, le=86_400, description="What was not decided by then is not done.")
    ] = 30


@router.post(
    "/operations",
    status_code=HTTPStatus.ACCEPTED.value,
    response_model=dict[str, Any],
    responses=problems(
        HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    ),
    openapi_extra={
        "requestBody": {"required": True, "content": {JSON: {"schema": schema_of(WishAsked)}}}
    },
)  # fmt: skip
async def ask(request: Request, network: Net, key: Key = None) -> Response:
    """Ask for what an operator may: 202, and the operation to follow at `/operations/{id}`.

    409 when it cannot be done now, with the reason for each node, or when another operation of the
    scope runs, which it names.
    """
    asked: WishAsked = await read_body(request, WishAsked)
    act = act_of(request)
    act.about = " ".join(filter(None, (asked.verb, asked.scope, asked.node)))
    act.id = key or str(uuid.uuid4())
    wanted = Wanted(
        asked.verb, asked.scope, asked.node, asked.reason, asked.until_ms, asked.timeout_s, act.id
    )
    wish = await run_in_threadpool(network.desk().ask, wanted, request.state.member.name)
    where = {"Location": f"/operations/{quote(wish.id, safe='')}"}
    return Plain(shown(wish), HTTPStatus.ACCEPTED.value, headers=where)
