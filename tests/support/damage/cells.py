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
NOTED = ("manifest", "chain")
"""What of it `doctor` reads: the newest manifest, which the control log notes."""
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
        Answers("equal; 20 short", "equal", "3 held: lost, unknown", "20 log_short"),
        note=(
            "the positions of the backup are what the projector had applied, and the log is "
            "named as one that ends before: no row lacks what was lost with it."
        ),
    ),
    Cell(
        "fact log",
        "truncated",
        "its last four records a partition are gone",
        Answers(
            "equal; 20 short", "equal", "3 held: lost, unknown", "20 log_short, topic_made_again"
        ),
        note=(
            "the positions of the backup are what the projector had applied, and the log is "
            "named as one that ends before: no row lacks what was lost with it."
        ),
        short=True,
    ),
    Cell(
        "fact log",
        "older copy put back",
        "it holds what it held at the older backup",
        Answers(
            "equal; 20 short", "equal", "3 held: lost, unknown", "20 log_short, topic_made_again"
        ),
        note=(
            "the positions of the backup are what the projector had applied, and the log is "
            "named as one that ends before: no row lacks what was lost with it."
        ),
    ),
    Cell(
        "fact log",
        "made again",
        "it is deleted and made, empty",
        Answers(
            "equal; 20 short", "equal", "3 held: lost, unknown", "20 log_short, topic_made_again"
        ),
        note=(
            "the positions of the backup are what the projector had applied, and the log is "
            "named as one that ends before: no row lacks what was lost with it."
        ),
    ),
    Cell(
        "fact log",
        "one record changed",
        "a fact behind the latest backup does not decode",
        Answers("equal", "equal", "3 held: lost", "20 topic_made_again"),
    ),
    Cell(
        "fact log",
        "another region's",
        "it holds the same facts with another origin",
        Answers("equal", "equal", "3 held: lost", "20 topic_made_again"),
        note=(
            "its barriers are of no region, so the log reaches as far as it did; its facts "
            "are passed over as foreign, and the states are what rows and state topics "
            "hold."
        ),
    ),
    Cell(
        "state topic",
        "emptied",
        "every record of `state.g2.tasks` is deleted",
        Answers("equal; 20 from_rows", "equal", "equal", "20 states_lost"),
    ),
    Cell(
        "state topic",
        "truncated",
        "its last four records a partition are gone",
        Answers("equal", "equal", "equal", "20 states_lost, topic_made_again"),
    ),
    Cell(
        "state topic",
        "older copy put back",
        "it holds what it held at the older backup",
        Answers("equal; 20 from_rows", "equal", "equal", "20 states_lost, topic_made_again"),
    ),
    Cell(
        "state topic",
        "made again",
        "it is deleted and made, empty",
        Answers("equal; 20 from_rows", "equal", "equal", "20 states_lost, topic_made_again"),
        short=True,
    ),
    Cell(
        "state topic",
        "one record changed",
        "a task's newest state has another reward, and the same version",
        Answers("13 state_conflict", "equal", "equal", "20 state_conflict, topic_made_again"),
    ),
    Cell(
        "state topic",
        "another region's",
        "it holds states of tasks that this region does not know",
        Answers(
            "13 foreign_record", "equal", "equal", "20 state_foreign, states_lost, topic_made_again"
        ),
        note=(
            "a state without a row that follows from no log of the region is none of its states."
        ),
    ),
    Cell(
        "rows",
        "emptied",
        "every row of `tasks` is deleted",
        Answers("equal; 20 without_row", "equal", "equal", "20 rows_lost"),
    ),
    Cell(
        "rows",
        "truncated",
        "the rows of one partition are deleted",
        Answers("equal; 20 without_row", "equal", "equal", "20 rows_lost"),
        short=True,
    ),
    Cell(
        "rows",
        "older copy put back",
        "`tasks` is as it was at the older backup",
        Answers("equal; 20 without_row", "equal", "equal", "20 rows_lost"),
    ),
    Cell(
        "rows",
        "made again",
        "the generation's tables are dropped and made, all of them",
        Answers("14 precondition", "equal", "equal", "20 position_back, rows_lost"),
    ),
    Cell(
        "rows",
        "one record changed",
        "a task has another reward, and the same version",
        Answers("13 state_conflict", "equal", "equal", "20 state_conflict"),
    ),
    Cell(
        "rows",
        "another region's",
        "every row of `tasks` is under another key",
        Answers("13 postgres_damaged", "equal", "equal", "20 rows_lost, states_lost"),
    ),
    Cell(
        "positions",
        "emptied",
        "every position is deleted",
        Answers("14 precondition", "equal", "equal", "20 position_back"),
    ),
    Cell(
        "positions",
        "truncated",
        "one position is deleted",
        Answers("13 position_back", "equal", "equal", "20 position_back"),
        note=(
            "a row, or the backup before, knows a later position: the database has lost "
            "where it stood."
        ),
    ),
    Cell(
        "positions",
        "older copy put back",
        "they are as they were at the older backup",
        Answers("13 position_back", "equal", "equal", "20 position_back"),
        note=(
            "a row, or the backup before, knows a later position: the database has lost "
            "where it stood."
        ),
    ),
    Cell(
        "positions",
        "made again",
        "all are at 0",
        Answers("14 precondition", "equal", "equal", "20 position_back"),
    ),
    Cell(
        "positions",
        "one record changed",
        "one is 5 facts further than it was",
        Answers("equal; 20 short", "equal", "3 held: lost, unknown", "20 log_short"),
        note=(
            "the log's own count is taken where both are of one fact. A recovery takes the "
            "position at its word: it is held, as if facts were lost."
        ),
        short=True,
    ),
    Cell(
        "positions",
        "another region's",
        "they are of another region's topics",
        Answers("14 precondition", "equal", "equal", "20 position_back"),
    ),
    Cell(
        "fences",
        "emptied",
        "every fence is deleted",
        Answers("equal; 20 fences_lost", "equal", "equal", "20 fence_lost"),
        note=(
            "what the backup before knew of fences is taken from there, however far back it "
            "was opened, and counted."
        ),
        short=True,
    ),
    Cell(
        "fences",
        "truncated",
        "those of one partition are deleted",
        Answers("equal; 20 fences_lost", "equal", "equal", "20 fence_lost"),
        note=(
            "what the backup before knew of fences is taken from there, however far back it "
            "was opened, and counted."
        ),
    ),
    Cell(
        "fences",
        "older copy put back",
        "they are as they were at the older backup",
        Answers("equal; 20 fences_lost", "equal", "equal", "20 fence_lost"),
        note=(
            "what the backup before knew of fences is taken from there, however far back it "
            "was opened, and counted."
        ),
    ),
    Cell(
        "fences",
        "one record changed",
        "one is an epoch lower",
        Answers("equal; 20 fences_lost", "equal", "equal", "20 fence_lost"),
        note=(
            "what the backup before knew of fences is taken from there, however far back it "
            "was opened, and counted."
        ),
    ),
    Cell(
        "fences",
        "another region's",
        "their scopes are another region's",
        Answers("equal; 20 fences_lost", "equal", "equal", "20 fence_lost"),
        note=(
            "what the backup before knew of fences is taken from there, however far back it "
            "was opened, and counted."
        ),
    ),
    Cell(
        "generation pointer",
        "emptied",
        "it names no generation",
        Answers("13 generation_back", "equal", "equal", "20 generation_back"),
    ),
    Cell(
        "generation pointer",
        "older copy put back",
        "it names the generation before",
        Answers("13 generation_back", "equal", "equal", "20 generation_back"),
    ),
    Cell(
        "generation pointer",
        "made again",
        "its table is dropped",
        Answers("13 generation_back", "equal", "equal", "20 generation_back"),
    ),
    Cell(
        "generation pointer",
        "one record changed",
        "it names one that is not there",
        Answers("13 topic_lost", "equal", "equal", "20 generation_lost"),
        short=True,
    ),
    Cell(
        "manifest",
        "emptied",
        "the latest one has 0 bytes",
        Answers("equal", "13 bad_manifest", "13 bad_manifest", "20 newest_missing"),
    ),
    Cell(
        "manifest",
        "truncated",
        "it has half of its bytes",
        Answers("equal", "13 bad_manifest", "13 bad_manifest", "20 newest_missing"),
    ),
    Cell(
        "manifest",
        "older copy put back",
        "it is the older backup's",
        Answers("equal", "13 bad_manifest", "13 bad_manifest", "20 newest_missing"),
    ),
    Cell(
        "manifest",
        "made again",
        "it is signed by another key",
        Answers("equal", "13 bad_signature", "13 bad_signature", "quiet"),
        note="`doctor` has no keys: the manifest's content is the one that was noted.",
    ),
    Cell(
        "manifest",
        "one record changed",
        "a position in it is lower",
        Answers("equal", "13 bad_signature", "13 bad_signature", "20 newest_missing"),
        short=True,
    ),
    Cell(
        "manifest",
        "another region's",
        "it is another region's, signed by ours",
        Answers("equal", "13 bad_manifest", "13 bad_manifest", "20 newest_missing"),
    ),
    Cell(
        "object",
        "emptied",
        "the latest backup's `tasks-0` has 0 bytes",
        Answers("equal", "13 object_changed", "13 object_changed", ""),
    ),
    Cell(
        "object",
        "truncated",
        "it lacks its last byte",
        Answers("equal", "13 object_changed", "13 object_changed", ""),
    ),
    Cell(
        "object",
        "older copy put back",
        "it is the older backup's",
        Answers("equal", "13 object_changed", "13 object_changed", ""),
        short=True,
    ),
    Cell(
        "object",
        "made again",
        "it has other bytes, of the same length",
        Answers("equal", "13 object_changed", "13 object_changed", ""),
    ),
    Cell(
        "object",
        "one record changed",
        "one bit of it is another",
        Answers("equal", "13 object_changed", "13 object_changed", ""),
    ),
    Cell(
        "object",
        "another region's",
        "it is another object",
        Answers("equal", "13 object_changed", "13 object_changed", ""),
    ),
    Cell(
        "chain",
        "emptied",
        "every backup is gone",
        Answers("equal", "13 newest_missing", "13 newest_missing", "20 newest_missing"),
    ),
    Cell(
        "chain",
        "truncated",
        "the oldest one is gone",
        Answers("equal", "equal", "equal", "quiet"),
    ),
    Cell(
        "chain",
        "older copy put back",
        "the latest one is gone",
        Answers("equal", "13 newest_missing", "13 newest_missing", "20 newest_missing"),
        short=True,
    ),
    Cell(
        "chain",
        "made again",
        "every manifest is signed by another key",
        Answers("equal", "13 bad_signature", "13 bad_signature", "quiet"),
        note="`doctor` has no keys: the manifest's content is the one that was noted.",
    ),
    Cell(
        "chain",
        "one record changed",
        "the latest one's parent is another manifest, signed by us",
        Answers("equal", "13 chain_broken", "equal", "quiet"),
        note="`doctor` reads the newest manifest alone: `backup list` and `verify` walk the chain.",
    ),
    Cell(
        "chain",
        "another region's",
        "its parent is another region's manifest, signed by us",
        Answers("equal", "13 chain_broken", "equal", "quiet"),
        note="As for one record changed.",
    ),
    Cell(
        "key",
        "emptied",
        "the file of the key in use is empty",
        Answers("2 config", "2 config", "2 config", ""),
    ),
    Cell(
        "key",
        "truncated",
        "it has half of its bytes",
        Answers("2 config", "2 config", "2 config", ""),
    ),
    Cell(
        "key",
        "older copy put back",
        "the folder is as it was before this key was made",
        Answers("12 wrong_key", "12 wrong_key", "12 wrong_key", ""),
    ),
    Cell(
        "key",
        "made again",
        "it was lost, and another key has its name",
        Answers("equal", "12 wrong_key", "12 wrong_key", ""),
        short=True,
    ),
    Cell(
        "key",
        "one record changed",
        "one digit of it is another",
        Answers("equal", "12 wrong_key", "12 wrong_key", ""),
    ),
    Cell(
        "key",
        "another region's",
        "the folder is another region's, with its signing key",
        Answers("equal", "13 bad_signature", "13 bad_signature", ""),
    ),
    Cell(
        "journal",
        "emptied",
        "it has 0 bytes",
        Answers("", "", "equal", ""),
    ),
    Cell(
        "journal",
        "truncated",
        "its last line is torn",
        Answers("", "", "equal", ""),
    ),
    Cell(
        "journal",
        "older copy put back",
        "it is as it was when the objects had been fetched",
        Answers("", "", "equal", ""),
    ),
    Cell(
        "journal",
        "made again",
        "it is gone",
        Answers("", "", "equal", ""),
    ),
    Cell(
        "journal",
        "one record changed",
        "the generation in it is the one that is current",
        Answers("", "", "13 journal_changed", ""),
        short=True,
    ),
    Cell(
        "journal",
        "another region's",
        "it is of another region's recovery",
        Answers("", "", "14 precondition", ""),
    ),
    Cell(
        "staging",
        "emptied",
        "a fetched file that is still to be restored has 0 bytes",
        Answers("", "", "equal", ""),
    ),
    Cell(
        "staging",
        "truncated",
        "it has half of its bytes",
        Answers("", "", "equal", ""),
        short=True,
    ),
    Cell(
        "staging",
        "older copy put back",
        "it is the older backup's",
        Answers("", "", "equal", ""),
    ),
    Cell(
        "staging",
        "made again",
        "the folder is gone, with its journal",
        Answers("", "", "equal", ""),
    ),
    Cell(
        "staging",
        "one record changed",
        "one bit of it is another",
        Answers("", "", "equal", ""),
    ),
    Cell(
        "staging",
        "another region's",
        "it is another object's",
        Answers("", "", "equal", ""),
    ),
)
