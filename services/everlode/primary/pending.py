"""Answers to commands: decided in a turn, given once enough regions hold what they tell. Pure.

Invariants: no answer before its facts are committed; the level in an answer is what was achieved,
never what was asked for; answers leave in the order of their commands.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, NamedTuple

from everlode.avro.unread import Addressee
from everlode.errors import EverlodeError
from everlode.events.base import CommandAnswered
from everlode.log.folds import Answered, Folds

HOME = 1
"""The level of what the home region's log holds, and perhaps no other."""
MOST_TEXT = 1_000
"""Characters of a message or hint in an answer: an answer is no place for what was refused."""


class Answer(NamedTuple):
    """What a command has come to; its facts are found by its id once they are committed."""

    to: Addressee
    outcome: Literal["done", "repeated", "refused"]
    error: EverlodeError | None = None
    asked: int = HOME
    """How many regions must hold its facts before it is given."""


class Pending:
    """Answers of what is committed, until it is held by as many regions as they ask for."""

    def __init__(self, folds: Folds, topic: str, region: str, node_id: str) -> None:
        self._folds = folds
        self._topic, self._region, self._node_id = topic, region, node_id
        self._waiting: list[Answer] = []

    def committed(self, answers: Iterable[Answer]) -> None:
        """Their facts are in the home region's log. Who gave no reply_to waits for none."""
        self._waiting += [answer for answer in answers if answer.to.reply_to]

    def held(self, level: int, at: datetime) -> list[CommandAnswered]:
        """All that is committed is held by `level` regions: the answers that ask for no more."""
        given = [a for a in self._waiting if a.asked <= level]
        self._waiting = [a for a in self._waiting if a.asked > level]
        return [self._answered(answer, level, at) for answer in given]

    def _answered(self, answer: Answer, level: int, at: datetime) -> CommandAnswered:
        to, error = answer.to, answer.error
        asked = (to.aggregate_id, to.command_id)
        facts: list[Answered] = self._folds.answers.get(asked, [])
        return CommandAnswered.model_validate(
            {
                **to._asdict(),
                "region": self._region,
                "node_id": self._node_id,
                "outcome": answer.outcome,
                "code": error.code if error else "",
                "message": _cut(error.message) if error else "",
                "hint": _cut(error.hint) if error else "",
                "facts": [f.ref(self._topic) for f in facts],
                "level": level,
                "answered_at": at,
            }
        )


def _cut(text: str) -> str:
    """What an answer can hold of a text, which may quote what a stranger sent."""
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"
