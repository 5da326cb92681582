"""The application: routes, errors as problems, the door around them. Shell."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from everlode.api import commands, letters, metrics, queries, streams, wishes
from everlode.api.answers import Live, Plain, problems, refusal
from everlode.api.asking import Net, needs
from everlode.api.audit import act_of
from everlode.api.members import Trusted
from everlode.api.network import MACHINERY, Network
from everlode.api.pages import add_pages
from everlode.api.problems import Denied, Problem
from everlode.api.tokens import Role
from everlode.errors import EverlodeError, Unavailable

_LOG = logging.getLogger(__name__)


def application(network: Network, tokens: Trusted | None) -> FastAPI:
    """All routes over one network; the door is put around it by whoever serves it."""
    app = FastAPI(
        title="Everlode", version="1", docs_url=None, redoc_url=None, telemetry={"tracing": False},
        description="Integers are texts of digits: a browser rounds beyond 2^53.",
        separate_input_output_schemas=False,
    )  # fmt: skip
    app.state.network = network
    _health(app)
    app.include_router(queries.router)
    app.include_router(streams.router)
    app.include_router(letters.router)
    app.include_router(commands.router())
    app.include_router(wishes.router)
    app.include_router(metrics.router)
    add_pages(app, tokens)
    _errors(app)
    _describe(app)
    return app


def _health(app: FastAPI) -> None:
    @app.get("/livez", response_model=Live, response_class=Plain)
    async def livez() -> Response:
        """The process answers."""
        return Plain({"live": True})

    @app.get(
        "/readyz", response_model=Live, response_class=Plain, responses=problems(),
        dependencies=[needs(Role.VIEWER)],
    )  # fmt: skip
    async def readyz(network: Net) -> Response:
        """The control log and the stream of recoveries are read, so that it can answer."""
        network.control()
        if not network.feed(MACHINERY).level:
            raise Unavailable("the stream of recoveries is not read yet", code="not_ready")
        return Plain({"live": True})


def _errors(app: FastAPI) -> None:
    def refused(request: Request, error: EverlodeError) -> Response:
        act_of(request).code = error.code
        return refusal(error)

    async def of_ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, EverlodeError)  # noqa: S101 - registered for these
        return refused(request, error)

    async def of_shape(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for these
        item = error.errors()[0]
        where = ".".join(map(str, item["loc"]))
        status = HTTPStatus.UNPROCESSABLE_ENTITY
        return refused(request, Denied(status, f"{where}: {item['msg']}", code="bad_field"))

    async def of_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for these
        status = HTTPStatus(error.status_code)
        code = status.name.lower()
        found = refused(request, Denied(status, str(error.detail), code=code))
        found.headers.update(error.headers or {})
        return found

    async def unexpected(request: Request, error: Exception) -> Response:
        _LOG.error("a request failed", exc_info=error)
        return refused(request, EverlodeError("an error of everlode itself", code="internal"))

    app.add_exception_handler(EverlodeError, of_ours)
    app.add_exception_handler(RequestValidationError, of_shape)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(Exception, unexpected)


def _describe(app: FastAPI) -> None:
    """The OpenAPI document with the problems' schema, which no route returns by itself."""
    made = app.openapi

    def described() -> dict[str, Any]:
        found = made()
        schemas = found.setdefault("components", {}).setdefault("schemas", {})
        if Problem.__name__ not in schemas:  # it is asked for at each request with a parameter
            schemas[Problem.__name__] = Problem.model_json_schema()
        return found

    app.openapi = described  # type: ignore[method-assign]
