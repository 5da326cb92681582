"""What each verb prints with `--json`, as types from which its JSON Schema is made.

A verb that prints a line an event has the schema of one line. What a verb makes by `_asdict` of a
tuple with names follows that tuple. `Open`: more may come. Only tests and `everlode schema output`
read this, so that a verb starts without it. Pure.
"""

from __future__ import annotations

from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model

from everlode.adapters.kafka_admin import Drift
from everlode.adapters.kafka_transactions import OpenTransaction
from everlode.adapters.mirror_lag import PartitionLag
from everlode.adapters.mirror_status import FlowState
from everlode.backup.manifest import Manifest
from everlode.errors import NotFound
from everlode.events.base import CommandAnswered
from everlode.failover.estimates import Estimate, Score
from everlode.failover.planner import Candidate
from everlode.health.score import Evidence, Health
from everlode.log.beginning import Filled
from everlode.log.fenced import Fenced, Reissued
from everlode.recovery.generations import GenerationThere
from everlode.recovery.planner import Acceptance, ComponentResult, RecoveryResult, Stage
from everlode.recovery.request import RecoveryRequest
from everlode.settings.endpoints import Endpoints
from everlode.settings.environment import Shown as Setting
from everlode.stack.condition import Condition, Part
from everlode.stack.native.logs import Line
from everlode.stack.retention import Late
from everlode.topics.letters import DeadLetter
from everlode.topology.source import Finding as FileFinding
from everlode.views import keys
from everlode.views.backups import Finished, Foreign, Unfinished, Unusable
from everlode.views.contents import Finding
from everlode.views.links import StaleLink
from everlode.views.skews import Skew

Object = dict[str, Any]


class Closed(BaseModel):
    """It has these fields and no others."""

    model_config = ConfigDict(extra="forbid")


class Open(BaseModel):
    """It has at least these fields."""

    model_config = ConfigDict(extra="allow")


def closed(name: str, /, **fields: Any) -> Any:
    """An object of these fields, all of them there: name → type."""
    made: Any = {n: (kind, ...) for n, kind in fields.items()}
    return create_model(name, __base__=Closed, **made)


def of(kind: type, without: tuple[str, ...] = (), /, **instead: Any) -> Any:
    """What `_asdict` of a tuple with names makes; `instead`: fields of another type, or more."""
    fields = {n: hint for n, hint in get_type_hints(kind).items() if n not in without}
    return closed(kind.__name__, **fields | instead)


def optional(name: str, base: Any, /, **fields: Any) -> Any:
    """The same with fields that may be left out."""
    made: Any = {n: (kind, None) for n, kind in fields.items()}
    return create_model(name, __base__=base, **made)


def many(kind: Any) -> Any:
    """A list of these."""
    return list[kind]


