"""Decisions in a control log for tests that write facts by hand, so that their epochs count."""

from __future__ import annotations

from everlode.adapters.kafka_control import ControlLog
from everlode.adapters.kafka_follower import ControlFollower
from everlode.events.control import ScopeAssigned


def decide(control_bootstrap: str, scope: str, epoch: int) -> None:
    """Bring a scope to an epoch, if it is below it; returns once the log has it."""
    follower = ControlFollower(control_bootstrap).start()
    log = ControlLog(control_bootstrap)
    at = follower.state.position
    for now in range(follower.state.epoch(scope), epoch):
        decision = ScopeAssigned(
            scope_name=scope, new_epoch=now + 1, primary_node="test", region="eu",
            reason="forced", based_on=max(0, at), based_on_epoch=now,
        )  # fmt: skip
        at = log.append(scope, decision, node_id="test", scope="coordinator/eu")
    log.close()
    follower.close()
