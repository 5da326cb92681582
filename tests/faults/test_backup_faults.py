"""Backups and recoveries that are killed, or find no room: nothing is lost, and they go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from everlode.adapters.kafka import Raw, Record
from everlode.adapters.kafka_sender import Sender
from everlode.adapters.kafka_topics import delete_topics, ensure_topics
from everlode.adapters.kafka_writer import Writer
from everlode.adapters.postgres import Projection
from everlode.adapters.postgres_next import NextGeneration
from everlode.adapters.postgres_read import current_generation
from everlode.adapters.s3 import S3Store
from everlode.avro.codec import encode_answer, encode_fact, encode_state
from everlode.backup import chosen as chosen_module
from everlode.backup import cut
from everlode.backup.age import concerns
from everlode.backup.chosen import Shelf, chosen, newest_noted, walk
from everlode.backup.keys import KeyRing
from everlode.backup.manifest import MANIFEST, Compared, Manifest, body_of, dump, sha256_of
from everlode.backup.operation import back_up
from everlode.backup.stored import list_backups
from everlode.backup.verify import signed_manifest, verify
from everlode.cli.main import run as cli
from everlode.errors import ConfigError, IntegrityError, Precondition, Unavailable
from everlode.events.base import CommandAnswered, Envelope, Fact, FactRef
from everlode.events.catalogue import FACT_COMPONENTS
from everlode.events.control import BackupMade
from everlode.log import learn
from everlode.projector import bulk
from everlode.recovery import evidence, stages
from everlode.recovery import run as run_module
from everlode.recovery.journal import RecoveryJournal
from everlode.recovery.operation import recover, report_dict
from everlode.recovery.planner import ComponentResult, RecoveryResult
from everlode.recovery.request import RecoveryRequest
from everlode.settings.endpoints import Endpoints
from everlode.telemetry.entries import Entry
from everlode.topics import catalogue, state_topics
from everlode.topics.names import state_topic
from everlode.views.health import services_health
from tests.support.facts.poison import BYTES, KEYS, append, spoil
from tests.support.processes.disks import small_disk
from tests.support.processes.outputs import fitting
from tests.support.stores.faulty_proxy import INTERNAL, Fault, FaultyProxy
from tests.support.stores.memory_store import MemoryStore
from tests.support.world.backed import TOPOLOGY, Backed, Rows, story
from tests.support.world.logs import log, make_anew, with_copies

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


LENIENT = PLAN.model_copy(update={"max_acceptable_data_loss_s": 3600})


def run(
    region: Backed, work: Path, plan: RecoveryRequest = PLAN, endpoints: Endpoints | None = None
) -> RecoveryResult:
    place = endpoints or region.endpoints
    asked = partial(services_health, place, "eu")  # as the command does
    return recover(plan, place, TOPOLOGY, region.store, region.keys, work, services=asked)


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


def midway(facts: Sequence[tuple[str, Fact]]) -> int:
    """Number of a fact of a task that is neither its first nor its last."""
    last = {f.envelope.aggregate_id: n for n, (c, f) in enumerate(facts) if c == "tasks"}
    return next(
        n
        for n, (c, f) in enumerate(facts)
        if c == "tasks" and f.envelope.version > 1 and n < last[f.envelope.aggregate_id]
    )


def figures(result: RecoveryResult) -> dict[str, Any]:
    """A whole report but for its times, its number, and what stood beside it when it was made."""
    report = report_dict(result)
    for name in ("recovery_id", "generation", "start_ms", "end_ms", "rto_met", "compared_with"):
        del report[name]
    for component in report["components"]:
        del component["recovery_time_ms"]
    return report


class Killed(BaseException):
    """Of a run that ends at once, whatever it has in hand."""


class Writes:
    """What recoveries write; the run that makes one too many ends there, before or after it."""

    def __init__(self, patch: pytest.MonkeyPatch, every: int) -> None:
        self.every, self.left, self.runs = every, every, 0
        self.done: Counter[str] = Counter()
        self._guard = threading.Lock()
        places = ((RecoveryJournal, "note"), (Writer, "put"), (NextGeneration, "load"),
                  (NextGeneration, "count"), (NextGeneration, "place"), (NextGeneration, "bury"),
                  (NextGeneration, "reopen"), (Projection, "apply"), (NextGeneration, "create"),
                  (NextGeneration, "switch"), (run_module, "fetch"))  # fmt: skip
        for owner, name in places:
            patch.setattr(owner, name, self._counted(name, getattr(owner, name)))

    def _counted(self, name: str, write: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            with self._guard:
                self.left -= 1
                ends, over = self.left == 0, self.left < 0
            if over or (ends and self.runs % 2):  # a killed process writes no more in any thread
                raise Killed
            found = write(*args, **kwargs)
            size = len(args[1]) if name == "put" else found if name == "load" else 1
            self.done[name] += int(size)
            if name == "apply":
                self.done["folded"] += args[3].folded
            if ends:
                raise Killed
            return found

        return counted

    def killed(self, recovery: Callable[[], RecoveryResult]) -> RecoveryResult:
        """The result of the run that ends by itself."""
        while True:
            self.left, self.runs = self.every, self.runs + 1
            try:
                return recovery()
            except Killed:
                continue


def test_recovery_killed_at_its_writes_reports_as_an_undisturbed_one_and_repeats_a_batch(
    region: Backed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every so many writes, before or after one; each run makes some, so it comes to an end."""
    monkeypatch.setattr(stages, "BATCH", 8)
    monkeypatch.setattr(bulk, "BATCH", 8)
    region.project()
    plan = LENIENT.model_copy(update={"backup": region.create().backup_id})
    region.lose("tasks", 0)
    region.write([(c, region.renamed(f, "killed")) for c, f in story(seed=8, tasks=8)])
    found = []
    for name, every in (("killed", 31), ("undisturbed", 1 << 40)):
        with monkeypatch.context() as patch:
            writes = Writes(patch, every)
            result = writes.killed(lambda name=name: run(region, tmp_path / name, plan))  # type: ignore[misc]
        found.append((figures(result), writes))
    (killed, broken), (whole, even) = found
    assert killed == whole
    assert killed["components"][1]["lost"]
    assert broken.runs > 5, "vacuous: it was hardly killed"
    assert even.runs == 1
    done, once = broken.done, even.done
    assert (done["load"], done["fetch"], done["folded"]) == (
        once["load"], once["fetch"], once["folded"],
    )  # fmt: skip
    assert done["put"] <= once["put"] + broken.runs * 2 * 8


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


