"""What a recovery is to do and how it went: stages, verdicts, objectives, as records. Pure.

Stages in order of priority, each gated; what is lost and held follows from their results alone.

Invariants: a component is a success only when nothing was found against it, or an operator has
accepted each kind of what was found; one that is none holds the whole recovery, and so does a
health below the gate. What was accepted stays in the report: an objective that was missed is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self, get_args

from everlode.backup.manifest import Manifest
from everlode.events.services import STATES_OF
from everlode.events.types import AIComponent
from everlode.recovery.request import RecoveryRequest

PPM = 1_000_000
PRIORITIES: tuple[AIComponent, ...] = get_args(AIComponent)
"""Order of the stages."""


class Stage(NamedTuple):
    """One component's stage."""

    component: AIComponent
    states: str
    records: int
    bytes: int


Kind = Literal[
    "rows", "incomplete", "references", "ledger", "parked", "lost", "unknown", "fork", "silent",
    "health", "services",
]  # fmt: skip
ACCEPTABLE: tuple[Kind, ...] = (
    "references", "ledger", "parked", "lost", "unknown", "fork", "silent", "health", "services",
)  # fmt: skip
"""What an operator may accept; of the others the generation itself is broken."""


class Finding(NamedTuple):
    """Something that speaks against a component, and its kind, by which it can be accepted."""

    kind: Kind
    text: str


@dataclass(slots=True)
class Replayed:
    """What a replay did and did not find."""

    folded: int = 0
    fetched: list[str] = field(default_factory=list)
    """What the region's own logs lacked and other regions' copies had, by name."""
    lost: list[str] = field(default_factory=list)
    """Missing records by name: `topic/partition seq a..b`."""
    lost_count: int = 0
    lost_ms: int | None = 0
    """Span of time, in milliseconds, over the largest hole; None: not known of one."""
    unknown: list[str] = field(default_factory=list)
    """Where nobody can say what was lost: `topic/partition after seq n`."""
    findings: list[Finding] = field(default_factory=list)

    def lose(self, name: str, count: int, span_ms: int | None) -> None:
        """Add a hole."""
        self.lost.append(name)
        self.lost_count += count
        known = self.lost_ms is not None and span_ms is not None
        self.lost_ms = max(self.lost_ms or 0, span_ms or 0) if known else None

    @classmethod
    def remembered(cls, entry: Mapping[str, Any]) -> Self:
        """As a journal's entry has it."""
        values = {name: entry[name] for name in cls.__slots__}
        return cls(**{**values, "findings": [Finding(*found) for found in entry["findings"]]})


class ComponentResult(NamedTuple):
    """How one stage ended. Times in milliseconds; `lost` names the records that are nowhere."""

    component: AIComponent
    success: bool
    recovery_time_ms: int
    records_restored: int
    events_replayed: int
    data_loss_events: int
    reasons: tuple[str, ...]
    """What was found against it and is not accepted: `kind: text`."""
    data_loss_ms: int = 0
    lost: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    """Where it is not known what was lost: then `data_loss_events` is the least that was."""
    fetched: tuple[str, ...] = ()
    """What came from other regions' copies, because the region's own log lacks it."""
    waiting: tuple[str, ...] = ()
    """Keys that wait, the first of them, each with why."""
    waiting_count: int = 0
    accepted: tuple[str, ...] = ()
    """What was found against it and accepted by an operator."""


class Waits(NamedTuple):
    """How many keys of a component wait, and the first of them with why."""

    total: int = 0
    named: tuple[str, ...] = ()


class Acceptance(NamedTuple):
    """An operator's word: kinds of findings that do not hold this recovery, and why."""

    kinds: tuple[str, ...]
    reason: str
    by: str
    at_ms: int


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
    reasons: tuple[str, ...] = ()
    """What holds the recovery as a whole: its health, or that of its region's services."""
    accepted: tuple[Acceptance, ...] = ()
    compared_with: tuple[str, ...] = ()
    """What the ends of the logs were compared with."""
    services: Mapping[str, Any] | None = None
    """The health of the region's services before the switch; None: it was not asked."""
    passed_over: tuple[str, ...] = ()
    """Manifests that stood before the one that is meant, and are not signed by us; why."""


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
    found: Sequence[Finding],
) -> ComponentResult:
    """A stage's result, but for its time and what waits; `found`: what its gate has found.

    Its `reasons` are all that was found: `accepting` sorts out what an operator accepts.
    """
    most_s = request.max_acceptable_data_loss_s
    acceptable = most_s > 0 and tail.lost_ms is not None and tail.lost_ms <= most_s * 1000
    all_found = [*found, *tail.findings]
    all_found += [Finding("unknown", name) for name in tail.unknown]
    if not acceptable:
        all_found += [Finding("lost", name) for name in tail.lost]
    return ComponentResult(
        component, not all_found, 0, restored, tail.folded, tail.lost_count,
        tuple(f"{f.kind}: {f.text}" for f in all_found), tail.lost_ms or 0, tuple(tail.lost),
        tuple(tail.unknown), tuple(tail.fetched),
    )  # fmt: skip


def accepting(result: ComponentResult, kinds: Collection[str]) -> ComponentResult:
    """The result as it is with an operator's word on these kinds of findings."""
    accepted = tuple(r for r in result.reasons if r.partition(": ")[0] in kinds)
    left = tuple(r for r in result.reasons if r not in accepted)
    return result._replace(success=not left, reasons=left, accepted=result.accepted + accepted)


def remembered(entry: Mapping[str, Any]) -> ComponentResult:
    """A result as a journal's entry has it."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in entry.items()
        if name in ComponentResult._fields
    }
    return ComponentResult(**values)


def health_ppm(tasks: Mapping[str, Any]) -> int:
    """The share of active tasks that are fully recovered, in millionths; all, when there is none.

    `tasks`: of `gates.active_tasks`.
    """
    total = int(tasks["total_tasks"])
    return int(tasks["fully_recovered"]) * PPM // total if total else PPM


def unhealthy(
    request: RecoveryRequest, health: int, accepted: Collection[str] = ()
) -> tuple[str, ...]:
    """Why the recovery as a whole is held: a health below its gate, and not accepted."""
    if health >= request.health_gate_ppm or "health" in accepted:
        return ()
    return (f"health: {health} of a million active tasks are whole, the gate is"
            f" {request.health_gate_ppm}",)  # fmt: skip


def rpo_met(request: RecoveryRequest, results: Sequence[ComponentResult]) -> bool:
    """Whether no more is lost than is acceptable: of 0 seconds not one fact, and none unknown."""
    most_s = request.max_acceptable_data_loss_s
    loss_ms = max(r.data_loss_ms for r in results)
    lost = any(r.lost for r in results)
    return (
        loss_ms <= most_s * 1000
        and (most_s > 0 or not lost)
        and not any(r.unknown for r in results)
    )
