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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
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
from everlode.events.types import AIComponent
from everlode.recovery import planner
from everlode.recovery.evidence import sources
from everlode.recovery.fitness import unfit
from everlode.recovery.gated import Gated
from everlode.recovery.gates import active_tasks
from everlode.recovery.grounds import Grounds
from everlode.recovery.journal import RecoveryJournal
from everlode.recovery.planner import Acceptance, ComponentResult, RecoveryResult
from everlode.recovery.request import RecoveryRequest, Target
from everlode.recovery.services import Ask, ask_services, noted_services
from everlode.recovery.stages import Stages
from everlode.telemetry.entries import Entry, StepEnded
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
        with ExitStack() as opened:
            log = opened.enter_context(closing(ControlLog(self._target.control_bootstrap)))
            # 1. manifest and objects, before anything changes
            manifest = self._manifest()
            if all(f"stage-{c}" in self.journal.done for c in planner.PRIORITIES):
                generation = self._number(manifest)
                db, results = opened.enter_context(closing(self._generation(generation))), []
                for component in planner.PRIORITIES:
                    found = planner.remembered(self.journal.done[f"stage-{component}"])
                    results.append(planner.accepting(found, self._kinds()))
                    ended(results[-1])
            else:
                grounds = Grounds(self._target, manifest, self.journal, report)
                opened.enter_context(closing(grounds))
                self._fetch(manifest)
                grounds.ask()
                # 2. a generation, empty; who fills it connects meanwhile
                generation = self._number(manifest)
                work = opened.enter_context(closing(Stages(grounds, generation)))
                db = opened.enter_context(closing(self._generation(generation)))
                # 3. component by component
                gated = Gated(self._request, work, db, self._kinds())
                results = opened.enter_context(closing(gated)).results(ended)
            tasks = self._tasks(db)
            # 4. the verdict
            reasons = planner.unhealthy(self._request, planner.health_ppm(tasks), self._kinds())
            held = bool(reasons) or not all(r.success for r in results)
            switched = "switched" in self.journal.done
            if services is not None and not held and not switched:
                asked = ask_services(self._request, services, self.journal, self._kinds())
                reasons = unfit(self._request, asked, self._kinds())
            # 5. the switch
            if not held and not reasons and not switched:
                self._switch(db, log)
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
            tuple(done.get("passed_over", {}).get("manifests", ())),
        )  # fmt: skip

    def _kinds(self) -> set[str]:
        return {kind for acceptance in self.accepted() for kind in acceptance.kinds}

    def _tasks(self, db: NextGeneration) -> dict[str, Any]:
        """Of before the switch: what follows it is the projector's."""
        done = self.journal.done.get("tasks")
        if done is None or db.newest() != db.generation:
            done = self.journal.note("tasks", **active_tasks(db))
        return {key: value for key, value in done.items() if key not in ("step", "at_ms")}

    # -- 1. fetch ----------------------------------------------------------------------------

    def _manifest(self) -> Manifest:
        """The one that is meant, compared with what is there; the chain is walked meanwhile."""
        done = self.journal.done.get("fetched")
        wanted = done["backup_id"] if done else self._request.backup
        shelf = Shelf(self._store, self._keys, self._target.region)
        breaks: list[Entry] = []
        with ThreadPoolExecutor(1, "chain") as beside:
            walking = beside.submit(walk, shelf, breaks.append, WALKED)
            meant = chosen(shelf, wanted, self._target.control_bootstrap, self._report)
            manifest = meant.manifest
            ids = topic_ids(self._target.bootstrap, [t.name for t in manifest.topics])
            walking.result()
        for entry in breaks:
            self._report(entry)
        if meant.passed:
            self.journal.note("passed_over", manifests=meant.passed_over)
        require_alike(manifest, self._target.topology, self._report, ids)
        return manifest

    def _fetch(self, manifest: Manifest) -> None:
        """Every object to staging, checked; what is there whole is not fetched again."""
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
        if "fetched" not in self.journal.done:
            self.journal.note("fetched", backup_id=manifest.backup_id)

    def _require_room(self, wanted: int) -> None:
        free = shutil.disk_usage(self._target.staging).free
        if free < wanted:
            raise Unavailable(
                f"staging {self._target.staging}: {free} bytes are free, {wanted} are needed",
                code="no_room",
                hint="make room, or name another folder with --staging",
            )

    # -- 2. generation -----------------------------------------------------------------------

    def _number(self, manifest: Manifest) -> int:
        """Which generation is filled: noted before anything of it is made (must)."""
        for step in ("generation", "generation-chosen"):
            if found := self.journal.done.get(step):
                return int(found["generation"])
        with ThreadPoolExecutor(1, "generations") as beside:
            asking = beside.submit(state_generations, self._target.bootstrap)
            current = current_generation(self._target.conninfo)
            generation = planner.next_generation(current, manifest.generation, asking.result())
        self.journal.note("generation-chosen", generation=generation)
        return generation

    def _generation(self, generation: int) -> NextGeneration:
        """Connected to it, and made if it was not; the caller closes it."""
        db = NextGeneration(self._target.conninfo, generation, "recovery")
        try:
            if "generation" not in self.journal.done:
                self._make(db)
            elif "switched" not in self.journal.done:
                self._require_newest(generation, db.newest())
                self._require_there(db)
        except BaseException:
            db.close()
            raise
        return db

    def _make(self, db: NextGeneration) -> None:
        generation = db.generation
        self._require_newest(generation - 1, db.newest())  # nobody may have it
        topics = state_topics(self._target.topology, self._target.region, generation)
        with ThreadPoolExecutor(1, "topics") as beside:
            making = beside.submit(ensure_topics, self._target.bootstrap, topics)
            db.drop()
            db.create()
            making.result()
        self.journal.note("generation", generation=generation)
        self._report(StepEnded("generation", str(generation), "is made"))

    def _require_there(self, db: NextGeneration) -> None:
        """Raises: Precondition: the generation has been dropped."""
        if not db.exists():
            raise Precondition(
                f"{self._target.region}: generation {db.generation} has been dropped",
                code="dropped",
                hint=f"remove {self._target.staging} or name another folder with --staging",
            )

    def _require_newest(self, generation: int, current: int) -> None:
        """Raises: Precondition: another recovery has made a later generation the current one."""
        if current > generation:
            raise Precondition(
                f"{self._target.region}: another recovery has made generation {current} current"
                " since this one began",
                code="overtaken",
                hint="look at it first; to recover anew name another folder with --staging",
            )

    # -- 5. switch ---------------------------------------------------------------------------

    def _switch(self, db: NextGeneration, log: ControlLog) -> None:
        """Order (must): the decision first; the pointer follows from it."""
        generation = db.generation
        self._require_newest(generation, db.newest())
        data = GenerationSwitched(
            region=self._target.region, generation=generation, operation_id=self.recovery_id
        )
        log.append(self._target.region, data, node_id="recovery")
        db.switch()
        self.journal.note("switched", generation=generation)
        self._report(StepEnded("switch", f"generation {generation}", "is current"))
