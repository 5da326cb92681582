"""Names of scopes: component/home region. Pure."""

from __future__ import annotations

from everlode.errors import ContractError
from everlode.events.services import SERVICES

SCOPE_OF = {
    **{service.facts: service.scope for service in SERVICES},
    "coordinator": "coordinator",
}
"""Component of a topic → the first half of its scopes' names."""
COMPONENT_OF = {scope: component for component, scope in SCOPE_OF.items()}


def scope_of(component: str, region: str) -> str:
    """Scope of a component at home in a region, e.g. task-manager/eu."""
    return f"{SCOPE_OF[component]}/{region}"


def split_scope(scope: str) -> tuple[str, str]:
    """Component of the topic, and home region: task-manager/eu → (tasks, eu).

    Raises: ContractError: it is no scope.
    """
    name, slash, region = scope.partition("/")
    if name not in COMPONENT_OF or not slash or not region:
        raise ContractError(f"{scope!r} is no scope", hint="e.g. task-manager/eu")
    return COMPONENT_OF[name], region