# -- logs that lost something -----------------------------------------------------------------


def beyond(raws: Sequence[Raw], name: str) -> list[Raw]:
    """Records of a log before the first fact of an aggregate whose name begins so."""
    first = {p: min((r.offset for r in raws if r.partition == p and (r.key or b"").startswith(
        name.encode())), default=1 << 60) for p in range(TOPOLOGY.partitions)}  # fmt: skip
    return [r for r in raws if r.offset < first[r.partition]]


def of_tasks(result: RecoveryResult) -> ComponentResult:
    return next(c for c in result.components if c.component == "task-manager")


class Spoilt(NamedTuple):
    """A log of tasks that is about to lose something, behind the cut of the latest backup."""

    whole: list[Raw]
    last: dict[int, Envelope]
    """Partition → the log's last record."""
    rows: Rows


@contextmanager
def spoilt(region: Backed, name: str) -> Iterator[Spoilt]:
    """Facts of aggregates with this prefix come after the cut; in the end the log is whole."""
    region.project()
    region.create()
    region.write([(c, region.renamed(f, name)) for c, f in story(seed=9, tasks=6)])
    region.project()
    whole = log(region, "tasks")
    newest = {r.partition: r for r in whole}
    last = {p: region.codec.decode_fact(r.value).envelope for p, r in sorted(newest.items())}
    try:
        yield Spoilt(whole, last, region.rows())
    finally:
        make_anew(region.bootstrap, "tasks", whole)
        region.begin_anew("tasks", {p: at.seq for p, at in last.items()})


