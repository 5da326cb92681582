"""The failover of miner registries: a backup is level, then takes over; then miners hear of it.

    AwaitOthers ─► Level ─► Decide ─► AwaitFence ─► Notify ─► Finish      (a lost primary)
    Finish                                                               (a lost secondary)

Level: it has read all that the lost one had written by its last beat. What came after that beat
it reads before it leads (see `primary.runtime`): a wait that is given up loses no registration.
Miners hold no connection to a registry: commands reach whoever leads by the same topic. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from everlode.control.fold import ScopeState
from everlode.events.base import Event
from everlode.events.recovery import RegistryChanged, RegistryRecoveryEnded
from everlode.events.services import BY_FACTS
from everlode.events.types import StepName
from everlode.failover.planner import (
    GONE,
    LEVEL_WAIT_MS,
    AwaitOthers,
    OwnStep,
    Step,
    View,
    candidates,
    finish,
    succession,
)
from everlode.failover.policy import End, Succession

NOTHING_MS = 86_400_000 * 366
"""Further behind than this: it has read nothing."""


def said(behind_ms: int | None) -> str:
    """How far a node is behind, for people."""
    if behind_ms is None:
        return "is an unknown time"
    return f"is {behind_ms} ms" if behind_ms < NOTHING_MS else "has read nothing, and is"


class Level(NamedTuple):
    """The best backup has read what there was to read, or was waited for."""

    node_id: str
    behind_ms: int | None
    total: int = 0

    @property
    def name(self) -> StepName:
        """See OwnStep."""
        return "level"

    @property
    def detail(self) -> str:
        """See OwnStep."""
        return f"{self.node_id} {said(self.behind_ms)} behind the lost primary's last beat"


class Notify(NamedTuple):
    """Publish `RegistryChanged`."""

    from_node: str
    to_node: str
    epoch: int
    endpoint: str
    total: int = 0

    @property
    def name(self) -> StepName:
        """See OwnStep."""
        return "notify"

    @property
    def detail(self) -> str:
        """See OwnStep."""
        return f"{self.to_node} serves miners in epoch {self.epoch}"


class MinerPolicy(Succession):
    """See failover.policy."""

    service = BY_FACTS["miners"]

    def plan(self, view: View[None]) -> Step:
        """See Policy."""
        return _level(view) or succession(view) or _notify(view) or finish(view)

    def awaited(self, view: View[None]) -> View[None]:
        """See Planner: the backup is level, or was waited for."""
        return view._replace(waited_ms=LEVEL_WAIT_MS)

    def event(self, step: OwnStep, led: ScopeState) -> Event | None:
        """See Policy."""
        if not isinstance(step, Notify):
            return None
        return self.changed(led, step.from_node, step.endpoint)

    def changed(self, led: ScopeState, before: str, endpoint: str) -> Event | None:
        """See Policy: miners hear of each registry that leads after another."""
        return RegistryChanged(
            scope_name=led.scope, scope_epoch=led.epoch, region=led.region,
            from_node=before, to_node=led.primary, endpoint=endpoint,
        )  # fmt: skip

    def ended(self, end: End) -> Event:
        """See Policy."""
        return RegistryRecoveryEnded(
            failed_registry=end.node.node_id, backup_registry=end.new_primary or "",
            affected_miners=end.under_way,
            # a primary leads once it has read its log to the end
            data_sync_completed=end.success and end.new_primary is not None,
            actual_recovery_ms=end.took_ms, success=end.success,
            estimated_recovery_ms=end.estimate.ms, estimate_cases=end.estimate.cases,
        )  # fmt: skip


def _level(view: View[None]) -> Step | None:
    """Before the switch; None when it is over, or nobody can be promoted."""
    led = view.control.scopes.get(view.scope)
    leads = led is not None and led.primary == view.node.node_id
    if not leads or view.node.status not in GONE or "level" in view.done:
        return None
    best = next((c for c in candidates(view) if not c.excluded), None)
    if best is None:
        return None
    if best.behind_ms and view.waited_ms < LEVEL_WAIT_MS:
        return AwaitOthers(f"{best.node_id} {said(best.behind_ms)} behind the lost primary")
    return Level(best.node_id, best.behind_ms)


def _notify(view: View[None]) -> Step | None:
    led = view.control.scopes.get(view.scope)
    if led is None or not view.decided or "notify" in view.done:
        return None
    node = view.control.nodes.get(led.primary)
    endpoint = node.endpoint if node else ""
    return Notify(view.node.node_id, led.primary, led.epoch, endpoint)
