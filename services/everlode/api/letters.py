"""Routes on what could not be taken: dead letters, and keys at which a projection has stopped.

They only show; replaying and discarding are `everlode dlt`'s. Shell.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from everlode.api.answers import Plain, problems
from everlode.api.asking import Net, needs
from everlode.api.network import Network
from everlode.api.queries import Kept, Named
from everlode.api.streams import Text
from everlode.api.tokens import Role
from everlode.log import fates, letters
from everlode.views import keys

router = APIRouter(dependencies=[needs(Role.VIEWER)], default_response_class=Plain)
FRESH_S = 5.0
"""Letters that were read for one who asked are shown to others for so long."""
LISTED = 100
_ALL = Kept(FRESH_S)
Status = Annotated[str, Query(pattern=f"^({'|'.join((*fates.STATUSES, 'all'))})$")]


def letters_of(network: Network, home: str) -> list[fates.Kept]:
    """A region's dead letters, read at most each `FRESH_S`. Raises: Unavailable."""

    def compute() -> list[fates.Kept]:
        with network.reader(home) as reader:
            return letters.letters(reader, network.endpoints, home)

    found: list[fates.Kept] = _ALL.get(f"{id(network)} {home}", compute)
    return found


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
