"""What the page shows of a network, and as which HTML: every value is escaped. Pure.

The page's script has the same words for an event (`about`): what came before it was loaded and
what comes afterwards look alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

import jinja2

from everlode.api.aside import Aged
from everlode.api.queries import known_nodes, led, serving
from everlode.api.ring import Item
from everlode.control.fold import ControlState
from everlode.errors import EverlodeError
from everlode.operators.desk import shown
from everlode.views.said import rows, said

SHOWN = 100
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
    return [
        serving(control, name)
        | {
            "scopes": [
                led(control, scope) | {"paused": _paused(seen, scope.scope)}
                for _, scope in sorted(control.scopes.items())
                if scope.scope.endswith(f"/{name}")
            ],
            "nodes": [
                node | {"acked": _acked(control, node), "health": nodes.get(node["node_id"])}
                for node in known_nodes(control, name)
            ],
            "health": regions.get(name),
            "lag_s": seen.lag_s.get(name),
        }
        for name in names
    ]


def _scores(seen: Seen, level: str) -> dict[str, str]:
    """Name → its score in words, with what lowers it most."""
    found = seen.health.value[level] if seen.health else ()
    return {
        each["name"]: " · ".join(
            filter(None, ("?" if each["score"] is None else f"{each['score']:.2f}", each["reason"]))
        )
        for each in found
    }


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
    words = (
        data.get("kind") if event["operation"] else None, data.get("step"),
        data.get("subject") or event["subject"], data.get("detail"),
        f"primary: {new}" if new else None, data.get("rule"),
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
