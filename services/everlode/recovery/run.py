"""Runs a recovery: a new generation of a region's projection, from a backup and the tail.

Steps, each in the journal before the next (a killed run resumes after the last one):
  1. manifest checked; every object fetched to staging and checked (must: before anything changes);
  2. the generation is made: state topics and tables, empty;
  3. per component, by priority: states to topic and table, the tail of facts since the cut, gate;
  4. the health gate: below it the recovery is held, never called a success;
  5. switch: decision in the control log, then the pointer in PostgreSQL.
Fraud facts are on the validations' topics: fraud's states are restored with that stage and its
tail folded there; the stage of fraud gates them. Shell.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, NamedTuple

from everlode.adapters.kafka_admin import ensure_topics, state_generations
from everlode.adapters.kafka_control import ControlLog
from everlode.adapters.postgres import Projection
from everlode.adapters.postgres_read import current_generation
from everlode.adapters.s3 import ObjectStore
from everlode.backup.container import is_whole
from everlode.backup.keys import KeyRing
from everlode.backup.manifest import Manifest
from everlode.backup.verify import fetch, signed_manifest
from everlode.errors import Precondition, Unavailable
from everlode.events.control import GenerationSwitched
from everlode.events.types import AIComponent
from everlode.recovery.gates import active_tasks, gate_component
from everlode.recovery.journal import RecoveryJournal
from everlode.recovery.plan import PRIORITIES, STATES_OF, RecoveryPlan
from everlode.recovery.stages import Replayed, Stages, Target
from everlode.telemetry.entries import StepEnded
from everlode.telemetry.pace import Pace
from everlode.telemetry.sink import Sink, silent
from everlode.topics import state_topics


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


class Recovery:
    """One run of one plan."""

    def __init__(
        self, plan: RecoveryPlan, target: Target, store: ObjectStore, keys: KeyRing
    ) -> None:
        """Open the journal in the staging folder, or a killed run's.

        Raises: Precondition: that run was of another plan. IntegrityError: the journal is damaged.
        """
        self._plan, self._target = plan, target
        self._store, self._keys = store, keys
        self._report: Sink = silent
        target.staging.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.journal = RecoveryJournal(target.staging / "journal.jsonl")
        began = self.journal.done.get("started")
        asked = plan.model_dump(mode="json")
        if began is None:
            began = self.journal.note("started", plan=asked, region=target.region)
        elif began["plan"] != asked:
            raise Precondition(
                f"{self.journal.path} is of another recovery: {began['plan']['plan_name']}",
                hint="resume that one with its own plan, or name another folder with --staging",
            )
        self._began_ms = int(began["at_ms"])
        self.recovery_id = f"recovery-{target.region}-{self._began_ms}"

    @property
    def plan_name(self) -> str:
        """Its plan's name."""
        return self._plan.plan_name

    def so_far(self) -> tuple[int, int, tuple[AIComponent, ...]]:
        """When it began (ms), its generation (0 before that is chosen), components that passed."""
        chosen = self.journal.done.get("generation-chosen", {"generation": 0})
        passed = tuple(c for c in PRIORITIES if f"stage-{c}" in self.journal.done)
        return self._began_ms, int(chosen["generation"]), passed

    def run(
        self,
        report: Sink = silent,
        ended: Callable[[ComponentResult], None] = lambda _: None,
    ) -> RecoveryResult:
        """Run, or resume, to the end.

        `report` gets each step, `ended` each component once its gate has been asked; a
        resumed run gives those that had passed again. Raises: IntegrityError, WrongKey, NotFound:
        before anything has changed. Unavailable: a part does not answer, or no room; run again to
        resume.
        """
        self._report = report
        manifest = self._fetch()
        generation = self._generation(manifest)
        results: list[ComponentResult] = []
        work = Stages(self._target, manifest, generation)
        with closing(work):
            for component in PRIORITIES:
                results.append(self._stage(component, work, manifest, generation))
                ended(results[-1])
        db = work.database()
        tasks = active_tasks(db)
        health = sum(r.success for r in results) * 1_000_000 // len(results)
        held = health <= self._plan.health_gate_ppm or not all(r.success for r in results)
        if not held and "switched" not in self.journal.done:
            self._require_newest(generation)
            self._decide(generation)
            db.switch()
            self.journal.note("switched", generation=generation)
            self._report(StepEnded("switch", f"generation {generation}", "is current"))
        db.close()
        over = self.journal.done.get("ended") or self.journal.note(
            "ended", held=held, health_ppm=health
        )
        for path in self._target.staging.glob("*.plain"):
            path.unlink()
        took_ms = over["at_ms"] - self._began_ms
        loss_ms = max(r.data_loss_ms for r in results)
        return RecoveryResult(
            self.recovery_id, self._plan.plan_name, manifest.backup_id, generation,
            self._began_ms, over["at_ms"], not held, held, health, tuple(results),
            tuple(name for r in results for name in r.lost),
            loss_ms <= self._plan.max_acceptable_data_loss_s * 1000
            and (self._plan.max_acceptable_data_loss_s > 0 or not any(r.lost for r in results)),
            took_ms <= self._plan.recovery_time_objective_s * 1000, tasks,
        )  # fmt: skip

    # -- 1. fetch ----------------------------------------------------------------------------

    def _fetch(self) -> Manifest:
        done = self.journal.done.get("fetched")
        wanted = done["backup_id"] if done else self._plan.backup
        manifest = signed_manifest(self._store, self._keys, self._target.region, wanted)
        self._require_room(sum(o.plain_bytes + o.cipher_bytes for o in manifest.objects))
        pace = Pace(self._report, "fetch", len(manifest.objects), "objects")
        for entry in manifest.objects:
            plain = self._target.staging / f"{entry.component}-{entry.partition}.plain"
            if done and is_whole(plain, entry.plain_sha256):
                pace.more()
                continue
            try:
                fetch(self._store, self._keys, entry, self._target.staging)
            except OSError as error:
                raise Unavailable(
                    f"staging {self._target.staging}: {error.strerror}",
                    code="no_room",
                    hint="make room or name another folder with --staging, then run again",
                ) from None
            self._report(StepEnded("fetch", entry.key, f"{entry.records} records"))
            pace.more()
        if not done:
            self.journal.note("fetched", backup_id=manifest.backup_id)
        return manifest

    def _require_room(self, wanted: int) -> None:
        free = shutil.disk_usage(self._target.staging).free
        if free < wanted:
            raise Unavailable(
                f"staging {self._target.staging}: {free} bytes are free, {wanted} are needed",
                code="no_room",
                hint="make room, or name another folder with --staging",
            )

    # -- 2. generation -----------------------------------------------------------------------

    def _generation(self, manifest: Manifest) -> int:
        done = self.journal.done.get("generation")
        if done:
            if "switched" not in self.journal.done:
                self._require_newest(int(done["generation"]))
            return int(done["generation"])
        chosen = self.journal.done.get("generation-chosen")
        generation = int(chosen["generation"]) if chosen else self._next(manifest)
        if chosen:
            self._require_newest(generation - 1)  # it is made now: nobody may have it
        else:
            self.journal.note("generation-chosen", generation=generation)
        topics = state_topics(self._target.topology, self._target.region, generation)
        ensure_topics(self._target.bootstrap, topics)
        db = Projection(self._target.conninfo, generation, "recovery")
        db.drop()
        db.create()
        db.close()
        self.journal.note("generation", generation=generation)
        self._report(StepEnded("generation", str(generation), "is made"))
        return generation

    def _require_newest(self, generation: int) -> None:
        """Raises: Precondition: another recovery has made a later generation the current one."""
        current = current_generation(self._target.conninfo)
        if current > generation:
            raise Precondition(
                f"{self._target.region}: another recovery has made generation {current} current"
                " since this one began",
                code="overtaken",
                hint="look at it first; to recover anew name another folder with --staging",
            )

    def _next(self, manifest: Manifest) -> int:
        """Above every generation that PostgreSQL, the backup or a topic knows."""
        known = state_generations(self._target.bootstrap)
        return max(current_generation(self._target.conninfo), manifest.generation, *known) + 1

    # -- 3. stages ---------------------------------------------------------------------------

    def _stage(
        self, component: AIComponent, work: Stages, manifest: Manifest, generation: int
    ) -> ComponentResult:
        step = f"stage-{component}"
        done = self.journal.done.get(step)
        if done:
            values = {k: done[k] for k in ComponentResult._fields}
            return ComponentResult(
                **{**values, "reasons": tuple(done["reasons"]), "lost": tuple(done["lost"])}
            )
        began = time.monotonic()
        states = STATES_OF[component]
        restored = self._restored(states, work)
        tail = Replayed()
        if states == "validations":
            self._restored("fraud", work)
        if states != "fraud":
            tail = self._replayed(states, work)
        target = self._target
        gate = gate_component(
            target.conninfo, generation, states, target.bootstrap, manifest.partitions,
            manifest.cut_stamp,
        )  # fmt: skip
        reasons = (*gate.reasons, *(f"lost: {name}" for name in tail.lost[:5]))
        # a hole whose span an interrupted run took with it is none that is acceptable
        acceptable = 0 < tail.lost_ms <= self._plan.max_acceptable_data_loss_s * 1000
        result = ComponentResult(
            component, gate.passed and (not tail.lost or acceptable),
            round((time.monotonic() - began) * 1000), restored, tail.folded, tail.lost_count,
            reasons, tail.lost_ms, tuple(tail.lost),
        )  # fmt: skip
        if result.success:
            self.journal.note(step, **result._asdict())
        verdict = "passed" if result.success else f"failed: {'; '.join(reasons)}"
        detail = f"{restored} restored, {tail.folded} replayed in {result.recovery_time_ms} ms"
        self._report(StepEnded("gate", component, f"{detail}; {verdict}"))
        return result

    def _restored(self, states: str, work: Stages) -> int:
        step = f"restored-{states}"
        done = self.journal.done.get(step)
        if done is None:
            done = self.journal.note(step, records=work.restore(states))
            self._report(StepEnded("restore", states, f"{done['records']} records"))
        return int(done["records"])

    def _replayed(self, states: str, work: Stages) -> Replayed:
        """Replayed again by a resumed run, from where PostgreSQL stands."""
        found = work.replay(states)
        before = self.journal.done.get(f"replayed-{states}")
        if before:
            found.folded += before["folded"]
            found.lost_ms = max(found.lost_ms, before["lost_ms"])
        self.journal.note(f"replayed-{states}", folded=found.folded, lost_ms=found.lost_ms)
        self._report(StepEnded("replay", states, f"{found.folded} facts"))
        return found

    # -- 5. switch ---------------------------------------------------------------------------

    def _decide(self, generation: int) -> None:
        log = ControlLog(self._target.control_bootstrap)
        data = GenerationSwitched(
            region=self._target.region, generation=generation, operation_id=self.recovery_id
        )
        log.append(self._target.region, data, node_id="recovery")
        log.close()


__all__ = ["ComponentResult", "Recovery", "RecoveryResult", "Target"]
