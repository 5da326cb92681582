"""The failover of reward distributors: promote. Nothing migrates: a payout has its key. Pure."""

from __future__ import annotations

from everlode.events.base import Event
from everlode.events.recovery import RewardRecoveryEnded
from everlode.events.services import BY_FACTS
from everlode.failover.policy import End, Succession


class RewardPolicy(Succession):
    """See failover.policy."""

    service = BY_FACTS["rewards"]

    def ended(self, end: End) -> Event:
        """See Policy."""
        return RewardRecoveryEnded(
            failed_distributor=end.node.node_id, new_primary=end.new_primary,
            pending_payouts=end.under_way, actual_recovery_ms=end.took_ms, success=end.success,
            estimated_recovery_ms=end.estimate.ms, estimate_cases=end.estimate.cases,
        )  # fmt: skip
