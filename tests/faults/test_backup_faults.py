"""Backups and recoveries that are killed, or find no room: nothing is lost, and they go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from everlode.adapters.kafka_topics import delete_topics, ensure_topics
from everlode.adapters.postgres_next import NextGeneration
from everlode.adapters.postgres_read import current_generation
from everlode.avro.codec import encode_fact, encode_state
from everlode.backup import cut
from everlode.backup.age import concerns
from everlode.backup.manifest import Compared
from everlode.backup.operation import back_up
from everlode.backup.stored import list_backups
from everlode.backup.verify import verify
from everlode.errors import IntegrityError, Precondition, Unavailable
from everlode.events.catalogue import FACT_COMPONENTS
from everlode.log import learn
from everlode.recovery.journal import RecoveryJournal
from everlode.recovery.operation import recover
from everlode.recovery.planner import RecoveryResult
from everlode.recovery.request import RecoveryRequest
from everlode.topics import state_topics
from everlode.topics.names import state_topic
from tests.support.facts.poison import BYTES, KEYS, append, spoil
from tests.support.processes.disks import small_disk
from tests.support.world.backed import TOPOLOGY, Backed, story

pytestmark = pytest.mark.timeout(280)
FACTS = story(seed=2, tasks=30)
PLAN = RecoveryRequest(
    plan_name="recover-eu", disaster_type="database-corruption", target_region="eu"
)


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backed]:
    with Backed(tmp_path_factory.mktemp("faulty")) as found:
        found.write(FACTS[: len(FACTS) // 2])
        found.project()
        yield found


def start(region: Backed, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable, "-m", "everlode.cli.main", *arguments,
            "--dir", str(region.folder / "stack"), "--keys", str(region.keys.folder),
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "EVERLODE_LOG": "json"},
    )  # fmt: skip


def killed_at(process: subprocess.Popen[str], step: str, subject: str = "") -> None:
    """SIGKILL once the process reports this step's end; a fault that did not bite fails."""
    assert process.stderr is not None
    reported = []
    for line in process.stderr:
        reported.append(line)
        entry = json.loads(line) if line.startswith("{") else {}
        ended = entry.get("entry") == "StepEnded" and entry["step"] == step
        if ended and subject in ("", entry["subject"]):
            process.kill()
            break
    process.stderr.close()
    assert process.wait(60) == -9, reported


def test_backup_that_is_killed_is_none_and_the_next_one_goes_on(region: Backed) -> None:
    before = [b for b, done in list_backups(region.store, "eu") if done]
    killed_at(start(region, "backup", "create"), "seal", "rewards/0")
    left = [b for b, done in list_backups(region.store, "eu") if not done]
    assert len(left) == 1
    assert [b for b, done in list_backups(region.store, "eu") if done] == before
    manifest = back_up("eu", region.endpoints, TOPOLOGY, region.store, region.keys)
    assert manifest.backup_id != left[0]
    assert verify(region.store, region.keys, "eu", "latest").manifest == manifest


