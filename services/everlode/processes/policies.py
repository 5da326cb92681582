"""What a failover does for each of the four services: the registry of their policies."""

from __future__ import annotations

from datetime import timedelta

from everlode.failover.policy import Policies, of_all
from everlode.miners.policy import MinerPolicy
from everlode.rewards.policy import RewardPolicy
from everlode.settings.environment import Settings
from everlode.tasks.policy import TaskPolicy
from everlode.validations.policy import ValidationPolicy


def policies(cfg: Settings, partitions: int) -> Policies:
    """New policies, which have observed nothing yet; `partitions` of a fact topic."""
    lease = timedelta(seconds=cfg.lease_s)
    return of_all(
        (
            TaskPolicy(partitions, cfg.max_concurrent, lease),
            MinerPolicy(),
            ValidationPolicy(partitions),
            RewardPolicy(),
        )
    )
