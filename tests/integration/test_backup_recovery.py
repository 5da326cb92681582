"""A region is backed up while it works, destroyed, and comes back equal, key by key."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from everlode.adapters.kafka import Raw, Record
from everlode.adapters.kafka_sender import Sender
from everlode.adapters.kafka_topics import ensure_topics
from everlode.adapters.kafka_writer import Writer
from everlode.adapters.postgres_next import NextGeneration
from everlode.adapters.postgres_read import current_generation
from everlode.avro.codec import encode_fact, encode_state
from everlode.backup import create, cut, standing
from everlode.backup.asked import Source
from everlode.backup.container import DELETED, PARKED, read
from everlode.backup.gather import Gatherer
from everlode.backup.keys import KeyRing
from everlode.backup.manifest import Manifest, body_of, dump
from everlode.backup.operation import back_up, holder_is_gone, leased
from everlode.backup.stored import list_backups
from everlode.backup.verify import fetch, signed_manifest, verify
from everlode.cli.main import run as cli
from everlode.errors import IntegrityError, Locked, NotFound, Precondition, Unavailable
from everlode.events.base import Fact
from everlode.events.recovery import ComponentRecoveryEnded, OperationStep, RecoveryEnded
from everlode.projection.tables import COMPONENTS
from everlode.projector.bulk import catch_up
from everlode.projector.worker import Home, Outside, PartitionWorker
from everlode.recovery.operation import recover
from everlode.recovery.planner import ComponentResult, RecoveryResult
from everlode.recovery.request import RecoveryRequest
from everlode.state.dispatch import evolve_fact
from everlode.state.shape import FOLD_VERSION
from everlode.telemetry.entries import Entry
from everlode.topics import fact_topics, state_topics
from everlode.topics.names import state_topic
from tests.support.facts.decided import decide
from tests.support.facts.whole_topic import records
from tests.support.processes.outputs import fitting
from tests.support.stores.junk import KINDS, junk
from tests.support.world.backed import STORY_EPOCHS, STORY_SCOPES, TOPOLOGY, Backed, Rows, story

pytestmark = pytest.mark.timeout(280)
PLAN = RecoveryRequest(plan_name="test", disaster_type="database-corruption", target_region="eu")
FACTS = story(seed=1, tasks=40)
LATE, MOVED = "tasks/late", "tasks/moved"
"""Scopes of their own."""


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backed]:
    with Backed(tmp_path_factory.mktemp("backed")) as found:
        found.write(FACTS[: len(FACTS) // 3], barriers=False)  # so that the cut is in their midst
        found.project()
        yield found


@pytest.fixture(scope="module")
def backup(region: Backed) -> Manifest:
    return back_up("eu", region.endpoints, TOPOLOGY, region.store, region.keys)


def recovered(region: Backed, work: Path, plan: RecoveryRequest = PLAN) -> RecoveryResult:
    return recover(plan, region.endpoints, TOPOLOGY, region.store, region.keys, work)


def from_scratch(region: Backed, generation: int) -> Rows:
    """What a projector makes of the whole log, in a generation of its own."""
    ensure_topics(region.bootstrap, state_topics(TOPOLOGY, "eu", generation))
    db = NextGeneration(region.conninfo, generation, "oracle")
    db.create()
    topics = fact_topics(TOPOLOGY)
    home = Home("eu", region.bootstrap, region.conninfo, generation, "oracle")
    workers = {p: PartitionWorker(home, p, topics) for p in range(TOPOLOGY.partitions)}
    catch_up(region.bootstrap, workers, topics)
    rows = {
        (c, key): (version, None if doc is None else bytes(doc))
        for c in COMPONENTS
        for key, version, doc in db.query(f"select key, version, doc from {{g}}.{c}")
    }
    for worker in workers.values():
        worker.close()
    db.drop()
    db.close()
    return rows


def contents(region: Backed, manifest: Manifest, folder: Path) -> dict[tuple[str, str], Any]:
    """(component, key) → state as plain values, out of the objects."""
    found = {}
    for entry in manifest.objects:
        if entry.component in COMPONENTS:
            with fetch(region.store, region.keys, entry, folder).open("rb") as file:
                for value in read(file, entry.key):
                    found[entry.component, value["key"]] = value
    return found


def check_is_the_fold(region: Backed, manifest: Manifest, folder: Path) -> int:
    """The backup is the fold of every partition up to its `seq`; returns how many came after."""
    upto = {(p.topic, p.partition): p.seq for p in manifest.positions}
    states: dict[tuple[str, str], Any] = {}
    beyond = 0
    for component, fact, partition in region.written:
        if fact.envelope.seq <= upto[f"eu.1.{component}", partition]:
            assert fact.envelope.stamp <= manifest.cut_stamp
            key = region.state_key(fact)
            states[key] = evolve_fact(states.get(key), fact, partition)
        else:
            assert fact.envelope.stamp > manifest.cut_stamp
            beyond += 1
    found = contents(region, manifest, folder)
    assert found.keys() == states.keys()
    assert {k: v["version"] for k, v in found.items()} == {k: s.version for k, s in states.items()}
    assert {k: v["status"] for k, v in found.items()} == {k: s.status for k, s in states.items()}
    return beyond


def test_backup_is_exactly_the_fold_of_every_partition_up_to_its_seq(
    region: Backed, backup: Manifest, tmp_path: Path
) -> None:
    assert check_is_the_fold(region, backup, tmp_path) > 0


MAPS = {
    "task status": ("tasks", "status"),
    "miner assignments": ("tasks", "miners"),
    "task to validation": ("tasks", "validation_id"),
    "task rewards": ("tasks", "reward_micro"),
    "validation progress": ("validations", "votes"),
    "validation results": ("validations", "accepted"),
    "reward calculations": ("rewards", "amount_micro"),
    "ledger": ("rewards", "entries"),
    "fraud results": ("fraud", "suspects"),
    "specializations": ("miners", "specialties"),
    "reputation": ("miners", "reputation_ppm"),
    "stake": ("miners", "stake_free_micro"),
    "locked stake": ("miners", "locks"),
    "performance history": ("miners", "recent"),
}
"""What a backup has to hold → where it stands in the states."""


def test_manifest_names_all_that_a_recovery_needs(region: Backed, backup: Manifest) -> None:
    components = {o.component for o in backup.objects}
    assert components == {*COMPONENTS, DELETED, PARKED, "config"}
    sizes = [o.cipher_bytes for o in backup.objects]
    assert backup.total_backup_size == sum(sizes)
    assert backup.write_once is region.store.capabilities().conditional_put
    ids = [topic.topic_id for topic in backup.topics]
    assert all(ids)
    assert len(set(ids)) == len(ids), "each topic has its own"
    assert backup.timings_ms.keys() == {"read", "store"}
    assert 0 < sum(backup.timings_ms.values()) <= backup.completed_at_ms - backup.created_at_ms
    stored = {o.key: o.size for o in region.store.list(f"eu/{backup.backup_id}/")}
    assert {o.key: o.cipher_bytes for o in backup.objects}.items() <= stored.items()
    assert verify(region.store, region.keys, "eu", backup.backup_id).records > 0


def test_backup_is_announced_on_the_recovery_stream(region: Backed, backup: Manifest) -> None:
    events = region.signals("recovery")
    names = [type(f.data).__name__ for f in events]
    assert names[0] == "OperationStarted"
    assert "OperationStep" in names
    ended = [f.data for f in events if type(f.data).__name__ == "BackupEnded"]
    assert [e.backup_id for e in ended] == [backup.backup_id]  # type: ignore[attr-defined]


@contextmanager
def of_others(region: Backed, fold: int = FOLD_VERSION, origin: str = "") -> Iterator[str]:
    """The newest backup, signed by us, as another build or network would have made it; its id."""
    newest = signed_manifest(region.store, region.keys, "eu", "latest")
    name = f"eu/{newest.backup_id}/manifest.json"
    first = newest.positions[0]
    more = (first.model_copy(update={"topic": f"{origin}.tasks"}),) if origin else ()
    changes = {"fold_version": fold, "positions": (*newest.positions, *more)}
    right, other = region.store.get(name), newest.model_copy(update=changes)
    region.store.put(name, dump(other, region.keys.sign(body_of(other))))
    try:
        yield newest.backup_id
    finally:
        region.store.put(name, right)


@pytest.mark.parametrize(
    ("partitions", "others", "code", "text", "hint"),
    [
        (4, {}, "partitions_differ", "has 2 partitions, the topology 4", "set partitions to 2"),
        (2, {"origin": "ap.1"}, "origins_differ", "has facts of ap.1, which the topology does not",
         "name all regions in the topology"),
        (2, {"fold": FOLD_VERSION + 1}, "fold_newer", f"is of fold version {FOLD_VERSION + 1}",
         "use the build that made it"),
    ],
    ids=["partitions", "origins", "newer folds"],
)  # fmt: skip
def test_backup_of_another_topology_or_of_newer_folds_stops_before_anything_changes(
    region: Backed, backup: Manifest, tmp_path: Path, partitions: int, others: dict[str, Any],
    code: str, text: str, hint: str,
) -> None:  # fmt: skip
    topology = TOPOLOGY.model_copy(update={"partitions": partitions})
    before = list_backups(region.store, "eu"), current_generation(region.conninfo)
    with of_others(region, **others) as newest:
        plan = PLAN.model_copy(update={"backup": newest})
        with pytest.raises(Precondition, match=f"backup {newest} {text}") as caught:
            back_up("eu", region.endpoints, topology, region.store, region.keys)
        with pytest.raises(Precondition, match=f"backup {newest} {text}") as again:
            recover(plan, region.endpoints, topology, region.store, region.keys, tmp_path)
    for error in (caught.value, again.value):
        assert (error.code, hint in error.hint) == (code, True)
    assert (list_backups(region.store, "eu"), current_generation(region.conninfo)) == before


def test_backup_of_older_folds_is_noted_and_goes_on(
    region: Backed, backup: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "plan.yaml"
    with of_others(region, FOLD_VERSION - 1) as newest:
        plan.write_text(json.dumps({**PLAN.model_dump(), "backup": newest}))
        words = f"backup {newest} is of fold version {FOLD_VERSION - 1}, this build has"
        capsys.readouterr()
        assert command(region, "recover", "plan", str(plan)) == 0
        assert words in capsys.readouterr().err
        source = Source("eu", region.bootstrap, region.conninfo, TOPOLOGY)
        notes = list[Entry]()
        made = create.create_backup(source, region.store, region.keys, report=notes.append)
        assert made.parent_id == newest
        assert any(words in note.text for note in notes)
        for item in list(region.store.list(f"eu/{made.backup_id}/")):
            region.store.delete(item.key)


def test_one_backup_of_a_region_at_a_time(region: Backed) -> None:
    control = region.endpoints.control_bootstrap
    assert control is not None
    with leased(control, "eu", 1_800_000):
        with pytest.raises(Locked, match="runs already") as caught:
            back_up("eu", region.endpoints, TOPOLOGY, region.store, region.keys)
        assert caught.value.exit_code == 11
    with leased(control, "eu", 1_800_000):
        pass


def test_holder_is_known_to_be_gone_by_process_or_age() -> None:
    assert not holder_is_gone("elsewhere:1:2:1000", 2_000, 5_000)
    assert holder_is_gone("elsewhere:1:2:1000", 9_000, 5_000)
    assert not holder_is_gone("unreadable", 9_000, 5_000)


def test_destroyed_region_comes_back_equal_and_goes_on(
    region: Backed, backup: Manifest, tmp_path: Path
) -> None:
    third = len(FACTS) // 3
    region.write(FACTS[third : 2 * third])
    region.disaster()
    before = current_generation(region.conninfo)
    result = recovered(region, tmp_path / "work")
    assert (result.held, result.lost_event_ids) == (False, ())
    assert result.rpo_met
    assert [c.component for c in result.components] == [
        "miner-registry", "task-manager", "validation-system", "reward-distribution",
        "fraud-detection",
    ]  # fmt: skip
    assert sum(c.records_restored for c in result.components) > 0
    assert sum(c.events_replayed for c in result.components) > 0
    assert current_generation(region.conninfo) == result.generation > before
    region.write(FACTS[2 * third :])
    region.project()
    assert region.rows() == from_scratch(region, 50)
    report = json.loads(next((tmp_path / "work").glob("recovery-*.json")).read_text())
    assert report["backup_id"] == backup.backup_id
    again = back_up("eu", region.endpoints, TOPOLOGY, region.store, region.keys)
    assert again.parent_id == backup.backup_id
    told = [f.data for f in region.signals("recovery")
            if f.envelope.aggregate_id == result.recovery_id]  # fmt: skip
    names = [type(data).__name__ for data in told]
    assert (names[0], names[-1]) == ("OperationStarted", "RecoveryEnded")
    steps = [data.step for data in told if isinstance(data, OperationStep)]
    assert {"fetch", "generation", "restore", "replay", "switch"} <= set(steps)
    assert [c.component for c in told if isinstance(c, ComponentRecoveryEnded)] == [
        c.component for c in result.components
    ]
    assert names.index("ComponentRecoveryEnded") < len(names) - 6, "told as they end"


def test_every_map_of_a_backup_is_in_the_snapshot_and_not_empty(
    region: Backed, backup: Manifest, tmp_path: Path
) -> None:
    """Of a third of the story, where stakes are locked, and of all, where tasks are rewarded."""
    held: dict[tuple[str, str], int] = dict.fromkeys(MAPS.values(), 0)
    for made in (backup, region.create()):
        for (component, _), state in contents(region, made, tmp_path).items():
            for at in held:
                held[at] += at[0] == component and bool(state[at[1]])
    assert [name for name, at in MAPS.items() if not held[at]] == []


def tasks_as(prefix: str, region: Backed) -> list[tuple[str, Fact]]:
    """Facts of tasks under new names; of tasks alone, since others refer to the old names."""
    return [(c, region.renamed(f, prefix)) for c, f in FACTS if c == "tasks"]


@pytest.mark.parametrize("goes_on", [False, True])
def test_states_that_were_on_their_way_are_in_the_backup(
    region: Backed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, goes_on: bool
) -> None:
    """The projector stood between rows and states, which are of long before the cut.

    It stays there, or publishes them, and more, just when the backup has read the state topics.
    """
    monkeypatch.setattr(cut, "WINDOWS_MS", (100, *cut.WINDOWS_MS[1:]))
    early = tasks_as(f"early-{goes_on}", region)
    region.write(early, barriers=False)
    time.sleep(0.3)
    region.write(tasks_as(f"later-{goes_on}", region))
    with monkeypatch.context() as patched:
        patched.setattr(Writer, "put", lambda *_: None)
        region.project()
    reads = Gatherer.records

    def read(gatherer: Gatherer, partition: int) -> Iterator[tuple[str, Raw]]:
        yield from reads(gatherer, partition)
        if goes_on:
            region.project()  # publishes what was left
            region.write([])
            region.project()  # and notes it

    monkeypatch.setattr(Gatherer, "records", read)
    manifest = region.create()
    upto = {(p.topic, p.partition): p.seq for p in manifest.positions}
    within = [upto[f"eu.1.{c}", p] >= f.envelope.seq for c, f, p in region.written]
    assert sum(within) > len(within) - len(early), "some of the later facts are in the cut"
    check_is_the_fold(region, manifest, tmp_path)
    assert manifest.compared is not None
    assert manifest.compared.rows == len(region.rows())


def test_topic_that_the_projector_is_behind_with_stands_where_it_was_applied(
    region: Backed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its facts are in the log, up to the cut and beyond; a recovery begins before them."""
    monkeypatch.setattr(standing, "STALE_MS", 100)
    monkeypatch.setattr(cut, "WINDOWS_MS", (200, *cut.WINDOWS_MS[1:]))
    region.project()
    applied = region.applied("eu.1.tasks")
    unseen = [tasks_as(name, region) for name in ("unseen", "unseen-too")]
    region.write(unseen[0])
    time.sleep(0.3)
    region.write(unseen[1])
    region.project(without=("tasks",))
    manifest = region.create()
    stood = {p.partition: p for p in manifest.positions if p.topic == "eu.1.tasks"}
    assert {p: at.status for p, at in stood.items()} == dict.fromkeys(stood, "stale")
    assert {p: at.seq for p, at in stood.items()} == applied
    found = contents(region, manifest, tmp_path)
    assert not [key for _, key in found if key.startswith("unseen")]
    result = recovered(region, tmp_path / "work")
    assert (result.held, result.lost_event_ids) == (False, ())
    wanted = {f.envelope.aggregate_id for facts in unseen for _, f in facts}
    assert {key for _, key in region.rows() if key.startswith("unseen")} == wanted


