"""Routes on what could not be taken: dead letters, and keys at which a projection has stopped.

    GET /dead-letters ─► which there are     GET /dead-letters/{id} ─► one, with its record
    POST /dead-letters ─► replayed or discarded, all of them or none, as by `everlode dlt`

Asked again, nothing happens: a letter has one fate. Shell.
"""

from __future__ import annotations

from contextlib import closing
from http import HTTPStatus
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from everlode.adapters.clock import WallClock
from everlode.api.answers import Plain, problems
from everlode.api.asking import Id, Net, needs
from everlode.api.audit import act_of
from everlode.api.commands import JSON, read_body, schema_of
from everlode.api.network import Network
from everlode.api.problems import Denied
from everlode.api.queries import Kept, Named
from everlode.api.streams import Text
from everlode.api.tokens import Role
from everlode.events import types
from everlode.log import fates, letters
from everlode.log.letters import Decider
from everlode.views import keys

router = APIRouter(dependencies=[needs(Role.VIEWER)], default_response_class=Plain)
FRESH_S = 5.0
"""Letters that were read for one who asked are shown to others for so long."""
LISTED = 100
MOST_DECIDED = 100
"""Letters of one request; each is a transaction."""
_ALL = Kept(FRESH_S)
Status = Annotated[str, Query(pattern=f"^({'|'.join((*fates.STATUSES, 'all'))})$")]


class LettersAsked(BaseModel):
    """What is to become of letters; see `everlode dlt --help`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    verb: Literal["replay", "discard"]
    ids: Annotated[
        list[types.Id],
        Field(min_length=1, max_length=MOST_DECIDED, description="As the list shows them."),
    ]
    reason: types.Text = Field("", description="Why; recorded. Of a discard it must be there.")
    dry_run: bool = Field(False, description="Only say whether it may be done.")


def letters_of(network: Network, home: str) -> list[fates.Kept]:
    """A region's dead letters, read at most each `FRESH_S`. Raises: Unavailable."""
    found: list[fates.Kept] = _ALL.get(_key(network, home), lambda: _read(network, home))
    return found


def _key(network: Network, home: str) -> str:
    return f"{id(network)} {home}"


def _read(network: Network, home: str) -> list[fates.Kept]:
    with network.reader(home) as reader:
        return letters.letters(reader, network.endpoints, home)


def stopped_of(network: Network, region: str | None) -> dict[str, Any]:
    """A region, its generation, and the keys at which that has stopped. Raises: Unavailable."""
    with network.asked(region) as (asked, generation):
        found = keys.wanted(keys.problems(asked.query), everything=False)
    return {"region": asked.region, "generation": generation, "keys": found}


@router.get(
    "/dead-letters", response_model=dict[str, Any], responses=problems(HTTPStatus.NOT_FOUND)
)
def dead_letters(
    *,
    network: Net,
    region: Named = None,
    status: Status = fates.OPEN,
    consumer: Text = "",
    topic: Text = "",
    code: Text = "",
) -> Response:
    """The newest dead letters of a region, oldest first, and how many there are of which.

    Of this server's region without one; read at most each 5 s.
    """
    home = network.require_region(region or network.region)
    asked = fates.Filter(status, consumer, topic, code)
    found = [kept for kept in letters_of(network, home) if asked.has(kept)]
    return Plain({"region": home} | fates.listed(found, LISTED))


@router.get(
    "/stopped-keys", response_model=dict[str, Any], responses=problems(HTTPStatus.NOT_FOUND)
)
def stopped_keys(network: Net, region: Named = None) -> Response:
    """The keys at which a region's projection has stopped, and conflicts."""
    return Plain(stopped_of(network, region))


@router.get(
    "/dead-letters/{id:path}",
    response_model=dict[str, Any],
    responses=problems(HTTPStatus.NOT_FOUND),
)
def one(id: Id, network: Net, region: Named = None) -> Response:  # noqa: A002
    """A dead letter: its record, where that came from, why it is here, what became of it."""
    home = network.require_region(region or network.region)
    with network.reader(home) as reader:
        kept = fates.one(letters.letters(reader, network.endpoints, home), id)
        return Plain(letters.opened(kept, letters.content(reader, kept.letter)))


class _Work(NamedTuple):
    """What is to be done, in whose name."""

    home: str
    asked: LettersAsked
    operator: str


@router.post(
    "/dead-letters",
    response_model=dict[str, Any],
    responses=problems(
        HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    ),
    dependencies=[needs(Role.OPERATOR)],
    openapi_extra={
        "requestBody": {"required": True, "content": {JSON: {"schema": schema_of(LettersAsked)}}}
    },
)  # fmt: skip
async def decide(request: Request, network: Net, region: Named = None) -> Response:
    """Put commands back into their topics, or record that letters will not be replayed.

    All of them, or none: 409 says which may not and why, or that another one decides just now.
    """
    asked: LettersAsked = await read_body(request, LettersAsked)
    act_of(request).about = f"{asked.verb} {' '.join(asked.ids)}"
    if asked.verb == "discard" and not asked.reason.strip():
        raise Denied(
            HTTPStatus.UNPROCESSABLE_ENTITY, "reason: a discard needs one", code="no_reason",
            hint="say why it will not be replayed",
        )  # fmt: skip
    home = network.require_region(region or network.region)
    work = _Work(home, asked, request.state.member.name)
    done = await run_in_threadpool(_decided, network, work)
    shown = [kept.shown() for kept in done]
    return Plain({"region": home, "dry_run": asked.dry_run, "letters": shown})


def _decided(network: Network, work: _Work) -> list[fates.Kept]:
    """Whoever asks for what may not be fences nobody. Raises: NotFound; Refusal; Unavailable."""
    home, asked, operator = work
    wishes = [fates.Wish(each, operator, asked.reason) for each in dict.fromkeys(asked.ids)]
    replays = asked.verb == "replay"
    rule = fates.require_replayable if replays else fates.require_discardable
    found = fates.judged(_read(network, home), wishes, rule, home)
    if asked.dry_run:
        return found
    try:
        with closing(Decider(network.endpoints, home, WallClock())) as decider:
            return decider.replay(wishes) if replays else decider.discard(wishes)
    finally:
        _ALL.forget(_key(network, home))
