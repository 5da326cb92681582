"""The failover of validators: another one of the region decides; votes are in the log. Pure."""

from __future__ import annotations

from everlode.events.base import Event
from everlode.events.recovery import ValidationRecoveryEnded
from everlode.events.services import BY_FACTS
from everlode.failover.policy import End, Succession


class ValidationPolicy(Succession):
    """See failover.policy."""

    service = BY_FACTS["validations"]

    def ended(self, end: End) -> Event:
        """See Policy."""
        return ValidationRecoveryEnded.model_validate(
            {
                "failed_validator": end.node.node_id,
                "validator_type": end.node.kind or "automatic",
                "redistributed_tasks": end.under_way,
                "estimated_delay_ms": end.estimate_ms,
                "actual_recovery_ms": end.took_ms,
                "success": end.success,
            }
        )
