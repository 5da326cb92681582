"""Which refusals of a primary's commands to itself are lawful, by rule; any other one is published.

A rule gives commands for what was so when it looked; what has changed meanwhile, or was done by
somebody else, ends it. docs/states.md shows this table. A rule that is not here expects none. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

EXPECTED: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("tasks", "assign"): {
        "not_waiting": "it was cancelled in the same turn",
        "deadline_passed": "its deadline came first",
        "no_task": "it was removed in the same turn",
        "deleted": "it was removed in the same turn",
    },
    ("tasks", "expire"): {
        "lease_good": "its miner reported in the same turn",
        "deleted": "it was removed in the same turn",
    },
    ("tasks", "overdue"): {"deleted": "it was removed in the same turn"},
    ("tasks", "validation-decided"): {"deleted": "it was removed in the same turn"},
    ("tasks", "reward-paid"): {"deleted": "it was removed in the same turn"},
    ("miners", "task-assigned"): {
        "retired": "the miner has left",
        "insufficient_stake": "it was slashed, or promised in two regions",
    },
    ("miners", "fraud-suspend"): {"retired": "the miner has left"},
    ("validations", "resolve-case"): {
        "already_resolved": "another look, or an operator, was first"
    },
    ("rewards", "accepted"): {
        "already_calculated": "the miner's reward for this task is of another attempt"
    },
    ("rewards", "fraud-suspected"): {"not_payable": "it was paid or taken back before"},
    ("rewards", "fraud-confirmed"): {"too_late": "it was paid, and was nothing"},
    ("rewards", "fraud-cleared"): {"other_case": "it was released in an operator's name before"},
    ("rewards", "before"): {
        "not_payable": "it was paid or taken back before",
        "too_late": "it was paid, and was nothing",
    },
}
"""(component, rule) → code → why it is lawful."""


def is_expected(component: str, rule: str, code: str) -> bool:
    """True when nobody needs to hear of it."""
    return code in EXPECTED.get((component, rule), {})
