"""Scopes: what can have a primary, a component of a home region. Pure."""

from __future__ import annotations

from typing import NamedTuple

from everlode.errors import ConfigError, ContractError
from everlode.events.services import BY_FACTS, SERVICES

SCOPE_OF = {
    **{service.facts: service.scope for service in SERVICES},
    "coordinator": "coordinator",
}
"""Component of a topic → the first half of its scopes' names."""
COMPONENT_OF = {scope: component for component, scope in SCOPE_OF.items()}


class Scope(NamedTuple):
    """A component (of a topic, e.g. tasks) and its home region; as text `task-manager/eu`.

    Records and the control log hold the text.
    """

    component: str
    home: str

    def __str__(self) -> str:
        return f"{SCOPE_OF[self.component]}/{self.home}"

    @classmethod
    def of(cls, component: str, home: str) -> Scope:
        """The scope of a component's primaries. Raises: ConfigError: it has none."""
        if component not in BY_FACTS:
            raise ConfigError(
                f"component {component!r} has no scope", hint=f"there are: {', '.join(BY_FACTS)}"
            )
        return cls(component, home)

    @classmethod
    def parse(cls, text: str) -> Scope:
        """The scope of a text. Raises: ContractError: it is none."""
        name, slash, home = text.partition("/")
        if name not in COMPONENT_OF or not slash or not home:
            raise ContractError(f"{text!r} is no scope", hint="e.g. task-manager/eu")
        return cls(COMPONENT_OF[name], home)
