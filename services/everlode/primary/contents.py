"""What was asked under the ids of the last commands, so that another one under the same id is
refused and not answered as a repeat.

Times do not count: who asks again after a time-out counts deadlines and leases anew. Known of what
this process has decided; of what a predecessor has, nobody knows, and it is a repeat. Pure, but for
what it remembers.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime

from everlode.errors import Refusal
from everlode.events.base import Command
from everlode.log.folds import KEPT_ANSWERS, Asked


def content_of(command: Command) -> int:
    """Equal for equal commands, times aside; of this process only."""
    values = [v for v in command.__dict__.values() if not isinstance(v, datetime)]
    return hash((type(command).__name__, *values))


class Contents:
    """Of the last commands of one component. Not thread-safe."""

    def __init__(self) -> None:
        self._known: OrderedDict[Asked, int] = OrderedDict()

    def note(self, asked: Asked, content: int) -> None:
        """A command is committed."""
        self._known[asked] = content
        while len(self._known) > KEPT_ANSWERS:
            self._known.popitem(last=False)

    def add(self, others: Contents) -> None:
        """All of these are committed."""
        for asked, content in others._known.items():
            self.note(asked, content)

    def check(self, asked: Asked, command: Command) -> None:
        """Raises: Refusal: something else was asked under this id."""
        first = self._known.get(asked)
        if first is not None and first != content_of(command):
            raise Refusal(
                f"{type(command).__name__} has the id of another command to {asked[0]}",
                code="other_content",
                hint="the first one stands; give this one a command_id of its own",
            )
