"""What the proof has found. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from everlode.proof.epochs import Led


@dataclass
class Proof:
    """What was compared and what differed."""

    events: int = 0
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    """Acknowledged events that are not in the log, by id."""
    differences: list[str] = field(default_factory=list)
    compared_keys: int = 0
    rewards_paid: int = 0
    paid_micro: int = 0
    tasks_by_status: dict[str, int] = field(default_factory=dict)
    fraud_confirmed: list[str] = field(default_factory=list)
    fraud_suspected: list[str] = field(default_factory=list)
    solved_by: set[str] = field(default_factory=set)
    """Miners that handed in a solution."""
    approvals: set[tuple[str, str]] = field(default_factory=set)
    """Reviewer and the miner whose solution it voted for."""
    cases: dict[str, int] = field(default_factory=dict)
    """Fraud cases by rule and status."""
    progress_acknowledged: int = 0
    progress_back: int = 0
    epochs: dict[str, dict[int, Led]] = field(default_factory=dict)
    """Fact topic → epoch → who led it, and what was written then."""
    ledger: dict[str, int] = field(default_factory=dict)
    """Account → sum of the postings in the log, zero left out."""

    def differ(self, text: str) -> None:
        """Note a difference."""
        self.differences.append(text)
