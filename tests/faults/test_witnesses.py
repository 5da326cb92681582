"""What one witness alone knows of is missed: a primary's mark, or the backup before.

And a health below its gate holds a recovery, at the gate's borders.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from everlode.adapters.kafka import Record
from everlode.adapters.kafka_sender import Sender
from everlode.adapters.postgres_read import current_generation
from everlode.avro.snapshots import encode_snapshot
from everlode.backup import cut
from everlode.backup.age import concerns
from everlode.backup.manifest import Manifest
from everlode.events.base import ScopeEpoch
from everlode.events.snapshots import MARK, SnapshotMark
from everlode.recovery.operation import recover
from everlode.recovery.planner import RecoveryResult
from everlode.recovery.request import RecoveryRequest
from everlode.state.dispatch import FOLD_VERSION
from everlode.topics.names import snapshot_topic
from everlode.views.contents_asked import contents_of
from tests.support.facts.decided import decide
from tests.support.world.backed import TOPOLOGY, Backed, story
from tests.support.world.logs import log, make_anew

pytestmark = pytest.mark.timeout(280)
FENCED, EPOCH = "tasks/fenced", 3
FACTS = story(seed=2, tasks=30)
BY_MARK = "its primary's mark"


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backed]:
    """All is projected, the fence too; no backup was made."""
    with Backed(tmp_path_factory.mktemp("marked")) as found:
        assert found.endpoints.control_bootstrap is not None
        decide(found.endpoints.control_bootstrap, FENCED, EPOCH)
        found.write(FACTS[: len(FACTS) // 2])
        found.open("tasks", FENCED, EPOCH)
        found.write([])
        found.project()
        mark(found)  # behind the cut of any backup in one partition at least
        yield found


def mark(region: Backed) -> None:
    """What a primary of tasks notes in its snapshot of where its log ends now."""
    newest = {raw.partition: raw for raw in log(region, "tasks")}
    sender = Sender(region.bootstrap)
    for partition, raw in newest.items():
        at = region.codec.decode_fact(raw.value).envelope
        opened = (ScopeEpoch(scope=FENCED, epoch=EPOCH),)
        value = SnapshotMark(at.seq, raw.offset + 1, at.stamp, FOLD_VERSION, 0, opened, ())
        topic, key = snapshot_topic("eu.1", "tasks"), MARK + b"%d" % partition
        sender.send(Record(topic, partition, key, encode_snapshot(value), []))
    assert sender.flush(20) == 0


def backup(region: Backed) -> Manifest:
    """One that none follows: it would be a witness too."""
    found = region.create()
    for key in [*region.store.list(f"eu/{found.backup_id}/")]:
        region.store.delete(key.key)
    return found


def named(region: Backed) -> list[tuple[str, str]]:
    """(kind, where) of what `doctor` finds, by the mark alone."""
    examined = contents_of(TOPOLOGY, region.endpoints, region.store)
    assert not examined.unreachable
    assert all(BY_MARK in one.text for one in examined.findings)
    return [(one.kind, one.where) for one in examined.findings]


def test_fence_that_the_database_has_lost_is_known_by_the_mark(region: Backed) -> None:
    assert named(region) == []
    whole = backup(region)
    assert whole.compared is not None
    assert (whole.compared.fences_lost, whole.short) == (0, ())
    generation = current_generation(region.conninfo)
    with psycopg.connect(region.conninfo, autocommit=True) as db:
        for table in ("opened", "openings"):
            text = f"delete from g{generation}.{table} where scope = '{FENCED}'"
            assert db.execute(text).rowcount == TOPOLOGY.partitions
    places = range(TOPOLOGY.partitions)
    assert named(region) == [("fence_lost", f"eu.1.tasks/{p}") for p in places]
    found = backup(region)
    assert found.compared is not None
    assert found.compared.fences_lost == TOPOLOGY.partitions
    assert set(whole.opened) == set(found.opened)
    assert (FENCED, EPOCH) in {(scope, epoch) for _, _, scope, epoch in found.opened}


def test_states_that_rows_and_topic_have_lost_alike_are_missed_by_the_parents_count(
    region: Backed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else knows of them: their facts are older than what a backup reads without need."""
    monkeypatch.setattr(cut, "WINDOWS_MS", (1, *cut.WINDOWS_MS[1:]))
    parent = region.create()
    had = len({key for key in region.held(parent, tmp_path) if key[0] == "miners"})
    with psycopg.connect(region.conninfo, autocommit=True) as db:
        text = f"delete from g{current_generation(region.conninfo)}.miners where part = 0"
        lost = db.execute(text).rowcount
    region.truncate("miners", 0)
    found = region.create()
    assert 0 < lost < had
    assert found.fewer == (("miners", had, had - lost),)
    assert [text for text in concerns(found, 9**9) if text.startswith("miners: ")]
    check_health(region, tmp_path, parent.backup_id, found.backup_id)


def check_health(region: Backed, folder: Path, whole: str, partly: str) -> None:
    """Tasks whose miners are lost are not whole: a gate above their share holds, at it passes."""

    def recovered(backup: str, gate_ppm: int) -> RecoveryResult:
        plan = RecoveryRequest(
            plan_name="health", disaster_type="database-corruption", target_region="eu",
            backup=backup, health_gate_ppm=gate_ppm,
        )  # fmt: skip
        work = folder / f"{backup}-{gate_ppm}"
        return recover(plan, region.endpoints, TOPOLOGY, region.store, region.keys, work)

    before = current_generation(region.conninfo)
    held = recovered(partly, 1_000_000)
    assert 0 < held.health_ppm < 1_000_000
    assert [r.partition(":")[0] for r in held.reasons] == ["health"]
    assert (held.held, current_generation(region.conninfo)) == (True, before)
    assert recovered(partly, held.health_ppm + 1).held
    assert not recovered(partly, held.health_ppm).held
    healthy = recovered(whole, 1_000_000)
    assert (healthy.held, healthy.health_ppm) == (False, 1_000_000)


def test_end_that_the_log_has_lost_before_anybody_read_it_is_known_by_the_mark(
    region: Backed,
) -> None:
    """Neither projector nor backup had come so far, and no other region has a copy."""
    projected = log(region, "tasks")
    applied = region.applied("eu.1.tasks")
    region.write([(c, region.renamed(f, "late")) for c, f in story(seed=3, tasks=6)])
    mark(region)
    newest = {raw.partition: raw for raw in log(region, "tasks")}
    make_anew(region.bootstrap, "tasks", projected)
    known = {p: region.codec.decode_fact(raw.value).envelope.seq for p, raw in newest.items()}
    assert all(known[p] > applied[p] for p in known)
    places = sorted(known)
    assert [one for one in named(region) if one[0] == "log_short"] == [
        ("log_short", f"eu.1.tasks/{p}") for p in places
    ]
    assert [(t, p, k) for t, p, _, k in backup(region).short] == [
        ("eu.1.tasks", p, known[p]) for p in places
    ]
