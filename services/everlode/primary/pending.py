"""Answers to commands: decided in a turn, given once enough regions hold what they tell. Pure.

Invariants: no answer before its facts are committed; the level in an answer is what was achieved,
never what was asked for; answers leave in the order of their commands. One that cannot be made is
set aside alone: the others are given, and it is not tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import Any, Literal, NamedTuple

from everlode.avro.building import builder
from everlode.avro.unread import Addressee
from everlode.errors import EverlodeError
from everlode.events.base import CommandAnswered, FactRef
from everlode.events.types import fitting
from everlode.log.folds import Folds
from everlode.primary.unexpected import Unexpected, attempt

_answer: Callable[[dict[str, Any]], CommandAnswered] = builder(CommandAnswered)
"""To a command that Avro has read."""
HOME = 1
"""The level of what the home region's log holds, and perhaps no other."""


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
        self.wrong: list[Unexpected] = []
        """Answers that could not be made; whoever reports them clears the list."""

    def committed(self, answers: Iterable[Answer]) -> None:
        """Their facts are in the home region's log. Who gave no reply_to waits for none."""
        self._waiting += [answer for answer in answers if answer.to.reply_to]

    def held(self, level: int, at: datetime) -> list[CommandAnswered]:
        """All that is committed is held by `level` regions: the answers that ask for no more."""
        due = [a for a in self._waiting if a.asked <= level]
        self._waiting = [a for a in self._waiting if a.asked > level]
        given: list[CommandAnswered] = []
        for answer in due:
            what = fitting(f"the answer to {answer.to.command_type} {answer.to.command_id}")
            wrong = attempt(what, partial(self._give, answer, level, at, given))
            if wrong is not None:
                self.wrong.append(wrong)
        return given

    def _give(self, answer: Answer, level: int, at: datetime, given: list[CommandAnswered]) -> None:
        given.append(self._answered(answer, level, at))

    def _answered(self, answer: Answer, level: int, at: datetime) -> CommandAnswered:
        to, error = answer.to, answer.error
        asked = (to.aggregate_id, to.command_id)
        refs = [fact.ref(self._topic) for fact in self._folds.answers.get(asked, [])]
        fields: dict[str, Any] = {
            "command_id": to.command_id,
            "command_type": to.command_type,
            "aggregate_id": to.aggregate_id,
            "reply_to": to.reply_to,
            "region": self._region,
            "node_id": self._node_id,
            "outcome": answer.outcome,
            "code": error.code if error else "",
            "message": fitting(error.message) if error else "",
            "hint": fitting(error.hint) if error else "",
            "facts": refs,
            "level": level,
            "answered_at": at,
        }
        if error is None:
            return _answer(fields)
        # what was refused may not even have been read: its names may be anything
        fields["facts"] = [FactRef.model_validate(ref) for ref in refs]
        return CommandAnswered.model_validate(fields)
