"""Routes that ask: a command of one of the four services, and the answer of its primary.

A route for each type in the catalogue, its body the command's own model. `Idempotency-Key` is the
command's id: what is sent again under it is carried out once, and gets the same answer. Shell.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model
from starlette.responses import Response

from everlode.api.answers import Answered, Plain, problems
from everlode.api.asking import NO_CONTROL, Net, body_of, needs
from everlode.api.audit import act_of
from everlode.api.problems import Denied, misfit
from everlode.api.tokens import Role
from everlode.events.base import Command
from everlode.events.catalogue import COMMANDS
from everlode.events.types import LONGEST_ID, Id

OF_MEMBERS = frozenset(
    {
        "SubmitTask", "CancelTask", "ReportProgress", "SubmitSolution", "ReportFailure",
        "RegisterMiner", "UpdateMiner", "DepositStake", "RetireMiner", "CastVote",
    }
)  # fmt: skip
"""What clients and miners send; the others are the services' own, for an admin."""
LONGEST_BODY = 100_000
JSON = "application/json"
_ANY: TypeAdapter[Any] = TypeAdapter(Any)
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key", min_length=1, max_length=LONGEST_ID, pattern=NO_CONTROL,
        description="The command's id; a new one without it.",
    ),
]  # fmt: skip
Within = Annotated[
    int, Query(alias="timeout_s", ge=1, le=60, description="Seconds that the answer may take.")
]


class Asked(BaseModel):
    """Base of the bodies."""

    model_config = ConfigDict(strict=True, extra="forbid")

    id: Id


def model_of(name: str, command: type[Command]) -> type[Asked]:
    """The model of a command's body: the aggregate's id, and the command."""
    fields: dict[str, Any] = {"data": (command, ...)}
    return create_model(f"{name}Asked", __base__=Asked, __doc__=command.__doc__, **fields)


def schema_of(body: type[BaseModel]) -> dict[str, Any]:
    """The body for OpenAPI, with what it refers to inside."""
    found = body.model_json_schema()
    parts = found.pop("$defs", {})

    def inlined(value: Any) -> Any:
        match value:
            case {"$ref": str(name)}:
                return inlined(parts[name.rpartition("/")[2]])
            case dict():
                return {k: inlined(v) for k, v in value.items()}
            case list():
                return [inlined(v) for v in value]
            case _:
                return value

    return dict(inlined(found))


async def read_body(request: Request, body: type[BaseModel]) -> Any:
    """The body, which must be JSON: a page of another site cannot send that unasked.

    Raises: Denied.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise Denied(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body is not JSON", code="not_json",
            hint=f"Content-Type: {JSON}",
        )  # fmt: skip
    raw = await body_of(request, LONGEST_BODY)
    try:
        plain = _whole(_ANY.validate_json(raw))
    except ValidationError as error:
        why = error.errors()[0]["msg"]
        raise Denied(
            HTTPStatus.UNPROCESSABLE_ENTITY, f"the body is not JSON: {why}", code="bad_field"
        ) from None
    try:
        return body.model_validate_json(_ANY.dump_json(plain))
    except ValidationError as error:
        raise misfit(error) from None


def _whole(value: Any) -> Any:
    """JSON has one kind of number: 1.0 is the integer 1, as JSON Schema has it. Pure."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {key: _whole(item) for key, item in value.items()}
        case list():
            return [_whole(item) for item in value]
        case _:
            return value


def _route(name: str, command: type[Command]) -> Callable[..., Awaitable[Response]]:
    body = model_of(name, command)

    async def send(
        request: Request, network: Net, key: Key = None, within: Within = 30
    ) -> Response:
        asked = await read_body(request, body)
        act = act_of(request)
        act.about, act.id = asked.id, key or str(uuid.uuid4())
        client = await network.connect()
        answer = await client.call(asked.id, asked.data, command_id=act.id, timeout_s=float(within))
        return Plain(answer)

    send.__name__ = f"send_{name}"
    send.__doc__ = f"{command.__doc__} Answered once it is in the log of {command.component}."
    return send


def router() -> APIRouter:
    """All commands."""
    found = APIRouter(default_response_class=Plain)
    statuses = (
        HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE, HTTPStatus.GATEWAY_TIMEOUT,
    )  # fmt: skip
    for name, command in COMMANDS.items():
        role = Role.OPERATOR if name in OF_MEMBERS else Role.ADMIN
        schema = schema_of(model_of(name, command))
        found.add_api_route(
            f"/commands/{name}", _route(name, command), methods=["POST"], response_model=Answered,
            responses=problems(*statuses), dependencies=[needs(role)], tags=[command.component],
            openapi_extra={
                "requestBody": {"required": True, "content": {JSON: {"schema": schema}}}
            },
        )  # fmt: skip
    return found
