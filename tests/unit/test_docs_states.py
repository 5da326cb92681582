"""docs/states.md is made from the transition tables; running this file writes it."""

from __future__ import annotations

import re
from pathlib import Path

from everlode.events import commands
from everlode.events.base import Command
from everlode.events.nodes import TRANSITIONS as NODES
from everlode.state import fraud, miner, reward, task, validation
from everlode.state.ended import REWARD_ENDED
from everlode.state.expected import EXPECTED
from everlode.state.shape import Table

DOCUMENT = Path(__file__).parents[2] / "docs" / "states.md"
HEAD = """\
# States

Made from the transition tables in the code, which the folds follow; tests compare all three. An
event that a diagram does not show from a status cannot be decided there. Events in the table below
a diagram keep the status. In brackets: which events of that name, where they do not lead alike.
"""
REFUSALS = """\
## Refusals of a primary's own commands

What a primary asks of itself, because of a fact or of time, is judged like any command. These
refusals are lawful ends, by the rule that asked; any other one is published on `<origin>.health`
(`ReactionRefused`) and logged, once a command.

| component | rule | code | why it is lawful |
|---|---|---|---|"""
TABLES: dict[str, tuple[str, Table]] = {
    "Task": ("", task.TRANSITIONS),
    "Miner": ("", miner.TRANSITIONS),
    "Validation": ("", validation.TRANSITIONS),
    "Fraud case": ("", fraud.TRANSITIONS),
    "Reward": ("A booked slash is an entry of its own, `collected`.", reward.TRANSITIONS),
}

ENDS = {
    "Task": task.ENDED | {"deleted"},
    "Miner": {"retired"},
    "Validation": {"decided"},
    "Fraud case": {"confirmed", "cleared"},
    "Reward": REWARD_ENDED,
}
WAITS = {
    "Task": {
        "submitted": ("its primary (`AssignTask`, `ExpireTask`)", "the task's deadline"),
        "assigned": (
            "its miner (`SubmitSolution`, `ReportFailure`), else its primary (`ExpireLease`)",
            "the lease's end",
        ),
        "solved": ("its primary, after the validation (`RecordValidation`)", "as the validation"),
        "validated": (
            "its primary, after the payout (`RecordReward`)",
            "as the reward; where that is reversed or reclaimed it stays so",
        ),
    },
    "Miner": {
        "active": ("itself (`RetireMiner`)", "never: it is alive"),
        "suspended": (
            "for fraud an operator, else itself (`ReinstateMiner`, `RetireMiner`)",
            "never: nothing waits for it",
        ),
    },
    "Validation": {
        "pending": (
            "nodes of its kind, drawn reviewers (`CastVote`); a late panel's work goes to an "
            "expert (`EscalateValidation`)",
            "its deadline, and 15 s by the wall, for a panel; nodes: none, until one lives: told "
            "after ten minutes (`WorkWaits`)",
        )
    },
    "Fraud case": {
        "suspected": (
            "its primary, after the votes or the record (`ResolveFraudCase`); an operator",
            "as the validation; none for a case on a record, and no reward waits for it; told "
            "after ten minutes (`WorkWaits`)",
        )
    },
    "Reward": {
        "calculated": (
            "its primary, through the sink (`PayReward`)",
            "none; tried again, and the oldest is told with its reason",
        ),
        "withheld": (
            "its primary, after the last case (`ReleaseReward`, `ReverseReward`)",
            "as the case",
        ),
        "reclaimed": (
            "its primary, from later rewards (`RepayDebt`)",
            "none: a debt stays until it is repaid",
        ),
    },
}


def diagram(lines: list[str]) -> str:
    return "\n".join(["```mermaid", "stateDiagram-v2", *(f"  {x}" for x in lines), "```", ""])


def aggregate(title: str, note: str, table: Table) -> str:
    moves, keeps = [], []
    for (event, variant), row in table.items():
        shown = f" ({variant})" if variant else ""
        sources = sorted(row.sources, key=lambda s: s or "")
        if row.target is None:
            keeps.append(
                f"| `{event.__name__}`{shown} | {', '.join(s or 'none' for s in sources)} |"
            )
            continue
        moves += [
            f"{source or '[*]'} --> {row.target}: {event.__name__}{shown}" for source in sources
        ]
    parts = [f"## {title}\n", *([note + "\n"] if note else []), diagram(moves)]
    if keeps:
        parts.append("\n".join(["| keeps the status | from |", "|---|---|", *keeps, ""]))
    waits = [f"| {status} | {who} | {when} |" for status, (who, when) in WAITS[title].items()]
    parts.append("\n".join(["| waits | who moves it on | by when |", "|---|---|---|", *waits, ""]))
    return "\n".join(parts)


def refusals() -> str:
    rows = [
        f"| {component} | `{rule}` | `{code}` | {why} |"
        for (component, rule), codes in EXPECTED.items()
        for code, why in codes.items()
    ]
    return "\n".join([REFUSALS, *rows, ""])


def nodes() -> str:
    moves = [
        f"{source} --> {target}" for source, targets in NODES.items() for target in sorted(targets)
    ]
    return f"## Node\n\n{diagram(['[*] --> healthy', *moves])}"


def document() -> str:
    sections = [aggregate(title, note, table) for title, (note, table) in TABLES.items()]
    return "\n".join([HEAD, *sections, nodes(), refusals()])


def test_states_document_is_made_from_the_tables() -> None:
    assert DOCUMENT.read_text() == document(), "run: python tests/unit/test_docs_states.py"


def statuses(table: Table) -> set[str]:
    """All that an aggregate can come to."""
    return {row.target for row in table.values() if row.target is not None}


def test_every_status_is_an_end_or_somebody_moves_it_on() -> None:
    for title, (_, table) in TABLES.items():
        assert set(WAITS[title]) == statuses(table) - set(ENDS[title]), title
        for status, (who, when) in WAITS[title].items():
            assert any(status in row.sources for row in table.values()), (title, status)
            named = re.findall(r"`(\w+)`", who)
            assert named, (title, status)
            for name in named:
                assert issubclass(getattr(commands, name), Command)
            assert when


if __name__ == "__main__":
    DOCUMENT.write_text(document())
