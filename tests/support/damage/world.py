"""A region in a known state that can be damaged and put back, byte by byte.

What it holds: an older generation that a recovery has replaced; an older backup and the latest; an
epoch opened between the two; a tail of facts, one of them fenced by that epoch. All is projected.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg

from everlode.adapters.kafka import Raw
from everlode.backup.cut import WINDOWS_MS
from everlode.backup.manifest import Manifest
from everlode.backup.operation import back_up
from everlode.events.base import Fact
from everlode.events.states import TaskState
from everlode.recovery.operation import recover
from everlode.recovery.request import RecoveryRequest
from everlode.topics.names import fact_topic, state_topic
from tests.support.facts.decided import decide
from tests.support.facts.whole_topic import records
from tests.support.world.backed import TOPOLOGY, Backed, Rows, story
from tests.support.world.region import until

PLAN = RecoveryRequest(
    plan_name="recover-eu", disaster_type="database-corruption", target_region="eu"
)
"""What `everlode recover run --region eu` runs."""
FENCED, EPOCH = "tasks/fenced", 3
"""A scope whose facts below this epoch are fenced, from between the two backups on."""
OLDER = "older"
"""PostgreSQL's schema that keeps copies of the time of the older backup."""
COPIED = ("tasks", "positions", "opened", "openings")
GENERATION = 2
FACT_LOG, STATE_TOPIC = fact_topic("eu.1", "tasks"), state_topic(GENERATION, "tasks")
BEFORE_S = WINDOWS_MS[0] / 1000 + 1
"""What is older than this is further before the cut than a backup reads facts without need."""
_KAFKA = "eu/kafka"
_PARTS = (_KAFKA, "eu/postgres", "control/1")


class Reached(NamedTuple):
    """A prefix of what was written: how many facts, and (component, partition) → last `seq`."""

    facts: int
    seqs: dict[tuple[str, int], int]


class World:
    """The region, what it was, and the way back."""

    def __init__(self, region: Backed) -> None:
        self.region = region
        self.work = region.folder / "work"
        """Staging folder of the recovery under test."""
        self.logs_differ = False
        """Kafka is not as it was kept, and another part of the region would show it."""
        self._kept = region.folder / "kept"
        self._build()
        self._keep()

    # -- building ------------------------------------------------------------------------------

    def _build(self) -> None:
        facts = story(seed=6, tasks=12)
        quarter = len(facts) // 4
        self._write(facts[:quarter])
        self._backup()
        region = self.region
        first = region.folder / "first"
        found = recover(PLAN, region.endpoints, TOPOLOGY, region.store, region.keys, first)
        assert (found.held, found.generation) == (False, GENERATION)
        self._write(facts[quarter : 2 * quarter])
        self.older = self._backup()
        self.topics_then = {t: self.records(t) for t in (FACT_LOG, STATE_TOPIC)}
        self._copy_tables()
        assert region.endpoints.control_bootstrap is not None
        decide(region.endpoints.control_bootstrap, FENCED, EPOCH)
        region.open("tasks", FENCED, EPOCH)
        opened = time.monotonic()
        self._write(facts[2 * quarter : 3 * quarter])
        self.latest = self._backup()
        self.upto = self.reached()
        until(lambda: time.monotonic() - opened > BEFORE_S, 60, "the opening is old enough")
        self._write(facts[3 * quarter :])
        self._write_fenced(next(fact for component, fact in facts if component == "tasks"))
        self.rows: Rows = region.rows()

    def _write(self, facts: list[tuple[str, Fact]]) -> None:
        self.region.write(facts)
        self.region.project()

    def _write_fenced(self, submitted: Fact) -> None:
        """A fact that has no effect in any region: it counts for none that is written."""
        fact = self.region.renamed(submitted, "fenced")
        late = fact.envelope.model_copy(update={"scope": FENCED, "epoch": EPOCH - 1})
        self._write([("tasks", Fact(late, fact.data))])
        self.region.written.pop()

    def _backup(self) -> Manifest:
        region = self.region
        return back_up("eu", region.endpoints, TOPOLOGY, region.store, region.keys)

    def _copy_tables(self) -> None:
        with self.database() as db:
            db.execute(f"create schema {OLDER}")
            for table in self.tables():
                db.execute(f"create table {OLDER}.{table} as table g{GENERATION}.{table}")

    # -- looking -------------------------------------------------------------------------------

    @contextmanager
    def database(self) -> Iterator[psycopg.Connection]:
        """The region's PostgreSQL, past the product."""
        with psycopg.connect(self.region.conninfo, autocommit=True) as db:
            yield db

    def tables(self) -> list[str]:
        """Those of `COPIED` that this build has."""
        with self.database() as db:
            found = db.execute(
                "select table_name from information_schema.tables where table_schema = %s",
                (f"g{GENERATION}",),
            ).fetchall()
        return [table for table in COPIED if (table,) in found]

    def records(self, topic: str) -> list[Raw]:
        """All that a topic of the region holds."""
        return records(self.region.bootstrap, topic, TOPOLOGY.partitions)

    def reached(self) -> Reached:
        """What was written, up to now."""
        return Reached(len(self.region.written), self.region.reached())

    def other_reward(self, value: bytes | None) -> TaskState:
        """A task's state, but for its reward."""
        state = self.region.codec.decode_state(value)
        assert isinstance(state, TaskState)
        return state._replace(reward_micro=state.reward_micro + 1)

    def objects(self) -> dict[str, bytes]:
        """Whatever the store holds."""
        store = self.region.store
        return {item.key: store.get(item.key) for item in store.list("")}

    # -- the way back --------------------------------------------------------------------------

    def _keep(self) -> None:
        stack = self.region.stack
        self.kept_objects = self.objects()
        for name in _PARTS:
            stack.stop(name)
            _copy(self._data(name), self._kept / name)
        _copy(self.region.keys.folder, self._kept / "keys")
        _together(stack.restart, _PARTS)

    def restore(self) -> None:
        """Put back what was there; returns once it serves.

        The region's Kafka is left as it is, where it may be: its start takes the longest.
        """
        _together(self._restore_part, [p for p in _PARTS if p != _KAFKA or self.logs_differ])
        self.logs_differ = False
        store, now = self.region.store, self.objects()
        for key in now.keys() - self.kept_objects.keys():
            store.delete(key)
        for key, value in self.kept_objects.items():
            if now.get(key) != value:
                store.put(key, value)
        _copy(self._kept / "keys", self.region.keys.folder)
        shutil.rmtree(self.work, ignore_errors=True)

    def _restore_part(self, name: str) -> None:
        self.region.stack.kill(name)
        _copy(self._kept / name, self._data(name))
        self.region.stack.restart(name)

    def _data(self, name: str) -> Path:
        found = self.region.stack.layout.data(name)
        assert found is not None
        return found


def _copy(source: Path, target: Path) -> None:
    """A folder as it is, owners and holes too."""
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", "--sparse=always", str(source), str(target)], check=True)


def _together(work: object, names: Sequence[str] = _PARTS) -> None:
    assert callable(work)
    with ThreadPoolExecutor(len(names)) as threads:
        list(threads.map(work, names))
