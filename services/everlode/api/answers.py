"""Answers of the server: JSON in its plain form, and problems.

Pure, but for the time that a listener may take.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Message, Send

from everlode.api.plain import as_json
from everlode.api.problems import MEDIA, Problem, problem, status_of
from everlode.errors import EverlodeError

SLOW_S = 20.0
"""A listener that takes nothing for so long is dropped."""
Digits = str
"""An integer as a text of digits."""


class Plain(JSONResponse):
    """A body in the plain form."""

    def render(self, content: Any) -> bytes:
        """See Response."""
        return as_json(content).encode()


class Events(StreamingResponse):
    """Server-sent events."""

    media_type = "text/event-stream"

    async def stream_response(self, send: Send) -> None:
        """See StreamingResponse; one who takes nothing for `SLOW_S` is dropped."""

        async def in_time(message: Message) -> None:
            async with asyncio.timeout(SLOW_S):
                await send(message)

        with suppress(TimeoutError):
            await super().stream_response(in_time)


class Live(BaseModel):
    """The process answers."""

    live: bool


class Led(BaseModel):
    """Who leads a scope."""

    scope: str
    epoch: Digits
    primary: str
    region: str
    status: str = Field(description="Of the primary, by the control log.")
    endpoint: str = Field(description="What the primary says of itself.")
    decided_at: Digits = Field(description="Offset of the decision in the control log.")
    renewed_at: Digits = Field(description="Offset of its last renewal; -1 before the first.")


class Serving(BaseModel):
    """Whether a region's services have primaries that work."""

    region: str
    serving: bool
    without: list[str] = Field(description="Scopes that have none.")


class FactPlace(BaseModel):
    """Where a fact stands in the log of its home."""

    event_id: str
    event_type: str
    topic: str
    partition: Digits
    offset: Digits
    seq: Digits
    version: Digits


class Answered(BaseModel):
    """The answer of a primary: what was asked is in the log."""

    command_id: str
    command_type: str
    aggregate_id: str
    region: str
    node_id: str
    outcome: str
    code: str
    message: str
    hint: str
    facts: list[FactPlace]
    answered_at: str


def refusal(error: EverlodeError) -> Response:
    """A problem as an answer."""
    status = status_of(error)
    headers = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="everlode"'
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        headers["Retry-After"] = "1"
    return JSONResponse(problem(error), status, headers=headers, media_type=MEDIA)


def problems(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: that these statuses are answered with a problem."""
    always = (
        HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.MISDIRECTED_REQUEST,
        HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE,
    )  # fmt: skip
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    return {
        status.value: {"description": status.phrase, "content": {MEDIA: {"schema": schema}}}
        for status in (*always, *statuses)
    }
