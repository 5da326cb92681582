"""Runs a recovery: a new generation of a region's projection, from a backup and the tail.

Steps, as docs/format.md counts them; each is in the journal before the next (a killed run resumes
after the last one):
  1. manifest checked; every object fetched to staging and checked (must: before anything changes);
  2. the generation is made: state topics and tables, empty;
  3. per component, by priority: states to topic and table, the tail of facts since the cut, gate;
  4. the verdict: what nobody accepts of what was found, or a health below its gate (of the active
     tasks, then of the region's services), holds it;
  5. switch: decision in the control log, then the pointer in PostgreSQL.

    g1  ───── destroyed ─────────────────────┐ (5)
    g2      (2) empty  (3) cut + tail  (4) ok └──► current

Fraud facts are on the validations' topics: fraud's states are restored with that stage and its
tail folded there; the stage of fraud gates them. What the results mean is planner.py's.

A recovery that is held keeps its journal and its generation: run again, it goes on with them, asks
the failed stages anew, and an operator's word (`accept`) passes what is left. Shell.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from everlode.adapters.kafka_admin import state_generations, topic_ids
from everlode.adapters.kafka_control import ControlLog
from everlode.adapters.kafka_topics import ensure_topics
from everlode.adapters.object_store import ObjectStore
from everlode.adapters.postgres_next import NextGeneration
from everlode.adapters.postgres_read import current_generation
from everlode.backup.chosen import WALKED, Shelf, chosen, walk
from everlode.backup.container import is_whole
from everlode.backup.differences import require_alike
from everlode.backup.keys import KeyRing
from everlode.backup.manifest import Manifest, ObjectEntry
from everlode.backup.verify import at_once, fetch
from everlode.errors import ConfigError, Precondition, Unavailable
from everlode.events.control import GenerationSwitched
from everlode.events.services import STATES_OF
from everlode.events.types import AIComponent
from everlode.projection.tables import FACTS_OF
from everlode.recovery import planner
from everlode.recovery.evidence import sources
from everlode.recovery.fitness import unfit
from everlode.recovery.gates import AtTheCut, Built, active_tasks, dangling, gate_component
from everlode.recovery.journal import RecoveryJournal
from everlode.recovery.planner import Acceptance, ComponentResult, RecoveryResult, Replayed
from everlode.recovery.request import RecoveryRequest, Target
from everlode.recovery.services import Ask, ask_services, noted_services
from everlode.recovery.stages import Restored, Stages
from everlode.telemetry.entries import StepEnded
from everlode.telemetry.pace import Pace
from everlode.telemetry.sink import Sink, silent
from everlode.topics import state_topics


class Recovery:
    """One run of one request."""

    def __init__(
        self, request: RecoveryRequest, target: Target, store: ObjectStore, keys: KeyRing
    ) -> None:
        """Open the journal in the staging folder, or a killed run's.

        Raises: Precondition: that run was of another request. IntegrityError: a damaged journal.
        """
        self._request, self._target = request, target
        self._store, self._keys = store, keys
        self._report: Sink = silent
        target.staging.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.journal = RecoveryJournal(target.staging / "journal.jsonl")
        began = self.journal.done.get("started")
        asked = request.model_dump(mode="json")
        if began is None:
            began = self.journal.note("started", plan=asked, region=target.region)
        elif asked | began["plan"] != asked:  # an older build's has fewer settings
            self.journal.close()
            raise Precondition(
                f"{self.journal.path} is of another recovery: {began['plan']['plan_name']}",
                hint="resume that one with its own plan, or name another folder with --staging",
            )
        self._began_ms = int(began["at_ms"])
        self.recovery_id = f"recovery-{target.region}-{self._began_ms}"

    @property
    def plan_name(self) -> str:
        """Its request's name."""
        return self._request.plan_name

    def so_far(self) -> tuple[int, tuple[AIComponent, ...]]:
        """When it began (ms), components that passed."""
        passed = tuple(c for c in planner.PRIORITIES if f"stage-{c}" in self.journal.done)
        return self._began_ms, passed

    def accept(self, kinds: Sequence[str], reason: str, by: str) -> None:
        """Note an operator's word: these kinds of findings do not hold this recovery.

        Raises: ConfigError: a kind that nobody can accept, or no reason.
        """
        wrong = [kind for kind in kinds if kind not in planner.ACCEPTABLE]
        if wrong or not reason.strip():
            what = f"cannot be accepted: {', '.join(wrong)}" if wrong else "a reason is needed"
            raise ConfigError(
                what, hint=f"--accept one of {', '.join(planner.ACCEPTABLE)}, with --reason"
            )
        self.journal.note(
            f"accepted-{','.join(kinds)}", kinds=list(kinds), reason=reason.strip(), by=by
        )

    def accepted(self) -> tuple[Acceptance, ...]:
        """What operators have accepted, in the order of their words."""
        return tuple(
            Acceptance(tuple(entry["kinds"]), entry["reason"], entry["by"], entry["at_ms"])
            for step, entry in self.journal.done.items()
            if step.startswith("accepted-")
        )

    def run(
        self,
        report: Sink = silent,
        ended: Callable[[ComponentResult], None] = lambda _: None,
        services: Ask | None = None,
    ) -> RecoveryResult:
        """Run, or resume, to the end.

        `report` gets each step, `ended` each component once its gate has been asked; a
        resumed run gives those that had passed again. `services` is asked about those of the
        region, if it is given. Raises: IntegrityError, WrongKey, NotFound,
        Precondition: before anything has changed. Unavailable: a part does not answer, or no
        room; run again to resume.
        """
        self._report = report
        # 1. manifest and objects, before anything changes
        manifest = self._fetch()
        # 2. a generation, empty
        generation = self._generation(manifest)
        # 3. component by component
        results: list[ComponentResult] = []
        work = Stages(self._target, manifest, generation, self.journal, report)
        built = Built(
            self._target.conninfo, self._target.bootstrap, generation, manifest.partitions,
            manifest.cut_stamp,
        )  # fmt: skip
        with closing(work):
            for component in planner.PRIORITIES:
                results.append(self._stage(component, work, built))
                ended(results[-1])
        with closing(NextGeneration(self._target.conninfo, generation, "recovery")) as db:
            tasks = self._tasks(db)
            # 4. the verdict
            reasons = planner.unhealthy(self._request, planner.health_ppm(tasks), self._kinds())
            held = bool(reasons) or not all(r.success for r in results)
            switched = "switched" in self.journal.done
            if services is not None and not held and not switched:
                found = ask_services(self._request, services, self.journal, self._kinds())
                reasons = unfit(self._request, found, self._kinds())
            # 5. the switch
            if not held and not reasons and not switched:
                self._switch(db, generation)
        return self._result(manifest, results, tasks, reasons)

    def _result(
        self,
        manifest: Manifest,
        results: Sequence[ComponentResult],
        tasks: dict[str, Any],
        reasons: tuple[str, ...],
    ) -> RecoveryResult:
        """The report; the journal says when it ended, and a held one has not."""
        done = self.journal.done
        held = "switched" not in done
        end_ms = int((done.get("switched") or self.journal.note("held"))["at_ms"])
        for path in self._target.staging.glob("*.plain"):
            path.unlink()
        took_ms = end_ms - self._began_ms
        return RecoveryResult(
            self.recovery_id, self._request.plan_name, manifest.backup_id,
            int(done["generation"]["generation"]), self._began_ms, end_ms, not held, held,
            planner.health_ppm(tasks), tuple(results), tuple(n for r in results for n in r.lost),
            planner.rpo_met(self._request, results),
            took_ms <= self._request.recovery_time_objective_s * 1000, tasks, reasons,
            self.accepted(), sources(self.journal), noted_services(self.journal),
        )  # fmt: skip

    def _kinds(self) -> set[str]:
        return {kind for acceptance in self.accepted() for kind in acceptance.kinds}

    def _tasks(self, db: NextGeneration) -> dict[str, Any]:
        """Of before the switch: what follows it is the projector's."""
        done = self.journal.done.get("tasks")
        if done is None or current_generation(self._target.conninfo) != db.generation:
            done = self.journal.note("tasks", **active_tasks(db))
        return {key: value for key, value in done.items() if key not in ("step", "at_ms")}

    # -- 1. fetch ----------------------------------------------------------------------------

    def _fetch(self) -> Manifest:
        done = self.journal.done.get("fetched")
        wanted = done["backup_id"] if done else self._request.backup
        region = self._target.region
        shelf = Shelf(self._store, self._keys, region)
        manifest = chosen(shelf, wanted, self._target.control_bootstrap, self._report)
        walk(shelf, self._report, WALKED)
        ids = topic_ids(self._target.bootstrap, [t.name for t in manifest.topics])
        require_alike(manifest, self._target.topology, self._report, ids)
        if all(f"stage-{c}" in self.journal.done for c in planner.PRIORITIES):
            return manifest  # nothing is left to be done with them
        self._require_room(sum(o.plain_bytes + o.cipher_bytes for o in manifest.objects))
        pace = Pace(self._report, "fetch", len(manifest.objects), "objects")
        staging = self._target.staging

        def bring(entry: ObjectEntry) -> bool:
            """Whether it was not there yet."""
            plain = staging / f"{entry.component}-{entry.partition}.plain"
            if is_whole(plain, entry.plain_sha256):  # of a killed run
                return False
            fetch(self._store, self._keys, entry, staging)
            return True

        try:
            for entry, fetched in at_once(manifest.objects, bring):
                if fetched:
                    self._report(StepEnded("fetch", entry.key, f"{entry.records} records"))
                pace.more()
        except OSError as error:
            raise Unavailable(
                f"staging {staging}: {error.strerror}",
                code="no_room",
                hint="make room or name another folder with --staging, then run again",
            ) from None
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
            generation = int(done["generation"])
            if "switched" not in self.journal.done:
                self._require_newest(generation)
                self._require_there(generation)
            return generation
        chosen = self.journal.done.get("generation-chosen")
        if chosen:
            generation = int(chosen["generation"])
            self._require_newest(generation - 1)  # it is made now: nobody may have it
        else:
            current = current_generation(self._target.conninfo)
            of_topics = state_generations(self._target.bootstrap)
            generation = planner.next_generation(current, manifest.generation, of_topics)
            self.journal.note("generation-chosen", generation=generation)
        topics = state_topics(self._target.topology, self._target.region, generation)
        ensure_topics(self._target.bootstrap, topics)
        with closing(NextGeneration(self._target.conninfo, generation, "recovery")) as db:
            db.drop()
            db.create()
        self.journal.note("generation", generation=generation)
        self._report(StepEnded("generation", str(generation), "is made"))
        return generation

    def _require_there(self, generation: int) -> None:
        """Raises: Precondition: the generation has been dropped."""
        with closing(NextGeneration(self._target.conninfo, generation, "recovery")) as db:
            if not db.exists():
                raise Precondition(
                    f"{self._target.region}: generation {generation} has been dropped",
                    code="dropped",
                    hint=f"remove {self._target.staging} or name another folder with --staging",
                )

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

    # -- 3. stages ---------------------------------------------------------------------------

    def _stage(self, component: AIComponent, work: Stages, built: Built) -> ComponentResult:
        """A stage's result; one that has passed is not asked again, one that has not is."""
        began = self._noted(f"began-{component}")
        done = self.journal.done.get(f"stage-{component}")
        if done:
            found = planner.remembered(done)
        else:
            found = self._built(component, work, built)
            took_ms = time.time_ns() // 1_000_000 - int(began["at_ms"])
            found = found._replace(recovery_time_ms=took_ms)
        result = planner.accepting(found, self._kinds())
        if not done:
            if result.success:  # what was found, whoever accepts it
                self.journal.note(f"stage-{component}", **found._asdict())
            verdict = "passed" if result.success else f"failed: {'; '.join(result.reasons)}"
            self._report(
                StepEnded(
                    "gate", component,
                    f"{result.records_restored} restored, {result.events_replayed} replayed in"
                    f" {result.recovery_time_ms} ms; {verdict}",
                )
            )  # fmt: skip
        return result

    def _noted(self, step: str) -> dict[str, Any]:
        """The journal's entry of a step, or a new one."""
        return self.journal.done.get(step) or self.journal.note(step)

    def _built(self, component: AIComponent, work: Stages, built: Built) -> ComponentResult:
        """Restore, replay, gate."""
        states = STATES_OF[component]
        restored = self._restored(states, work, built)
        for other in (s for s, facts in FACTS_OF.items() if facts == states):
            self._restored(other, work, built)  # its facts are among those that are replayed now
        tail = Replayed()
        if states not in FACTS_OF:
            tail = work.replay(states, restored.forks)
            self._report(StepEnded("replay", states, f"{tail.folded} facts"))
        cut = AtTheCut(work.expected(states), restored.dangling, work.waited(states))
        gate = gate_component(built, states, work.codec, cut)
        result = planner.judged(self._request, component, restored.records, tail, gate.findings)
        return result._replace(waiting=gate.waits.named, waiting_count=gate.waits.total)

    def _restored(self, states: str, work: Stages, built: Built) -> Restored:
        step = f"restored-{states}"
        done = self.journal.done.get(step)
        if done is None:
            found = work.restore(states)
            found = found._replace(dangling=dangling(work.database(), states, built.cut_stamp))
            done = self.journal.note(step, **found._asdict())
            self._report(StepEnded("restore", states, f"{found.records} records"))
        forks = [(topic, partition) for topic, partition in done["forks"]]
        return Restored(int(done["records"]), forks, int(done["dangling"]))

    # -- 5. switch ---------------------------------------------------------------------------

    def _switch(self, db: NextGeneration, generation: int) -> None:
        """Order (must): the decision first; the pointer follows from it."""
        self._require_newest(generation)
        data = GenerationSwitched(
            region=self._target.region, generation=generation, operation_id=self.recovery_id
        )
        with closing(ControlLog(self._target.control_bootstrap)) as log:
            log.append(self._target.region, data, node_id="recovery")
        db.switch()
        self.journal.note("switched", generation=generation)
        self._report(StepEnded("switch", f"generation {generation}", "is current"))