STEP = create_model("Step", __base__=Open, step=(str, ...))
STEPS = closed("Steps", steps=many(STEP))
WISH = closed(
    "Wish", operation=str, verb=str, scope=str, node=str | None, operator=str, reason=str | None,
    until_ms=int | None, expires_ms=int | None, target=str | None, drained_to=list[Object] | None,
    outcome=str, why=str | None, asked_at=int, ended_at=int | None,
)  # fmt: skip
ASKED = WISH | STEPS
"""Of what an operator asks for; with --dry-run the steps."""
EVENT = closed("LastEvent", version=int, event=str, at=str, place=str, seq=int, epoch=int)
SEEN = {"events": many(EVENT), "seen_from": str, "generation": int}
LETTER = of(
    DeadLetter, id=str, left_out=list[str], status=str, decided_at=str | None,
    operator=str | None, reason=str | None,
)  # fmt: skip
DECIDED = closed("Decided", region=str, dry_run=bool, letters=many(LETTER))
SCORED = of(Health, evidence=many(of(Evidence)))
FIGURES = create_model(
    "Figures", __base__=Open, kind=(str, ...), region_id=(str, ...), seen_from=(str, ...),
    generation=(int, ...),
)  # fmt: skip
BACKUPS = many(of(Finished) | of(Unusable) | of(Unfinished) | of(Foreign))
SCHEMA = closed(
    "Schema",
    type=str,
    topic=str,
    fingerprint=str,
    computed=dict[str, str],
    schema_=Annotated[Object, Field(alias="schema")],
)
ONE_LOOK = closed(
    "OneLook",
    at=str,
    regions=many(
        closed(
            "Region", region=str, origin=str, generation=int | None, standing=str | None,
            coordinator=str | None, coordinator_beats=bool, lag_s=float | None,
        )
    ),
    links=many(of(StaleLink)),
    scopes=many(
        closed(
            "Scope", scope=str, epoch=int, primary=str | None, status=str | None,
            reason=str | None, now=str | None, frozen=bool, paused_until=str | None,
            cools_until=str | None,
        )
    ),
    nodes=many(
        closed(
            "Node", node_id=str, region=str, component=str, role=str, status=str, beats=bool,
            queue=int | None, load=float | None, acknowledged_by=str | None,
        )
    ),
    running=many(
        closed(
            "Running", operation=str, what=str, about=str, by=str, since=str | None,
            step=str | None,
        )
    ),
    paused=many(closed("Paused", scope=str, by=str, reason=str | None, until=str)),
    problems=list[str],
)  # fmt: skip
DETECTOR = closed(
    "DetectorFigures", region=str, to=str | None, nodes=int, lost=int, ended=int, stood_still=int,
    false_positives=list[Object], misses=list[Object], blind=int, time_to_detect=list[Object],
    findings=dict[str, int], **{"from": str | None},
)  # fmt: skip
RECOUNTED = optional(
    "Recounted", closed("OfScope", scope=str), replay=Object, **{"with": list[Object]}
)
SAID = optional(
    "Said", closed("Said", code=str, message=str, hint=str), candidates=many(of(Candidate))
)
"""With each node and why it cannot lead, where an operator asked for one."""
OUTPUTS: dict[str, Any] = {
    "error": closed("Error", error=SAID),
    "demo": create_model("Report", __base__=Open, failures=(list[str], ...)),
    "serve": closed("Serving", address=str),
    "stack up": Endpoints,
    "stack fetch": closed("Parts", cache=str, java=str, postgres=str, s3=str | None),
    "stack down": closed("Stopped", stopped=bool, pid=int | None),
    "stack status": of(Condition, ("parts",), dir=str, processes=many(of(Part))),
    "stack logs": of(Line),
    "stack doctor": closed(
        "Diagnosis", green=bool, topics_checked=int, drifts=many(of(Drift)),
        flows=many(of(FlowState, runs=bool)), lags=many(of(PartitionLag)),
        held=many(of(OpenTransaction)), late=many(of(Late, hint=str)),
        contents=many(of(Finding)), unreachable=dict[str, str], gone=list[str],
    ),
    "topology check": closed(
        "Checked", ok=bool, findings=many(of(FileFinding, file=str)),
        members=many(
            closed(
                "Member", process=str, node_id=str, kind=str, priority=int,
                settings=dict[str, str], specialties=list[str],
            )
        ),
        notes=list[str],
    ),
    "topology plan": STEPS,
    "topology apply": closed("Applied", done=many(STEP)) | STEPS,
    "topology show": closed("Running", topology=Object, notes=list[str]),
    "status": ONE_LOOK | closed("Detectors", detectors=many(DETECTOR)),
    "status clusters": closed(
        "Overview", clusters=many(FIGURES), unreachable=dict[str, str], clocks=many(of(Skew))
    ),
    "health": closed(
        "Scores", network=SCORED, regions=many(SCORED), components=many(SCORED),
        nodes=many(SCORED), unreachable=dict[str, str],
    ),
    "scope explain": closed(
        "ScopeExplained", scope=str, epoch=int, primary=str | None, region=str | None,
        decided_at=int | None, renewed_at=int | None, control_position=int,
        candidates=many(of(Candidate)),
        recovery=of(Estimate, score=of(Score), delay_score=of(Score) | None),
        takeover=Object | None,
    )
    | RECOUNTED,
    "scope history": closed(
        "History", scope=str,
        decisions=many(
            closed(
                "Decision", offset=int, at=str, epoch=int, primary=str, reason=str,
                failed_node=str | None, verdict_id=str | None, decided_by=str, based_on=int,
                coordinator_epoch=int | None, void=str | None,
            )
        ),
        suspicions=many(
            closed(
                "Suspicion", offset=int, at=str, observer=str, over=bool, silence_ms=int,
                counts=bool, lost=bool,
            )
        ),
    ),
    "scope plan": closed("Plan", scope=str, steps=many(STEP)),
    **dict.fromkeys(
        (f"scope {verb}" for verb in
         ("switchover", "failover", "failback", "pause", "resume", "ack", "drain", "rejoin")),
        ASKED,
    ),
    "task explain": closed(
        "TaskExplained", task_id=str, status=str, home=str, version=int, task_type=str, gpus=int,
        attempt=int, max_attempts=int, miner_id=str | None, had_it=list[str], reason=str | None,
        submitted_at=str | None, deadline_at=str | None, waits_for=Object | None, **SEEN,
    ),
    "miner explain": closed(
        "MinerExplained", miner_id=str, status=str, home=str, version=int, reason=str | None,
        specialties=list[str], gpus=int, max_concurrent=int, reputation_ppm=int,
        stake_free_micro=int, ejected=bool, ejections=int, given_at_once=int | None,
        stake_promised_micro=int, stake_locked_micro=int, silent=bool, last_beat=str | None,
        working_on=many(closed("Work", task_id=str, attempt=int, lease_until=str | None)),
        waiting_tasks=dict[str, int], **SEEN,
    ),
    "miner reinstate": CommandAnswered,
    "events tail": optional("Tail", closed("Tail", position=str), event=Object),
    "events schema": SCHEMA,
    "dlt list": closed(
        "Letters", region=str, letters=many(LETTER), total=int,
        counts=many(
            closed("Count", consumer=str, topic=str, code=str, status=str, count=int)
        ),
    ),
    "dlt show": create_model(
        "Letter", __base__=LETTER, key=(str | None, ...), headers=(dict[str, str], ...),
        value_hex=(str | None, ...), decoded=(Object | None, ...),
    ),
    "dlt replay": DECIDED,
    "dlt discard": DECIDED,
    "dlt keys": closed(
        "Keys", region=str, generation=int, keys=many(of(keys.Noted, noted_at=str))
    ),
    "dlt fenced": closed("FencedFacts", region=str, facts=many(of(Fenced))),
    "dlt reissue": closed(
        "ReissuedCommands", region=str, dry_run=bool, commands=many(of(Reissued))
    ),
    "backup create": Manifest,
    "backup list": closed("Backups", region=str, backups=BACKUPS, behind=str),
    "backup show": Manifest,
    "backup verify": closed(
        "Verified", backup_id=str, level=str, verified=bool, objects=int, records=int,
        passed_over=list[str],
    ),
    "backup drop": closed("Dropped", region=str, dropped=list[str], stays=str | None),
    "backup keys create": closed("Made", keys=list[str]),
    "backup keys list": closed("AtHand", folder=str, keys=list[str]),
    "recover plan": closed(
        "Planned", plan=RecoveryRequest, backup_id=str, cut_age_ms=int, stages=many(of(Stage)),
        passed_over=list[str],
    ),
    "recover run": of(
        RecoveryResult, components=many(of(ComponentResult)), accepted=many(of(Acceptance)),
        services=Object | None,
    ),
    "recover beginning": closed(
        "Begun", region=str, component=str, source=str, filled=many(of(Filled))
    ),
    "recover list": closed("There", region=str, generations=many(of(GenerationThere))),
    "recover drop": closed("Gone", region=str, dropped=int),
    "schema list": closed(
        "Schemas", schemas=many(closed("Named", type=str, topic=str, fingerprint=str))
    ),
    "schema show": SCHEMA,
    "schema asyncapi": create_model("AsyncAPI", __base__=Open, asyncapi=(str, ...)),
    "schema output": Object,
    "settings": closed("Settings", settings=many(of(Setting))),
}  # fmt: skip
"""Verb → what it prints; `error`: what any verb prints instead."""
SILENT = frozenset({"node run", "projector run", "detector run", "coordinator run"})
"""Verbs that run until they are stopped, and print nothing."""


def schema_of(verb: str) -> Object:
    """The JSON Schema (2020-12) of a verb's output. Raises: NotFound: it is no verb that prints."""
    if verb not in OUTPUTS:
        raise NotFound(
            f"no verb that prints is named {verb!r}", hint=f"there are: {', '.join(OUTPUTS)}"
        )
    schema = TypeAdapter(OUTPUTS[verb]).json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": verb} | schema
