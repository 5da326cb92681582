"""Errors as problem details (RFC 9457), with the command line's codes and hints.

`code` and `hint` are those that `--json` prints; the status says whose turn it is: 4xx the
caller's, 5xx ours or a part's. Pure.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from everlode.errors import (
    ContractError,
    DeadlineExceeded,
    EverlodeError,
    NotFound,
    Refusal,
    Unavailable,
)
from everlode.events import door

MEDIA = "application/problem+json"


class Problem(BaseModel):
    """Why a request was not served (RFC 9457)."""

    type: str = Field(description="urn:everlode:CODE")
    title: str = Field(description="The status in words.")
    status: int
    detail: str = Field(description="What was wrong.")
    code: str = Field(description="Stable, for programs; the command line prints the same.")
    hint: str = Field(description="The way out; may be empty.")


class Denied(EverlodeError):
    """A request that the door turns away, by its HTTP status."""

    def __init__(self, status: HTTPStatus, message: str, *, code: str, hint: str = "") -> None:
        super().__init__(message, code=code, hint=hint)
        self.status = status


def status_of(error: EverlodeError) -> HTTPStatus:
    """The status that an error's fate stands for."""
    match error:
        case Denied():
            return error.status
        case NotFound():
            return HTTPStatus.NOT_FOUND
        case Refusal():
            unknown = error.code.startswith("no_")
            return HTTPStatus.NOT_FOUND if unknown else HTTPStatus.CONFLICT
        case ContractError():
            large = error.code == "too_large"
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE if large else HTTPStatus.CONFLICT
        case DeadlineExceeded():
            return HTTPStatus.GATEWAY_TIMEOUT
        case Unavailable():
            return HTTPStatus.SERVICE_UNAVAILABLE
        case _:
            return HTTPStatus.INTERNAL_SERVER_ERROR


def problem(error: EverlodeError) -> dict[str, Any]:
    """The body that stands for an error."""
    status = status_of(error)
    return Problem(
        type=f"urn:everlode:{error.code}", title=status.phrase, status=status.value,
        detail=error.message, code=error.code, hint=error.hint,
    ).model_dump()  # fmt: skip


def misfit(error: ValidationError) -> Denied:
    """A body that does not fit its schema: the field is named, a text is not quoted."""
    found = door.misfit(error)
    return Denied(HTTPStatus.UNPROCESSABLE_ENTITY, found.message, code="bad_field", hint=found.hint)
