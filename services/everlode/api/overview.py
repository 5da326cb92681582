"""What the page shows of a network, and as which HTML: every value is escaped. Pure.

The page's script has the same words for an event (`about`): what came before it was loaded and
what comes afterwards look alike.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from heapq import nsmallest
from importlib import resources
from typing import Any, NamedTuple

import jinja2

from everlode.api.aside import Aged
from everlode.api.queries import led, node_rows, serving
from everlode.api.ring import Item
from everlode.control.fold import ControlState, NodeState
from everlode.errors import EverlodeError
from everlode.events.nodes import NodeStatus
from everlode.operators.desk import shown
from everlode.views.said import rows, said

SHOWN = 100
NODES, LEAST = 400, 10
"""Nodes of a page, shared by its regions, and of each region at least."""
NOTES = 3
"""Of the evidence that an event names."""
WISHES = 10
"""Of what operators asked for, so many are shown, the newest first."""
FILES = {"page.css": "text/css", "page.js": "text/javascript"}


class Seen(NamedTuple):
    """What is known at one moment."""

    control: ControlState
    lag_s: Mapping[str, float | None]
    """Region → how old the newest moment is up to which all its facts are in."""
    now_ms: int
    """Wall clock."""
    trouble: EverlodeError | None = None
    """What did not answer."""
    health: Aged | None = None
    """The scores, as `GET /health` has them; None: they are not known yet."""


def values_of(seen: Seen, names: Sequence[str]) -> dict[str, Any]:
    """What the overview shows of the regions of these names, in their order."""
    wishes = seen.control.wishes
    newest = sorted((*wishes.open, *wishes.ended), key=lambda wish: -wish.asked_at)[:WISHES]
    return {
        "regions": regions_of(seen, names),
        "trouble": seen.trouble,
        "wishes": [shown(wish) for wish in newest],
        "health_age_s": seen.health.age_s if seen.health else None,
    }


def regions_of(seen: Seen, names: Sequence[str]) -> list[dict[str, Any]]:
    """The regions with their scopes and nodes, as the page shows them."""
    control = seen.control
    regions, nodes = _scores(seen, "regions"), _scores(seen, "nodes")
    most = max(LEAST, NODES // max(1, len(names)))
    by_region = nodes_by_region(control, most)
    return [
        serving(control, name)
        | {
            "scopes": [
                led(control, scope) | {"paused": _paused(seen, scope.scope)}
                for _, scope in sorted(control.scopes.items())
                if scope.scope.endswith(f"/{name}")
            ],
            "nodes": [
                node | {"acked": _acked(control, node), "health": _score(nodes, node["node_id"])}
                for node in node_rows(control, by_region[name].shown)
            ],
            "left_out": by_region[name],
            "health": _score(regions, name),
            "lag_s": seen.lag_s.get(name),
        }
        for name in names
    ]


class Nodes(NamedTuple):
    """The nodes of a region that are shown, and how many are not."""

    shown: list[NodeState]
    more: int = 0
    unwell: int = 0
    """Of those that are not shown, how many are not healthy."""


def nodes_by_region(control: ControlState, most: int) -> defaultdict[str, Nodes]:
    """Region → at most so many of its nodes: first those that are not well, then its leaders. Pure.

    A page has room for some hundred; of ten thousand it is these that somebody looks for.
    """
    leaders = {scope.primary for scope in control.scopes.values()}
    nodes = defaultdict[str, list[NodeState]](list)
    for node in control.nodes.values():
        nodes[node.region].append(node)
    found = defaultdict[str, Nodes](lambda: Nodes([]))
    for region, there in nodes.items():
        first = nsmallest(
            most, there,
            key=lambda n: (n.status == NodeStatus.HEALTHY, n.node_id not in leaders, n.node_id),
        )  # fmt: skip
        unwell = sum(n.status != NodeStatus.HEALTHY for n in there)
        shown_ones = sum(n.status != NodeStatus.HEALTHY for n in first)
        found[region] = Nodes(first, len(there) - len(first), unwell - shown_ones)
    return found


def _scores(seen: Seen, level: str) -> dict[str, Mapping[str, Any]]:
    return {each["name"]: each for each in (seen.health.value[level] if seen.health else ())}


def _score(scores: Mapping[str, Mapping[str, Any]], name: str) -> str | None:
    """A score in words, with what lowers it most; None: it is not known."""
    found = scores.get(name)
    if found is None:
        return None
    score = "?" if found["score"] is None else f"{found['score']:.2f}"
    return " · ".join(filter(None, (score, found["reason"])))


def _paused(seen: Seen, scope: str) -> str:
    pause = seen.control.wishes.pause(scope, seen.now_ms)
    return pause.operator if pause else ""


def _acked(control: ControlState, node: Mapping[str, Any]) -> str:
    ack = control.wishes.ack(node["node_id"], node["changed_at"])
    return ack.operator if ack else ""


def about(event: Mapping[str, Any]) -> str:
    """An event in a few words."""
    data = event["data"]
    success = data.get("success")
    new = data.get("new_primary")
    notes = [each["note"] for each in data.get("evidence", ()) if each["note"]]
    words = (
        data.get("kind") if event["operation"] else None, data.get("step"),
        data.get("subject") or event["subject"], data.get("detail"),
        f"primary: {new}" if new else None, data.get("rule"), ", ".join(notes[:NOTES]),
        None if success is None else "done" if success else "failed",
    )  # fmt: skip
    return " · ".join(str(word) for word in words if word)


def lines(items: Sequence[Item]) -> list[dict[str, Any]]:
    """The last events, newest first, with what they are about."""
    found = [json.loads(item.text) for item in reversed(items[-SHOWN:])]
    return [event | {"about": about(event)} for event in found]


def file(name: str) -> bytes:
    """A file of the page."""
    return (resources.files("everlode.api") / name).read_bytes()


_PAGES = jinja2.Environment(
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    loader=jinja2.FunctionLoader(lambda name: file(name).decode()),
)
_PAGES.filters |= {"said": said, "rows": rows}


def html(template: str, **values: Any) -> str:
    """A page, or a part of it."""
    return _PAGES.get_template(template).render(**values)