def test_facts_that_wait_in_the_projector_wait_in_the_recovered_one(
    region: Backed, tmp_path: Path
) -> None:
    """For the control log; meanwhile a later epoch has been opened behind them."""
    _, first = next(item for item in FACTS if item[0] == "tasks")
    waits = region.renamed(first, "waits")
    early = waits.envelope.model_copy(update={"scope": LATE, "epoch": 1})
    region.write([("tasks", Fact(early, waits.data))])
    decided = Outside(epochs=lambda _: dict.fromkeys(STORY_SCOPES, STORY_EPOCHS))
    region.project(outside=decided)
    region.open("tasks", LATE, 2)
    region.write([])
    region.project(outside=decided)
    region.create()
    key = ("tasks", early.aggregate_id)
    assert key not in region.rows()
    assert region.endpoints.control_bootstrap is not None
    decide(region.endpoints.control_bootstrap, LATE, 2)
    result = recovered(region, tmp_path / "work")
    assert not result.held, result.components
    assert region.rows()[key][0] == 1
    db = NextGeneration(region.conninfo, result.generation, "test")
    assert db.query("select key from {g}.problems where kind = 'fenced'") == []
    assert db.query("select count(*) from {g}.parked") == [(0,)]
    db.close()


def test_fence_before_the_one_that_a_failover_moves_is_in_the_backup(
    region: Backed, tmp_path: Path
) -> None:
    """A deposed primary wrote once more, between the cut and the opening of the next epoch."""
    _, first = next(item for item in FACTS if item[0] == "tasks")
    _, second = next(
        (c, f) for c, f in FACTS
        if f.envelope.aggregate_id == first.envelope.aggregate_id and f.envelope.version == 2
    )  # fmt: skip
    assert region.endpoints.control_bootstrap is not None
    decide(region.endpoints.control_bootstrap, MOVED, 3)

    def of_epoch(fact: Fact, epoch: int) -> tuple[str, Fact]:
        renamed = region.renamed(fact, "moved")
        head = renamed.envelope.model_copy(update={"scope": MOVED, "epoch": epoch})
        return "tasks", Fact(head, renamed.data)

    region.open("tasks", MOVED, 2)
    region.write([of_epoch(first, 2)])
    region.project()
    # from here on the other topics stand still, and so does the cut
    region.write([of_epoch(second, 1)], barriers=False)
    region.open("tasks", MOVED, 3)
    region.project()
    manifest = region.create()
    assert {epoch for _, _, scope, epoch in manifest.opened if scope == MOVED} == {2}
    key = ("tasks", region.renamed(first, "moved").envelope.aggregate_id)
    region.written.pop()  # it has no effect
    result = recovered(region, tmp_path / "work")
    assert not result.held, result.components
    assert region.rows()[key][0] == 1
    assert region.rows() == from_scratch(region, 51)


