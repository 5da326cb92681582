"""What may be damaged, how, and what each verb answers then. Data; docs/damage.md is made of it.

An answer is one of
  equal           success, and what was made is compared, and equal
  equal; 20 …     the same, and the exit code says that something was wrong, and what
  3 held: …       a recovery that has switched nothing, and the kinds of what was found
  N code          an error, by its exit code and code; nothing was changed
  quiet, 20 …     of doctor: it names nothing; what it names
  UNEQUAL: …      success, and the contents differ: an open defect
"""

from __future__ import annotations

from typing import NamedTuple

VERBS = ("backup", "verify", "recover", "doctor")
DAMAGES = (
    "emptied", "truncated", "older copy put back", "made again", "one record changed",
    "another region's",
)  # fmt: skip
LOGS = ("fact log", "state topic")
STORED, WORKING = ("manifest", "object", "chain", "key"), ("journal", "staging")
THINGS = (
    *LOGS, "rows", "positions", "fences", "generation pointer", *STORED,
    *WORKING,
)  # fmt: skip


class Answers(NamedTuple):
    """Of the verbs; empty: it is not asked."""

    backup: str = ""
    verify: str = ""
    recover: str = ""
    doctor: str = ""


class Cell(NamedTuple):
    """A thing with a damage: what is done to it, and what is answered."""

    thing: str
    damage: str
    done: str
    answers: Answers
    note: str = ""
    """What has to be known to read it; of an open defect, what it is."""
    short: bool = False
    """Whether it is carried out in `make test`."""


_SAME_EMPTY = "a table that was made again is an emptied one"
NOT_DONE = {
    ("fences", "made again"): _SAME_EMPTY,
    ("generation pointer", "truncated"): "it is one number",
    ("generation pointer", "another region's"): "it is a number: see one that was changed",
}
"""(thing, damage) → why there is no such cell."""
