"""Backups and recoveries that are killed, or find no room: nothing is lost, and they go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from everlode.adapters.kafka_topics import delete_topics, ensure_topics
from everlode.adapters.postgres_next import NextGeneration
from everlode.adapters.postgres_read import current_generation
from everlode.adapters.s3 import S3Store
from everlode.avro.codec import encode_fact, encode_state
from everlode.backup import chosen as chosen_module
from everlode.backup import cut
from everlode.backup.age import concerns
from everlode.backup.chosen import Shelf, chosen, newest_noted, walk
from everlode.backup.manifest import MANIFEST, Compared, Manifest, body_of, dump, sha256_of
from everlode.backup.operation import back_up
from everlode.backup.stored import list_backups
from everlode.backup.verify import newest_signed, verify
from everlode.cli.main import run as cli
from everlode.errors import ConfigError, IntegrityError, Precondition, Unavailable
from everlode.events.catalogue import FACT_COMPONENTS
from everlode.events.control import BackupMade
from everlode.log import learn
from everlode.recovery.journal import RecoveryJournal
from everlode.recovery.operation import recover
from everlode.recovery.planner import RecoveryResult
from everlode.recovery.request import RecoveryRequest
from everlode.topics import state_topics
from everlode.topics.names import state_topic
from tests.support.facts.poison import BYTES, KEYS, append, spoil
from tests.support.processes.disks import small_disk
from tests.support.stores.faulty_proxy import INTERNAL, Fault, FaultyProxy
from tests.support.stores.memory_store import MemoryStore
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


# -- the store drops, puts back, fails -------------------------------------------------------------


def made(region: Backed) -> Manifest:
    """A backup as operators make one: leased, verified, noted."""
    return back_up("eu", region.endpoints, TOPOLOGY, region.store, region.keys, check=False)


@contextmanager
def dropped(region: Backed, backup_id: str) -> Iterator[None]:
    """The store has lost a backup, and finds it again."""
    lost = {o.key: region.store.get(o.key) for o in region.store.list(f"eu/{backup_id}/")}
    assert len(lost) > 1
    for key in lost:
        region.store.delete(key)
    try:
        yield
    finally:
        for key, data in lost.items():
            region.store.put(key, data)


def command(region: Backed, *arguments: str) -> int:
    where = ["--dir", str(region.folder / "stack"), "--keys", str(region.keys.folder)]
    return cli([*arguments, *where])


def test_newest_backup_that_the_store_drops_is_missed_by_all(
    region: Backed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    region.project()
    older, newest = made(region), made(region)
    control = region.endpoints.control()
    assert newest_noted(control, "eu") == BackupMade(
        region="eu", backup_id=newest.backup_id, manifest_sha256=sha256_of(newest),
        created_at_ms=newest.created_at_ms,
    )  # fmt: skip
    before = current_generation(region.conninfo), region.rows()
    plan, work = tmp_path / "plan.yaml", str(tmp_path / "work")
    plan.write_text(json.dumps({**PLAN.model_dump(), "backup": older.backup_id}))
    with dropped(region, newest.backup_id):
        capsys.readouterr()
        assert command(region, "backup", "list") == 20
        assert f"MISSING: backup {newest.backup_id}" in capsys.readouterr().out
        for verb in (
            ("backup", "show"), ("backup", "verify", "--level", "exists"), ("recover", "plan"),
            ("recover", "run", "--staging", work),
        ):  # fmt: skip
            assert command(region, *verb, "--json") == 13
            error = json.loads(capsys.readouterr().out)["error"]
            assert error["code"] == "newest_missing"
            assert newest.backup_id in error["message"]
            assert older.backup_id in error["message"]
        assert (current_generation(region.conninfo), region.rows()) == before
        assert command(region, "backup", "verify", older.backup_id, "--level", "exists") == 0
        assert command(region, "recover", "plan", str(plan)) == 0  # the operator's word
        # and the next one is chained to the one that was made
        following = made(region)
        assert (following.parent_id, following.parent_sha256) == (
            newest.backup_id, sha256_of(newest),
        )  # fmt: skip
        capsys.readouterr()
        assert command(region, "backup", "list") == 20
        gap = f"its parent {newest.backup_id} is missing, and {older.backup_id} is older"
        assert gap in capsys.readouterr().out
        assert command(region, "backup", "verify", "--level", "exists", "--json") == 13
        assert json.loads(capsys.readouterr().out)["error"]["code"] == "chain_broken"
        assert command(region, "recover", "plan") == 0  # it is whole in itself; the gap is named
        assert gap in capsys.readouterr().err
    assert command(region, "backup", "list") == 0
    assert command(region, "backup", "verify", "--level", "exists") == 0


def test_emptied_store_and_older_manifest_put_back_are_not_the_latest(region: Backed) -> None:
    last = made(region)
    name, control = f"eu/{last.backup_id}/{MANIFEST}", region.endpoints.control()
    shelf, right = Shelf(region.store, region.keys, "eu"), region.store.get(name)
    again = last.model_copy(update={"completed_at_ms": last.completed_at_ms + 1})
    region.store.put(name, dump(again, region.keys.sign(body_of(again))))
    try:
        with pytest.raises(IntegrityError, match="another manifest"):
            chosen(shelf, "latest", control, lambda _: None)
    finally:
        region.store.put(name, right)
    empty = Shelf(MemoryStore(), region.keys, "eu")
    with pytest.raises(IntegrityError, match="no other is there"):
        chosen(empty, "latest", control, lambda _: None)
    assert chosen(shelf, "latest", control, lambda _: None) == last


def test_latest_without_a_control_log_needs_its_id(
    region: Backed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chosen_module, "CONTROL_S", 0.1)
    shelf, nobody = Shelf(region.store, region.keys, "eu"), "127.0.0.1:1"
    with pytest.raises(Unavailable, match="not known") as caught:
        chosen(shelf, "latest", nobody, lambda _: None)
    assert "by its id" in caught.value.hint
    newest = newest_signed(*shelf)
    assert newest is not None
    assert chosen(shelf, newest.backup_id, nobody, lambda _: None) == newest


def test_backup_and_recovery_through_a_store_that_fails_each_request_once(
    region: Backed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what was fetched before a failure that lasted is not fetched again."""
    monkeypatch.setattr(learn, "SCHEMA_WAIT_S", 2.0)  # poison of an unknown schema is in the log
    s3 = region.endpoints.s3
    assert s3 is not None
    expected, work = region.rows(), tmp_path / "work"
    with FaultyProxy(s3.endpoint) as proxy:
        store = S3Store(proxy.endpoint, s3.keys(), s3.buckets[0])
        faults = (Fault("refuse"), Fault("lose"), Fault("cut"), Fault("refuse", INTERNAL))
        proxy.each_once(*faults)
        manifest = back_up("eu", region.endpoints, TOPOLOGY, store, region.keys)
        count = len(manifest.objects)
        assert proxy.failed > 2 * count

        def fetched() -> list[str]:
            return [a.target for a in proxy.asked if a.fault is None and ".enc" in a.target]

        def decide(_: str, target: str) -> Fault | None:
            late = ".enc" in target and len(fetched()) >= count // 2
            return Fault("refuse", (403, "AccessDenied")) if late else None

        proxy.asked.clear()
        proxy.faults = decide
        with pytest.raises(ConfigError, match="AccessDenied"):
            recover(PLAN, region.endpoints, TOPOLOGY, store, region.keys, work)
        before = set(fetched())
        proxy.asked.clear()
        proxy.each_once(*faults[1:])
        result = recover(PLAN, region.endpoints, TOPOLOGY, store, region.keys, work)
        after = set(fetched())
    assert (len(before) >= count // 2, before & after, len(before | after)) == (True, set(), count)
    assert (result.held, result.backup_id) == (False, manifest.backup_id)
    assert region.rows() == expected
    assert walk(Shelf(region.store, region.keys, "eu"), lambda _: None) == {}
