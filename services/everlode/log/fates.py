"""What may become of a dead letter, and what is shown of one. Pure.

Invariant: a letter has one fate. Only commands go back: a fact stands in its log, which its primary
alone writes, and a signal is over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from everlode.errors import NotFound, Refusal
from everlode.events.catalogue import FACT_COMPONENTS
from everlode.topics.letters import NO_PROVENANCE, DeadLetter
from everlode.topics.names import command_topic, split_fact_topic

OPEN, REPLAYED, DISCARDED = "open", "replayed", "discarded"
STATUSES = (OPEN, REPLAYED, DISCARDED)


class Fate(NamedTuple):
    """What became of a letter."""

    status: str
    at: datetime
    operator: str
    reason: str


class Kept(NamedTuple):
    """A letter and what became of it; None: nothing yet."""

    letter: DeadLetter
    fate: Fate | None

    @property
    def status(self) -> str:
        """One of `STATUSES`."""
        return self.fate.status if self.fate else OPEN

    def shown(self) -> dict[str, Any]:
        """As it is printed and answered."""
        letter, fate = self
        return {
            "id": letter.id, **letter._asdict(), "left_out": list(letter.left_out),
            "status": self.status, "decided_at": fate.at.isoformat() if fate else None,
            "operator": fate.operator if fate else None, "reason": fate.reason if fate else None,
        }  # fmt: skip


class Filter(NamedTuple):
    """Which letters are asked for; empty: any. `status`: one of `STATUSES`, or all."""

    status: str = OPEN
    consumer: str = ""
    topic: str = ""
    code: str = ""

    def has(self, kept: Kept) -> bool:
        """Whether a letter is asked for."""
        letter = kept.letter
        return (
            self.status in ("all", kept.status)
            and self.consumer in ("", letter.consumer)
            and self.topic in ("", letter.topic)
            and self.code in ("", letter.code)
        )


class Wish(NamedTuple):
    """What somebody wants of a letter."""

    id: str
    operator: str
    reason: str = ""


def listed(found: Iterable[Kept], limit: int) -> dict[str, Any]:
    """The newest letters of these, oldest first, and how many of them there are of which. Pure."""
    kept = list(found)
    counts = Counter((k.letter.consumer, k.letter.topic, k.letter.code, k.status) for k in kept)
    names = ("consumer", "topic", "code", "status")
    newest = sorted(kept, key=lambda k: (k.letter.kept_at_ms or 0, k.letter.id))[-limit:]
    return {
        "letters": [k.shown() for k in newest],
        "counts": [
            {**dict(zip(names, key, strict=True)), "count": count}
            for key, count in sorted(counts.items())
        ],
        "total": len(kept),
    }


def one(kept: Iterable[Kept], letter_id: str) -> Kept:
    """The letter of this id. Raises: NotFound."""
    for found in kept:
        if found.letter.id == letter_id:
            return found
    raise NotFound(f"no dead letter is named {letter_id!r}", hint="everlode dlt list shows all")


def require_replayable(kept: Kept, _: Wish, region: str) -> None:
    """Raises: Refusal: `not_replayable`, `left_out`, `discarded`: with the way out."""
    letter = kept.letter
    commands = {command_topic(region, component) for component in FACT_COMPONENTS}
    if kept.status == DISCARDED:
        raise Refusal(f"{letter.id} was discarded", code="discarded", hint="see everlode dlt show")
    if letter.code == NO_PROVENANCE or letter.topic not in commands:
        raise Refusal(f"{letter.id} cannot be replayed", code="not_replayable", hint=_why(letter))
    if letter.left_out:
        raise Refusal(
            f"{letter.id}: its {' and '.join(letter.left_out)} had no room in the letter",
            code="left_out", hint="no command may be so large; its sender has a refusal",
        )  # fmt: skip


def _why(letter: DeadLetter) -> str:
    if letter.code == NO_PROVENANCE:
        return "it does not say which record it is of"
    if split_fact_topic(letter.topic)[1] not in FACT_COMPONENTS:
        return "a signal is over: the next one of its sender counts"
    if letter.consumer == "projector":
        return "the fact is in its log; the next generation reads it again: everlode recover run"
    return (
        "the fact is in its log, which its primary alone writes; ask for what is due by a command"
    )


def require_discardable(kept: Kept, wish: Wish, _: str) -> None:
    """Raises: Refusal: `replayed`, `no_reason`."""
    if kept.status == REPLAYED:
        raise Refusal(f"{kept.letter.id} was replayed", code="replayed", hint="it has its fate")
    if not wish.reason.strip():
        raise Refusal("a reason is missing", code="no_reason", hint="--reason TEXT")


Rule = Callable[[Kept, Wish, str], None]
"""(letter, wish, region) → nothing, or a Refusal."""


def judged(found: Sequence[Kept], wishes: Sequence[Wish], rule: Rule, region: str) -> list[Kept]:
    """The letters that are wished for, each fit for it. Pure. Raises: NotFound; as `rule` does."""
    kept = [one(found, wish.id) for wish in wishes]
    for letter, wish in zip(kept, wishes, strict=True):
        rule(letter, wish, region)
    return kept