def test_recovery_that_is_killed_again_and_again_ends_right(region: Backed, tmp_path: Path) -> None:
    region.create()
    region.write(FACTS[len(FACTS) // 2 :])
    region.project()
    expected = region.rows()
    region.disaster()
    work = tmp_path / "work"
    moments = [("fetch",), ("generation",), ("restore", "tasks"), ("replay", "validations"),
               ("switch",)]  # fmt: skip
    for moment in moments:
        arguments = ("recover", "run", "--region", "eu", "--staging", str(work))
        killed_at(start(region, *arguments), *moment)
    result = recover(PLAN, region.endpoints, TOPOLOGY, region.store, region.keys, work)
    assert (result.held, result.lost_event_ids) == (False, ())
    assert current_generation(region.conninfo) == result.generation
    assert region.rows() == expected
    assert region.create().generation == result.generation  # no state topic went back


def test_recovery_that_another_has_overtaken_is_refused(region: Backed, tmp_path: Path) -> None:
    """Begun, killed, done elsewhere, and then resumed: the living generation stays."""
    region.create()
    first = tmp_path / "first"
    arguments = ("recover", "run", "--region", "eu", "--staging", str(first))
    killed_at(start(region, *arguments), "replay", "tasks")
    other = recover(
        PLAN, region.endpoints, TOPOLOGY, region.store, region.keys, tmp_path / "second"
    )
    assert not other.held
    before = region.rows()
    with pytest.raises(Precondition, match="another recovery") as caught:
        recover(PLAN, region.endpoints, TOPOLOGY, region.store, region.keys, first)
    assert (caught.value.code, bool(caught.value.hint)) == ("overtaken", True)
    assert (current_generation(region.conninfo), region.rows()) == (other.generation, before)


def test_hole_whose_span_went_with_an_interruption_is_not_acceptable(
    region: Backed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    region.project()
    region.create()
    region.lose("tasks", 0)
    region.write([])
    lenient = PLAN.model_copy(update={"max_acceptable_data_loss_s": 3600})
    note = RecoveryJournal.note

    def interrupted(journal: RecoveryJournal, step: str, **detail: Any) -> dict[str, Any]:
        if step == "replayed-tasks":
            raise Unavailable("interrupted")
        return note(journal, step, **detail)

    def run(name: str) -> RecoveryResult:
        work = tmp_path / name
        return recover(lenient, region.endpoints, TOPOLOGY, region.store, region.keys, work)

    with monkeypatch.context() as patched:
        patched.setattr(RecoveryJournal, "note", interrupted)
        with pytest.raises(Unavailable, match="interrupted"):
            run("interrupted")
    resumed, whole = run("interrupted"), run("whole")
    assert (resumed.held, whole.held) == (True, False)
    assert resumed.lost_event_ids == whole.lost_event_ids
    assert len(whole.lost_event_ids) == 1


def test_backup_holds_what_the_projector_folded_whatever_else_is_in_the_log(
    region: Backed, tmp_path: Path
) -> None:
    """Records that are dead letters for one are no facts for the other."""
    more = [(c, region.renamed(f, "poison")) for c, f in story(seed=5, tasks=3)]
    region.write(more)
    bad = 0
    for component in FACT_COMPONENTS:
        topic = f"eu.1.{component}"
        _, last, partition = next(w for w in reversed(region.written) if w[0] == component)
        envelope = last.envelope.model_copy(
            update={"version": last.envelope.version + 1, "event_id": f"poison-{component}"}
        )
        value = encode_fact(envelope, last.data)
        pairs = [spoil(d, envelope.aggregate_id, value) for d in (*BYTES, *KEYS)]
        stray = next(f.data for c, f in more if c != component)
        pairs.append((envelope.aggregate_id.encode(), encode_fact(envelope, stray)))
        append(region.bootstrap, topic, pairs, partition)
        bad += len(pairs)
    region.write([])
    region.project()
    manifest = region.create()
    assert region.held(manifest, tmp_path) == live(region)
    assert bad == 28


def live(region: Backed) -> dict[tuple[str, str], int]:
    return {key: version for key, (version, doc) in region.rows().items() if doc is not None}


def up_to(region: Backed, stamp: int) -> dict[tuple[str, str], int]:
    """The version of each key that the facts up to a stamp lead to."""
    return {
        region.state_key(fact): fact.envelope.version
        for _, fact, _ in region.written
        if fact.envelope.stamp <= stamp
    }


def test_states_that_their_topics_have_lost_are_in_the_backup_and_are_counted(
    region: Backed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One topic is made again, a partition of another truncated; and work goes on."""
    monkeypatch.setattr(cut, "WINDOWS_MS", (1, *cut.WINDOWS_MS[1:]))  # no state by facts alone
    more = [(c, region.renamed(f, "lost")) for c, f in story(seed=8, tasks=6)]
    region.write(more[: len(more) // 2])
    region.project()
    region.write([])
    region.project()  # notes that all of these are published
    generation = current_generation(region.conninfo)
    topic = state_topic(generation, "tasks")
    delete_topics(region.bootstrap, [topic])
    with pytest.raises(IntegrityError, match=f"{topic} is not there") as caught:
        region.create()
    assert (caught.value.code, "recover" in caught.value.hint) == ("topic_lost", True)
    ensure_topics(region.bootstrap, state_topics(TOPOLOGY, "eu", generation))
    region.truncate("miners", 1)
    manifest = region.create()
    assert region.held(manifest, tmp_path) == live(region) == up_to(region, manifest.cut_stamp)
    partitions = {region.state_key(f): p for _, f, p in region.written}
    gone = [k for k in live(region) if k[0] == "tasks" or (k[0], partitions[k]) == ("miners", 1)]
    assert manifest.compared is not None
    assert manifest.compared == Compared(rows=len(live(region)), from_rows=len(gone), without_row=0)
    assert any(f"{len(gone)} states were in no state topic" in c for c in concerns(manifest, 9**9))
    # rows of after the cut do not have its states: they are folded from further back
    region.write(more[len(more) // 2 :], barriers=False)
    region.project()
    manifest = region.create()
    assert region.held(manifest, tmp_path) == up_to(region, manifest.cut_stamp) != live(region)
    before = region.rows()
    work = tmp_path / "work"
    result = recover(PLAN, region.endpoints, TOPOLOGY, region.store, region.keys, work)
    assert (result.held, region.rows()) == (False, before)
    region.write([])
    region.project()
    after = region.create()
    assert after.compared == Compared(rows=len(live(region)), from_rows=0, without_row=0)
    assert region.held(after, tmp_path) == live(region)


def test_row_that_is_not_what_the_state_topic_has_stops_the_backup_and_a_lost_one_is_counted(
    region: Backed, tmp_path: Path
) -> None:
    region.write([])
    region.project()
    generation = current_generation(region.conninfo)
    with closing(NextGeneration(region.conninfo, generation, "test")) as db:
        ((key, doc),) = db.query("select key, doc from {g}.tasks order by key limit 1")
        state = region.codec.decode_state(bytes(doc))
        change = "update {{g}}.tasks set {} = %s where key = %s returning key"
        other = encode_state(state._replace(origin="us.1"))
        db.query(change.format("doc"), (other, key))
        with pytest.raises(IntegrityError, match=f"{key} has another state of version") as caught:
            region.create()
        assert caught.value.code == "state_conflict"
        db.query(change.format("doc"), (bytes(doc), key))
        db.query(change.format("part"), (9, key))  # as if it were not there
        manifest = region.create()
        assert manifest.compared is not None
        assert manifest.compared.without_row == 1
        assert ("tasks", key) in region.held(manifest, tmp_path)
        db.query(change.format("part"), (state.partition, key))


def test_no_room_for_a_backup_names_the_folder_and_leaves_no_backup(
    region: Backed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [b for b, done in list_backups(region.store, "eu") if done]
    with small_disk(tmp_path / "full", "16k") as full:
        monkeypatch.setattr("tempfile.tempdir", str(full))
        with pytest.raises(Unavailable, match="full") as caught:
            back_up("eu", region.endpoints, TOPOLOGY, region.store, region.keys)
        assert caught.value.code == "no_room"
        assert "TMPDIR" in caught.value.hint
        assert list(full.iterdir()) == []
    assert [b for b, done in list_backups(region.store, "eu") if done] == before


def test_no_room_for_a_recovery_changes_nothing_and_is_resumed(
    region: Backed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learn, "SCHEMA_WAIT_S", 2.0)  # poison of an unknown schema is in the log
    region.create()
    before = current_generation(region.conninfo), region.rows()
    with small_disk(tmp_path / "full", "64m") as full:
        (full / "other").write_bytes(bytes((64 << 20) - (32 << 10)))
        with pytest.raises(Unavailable) as caught:
            recover(PLAN, region.endpoints, TOPOLOGY, region.store, region.keys, full / "work")
        assert caught.value.code == "no_room"
        assert (current_generation(region.conninfo), region.rows()) == before
        (full / "other").unlink()
        result = recover(PLAN, region.endpoints, TOPOLOGY, region.store, region.keys, full / "work")
        assert not result.held
    assert region.rows() == before[1]
