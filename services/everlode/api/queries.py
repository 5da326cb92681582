"""Routes that read: who leads, nodes, figures, aggregates, backups, operations.

They ask the views of the command line, over connections that are kept. Shell.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from everlode.api.answers import Led, Plain, Serving, problems
from everlode.api.asking import Id, Net, needs
from everlode.api.network import Network
from everlode.api.problems import Denied
from everlode.api.tokens import Role
from everlode.control.fold import ControlState, NodeState, ScopeState
from everlode.control.scopes import Scope
from everlode.errors import ContractError, NotFound, Precondition
from everlode.events.nodes import NodeStatus
from everlode.events.services import SERVICES
from everlode.views.backups import Shown
from everlode.views.clusters import KINDS, cluster, nodes
from everlode.views.explain import ids_of, last_events, one_explained
from everlode.views.health import RegionSeen, gathered, of_projection
from everlode.views.skews import skews_by

router = APIRouter(dependencies=[needs(Role.VIEWER)], default_response_class=Plain)
GONE = frozenset({NodeStatus.LOST, NodeStatus.FENCED})
FRESH_S = 2.0
"""Figures that were computed for one who asked are given to others for so long."""
BACKUPS_S = 10.0
Named = Annotated[str | None, Query(max_length=32, description="Region; all without it.")]
SeenFrom = Annotated[
    str | None,
    Query(alias="from", max_length=32, description="Region whose projection is asked."),
]
Kind = Annotated[str, Query(description="Kind of cluster.", pattern=f"^({'|'.join(KINDS)})$")]
Object = dict[str, Any]


class Kept:
    """Answers that are computed once for all who ask within `fresh_s`. Thread-safe."""

    def __init__(self, fresh_s: float) -> None:
        self._fresh_s = fresh_s
        self._guard, self._found = threading.Lock(), dict[str, tuple[float, Any]]()

    def get(self, key: str, compute: Callable[[], Any]) -> Any:
        """The answer of this key. Raises: as `compute` does."""
        with self._guard:
            at, found = self._found.get(key, (0.0, None))
            if found is None or time.monotonic() - at > self._fresh_s:
                found = compute()
                self._found[key] = time.monotonic(), found
        return found

    def forget(self, key: str) -> None:
        """The answer of this key is computed anew for the next who asks."""
        with self._guard:
            self._found.pop(key, None)


def led(control: ControlState, scope: ScopeState) -> Object:
    """A scope as it is shown. Pure."""
    node = control.nodes.get(scope.primary)
    return {
        "scope": scope.scope, "epoch": scope.epoch, "primary": scope.primary,
        "region": scope.region, "status": node.status if node else "unknown",
        "endpoint": node.endpoint if node else "", "decided_at": scope.decided_at,
        "renewed_at": scope.renewed_at,
    }  # fmt: skip


def works(control: ControlState, name: str) -> bool:
    """Whether a scope has a primary that is not known to have failed. Pure."""
    scope = control.scopes.get(name)
    node = control.nodes.get(scope.primary) if scope else None
    return scope is not None and (node is None or node.status not in GONE)


def serving(control: ControlState, region: str) -> Object:
    """Whether all services of a region have primaries that work. Pure."""
    scopes = [f"{service.scope}/{region}" for service in SERVICES]
    without = [name for name in scopes if not works(control, name)]
    return {"region": region, "serving": not without, "without": without}


def known_nodes(control: ControlState, region: str | None) -> list[Object]:
    """The nodes of the control log, of one region or of all, by region and id. Pure."""
    found = [n for n in control.nodes.values() if region in (None, n.region)]
    return node_rows(control, found)


def node_rows(control: ControlState, found: Iterable[NodeState]) -> list[Object]:
    """These nodes as they are shown, by region and id. Pure."""
    leading = {scope.primary: scope.scope for scope in control.scopes.values()}
    return [
        {
            "node_id": n.node_id, "region": n.region, "component": n.component, "kind": n.kind,
            "status": n.status, "leads": leading.get(n.node_id), "endpoint": n.endpoint,
            "changed_at": n.changed_at,
        }
        for n in sorted(found, key=lambda n: (n.region, n.component, n.node_id))
    ]  # fmt: skip


def known_scope(network: Network, text: str) -> ScopeState:
    """The scope of this name. Raises: NotFound: it is no scope, or nobody has ever led it."""
    try:
        network.require_region(Scope.parse(text).home)
    except ContractError as error:
        raise NotFound(error.message, hint=error.hint) from None
    found = network.control().scopes.get(text)
    if found is None:
        raise NotFound(f"nobody has led {text} yet", code="no_primary")
    return found


@router.get("/primary/{scope:path}", response_model=Led, responses=problems(HTTPStatus.NOT_FOUND))
def primary(
    scope: Id,
    network: Net,
    node: Annotated[
        str | None, Query(max_length=255, description="200 only if this node leads.")
    ] = None,
) -> Response:
    """Who leads a scope, for load balancers: 503 while its primary is known to have failed."""
    found, control = known_scope(network, scope), network.control()
    if not works(control, scope) or node not in (None, found.primary):
        raise Denied(
            HTTPStatus.SERVICE_UNAVAILABLE, f"{node or 'a node that works'} does not lead {scope}",
            code="not_primary", hint=f"its primary is {found.primary}, in epoch {found.epoch}",
        )  # fmt: skip
    return Plain(led(control, found))


@router.get("/region/{region}", response_model=Serving, responses=problems(HTTPStatus.NOT_FOUND))
def region_serves(region: Id, network: Net) -> Response:
    """Whether all services of a region have primaries that work: 200, else 503."""
    found = serving(network.control(), network.require_region(region))
    if not found["serving"]:
        raise Denied(
            HTTPStatus.SERVICE_UNAVAILABLE, f"without a primary: {', '.join(found['without'])}",
            code="not_serving",
        )  # fmt: skip
    return Plain(found)


@router.get("/regions", response_model=list[Serving], responses=problems())
def regions(network: Net) -> Response:
    """All regions, and whether their services have primaries."""
    control = network.control()
    return Plain([serving(control, region) for region in network.endpoints.regions])


@router.get("/scopes", response_model=list[Led], responses=problems())
def scopes(network: Net) -> Response:
    """All scopes that somebody leads, by name."""
    control = network.control()
    return Plain([led(control, scope) for _, scope in sorted(control.scopes.items())])


@router.get("/scopes/{scope:path}", response_model=Object, responses=problems(HTTPStatus.NOT_FOUND))
def one_scope(scope: Id, network: Net) -> Response:
    """A scope, its last decision, and the nodes that could lead it."""
    found, control = known_scope(network, scope), network.control()
    component, _, home = scope.partition("/")
    others = [n for n in known_nodes(control, home) if n["component"] == component]
    return Plain(led(control, found) | {"decision": found.decision, "nodes": others})


@router.get("/nodes", response_model=list[Object], responses=problems(HTTPStatus.NOT_FOUND))
def all_nodes(network: Net, region: Named = None) -> Response:
    """The nodes as the control log knows them, by region and id; with a region their beats too."""
    found = known_nodes(network.control(), region)
    if region is not None:
        with network.asked(region) as (asked, _):
            beats = {n["node_id"]: n for kind in KINDS for n in nodes(asked, kind)}
        found = [beats.get(n["node_id"], {}) | n for n in found]
    return Plain(found)


_FIGURES, _SCORES, _BACKUPS = Kept(FRESH_S), Kept(FRESH_S), Kept(BACKUPS_S)


@router.get("/clusters", response_model=Object, responses=problems(HTTPStatus.NOT_FOUND))
def figures(network: Net, kind: Kind, region: Named = None, seen_from: SeenFrom = None) -> Response:
    """The figures of a region's cluster of one kind, see the glossary; of this region without one.

    They are computed once for all who ask within two seconds.
    """
    home = network.require_region(region or network.region)

    def compute() -> Object:
        with network.asked(seen_from) as (asked, generation):
            origin = network.endpoints.regions[home].origin
            of_home = asked._replace(region=home, origin=origin)
            where = {"seen_from": asked.region, "generation": generation}
            return cluster(kind, of_home) | where

    return Plain(_FIGURES.get(f"{id(network)} {kind} {home} {seen_from}", compute))


@router.get("/health", response_model=Object, responses=problems(HTTPStatus.NOT_FOUND))
def health(network: Net, region: Named = None) -> Response:
    """The scores of the network, its regions, components and nodes, with their evidence.

    They are computed once for all who ask within two seconds.
    """
    names = [network.require_region(region)] if region else list(network.endpoints.regions)
    return Plain(scores_of(network, names))


def scores_of(network: Network, names: list[str]) -> Object:
    """The scores of these regions, computed at most each `FRESH_S`. Raises: Unavailable."""

    def compute() -> Object:
        return gathered(names, network.control(), lambda name: _seen(network, name)).as_dict()

    found: Object = _SCORES.get(f"{id(network)} {names}", compute)
    return found


def _seen(network: Network, region: str) -> RegionSeen:
    with network.reader(region) as reader:
        clocks = skews_by(reader, network.endpoints.regions[region].origin)
    with network.asked(region) as (asked, _):
        return of_projection(asked, clocks)


def aggregate(network: Network, component: str, key: str, seen_from: str | None) -> Object:
    """An aggregate explained by a region's projection, this server's without one, and its facts.

    Raises: NotFound: there is none, or no such region. Refusal: several are named so. Unavailable.
    """
    with network.asked(seen_from) as (asked, generation):
        found, row = one_explained(asked, component, ids_of(key, list(network.endpoints.regions)))
    with network.reader(asked.region) as reader:
        events = last_events(reader, row)
    return found | {"events": events, "seen_from": asked.region, "generation": generation}


_ONE = problems(HTTPStatus.NOT_FOUND)


@router.get("/tasks/{id:path}", response_model=Object, responses=_ONE)
def task(id: Id, network: Net, seen_from: SeenFrom = None) -> Response:  # noqa: A002
    """What a task is, its last events with their places, and what it waits for."""
    return Plain(aggregate(network, "tasks", id, seen_from))


@router.get("/miners/{id:path}", response_model=Object, responses=_ONE)
def miner(id: Id, network: Net, seen_from: SeenFrom = None) -> Response:  # noqa: A002
    """What a miner is, its last events with their places, and what it works on."""
    return Plain(aggregate(network, "miners", id, seen_from))


@router.get("/validations/{id:path}", response_model=Object, responses=_ONE)
def validation(id: Id, network: Net, seen_from: SeenFrom = None) -> Response:  # noqa: A002
    """A validation's state, and its last events with their places."""
    return Plain(aggregate(network, "validations", id, seen_from))


@router.get("/rewards/{id:path}", response_model=Object, responses=_ONE)
def reward(id: Id, network: Net, seen_from: SeenFrom = None) -> Response:  # noqa: A002
    """A reward's state, and its last events with their places."""
    return Plain(aggregate(network, "rewards", id, seen_from))


def backups_of(network: Network, home: str) -> Shown:
    """A region's backups, read at most each `BACKUPS_S`. Raises: Precondition; Unavailable."""
    of = network.backups
    if of is None:
        raise Precondition("this network has no object store", code="no_store")
    found: Shown = _BACKUPS.get(
        f"{id(network)} {home}", lambda: of(home, network.control().newest.get(home))
    )
    return found


@router.get(
    "/backups",
    response_model=Object,
    responses=problems(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
def backups(network: Net, region: Named = None) -> Response:
    """A region's backups, oldest first, this server's without one; read at most each 10 s."""
    home = network.require_region(region or network.region)
    found = backups_of(network, home)
    return Plain({"region": home, "backups": found.rows, "behind": found.behind})
