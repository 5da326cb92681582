"""Runs a recovery: a new generation of a region's projection, from a backup and the tail.

Steps, each in the journal before the next (a killed run resumes after the last one):
  1. manifest checked; every object fetched to staging and checked (must: before anything changes);
  2. the generation is made: state topics and tables, empty;
  3. per component, by priority: states to table and topic, the tail of facts since the cut, gate;
  4. the health gate: below it the recovery is held, never called a success;
  5. switch: decision in the control log, pointer in PostgreSQL.
Restored states count as published: they are written to the state topics before their rows are
loaded, and again when the step is done again (readers keep the greatest version). Shell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from everlode.adapters.kafka import Reader, Record, Writer
from everlode.adapters.kafka_admin import ensure_topics
from everlode.adapters.kafka_control import ControlLog
from everlode.adapters.postgres import Projection, current_generation
from everlode.adapters.s3 import ObjectStore
from everlode.avro.codec import encode_state, state_from_dict
from everlode.backup.container import read
from everlode.backup.keys import KeyRing
from everlode.backup.manifest import Manifest
from everlode.backup.verify import fetch, signed_manifest
from everlode.events.control import GenerationSwitched
from everlode.events.stamp import millis_of
from everlode.projection.fold import Known, Position
from everlode.projection.tables import FACTS_OF
from everlode.projector.worker import Home, PartitionWorker
from everlode.recovery.gates import Gate, active_tasks, gate_component
from everlode.recovery.journal import RecoveryJournal
from everlode.recovery.plan import PRIORITIES, STATES_OF, RecoveryPlan
from everlode.topics import Topology, state_topics
from everlode.topics.names import fact_topic, state_topic

TAIL_MARGIN_MS = 120_000
"""The tail is looked for from this long before the newest restored event."""


class Target(NamedTuple):
    """The region that is recovered."""

    region: str
    origin: str
    bootstrap: str
    control_bootstrap: str
    conninfo: str
    topology: Topology
    staging: Path


class ComponentResult(NamedTuple):
    """How one stage ended."""

    component: str
    success: bool
    recovery_time_ms: int
    records_restored: int
    events_replayed: int
    data_loss_events: int
    reasons: tuple[str, ...]


class RecoveryResult(NamedTuple):
    """How the recovery ended. `held`: a gate kept the services stopped."""

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
    """One run of one plan. `progress` gets one line a step."""

    def __init__(
        self,
        plan: RecoveryPlan,
        target: Target,
        store: ObjectStore,
        keys: KeyRing,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._plan = plan
        self._target = target
        self._store = store
        self._keys = keys
        self._progress = progress
        target.staging.mkdir(parents=True, exist_ok=True)
        self.journal = RecoveryJournal(target.staging / "journal.jsonl")

    def run(self) -> RecoveryResult:
        """Run, or resume, to the end.

        Raises: IntegrityError, WrongKey, NotFound: before anything has changed. Unavailable: a part
        does not answer; run again to resume.
        """
        began = self.journal.done.get("started") or self.journal.note(
            "started", plan=self._plan.plan_name, region=self._target.region
        )
        manifest = self._fetch()
        generation = self._generation(manifest)
        results = [self._stage(component, manifest, generation) for component in PRIORITIES]
        db = self._database(generation)
        tasks = active_tasks(db)
        health = sum(r.success for r in results) * 1_000_000 // len(results)
        held = health <= self._plan.health_gate_ppm or not all(r.success for r in results)
        if not held:
            self._switch(db, generation, str(began.get("at_ms")))
        db.close()
        ended = self.journal.note("ended", held=held, health_ppm=health)
        took_ms = ended["at_ms"] - began["at_ms"]
        lost = [r for r in results if r.data_loss_events]
        return RecoveryResult(
            f"recovery-{self._target.region}-{began['at_ms']}", self._plan.plan_name,
            manifest.backup_id, generation, began["at_ms"], ended["at_ms"], not held, held, health,
            tuple(results), tuple(f"{r.component}: {r.data_loss_events} events" for r in lost),
            not lost, took_ms <= self._plan.recovery_time_objective_s * 1000, tasks,
        )  # fmt: skip

    # -- 1. fetch ----------------------------------------------------------------------------

    def _fetch(self) -> Manifest:
        done = self.journal.done.get("fetched")
        wanted = done["backup_id"] if done else self._plan.backup
        manifest = signed_manifest(self._store, self._keys, self._target.region, wanted)
        for entry in manifest.objects:
            plain = self._target.staging / f"{entry.component}-{entry.partition}.plain"
            if done and plain.exists():
                continue
            fetch(self._store, self._keys, entry, self._target.staging)
            self._progress(f"fetched {entry.key}: {entry.records} records")
        if not done:
            self.journal.note("fetched", backup_id=manifest.backup_id)
        return manifest

    # -- 2. generation -----------------------------------------------------------------------

    def _generation(self, manifest: Manifest) -> int:
        done = self.journal.done.get("generation")
        if done:
            return int(done["generation"])
        current = current_generation(self._target.conninfo)
        generation = max(current, manifest.generation) + 1
        self.journal.note("generation-chosen", generation=generation)
        topics = state_topics(self._target.topology, self._target.region, generation)
        ensure_topics(self._target.bootstrap, topics)
        db = self._database(generation)
        db.drop()
        db.create()
        db.close()
        self.journal.note("generation", generation=generation)
        self._progress(f"generation {generation} is made")
        return generation

    def _database(self, generation: int) -> Projection:
        return Projection(self._target.conninfo, generation, "recovery")

    # -- 3. stages ---------------------------------------------------------------------------

    def _stage(self, component: str, manifest: Manifest, generation: int) -> ComponentResult:
        step = f"stage-{component}"
        done = self.journal.done.get(step)
        if done:
            values = {k: done[k] for k in ComponentResult._fields if k != "reasons"}
            return ComponentResult(**values, reasons=tuple(done["reasons"]))
        began = time.monotonic()
        states = STATES_OF[component]
        restored = self._restore(states, manifest, generation)
        replayed = lost = 0
        if states != "fraud":  # its facts come with the validations'
            if states == "validations":
                self._restore("fraud", manifest, generation)  # one topic has both
            replayed, lost = self._replay(states, manifest, generation)
        gate = gate_component(self._target.conninfo, generation, states, self._target.bootstrap,
                              self._target.topology.partitions)  # fmt: skip
        took = round((time.monotonic() - began) * 1000)
        result = ComponentResult(
            component, gate.passed and not lost, took, restored, replayed, lost, gate.reasons
        )
        self.journal.note(step, **result._asdict())
        self._say(result, gate)
        return result

    def _say(self, result: ComponentResult, gate: Gate) -> None:
        verdict = "passed" if result.success else f"failed: {'; '.join(gate.reasons)}"
        self._progress(
            f"{result.component}: {result.records_restored} restored, {result.events_replayed} "
            f"replayed in {result.recovery_time_ms} ms, gate {verdict}"
        )

    def _states(self, states: str, partition: int) -> Iterator[tuple[str, Known]]:
        path = self._target.staging / f"{states}-{partition}.plain"
        with path.open("rb") as file:
            for value in read(file, path.name):
                state = state_from_dict(states, value)
                yield state.key, Known(state, state.version, "")

    def _restore(self, states: str, manifest: Manifest, generation: int) -> int:
        """States to the topic, then to the table, with their positions. Idempotent."""
        step = f"restored-{states}"
        done = self.journal.done.get(step)
        if done:
            return int(done["records"])
        db = self._database(generation)
        db.clear(states)
        count = 0
        for partition in range(manifest.partitions):
            writer = Writer(
                self._target.bootstrap,
                f"projector.{self._target.region}.g{generation}.{partition}",
            )
            writer.open()
            batch: list[Record] = []
            for key, known in self._states(states, partition):
                if known.state is None:
                    continue
                topic = state_topic(generation, states)
                batch.append(Record(topic, partition, key, encode_state(known.state), []))
                if len(batch) == 2000:
                    writer.write(batch)
                    batch = []
            if batch:
                writer.write(batch)
            writer.abandon()
            count += db.load(states, self._states(states, partition))
            db.place(partition, self._positions(states, partition, manifest))
        db.close()
        self.journal.note(step, records=count)
        return count

    def _positions(self, states: str, partition: int, manifest: Manifest) -> dict[str, Position]:
        """Where the tail begins: by time, with a margin; repeats are known by their version."""
        facts = FACTS_OF.get(states, states)
        if states == "fraud":
            return {}  # they stand with the validations, whose topic they share
        found = {}
        reader = Reader(self._target.bootstrap, "recovery-tail")
        for p in manifest.positions:
            if p.partition != partition or not p.topic.endswith(f".{facts}"):
                continue
            start = 0
            if p.stamp:
                at = millis_of(p.stamp) - TAIL_MARGIN_MS
                start = reader.at_time([(p.topic, partition)], at)[p.topic, partition]
            found[p.topic] = Position(p.seq, p.stamp, start)
        reader.close()
        return found

    def _replay(self, states: str, manifest: Manifest, generation: int) -> tuple[int, int]:
        """The tail of facts that are in the region's log; (events folded, events missing)."""
        facts = FACTS_OF.get(states, states)
        topics = [fact_topic(o, facts) for o in self._target.topology.origins]
        home = Home(
            self._target.region, self._target.bootstrap, self._target.conninfo, generation,
            "recovery",
        )  # fmt: skip
        folded = missing = 0
        for partition in range(manifest.partitions):
            worker = PartitionWorker(home, partition, topics)
            reader = Reader(self._target.bootstrap, "recovery-replay", wait_ms=50)
            places = {(t, partition): worker.positions()[t].next_offset for t in topics}
            reader.assign(places)
            for batch in reader.until(reader.ends(places), 300):
                outcome = worker.apply(batch, "replay")
                folded += outcome.folded
                missing += sum(
                    max(0, p.found - p.expected) for p in outcome.problems if p.kind == "seq_gap"
                )
            reader.close()
            worker.close()
        return folded, missing

    # -- 5. switch ---------------------------------------------------------------------------

    def _switch(self, db: Projection, generation: int, mark: str) -> None:
        if "switched" in self.journal.done:
            return
        db.switch()
        log = ControlLog(self._target.control_bootstrap)
        data = GenerationSwitched(
            region=self._target.region, generation=generation, operation_id=f"recovery-{mark}"
        )
        log.append(self._target.region, data, node_id="recovery")
        log.close()
        self.journal.note("switched", generation=generation)
        self._progress(f"switched to generation {generation}")


__all__ = ["ComponentResult", "Recovery", "RecoveryResult", "Target"]
