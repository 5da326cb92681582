"""Runs a recovery: a new generation of a region's projection, from a backup and the tail.

Steps, as docs/format.md counts them; each is in the journal before the next (a killed run resumes
after the last one):
  1. manifest checked; every object fetched to staging and checked (must: before anything changes);
  2. the generation is made: state topics and tables, empty;
  3. per component, by priority: states to topic and table, the tail of facts since the cut, gate;
  4. the health gate: below it the recovery is held, never called a success;
  5. switch: decision in the control log, then the pointer in PostgreSQL.

    g1  ───── destroyed ─────────────────────┐ (5)
    g2      (2) empty  (3) cut + tail  (4) ok └──► current

Fraud facts are on the validations' topics: fraud's states are restored with that stage and its
tail folded there; the stage of fraud gates them. What the results mean is planner.py's. Shell.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import closing

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
from everlode.errors import Precondition, Unavailable
from everlode.events.control import GenerationSwitched
from everlode.events.services import STATES_OF
from everlode.events.types import AIComponent
from everlode.projection.tables import FACTS_OF
from everlode.recovery import planner
from everlode.recovery.gates import active_tasks, gate_component
from everlode.recovery.journal import RecoveryJournal
from everlode.recovery.planner import ComponentResult, RecoveryResult, Replayed
from everlode.recovery.request import RecoveryRequest, Target
from everlode.recovery.stages import Stages
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
        elif began["plan"] != asked:
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

    def so_far(self) -> tuple[int, int, tuple[AIComponent, ...]]:
        """When it began (ms), its generation (0 before that is chosen), components that passed."""
        chosen = self.journal.done.get("generation-chosen", {"generation": 0})
        passed = tuple(c for c in planner.PRIORITIES if f"stage-{c}" in self.journal.done)
        return self._began_ms, int(chosen["generation"]), passed

    def run(
        self,
        report: Sink = silent,
        ended: Callable[[ComponentResult], None] = lambda _: None,
    ) -> RecoveryResult:
        """Run, or resume, to the end.

        `report` gets each step, `ended` each component once its gate has been asked; a
        resumed run gives those that had passed again. Raises: IntegrityError, WrongKey, NotFound,
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
        work = Stages(self._target, manifest, generation, report)
        with closing(work):
            for component in planner.PRIORITIES:
                results.append(self._stage(component, work, manifest, generation))
                ended(results[-1])
        with closing(work.database()) as db:
            tasks = active_tasks(db)
            # 4. the health gate
            held = planner.is_held(self._request, results)
            # 5. the switch
            if not held and "switched" not in self.journal.done:
                self._switch(db, generation)
        health = planner.health_ppm(results)
        over = self.journal.done.get("ended") or self.journal.note(
            "ended", held=held, health_ppm=health
        )
        for path in self._target.staging.glob("*.plain"):
            path.unlink()
        took_ms = over["at_ms"] - self._began_ms
        return RecoveryResult(
            self.recovery_id, self._request.plan_name, manifest.backup_id, generation,
            self._began_ms, over["at_ms"], not held, held, health, tuple(results),
            tuple(name for r in results for name in r.lost),
            planner.rpo_met(self._request, results),
            took_ms <= self._request.recovery_time_objective_s * 1000, tasks,
        )  # fmt: skip

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
        self._require_room(sum(o.plain_bytes + o.cipher_bytes for o in manifest.objects))
        pace = Pace(self._report, "fetch", len(manifest.objects), "objects")
        staging = self._target.staging

        def bring(entry: ObjectEntry) -> bool:
            """Whether it was not there yet."""
            plain = staging / f"{entry.component}-{entry.partition}.plain"
            if is_whole(plain, entry.plain_sha256):  # an earlier try brought it
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
            if "switched" not in self.journal.done:
                self._require_newest(int(done["generation"]))
            return int(done["generation"])
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

    def _stage(
        self, component: AIComponent, work: Stages, manifest: Manifest, generation: int
    ) -> ComponentResult:
        step = f"stage-{component}"
        done = self.journal.done.get(step)
        if done:
            return planner.remembered(done)
        began = time.monotonic()
        states = STATES_OF[component]
        restored = self._restored(states, work)
        for other in (s for s, facts in FACTS_OF.items() if facts == states):
            self._restored(other, work)  # its facts are among those that are replayed now
        tail = Replayed() if states in FACTS_OF else self._replayed(states, work)
        target = self._target
        gate = gate_component(
            target.conninfo, generation, states, target.bootstrap, manifest.partitions,
            manifest.cut_stamp,
        )  # fmt: skip
        took_ms = round((time.monotonic() - began) * 1000)
        result = planner.judged(self._request, component, restored, tail, gate.reasons)
        result = result._replace(recovery_time_ms=took_ms)
        if result.success:
            self.journal.note(step, **result._asdict())
        verdict = "passed" if result.success else f"failed: {'; '.join(result.reasons)}"
        detail = f"{restored} restored, {tail.folded} replayed in {took_ms} ms; {verdict}"
        self._report(StepEnded("gate", component, detail))
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
