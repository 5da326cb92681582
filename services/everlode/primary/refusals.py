"""Refusals of a primary's commands to itself: which of them others must hear of, each once. Pure,
but for what it remembers.
"""

from __future__ import annotations

from collections.abc import Iterable

from everlode.errors import Refusal
from everlode.events.health import ReactionRefused
from everlode.events.ids import derived
from everlode.events.types import fitting
from everlode.primary.component import Notice, Owed
from everlode.state.expected import is_expected
from everlode.telemetry.entries import Entry, OwnRefused

REMEMBERED = 10_000
"""Commands; what is due by time is refused in each turn until its time is another one."""


class Refusals:
    """Of one component's primary."""

    def __init__(self, component: str) -> None:
        self._component = component
        self._known: dict[str, None] = {}

    def unexpected(
        self, dropped: Iterable[tuple[Owed, Refusal]], report: list[Entry]
    ) -> list[Notice]:
        """Those that are new, also added to `report`."""
        found = []
        for owed, error in dropped:
            expected = is_expected(self._component, owed.rule, error.code)
            if expected or owed.command_id in self._known:
                continue
            self._known[owed.command_id] = None
            if len(self._known) > REMEMBERED:
                del self._known[next(iter(self._known))]
            data = ReactionRefused(
                component=self._component,
                rule=owed.rule,
                command_type=type(owed.command).__name__,
                refused_command_id=owed.command_id,
                cause_event_id=owed.cause or "",
                code=error.code,
                reason=fitting(error.message),
            )
            report.append(OwnRefused(owed.rule, owed.aggregate_id, error.code, data.reason))
            identity = derived("refused", owed.command_id)
            found.append(Notice(owed.aggregate_id, identity, data))
        return found
