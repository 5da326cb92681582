"""What a turn of a primary's core comes to. Pure."""

from __future__ import annotations

from typing import NamedTuple

from everlode.errors import ContractError
from everlode.log.facts import NewFact
from everlode.primary.component import Notice
from everlode.primary.pending import Answer
from everlode.snapshots.work import Change
from everlode.state.view import Where
from everlode.telemetry.entries import Entry
from everlode.topics.place import TopicPartition


class Ready(NamedTuple):
    """What a turn has come to. It says all that the runtime has to do."""

    facts: list[NewFact]
    """To append in one transaction, in this order."""
    changes: list[Change]
    """What the facts make of their aggregates."""
    read: dict[TopicPartition, int]
    """Offsets of the next records to read; committed in the same transaction."""
    answers: list[Answer]
    """Given once the facts are committed, and held by as many regions as each asks for."""
    report: list[Entry]
    letters: list[tuple[Where, ContractError]]
    """Inputs that could not be decided, by a mistake of ours; to be kept before the commit."""
    notices: list[Notice]
    """To be published once it is committed."""
