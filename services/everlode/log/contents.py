"""What was asked under the ids of the last commands, so that another one under the same id is
refused and not answered as a repeat.

Times do not count: who asks again after a time-out counts deadlines and leases anew. A digest goes
with each answer into the snapshot, so a successor knows it, too, but of the last seconds before
its predecessor was killed: what it asks for again then is a repeat. Pure, but for what it
remembers.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime
from hashlib import blake2b

from everlode.errors import Refusal
from everlode.events.base import Command

ANSWERS_AT_HAND = 50_000
"""Commands whose answer is remembered, unless a setting says less; a snapshot has no more. A repeat
that is older is decided again, by the state."""

Asked = tuple[str, str]
"""Aggregate and command id: an id is its aggregate's."""


def content_of(command: Command) -> int:
    """Equal for equal commands, times aside, in every process; never 0, 64 bits.

    What a later build adds to a command, with a default, changes nothing while it is not given.
    """
    times = {name for name, value in command.__dict__.items() if isinstance(value, datetime)}
    text = command.model_dump_json(exclude=times, exclude_defaults=True)
    digest = blake2b(f"{type(command).__name__}{text}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True) or 1


class Contents:
    """Of the last commands of one component. Not thread-safe."""

    def __init__(self, at_hand: int = ANSWERS_AT_HAND) -> None:
        self._at_hand = at_hand
        self._known: OrderedDict[Asked, int] = OrderedDict()

    def of(self, asked: Asked) -> int:
        """The content; 0 when it is not known."""
        return self._known.get(asked, 0)

    def note(self, asked: Asked, content: int) -> None:
        """A command is committed; 0: what it asked for is not known."""
        if not content:
            return
        self._known[asked] = content
        while len(self._known) > self._at_hand:
            self._known.popitem(last=False)

    def add(self, others: Contents) -> None:
        """All of these are committed."""
        for asked, content in others._known.items():
            self.note(asked, content)

    def check(self, asked: Asked, command: Command) -> None:
        """Raises: Refusal: something else was asked under this id."""
        first = self.of(asked)
        if first and first != content_of(command):
            raise Refusal(
                f"{type(command).__name__} has the id of another command to {asked[0]}",
                code="other_content",
                hint="the first one stands; give this one a command_id of its own",
            )
