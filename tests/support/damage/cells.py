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


CELLS = (
    Cell(
        "fact log",
        "emptied",
        "every record of `eu.1.tasks` is deleted",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "fact log",
        "truncated",
        "its last four records a partition are gone",
        Answers("?", "?", "?", "?"),
        short=True,
    ),
    Cell(
        "fact log",
        "older copy put back",
        "it holds what it held at the older backup",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "fact log",
        "made again",
        "it is deleted and made, empty",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "fact log",
        "one record changed",
        "a fact behind the latest backup does not decode",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "fact log",
        "another region's",
        "it holds the same facts with another origin",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "state topic",
        "emptied",
        "every record of `state.g2.tasks` is deleted",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "state topic",
        "truncated",
        "its last four records a partition are gone",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "state topic",
        "older copy put back",
        "it holds what it held at the older backup",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "state topic",
        "made again",
        "it is deleted and made, empty",
        Answers("?", "?", "?", "?"),
        short=True,
    ),
    Cell(
        "state topic",
        "one record changed",
        "a task's newest state has another reward, and the same version",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "state topic",
        "another region's",
        "it holds states of tasks that this region does not know",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "rows",
        "emptied",
        "every row of `tasks` is deleted",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "rows",
        "truncated",
        "the rows of one partition are deleted",
        Answers("?", "?", "?", "?"),
        short=True,
    ),
    Cell(
        "rows",
        "older copy put back",
        "`tasks` is as it was at the older backup",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "rows",
        "made again",
        "the generation's tables are dropped and made, all of them",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "rows",
        "one record changed",
        "a task has another reward, and the same version",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "rows",
        "another region's",
        "every row of `tasks` is under another key",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "positions",
        "emptied",
        "every position is deleted",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "positions",
        "truncated",
        "one position is deleted",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "positions",
        "older copy put back",
        "they are as they were at the older backup",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "positions",
        "made again",
        "all are at 0",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "positions",
        "one record changed",
        "one is 5 facts further than it was",
        Answers("?", "?", "?", "?"),
        short=True,
    ),
    Cell(
        "positions",
        "another region's",
        "they are of another region's topics",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "fences",
        "emptied",
        "every fence is deleted",
        Answers("?", "?", "?", "?"),
        short=True,
    ),
    Cell(
        "fences",
        "truncated",
        "those of one partition are deleted",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "fences",
        "older copy put back",
        "they are as they were at the older backup",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "fences",
        "one record changed",
        "one is an epoch lower",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "fences",
        "another region's",
        "their scopes are another region's",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "generation pointer",
        "emptied",
        "it names no generation",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "generation pointer",
        "older copy put back",
        "it names the generation before",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "generation pointer",
        "made again",
        "its table is dropped",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "generation pointer",
        "one record changed",
        "it names one that is not there",
        Answers("?", "?", "?", "?"),
        short=True,
    ),
    Cell(
        "manifest",
        "emptied",
        "the latest one has 0 bytes",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "manifest",
        "truncated",
        "it has half of its bytes",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "manifest",
        "older copy put back",
        "it is the older backup's",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "manifest",
        "made again",
        "it is signed by another key",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "manifest",
        "one record changed",
        "a position in it is lower",
        Answers("?", "?", "?", "?"),
        short=True,
    ),
    Cell(
        "manifest",
        "another region's",
        "it is another region's, signed by ours",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "object",
        "emptied",
        "the latest backup's `tasks-0` has 0 bytes",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "object",
        "truncated",
        "it lacks its last byte",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "object",
        "older copy put back",
        "it is the older backup's",
        Answers("?", "?", "?", "?"),
        short=True,
    ),
    Cell(
        "object",
        "made again",
        "it has other bytes, of the same length",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "object",
        "one record changed",
        "one bit of it is another",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "object",
        "another region's",
        "it is another object",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "chain",
        "emptied",
        "every backup is gone",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "chain",
        "truncated",
        "the oldest one is gone",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "chain",
        "older copy put back",
        "the latest one is gone",
        Answers("?", "?", "?", "?"),
        short=True,
    ),
    Cell(
        "chain",
        "made again",
        "every manifest is signed by another key",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "chain",
        "one record changed",
        "the latest one's parent is another manifest, signed by us",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "chain",
        "another region's",
        "its parent is another region's manifest, signed by us",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "key",
        "emptied",
        "the file of the key in use is empty",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "key",
        "truncated",
        "it has half of its bytes",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "key",
        "older copy put back",
        "the folder is as it was before this key was made",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "key",
        "made again",
        "it was lost, and another key has its name",
        Answers("?", "?", "?", "?"),
        short=True,
    ),
    Cell(
        "key",
        "one record changed",
        "one digit of it is another",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "key",
        "another region's",
        "the folder is another region's, with its signing key",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "journal",
        "emptied",
        "it has 0 bytes",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "journal",
        "truncated",
        "its last line is torn",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "journal",
        "older copy put back",
        "it is as it was when the objects had been fetched",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "journal",
        "made again",
        "it is gone",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "journal",
        "one record changed",
        "the generation in it is the one that is current",
        Answers("?", "?", "?", "?"),
        short=True,
    ),
    Cell(
        "journal",
        "another region's",
        "it is of another region's recovery",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "staging",
        "emptied",
        "a fetched file that is still to be restored has 0 bytes",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "staging",
        "truncated",
        "it has half of its bytes",
        Answers("?", "?", "?", "?"),
        short=True,
    ),
    Cell(
        "staging",
        "older copy put back",
        "it is the older backup's",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "staging",
        "made again",
        "the folder is gone, with its journal",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "staging",
        "one record changed",
        "one bit of it is another",
        Answers("?", "?", "?", "?"),
    ),
    Cell(
        "staging",
        "another region's",
        "it is another object's",
        Answers("?", "?", "?", "?"),
    ),
)