def test_deletion_whose_tombstone_is_compacted_away_is_in_the_backup(
    region: Backed, tmp_path: Path
) -> None:
    region.project()
    db = NextGeneration(region.conninfo, current_generation(region.conninfo), "test")
    db.bury("tasks", 1, [("long-gone", 7, "its-event")])
    db.close()
    (entry,) = (o for o in region.create().objects if (o.component, o.partition) == (DELETED, 1))
    with fetch(region.store, region.keys, entry, tmp_path).open("rb") as file:
        gone = {value["key"]: value for value in read(file, entry.key)}
    assert (gone["long-gone"]["version"], gone["long-gone"]["event_id"]) == (7, "its-event")


def test_last_backup_is_the_latest_though_the_clock_went_back(
    region: Backed, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = region.create()
    monkeypatch.setattr(create, "_now_ms", lambda: 1_000)
    last = region.create()
    assert (last.parent_id, signed_manifest(region.store, region.keys, "eu", "latest")) == (
        before.backup_id,
        last,
    )


def test_state_topic_that_went_back_is_refused_by_the_backup(region: Backed) -> None:
    """state_regression: a stalled projector's old record, put there past every fence."""
    generation = current_generation(region.conninfo)
    db = NextGeneration(region.conninfo, generation, "test")
    ((key, partition, doc),) = db.query(
        "select key, part, doc from {g}.tasks where version > 1 order by key limit 1"
    )
    db.close()
    state = region.codec.decode_state(bytes(doc))
    topic = state_topic(generation, "tasks")
    writer = Writer(region.bootstrap, "a-stranger")
    writer.open()
    old = state._replace(version=1)
    now = Record(topic, partition, key, encode_state(state), [])
    writer.write([now, Record(topic, partition, key, encode_state(old), [])])
    with pytest.raises(IntegrityError, match=f"{key} goes back") as caught:
        region.create()
    assert caught.value.code == "state_regression"
    work = region.folder / "regression"
    assert not recovered(region, work).held  # the way out: a new generation
    assert region.create().generation > generation


# -- damage: found before anything changes ---------------------------------------------------


def unchanged(region: Backed) -> tuple[int, Rows]:
    return current_generation(region.conninfo), region.rows()


@pytest.mark.parametrize(
    ("damage", "codes"),
    [
        ("missing", {"object_missing"}),
        ("truncated", {"object_changed"}),
        ("bit", {"object_changed"}),
        ("manifest", {"bad_manifest", "bad_signature"}),
    ],
)
def test_damaged_backup_is_refused_by_name_and_nothing_changes(
    region: Backed,
    tmp_path: Path,
    damage: str,
    codes: set[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    manifest = region.create()
    name = next(o.key for o in manifest.objects if o.component == "rewards")
    if damage == "manifest":
        name = f"eu/{manifest.backup_id}/manifest.json"
    data = bytearray(region.store.get(name))
    if damage == "missing":
        region.store.delete(name)
    elif damage == "truncated":
        region.store.put(name, bytes(data[:-1]))
    else:
        data[len(data) // 2] ^= 1
        region.store.put(name, bytes(data))
    before = unchanged(region)
    verbs: list[tuple[str, ...]] = [("backup", "verify", manifest.backup_id)]
    if damage != "manifest":  # one that cannot be read is junk: passed over, and named
        verbs.append(("recover", "run", "--staging", str(tmp_path / "work")))
    try:
        for words in verbs:
            capsys.readouterr()
            assert command(region, *words, "--json") == 13
            error = json.loads(capsys.readouterr().out)["error"]
            assert name in error["message"]
            assert error["code"] in codes
            assert "everlode backup list" in error["hint"]
        assert unchanged(region) == before
    finally:
        for item in list(region.store.list(f"eu/{manifest.backup_id}/")):
            region.store.delete(item.key)


def test_wrong_key_is_refused_and_nothing_changes(
    region: Backed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    region.create()
    other = KeyRing(tmp_path / "keys")
    other.create()
    for name in ("signing.key", "signing.pub"):
        (other.folder / name).write_bytes((region.keys.folder / name).read_bytes())
    before = unchanged(region)
    place = ("--dir", str(region.folder / "stack"), "--json", "--staging", str(tmp_path / "work"))
    capsys.readouterr()
    for folder, named in ((other.folder, "backup-v1"), (tmp_path / "none", "signing.pub")):
        assert cli(["recover", "run", *place, "--keys", str(folder)]) == 12
        error = json.loads(capsys.readouterr().out)["error"]
        assert error["code"] == "wrong_key"
        assert named in error["message"]
        assert error["hint"]
        last = region.signals("recovery")[-1].data
        assert isinstance(last, RecoveryEnded)
        assert (last.overall_success, last.components) == (False, ())
        assert last.generation == current_generation(region.conninfo)
    assert unchanged(region) == before


def test_facts_that_are_nowhere_are_named_and_hold_the_recovery(
    region: Backed, tmp_path: Path
) -> None:
    """snapshot_gap: the log lost records after the cut."""
    region.create()
    more = [(c, f) for c, f in story(seed=7, tasks=6)]
    renamed = [(c, region.renamed(f, "x")) for c, f in more]
    lost = {next(n for n, (c, _) in enumerate(renamed) if c == "tasks")}
    region.write(renamed, skip=lost)
    before = current_generation(region.conninfo)
    result = recovered(region, tmp_path / "work")
    assert result.held
    assert not result.overall_success
    assert len(result.lost_event_ids) == 1
    assert result.lost_event_ids[0].startswith("eu.1.tasks/")
    tasks = next(c for c in result.components if c.component == "task-manager")
    assert not tasks.success
    assert tasks.data_loss_events == 1
    assert tasks.reasons == tuple(f"lost: {name}" for name in tasks.lost)
    assert all(why.endswith("behind what is lost") for why in tasks.waiting)
    assert tasks.waiting_count > 0
    assert current_generation(region.conninfo) == before
    ended = region.signals("recovery")[-1].data
    assert isinstance(ended, RecoveryEnded)
    assert (ended.held, ended.generation) == (True, before), "what is read, not what was filled"


def one_task(prefix: str, region: Backed, *, without: int) -> list[tuple[str, Fact]]:
    """The facts of one task under another name, but for one: its key stops there."""
    first = next(f for c, f in FACTS if c == "tasks").envelope.aggregate_id
    facts = [f for c, f in FACTS if c == "tasks" and f.envelope.aggregate_id == first]
    assert 0 < without < len(facts) - 2
    del facts[without]
    return [("tasks", region.renamed(f, prefix)) for f in facts]


def tasks_of(result: RecoveryResult) -> ComponentResult:
    return next(c for c in result.components if c.component == "task-manager")


def test_key_that_waits_at_the_cut_is_named_and_holds_nothing(
    region: Backed, tmp_path: Path
) -> None:
    """Before the cut and behind it: what a backup brings back cannot speak against it."""
    region.project()
    stopped = one_task("stopped", region, without=1)
    region.write(stopped[:2])
    region.project()
    region.create()
    region.write(stopped[2:])
    region.project()
    before = region.rows()
    region.disaster()
    result = recovered(region, tmp_path / "work")
    assert not result.held, result.components
    [named] = [why for why in tasks_of(result).waiting if why.startswith("stopped-")]
    assert named.endswith(f": {len(stopped) - 1} facts, since the cut")
    assert region.rows() == before


def test_key_that_waits_for_no_reason_holds_until_an_operator_accepts_it(
    region: Backed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A writer left a version out, and no `seq`: nothing is lost that could explain it."""
    region.create()
    region.write(one_task("skipped", region, without=1))
    before, work = current_generation(region.conninfo), tmp_path / "work"
    words = ("recover", "run", "--staging", str(work), "--json")
    for _ in range(2):  # the same generation each time
        assert command(region, *words) == 3
    held = json.loads((next(work.glob("recovery-*.json"))).read_text())
    [reason] = next(c for c in held["components"] if c["component"] == "task-manager")["reasons"]
    assert reason.startswith("parked: 1 keys wait")
    assert "skipped-" in reason
    assert current_generation(region.conninfo) == before
    for more in (("--accept", "rows", "--reason", "x"), ("--accept", "parked")):
        assert command(region, *words, *more) == 2
    capsys.readouterr()
    why = ("--accept", "parked", "--reason", "the writer is mended")
    assert command(region, *words, *why) == 0
    done = fitting(words, capsys.readouterr().out)
    assert (done["held"], done["generation"]) == (False, held["generation"])
    assert current_generation(region.conninfo) == held["generation"]
    [word] = done["accepted"]
    assert (word["kinds"], word["reason"]) == (["parked"], "the writer is mended")
    assert next(c["accepted"] for c in done["components"] if c["accepted"]) == [reason]


# -- the command -----------------------------------------------------------------------------


def command(region: Backed, *arguments: str) -> int:
    where = ["--dir", str(region.folder / "stack"), "--keys", str(region.keys.folder)]
    return cli([*arguments, *where])


def test_commands_tell_people_and_machines(
    region: Backed, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    region.create()
    capsys.readouterr()
    assert command(region, "backup", "list", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["backups"]
    finished = [b for b, done in list_backups(region.store, "eu") if done]
    assert [r["backup_id"] for r in rows] == finished
    assert command(region, "backup", "show", "latest", "--json") == 0
    assert json.loads(capsys.readouterr().out)["backup_id"] == rows[-1]["backup_id"]
    assert command(region, "backup", "verify", "latest", "--level", "hash") == 0
    assert command(region, "backup", "show", "20000101T000000000-000000") == 10
    assert command(region, "backup", "verify", "latest", "--level", "deep") == 2
    assert command(region, "recover", "plan", "--json") == 0
    out = capsys.readouterr().out
    assert json.loads(out[out.index("{") :])["stages"][0]["component"] == "miner-registry"
    plan = tmp_path / "plan.yaml"
    plan.write_text("plan_name: x\ndisaster_type: flood\ntarget_region: eu\n")
    assert command(region, "recover", "plan", str(plan)) == 2
    assert "disaster_type" in capsys.readouterr().err
    plan.write_text("plan_name: x\ndisaster_type: cyber-attack\ntarget_region: mars\n")
    assert command(region, "recover", "plan", str(plan)) == 10


def test_backup_whose_cut_is_too_old_is_made_and_ends_with_20(
    region: Backed, capsys: pytest.CaptureFixture[str]
) -> None:
    """The projector is dead, and the logs go on."""
    region.write([])
    region.project()
    assert command(region, "backup", "create", "--max-age", "3600") == 0
    time.sleep(2.1)
    region.write([])
    capsys.readouterr()
    assert command(region, "backup", "create", "--max-age", "1", "--json") == 20
    shown = capsys.readouterr()
    age = fitting(("backup", "create"), shown.out)["age"]
    assert min(age["behind_logs_ms"], age["behind_clock_ms"]) > 1000
    assert "behind the ends of the logs, at most 1 s" in shown.err
    assert command(region, "backup", "list", "--json") == 0
    row = json.loads(capsys.readouterr().out)["backups"][-1]
    assert {name: row[name] for name in age} == age
    assert command(region, "backup", "list") == 0
    assert f"cut {max(age.values()) // 1000} s old" in capsys.readouterr().out
    region.project()


def test_unfinished_backup_is_listed_as_such_only_when_asked(
    region: Backed, capsys: pytest.CaptureFixture[str]
) -> None:
    region.store.put("eu/20990101T000000000-ffffff/tasks-0.avro.enc", b"left over")
    try:
        assert command(region, "backup", "list") == 0
        assert "20990101" not in capsys.readouterr().out
        assert command(region, "backup", "list", "--all") == 0
        assert "unfinished" in capsys.readouterr().out
        assert command(region, "backup", "show", "20990101T000000000-ffffff") == 10
        region.create()  # and a later one is not disturbed
    finally:
        region.store.delete("eu/20990101T000000000-ffffff/tasks-0.avro.enc")


def test_foreign_objects_and_junk_manifests_stop_nobody(
    region: Backed, backup: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A console's folder, and junk of every kind with the highest ids: named, and passed over."""
    foreign = {"eu/": b"", "eu/notes.txt": b"x", "eu/a/b/c": b"x"}
    names = {f"99991231T235959999-fffff{n:x}": kind for n, kind in enumerate(KINDS)}
    planted = dict(foreign)
    for name, kind in names.items():
        forged = backup.model_copy(update={"backup_id": name, "created_at_ms": 253_402_300_799_000})
        planted[f"eu/{name}/manifest.json"] = junk(kind, forged, tmp_path)

    def named(text: str) -> bool:
        return all(f"{name} is passed over: eu/{name}/manifest.json" in text for name in names)

    for key, value in planted.items():
        region.store.put(key, value)
    try:
        made = region.create()
        assert made.backup_id < "9999"
        capsys.readouterr()
        assert command(region, "backup", "create", "--max-age", "3600", "--json") == 0
        shown = capsys.readouterr()
        last = json.loads(shown.out)["backup_id"]
        assert (json.loads(shown.out)["parent_id"], named(shown.err)) == (made.backup_id, True)
        assert command(region, "backup", "list", "--all") == 0
        listed = capsys.readouterr().out
        assert [f"{key}  foreign" in listed for key in foreign] == [True] * len(foreign)
        assert [f"{name}  NOT USABLE" in listed for name in names] == [True] * len(names)
        for verb in (
            ("recover", "plan"), ("backup", "verify", "--level", "hash"),
            ("recover", "run", "--staging", str(tmp_path / "work"), "--accept", "parked",
             "--reason", "left by the test before"),
        ):  # fmt: skip
            assert command(region, *verb, "--json") == 0
            shown = capsys.readouterr()
            found = json.loads(shown.out)
            assert (found["backup_id"], named(shown.err)) == (last, True)
            for name, line in zip(reversed(names), found["passed_over"], strict=True):
                assert line.startswith(f"eu/{name}/manifest.json: ")
        assert command(region, "backup", "verify", next(iter(names))) == 13
    finally:
        for key in planted:
            region.store.delete(key)


def test_store_that_is_down_is_unavailable_and_the_lease_is_given_back(region: Backed) -> None:
    region.stack.kill("s3")
    try:
        with pytest.raises(Unavailable):
            back_up("eu", region.endpoints, TOPOLOGY, region.store, region.keys)
    finally:
        region.stack.restart("s3")
    assert back_up("eu", region.endpoints, TOPOLOGY, region.store, region.keys).objects


def test_no_backup_is_not_found(region: Backed) -> None:
    with pytest.raises(NotFound):
        verify(region.store, region.keys, "us", "latest")


# -- a store that cannot write once ----------------------------------------------------------


def test_backup_in_a_store_that_ignores_conditions_says_so_and_restores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Backed(tmp_path / "rclone", s3="rclone") as plain:
        plain.write(FACTS[: len(FACTS) // 6])
        plain.project()
        made = back_up("eu", plain.endpoints, TOPOLOGY, plain.store, plain.keys)
        assert made.write_once is False
        # the first record of a partition came after the cut: nothing of it is in there
        assert 0 in {p.seq for p in made.positions if p.status == "live"}
        place = ("--dir", str(plain.folder / "stack"), "--keys", str(plain.keys.folder))
        capsys.readouterr()
        assert cli(["backup", "show", made.backup_id, *place]) == 0
        assert "NOT write-once" in capsys.readouterr().out
        before = plain.rows()
        poison = [("k", b"junk"), (None, encode_fact(*FACTS[0][1])), ("k", None)]
        sender = Sender(plain.bootstrap)
        for key, value in poison:  # behind the cut: the recovery meets it, and goes on
            sender.send(Record("eu.1.tasks", 0, key, value, []))
        assert sender.flush(20) == 0
        plain.disaster()
        assert not recovered(plain, tmp_path / "work").held
        assert plain.rows() == before
        dead = records(plain.bootstrap, "dlt.projector.eu.1.tasks")
        assert [(d.key, d.value) for d in dead] == [(b"k", b"junk"), (None, poison[1][1]),
                                                    (b"k", None)]  # fmt: skip


def test_older_backups_are_dropped_and_the_newest_stays(
    region: Backed, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the command, in a real store; what is left is a chain, and verified."""
    older, newest = (
        back_up("eu", region.endpoints, TOPOLOGY, region.store, region.keys) for _ in range(2)
    )
    place = ("--dir", str(region.folder / "stack"), "--keys", str(region.keys.folder), "--json")
    capsys.readouterr()
    assert cli(["backup", "drop", newest.backup_id, *place]) == 14
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "newest"
    assert cli(["backup", "drop", older.backup_id, *place]) == 0
    found = fitting(("backup", "drop"), capsys.readouterr().out)
    assert (found["dropped"][-1], found["stays"]) == (older.backup_id, newest.backup_id)
    assert list_backups(region.store, "eu") == [(newest.backup_id, True)]
    assert cli(["backup", "verify", "latest", *place]) == 0
    assert json.loads(capsys.readouterr().out)["backup_id"] == newest.backup_id
