"""What the routes share: who may, ids in paths, the network of a request. Shell."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Path, Request, Security
from fastapi.security import HTTPBearer

from everlode.api.network import Network
from everlode.api.problems import Denied
from everlode.api.tokens import Role
from everlode.events.types import LONGEST_ID

_BEARER = HTTPBearer(auto_error=False, description="A token of the server's file of tokens.")
NO_CONTROL = r"^[^\x00-\x1f\x7f-\x9f]*$"
Id = Annotated[
    str,
    Path(
        min_length=1, max_length=LONGEST_ID, pattern=NO_CONTROL,
        description="The id, percent-encoded: eu/a is eu%2Fa, or eu/a as it is.",
    ),
]  # fmt: skip


# what routes depend on is async: of a plain function FastAPI asks a thread, for each request
async def network_of(request: Request) -> Network:
    """The network that the server is of."""
    found: Network = request.app.state.network
    return found


Net = Annotated[Network, Depends(network_of)]


async def body_of(request: Request, most: int) -> bytes:
    """The body of a request. Raises: Denied: it has more than `most` bytes; no more is read."""
    found = bytearray()
    async for piece in request.stream():
        found += piece
        if len(found) > most:
            raise Denied(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body has more than {most} bytes",
                code="too_large",
            )  # fmt: skip
    return bytes(found)


def needs(role: Role) -> Any:
    """A dependency: whoever asks must have the role. Raises: Denied."""

    async def admitted(request: Request, _: Annotated[Any, Security(_BEARER)] = None) -> None:
        member = request.state.member
        if member is None or not member.role.may(role):
            raise Denied(
                HTTPStatus.FORBIDDEN, f"this needs the role {role}", code="forbidden",
                hint="use a token with that role",
            )  # fmt: skip
        _only_known(request)

    return Depends(admitted)


def _only_known(request: Request) -> None:
    """Raises: Denied: a parameter that the document does not have, or one given twice."""
    asked = [name for name, _ in request.query_params.multi_items()]
    if not asked:
        return
    paths = request.app.openapi()["paths"]
    operation = paths.get(request.scope["route"].path_format, {}).get(request.method.lower(), {})
    known = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "query"}
    for name in asked:
        if name in known and asked.count(name) == 1:
            continue
        wrong = "is given twice" if name in known else "is not known here"
        raise Denied(
            HTTPStatus.UNPROCESSABLE_ENTITY, f"query.{name[:64]} {wrong}", code="bad_field",
            hint=f"expected: {', '.join(sorted(known)) or 'no parameter'}",
        )  # fmt: skip
