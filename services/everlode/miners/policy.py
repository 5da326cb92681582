"""The failover of miner registries: a backup takes over. Pure."""

from __future__ import annotations

from everlode.events.base import Event
from everlode.events.recovery import RegistryRecoveryEnded
from everlode.events.services import BY_FACTS
from everlode.failover.policy import End, Succession


class MinerPolicy(Succession):
    """See failover.policy."""

    service = BY_FACTS["miners"]

    def ended(self, end: End) -> Event:
        """See Policy."""
        return RegistryRecoveryEnded(
            failed_registry=end.node.node_id, backup_registry=end.new_primary or "",
            affected_miners=end.under_way,
            # a primary leads once it has read its log to the end
            data_sync_completed=end.success and end.new_primary is not None,
            actual_recovery_ms=end.took_ms, success=end.success,
        )  # fmt: skip