def test_log_that_lost_its_end_is_completed_from_copies_or_the_loss_has_a_name(
    region: Backed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Emptied, and copies have all; truncated, and the living generation has applied it."""
    with spoilt(region, "late") as log_was:
        copies, before = with_copies(region), current_generation(region.conninfo)
        make_anew(region.bootstrap, "tasks", [])
        work = tmp_path / "emptied"
        held = run(region, work, PLAN, copies)
        assert (held.held, held.rpo_met, of_tasks(held).lost) == (True, False, ())
        assert [name.partition("/")[0] for name in of_tasks(held).fetched] == ["eu.1.tasks"] * 2
        assert of_tasks(held).unknown == tuple(
            f"eu.1.tasks/{p} after seq {at.seq}" for p, at in log_was.last.items()
        )
        assert current_generation(region.conninfo) == before
        done = recover(
            PLAN, copies, TOPOLOGY, region.store, region.keys, work,
            accept=["unknown"], reason="the copies were even a minute ago",
        )  # fmt: skip
        assert (done.held, done.rpo_met, done.generation) == (False, False, held.generation)
        assert (done.accepted[0].kinds, bool(done.accepted[0].by)) == (("unknown",), True)
        assert region.rows() == log_was.rows
        make_anew(region.bootstrap, "tasks", short := beyond(log_was.whole, "late"))
        held = run(region, tmp_path / "truncated")
    ends = {r.partition: region.codec.decode_fact(r.value).envelope.seq for r in short}
    lost = {p: (ends[p] + 1, at.seq) for p, at in log_was.last.items()}
    assert held.held
    assert of_tasks(held).lost == tuple(
        f"eu.1.tasks/{p} seq {a}..{b}" for p, (a, b) in lost.items()
    )
    assert of_tasks(held).data_loss_events == sum(b - a + 1 for a, b in lost.values())
    place = ("--region", "eu", "--dir", str(region.folder / "stack"))
    staging = ("--staging", str(tmp_path / "truncated"))
    capsys.readouterr()
    assert cli(["recover", "list", *place]) == 0
    assert f"{held.generation:>4}  not used" in capsys.readouterr().out
    assert cli(["recover", "drop", str(done.generation), *place]) == 14  # it is current
    capsys.readouterr()
    assert cli(["recover", "drop", str(held.generation), *place, *staging, "--json"]) == 0
    assert fitting(("recover", "drop"), capsys.readouterr().out)["dropped"] == held.generation
    assert cli(["recover", "drop", str(held.generation), *place, *staging]) == 10


def test_log_and_database_lost_are_named_by_answers_and_a_log_made_anew_by_its_stamps(
    region: Backed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without them the end is not known to be lost: so a region that is silent holds it."""
    monkeypatch.setattr(evidence, "ANSWER_S", 1.0)
    with spoilt(region, "answered") as log_was:
        last = log_was.last[0]
        make_anew(region.bootstrap, "tasks", short := beyond(log_was.whole, "answered"))
        region.disaster()
        answer(region, last)
        us = region.endpoints.regions["eu"].model_copy(update={"kafka_bootstrap": "127.0.0.1:1"})
        regions = {**region.endpoints.regions, "us": us}
        silent = region.endpoints.model_copy(update={"regions": regions})
        held = run(region, tmp_path / "answered", PLAN, silent)
        end = max(region.codec.decode_fact(r.value).envelope.seq for r in short if not r.partition)
        assert of_tasks(held).lost == (f"eu.1.tasks/0 seq {end + 1}..{last.seq}",)
        assert of_tasks(held).unknown == (f"eu.1.tasks/0 after seq {last.seq}",)
        assert any(r.startswith("silent: us") for r in of_tasks(held).reasons)
        make_anew(region.bootstrap, "tasks", [])
        region.begin_anew("tasks")
        region.write([])
        held = run(region, tmp_path / "fork")
        assert {r.partition(": ")[0] for r in of_tasks(held).reasons} >= {"fork", "unknown"}
    result = run(region, tmp_path / "whole")
    assert not result.held, result.components
    assert region.rows() == log_was.rows


def answer(region: Backed, envelope: Envelope) -> None:
    """What a client was given as done: the fact of this envelope."""
    fact = FactRef(
        event_id=envelope.event_id, event_type="TaskSubmitted", topic="eu.1.tasks",
        partition=0, offset=0, seq=envelope.seq, version=envelope.version,
    )  # fmt: skip
    given = CommandAnswered(
        command_id="c", command_type="SubmitTask", aggregate_id="t", reply_to="me", region="eu",
        node_id="eu-tm-1", outcome="done", code="", message="", hint="", facts=(fact,), level=1,
        answered_at=datetime.now(UTC).replace(microsecond=0),
    )  # fmt: skip
    sender = Sender(region.bootstrap)
    sender.send(Record("eu.replies", 0, "me", encode_answer(given), []))
    assert sender.flush(20) == 0


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
    assert chosen(shelf, "latest", control, lambda _: None).manifest == last


def test_forged_manifest_decides_nothing_and_in_place_of_the_newest_is_an_error(
    region: Backed, tmp_path: Path
) -> None:
    before, forger = made(region), KeyRing(tmp_path / "forger")
    forger.create()
    name = "99991231T235959999-ffffff"
    forged = before.model_copy(update={"backup_id": name, "created_at_ms": 253_402_300_799_999})
    key = f"eu/{name}/{MANIFEST}"
    region.store.put(key, dump(forged, forger.sign(body_of(forged))))
    try:
        after = made(region)
        assert (after.parent_id, after.backup_id < name) == (before.backup_id, True)
        shelf, control = Shelf(region.store, region.keys, "eu"), region.endpoints.control()
        assert walk(shelf, lambda _: None) == {}
        meant = chosen(shelf, "latest", control, lambda _: None)
        assert (meant.manifest, list(meant.passed)) == (after, [name])
        ours, noted = f"eu/{after.backup_id}/{MANIFEST}", "the newest that was made, is not usable"
        right = region.store.get(ours)
        region.store.put(ours, dump(after, forger.sign(body_of(after))))
        with pytest.raises(IntegrityError, match=f"{after.backup_id}, {noted}") as caught:
            chosen(shelf, "latest", control, lambda _: None)
        assert caught.value.code == "bad_signature"
        region.store.put(ours, right)
    finally:
        region.store.delete(key)


def test_topic_that_was_made_again_is_named(region: Backed) -> None:
    made(region)
    topic, notes = "eu.1.receipts", list[Entry]()
    delete_topics(region.bootstrap, [topic])
    ensure_topics(region.bootstrap, [s for s in catalogue(TOPOLOGY) if s.name == topic])
    for _ in range(2):
        back_up(
            "eu", region.endpoints, TOPOLOGY, region.store, region.keys, check=False,
            report=notes.append,
        )  # fmt: skip
    assert ["made again" in n.text for n in notes].count(True) == 1  # then its new id is known
    assert any(f"made again: {topic}:" in n.text for n in notes)


def test_latest_without_a_control_log_needs_its_id(
    region: Backed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chosen_module, "CONTROL_S", 0.1)
    shelf, nobody = Shelf(region.store, region.keys, "eu"), "127.0.0.1:1"
    with pytest.raises(Unavailable, match="not known") as caught:
        chosen(shelf, "latest", nobody, lambda _: None)
    assert "by its id" in caught.value.hint
    newest = signed_manifest(*shelf, "latest")
    assert chosen(shelf, newest.backup_id, nobody, lambda _: None).manifest == newest


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


def test_recovery_that_is_killed_again_and_again_reports_as_an_undisturbed_one(
    region: Backed, tmp_path: Path
) -> None:
    """With a hole in the tail, which is accepted: its span and what it parks are told too.

    The last one here: its fact is lost for good.
    """
    region.create()
    tail = FACTS[len(FACTS) // 2 :]
    region.write(tail, skip={midway(tail)})
    region.project()
    expected = region.rows()
    region.disaster()
    work, plan = tmp_path / "work", tmp_path / "plan.yaml"
    plan.write_text("".join(f"{k}: {v}\n" for k, v in LENIENT.model_dump().items()))
    moments = [("fetch",), ("restore", "tasks"), ("replay", "tasks"),
               ("gate", "reward-distribution"), ("switch",)]  # fmt: skip
    for moment in moments:
        killed_at(start(region, "recover", "run", str(plan), "--staging", str(work)), *moment)
    result = run(region, work, LENIENT)
    assert not result.held
    tasks = next(c for c in result.components if c.component == "task-manager")
    assert (len(tasks.lost), tasks.data_loss_events, result.rpo_met) == (1, 1, True)
    assert all(why.endswith("behind what is lost") for why in tasks.waiting)
    assert tasks.waiting_count > 0
    assert current_generation(region.conninfo) == result.generation
    assert region.rows() == expected
    assert region.create().generation == result.generation  # no state topic went back
    undisturbed = LENIENT.model_copy(update={"backup": result.backup_id})
    whole = run(region, tmp_path / "undisturbed", undisturbed)
    assert figures(result) == figures(whole)
