"""What a recovery is to do and how it went: stages, verdicts, objectives, as records. Pure.

Stages in order of priority, each gated; what is lost and held follows from their results alone.

Invariants: a component is a success only when its gate passed and nothing is lost, or what is lost
is acceptable; one that is none holds the whole recovery, whatever its overall health.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, get_args

from everlode.backup.manifest import Manifest
from everlode.events.services import STATES_OF
from everlode.events.types import AIComponent
from everlode.recovery.request import RecoveryRequest

PRIORITIES: tuple[AIComponent, ...] = get_args(AIComponent)
"""Order of the stages."""


class Stage(NamedTuple):
    """One component's stage."""

    component: AIComponent
    states: str
    records: int
    bytes: int


@dataclass(slots=True)
class Replayed:
    """What a replay did and did not find."""

    folded: int = 0
    lost: list[str] = field(default_factory=list)
    """Missing facts by name: `topic/partition seq a..b`."""
    lost_count: int = 0
    lost_ms: int = 0
    """Span of time, in milliseconds, over the largest hole."""


class ComponentResult(NamedTuple):
    """How one stage ended. Times in milliseconds; `lost` names the facts that are nowhere."""

    component: AIComponent
    success: bool
    recovery_time_ms: int
    records_restored: int
    events_replayed: int
    data_loss_events: int
    reasons: tuple[str, ...]
    data_loss_ms: int = 0
    lost: tuple[str, ...] = ()


class RecoveryResult(NamedTuple):
    """How the recovery ended. `held`: a gate kept the old generation in place."""

    recovery_id: str
    plan_name: str
    backup_id: str
    generation: int
    start_ms: int
    end_ms: int
    overall_success: bool
    held: bool
    health_ppm: int
    components: tuple[ComponentResult, ...]
    lost_event_ids: tuple[str, ...]
    rpo_met: bool
    rto_met: bool
    tasks: dict[str, Any]


def stages(manifest: Manifest) -> tuple[Stage, ...]:
    """Stages in order of priority, with what each restores from the backup."""
    found = []
    for component in PRIORITIES:
        states = STATES_OF[component]
        entries = [o for o in manifest.objects if o.component == states]
        found.append(
            Stage(
                component,
                states,
                sum(o.records for o in entries),
                sum(o.cipher_bytes for o in entries),
            )
        )
    return tuple(found)


def next_generation(current: int, backed_up: int, of_topics: Iterable[int]) -> int:
    """Above every generation that PostgreSQL, the backup or a topic knows."""
    return max(current, backed_up, *of_topics) + 1


def judged(
    request: RecoveryRequest,
    component: AIComponent,
    restored: int,
    tail: Replayed,
    reasons: Sequence[str],
) -> ComponentResult:
    """A stage's result, but for its time; `reasons`: why its gate did not pass, if it did not."""
    # a hole whose span an interrupted run took with it is none that is acceptable
    acceptable = 0 < tail.lost_ms <= request.max_acceptable_data_loss_s * 1000
    return ComponentResult(
        component, not reasons and (not tail.lost or acceptable), 0, restored, tail.folded,
        tail.lost_count, (*reasons, *(f"lost: {name}" for name in tail.lost[:5])), tail.lost_ms,
        tuple(tail.lost),
    )  # fmt: skip


def remembered(entry: Mapping[str, Any]) -> ComponentResult:
    """A result as a journal's entry has it."""
    values = {name: entry[name] for name in ComponentResult._fields}
    return ComponentResult(
        **{**values, "reasons": tuple(entry["reasons"]), "lost": tuple(entry["lost"])}
    )


def health_ppm(results: Sequence[ComponentResult]) -> int:
    """The share of components that are a success, in millionths."""
    return sum(r.success for r in results) * 1_000_000 // len(results)


def is_held(request: RecoveryRequest, results: Sequence[ComponentResult]) -> bool:
    """Whether the new generation must not be switched to."""
    healthy = health_ppm(results) > request.health_gate_ppm
    return not healthy or not all(r.success for r in results)


def rpo_met(request: RecoveryRequest, results: Sequence[ComponentResult]) -> bool:
    """Whether no more is lost than is acceptable: of 0 seconds not one fact."""
    most_s = request.max_acceptable_data_loss_s
    loss_ms = max(r.data_loss_ms for r in results)
    return loss_ms <= most_s * 1000 and (most_s > 0 or not any(r.lost for r in results))
