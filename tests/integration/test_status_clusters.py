"""The clusters' figures, against a recount of the facts that shares no code with the folds."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from statistics import fmean
from typing import Any, NamedTuple

import pytest

from everlode.adapters.postgres import Projection
from everlode.adapters.postgres_heartbeats import Heartbeats
from everlode.agents.projection import Message
from everlode.avro.codec import encode_fact
from everlode.cli.main import run
from everlode.control.fold import ControlState, NodeState, ScopeState
from everlode.events.base import Envelope, Fact
from everlode.events.catalogue import FACT_COMPONENTS
from everlode.events.control import ScopeAssigned
from everlode.events.heartbeats import MinerBeat
from everlode.events.stamp import stamp_at
from everlode.projector.live import Projector
from everlode.topics.names import fact_topic
from everlode.topics.partition import partition_of
from everlode.views.clusters import KINDS, Asked, cluster
from tests.support.world.backed import story
from tests.support.world.projected import TOPOLOGY, Lab

pytestmark = pytest.mark.timeout(180)
NOW_MS = 1_790_000_000_000
HOUR = timedelta(hours=1)
Told = list[tuple[str, Fact]]
DATED = (
    "TaskSubmitted", "TaskRewarded", "ValidationRequested", "ValidationDecided",
    "RewardCalculated", "SlashCollected", "RewardPaid",
)  # fmt: skip
"""Events whose time a row shows."""


@pytest.fixture(scope="module")
def told() -> Told:
    """A region's facts, with event times spread over forty hours, so that windows cut."""
    facts = story(5, 30)
    first = facts[0][1].envelope.occurred_at
    step = 40 * HOUR / len(facts)
    moved = []
    for n, (component, fact) in enumerate(facts):
        at = first + timedelta(seconds=round((step * n).total_seconds()))
        envelope = fact.envelope.model_copy(update={"occurred_at": at})
        moved.append((component, Fact(envelope, fact.data)))
    return moved


class Beat(NamedTuple):
    """A miner's beat: when by the wall and by the work's clock."""

    miner: str
    wall_ms: int
    at: datetime


EVERY_MS, PACE = 15_000, 40
"""Wall time between a miner's beats; event time passes so many times as fast."""


@pytest.fixture(scope="module")
def beaten(told: Told) -> list[Beat]:
    """Two beats of most miners, at ten minutes of event time from each other; one never beats.

    The last ones reach from one minute after the last fact to most of an hour before it.
    """
    miners = sorted({f.envelope.aggregate_id for component, f in told if component == "miners"})
    last = max(f.envelope.occurred_at for _, f in told) + timedelta(minutes=1)
    between = timedelta(milliseconds=EVERY_MS * PACE)
    found = []
    for n, miner in enumerate(miners[:-1]):
        at = last - n * timedelta(minutes=4)
        found.append(Beat(miner, NOW_MS - EVERY_MS, at - between))
        found.append(Beat(miner, NOW_MS, at))
    return found


def put_beats(lab: Lab, beaten: list[Beat]) -> None:
    """On the heartbeat topic, and as the projector notes them."""
    topic = fact_topic("eu.1", "heartbeats")
    for n, beat in enumerate(beaten):
        envelope = Envelope(
            event_id=f"beat-{n}", aggregate_id=beat.miner, version=0, origin="eu.1", scope="",
            epoch=0, seq=n + 1, stamp=stamp_at(beat.wall_ms), occurred_at=beat.at,
            correlation_id=beat.miner,
        )  # fmt: skip
        data = MinerBeat(running=(), work_done=n, interval_ms=EVERY_MS)
        where = partition_of(beat.miner, TOPOLOGY.partitions)
        lab.put(topic, beat.miner, encode_fact(envelope, data), where)
    lab.flush()
    projector = Projector(lab.home(), TOPOLOGY)
    raws = lab.records(topic, TOPOLOGY.partitions)
    for start in (0, len(raws) // 2):  # read again from the middle: it changes nothing
        projector.heartbeats([Message(*raw[:5], raw.headers) for raw in raws[start:]])
    projector.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, told: Told, beaten: list[Beat]) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("status")) as found:
        for component, fact in told:
            partition = partition_of(fact.envelope.aggregate_id, TOPOLOGY.partitions)
            key, value = found.fact(component, fact, partition=partition, scope="x/eu")
            found.put(fact_topic("eu.1", component), key, value, partition)
        found.flush()
        found.project()
        put_beats(found, beaten)
        yield found


def asked(lab: Lab, control: ControlState | None = None) -> Iterator[Asked]:
    db = Projection(lab.conninfo, lab.generation, "test")
    yield Asked(db.query, "eu", "eu.1", NOW_MS, control)
    db.close()


@pytest.fixture
def figures(lab: Lab) -> Iterator[dict[str, dict[str, Any]]]:
    for it in asked(lab):
        yield {kind: cluster(kind, it) for kind in KINDS}


class Recount:
    """What the facts say, counted by hand."""

    def __init__(self, told: Told, beaten: list[Beat]) -> None:
        self.kinds: dict[str, list[tuple[str, str, datetime, Any]]] = {
            c: [
                (type(f.data).__name__, f.envelope.aggregate_id, f.envelope.occurred_at, f.data)
                for component, f in told
                if component == c
            ]
            for c in FACT_COMPONENTS
        }
        dated = (at for of in self.kinds.values() for name, _, at, _ in of if name in DATED)
        self.now = max(*dated, *(beat.at for beat in beaten))

    def times(self, component: str, *names: str) -> dict[str, datetime]:
        return {key: at for name, key, at, _ in self.kinds[component] if name in names}

    def lately(self, times: dict[str, datetime]) -> dict[str, datetime]:
        return {k: at for k, at in times.items() if self.now - 24 * HOUR < at <= self.now}

    def mean_s(self, begun: dict[str, datetime], ended: dict[str, datetime]) -> float | None:
        found = [(at - begun[k]).total_seconds() for k, at in self.lately(ended).items()]
        return fmean(found) if found else None


def test_task_figures_equal_a_recount(
    told: Told, beaten: list[Beat], figures: dict[str, dict[str, Any]]
) -> None:
    count = Recount(told, beaten)
    events = count.kinds["tasks"]
    last = {key: (name, data) for name, key, _, data in events}
    rewarded = count.times("tasks", "TaskRewarded")
    final = {
        key: at
        for name, key, at, data in events
        if name in ("TaskAttemptFailed", "TaskLeaseExpired", "TaskSolutionRejected") and data.final
    }
    ended = len(count.lately(rewarded)), len(count.lately(final))
    pending = [
        k for k, (name, data) in last.items()
        if name == "TaskSubmitted" or (k not in final and getattr(data, "final", None) is False)
    ]  # fmt: skip
    active = set(last) - set(rewarded) - set(final) - set(pending)
    found = figures["task-manager"]
    assert found["completed_tasks_24h"] == ended[0]
    assert 0 < ended[0] < len(rewarded)  # the window cuts
    assert found["failure_rate"] == pytest.approx(ended[1] / sum(ended))
    submitted = count.times("tasks", "TaskSubmitted")
    assert found["average_completion_time"] == pytest.approx(count.mean_s(submitted, rewarded))
    assert (found["active_tasks"], found["pending_tasks"]) == (len(active), len(pending))


def test_registry_figures_equal_a_recount(
    told: Told, beaten: list[Beat], figures: dict[str, dict[str, Any]]
) -> None:
    count = Recount(told, beaten)
    events = count.kinds["miners"]
    status: dict[str, str] = {}
    reputation: dict[str, int] = {}
    special: dict[str, tuple[str, ...]] = {}
    for name, key, _, data in events:
        if name == "MinerRegistered":
            special[key], reputation[key] = data.specialties, 500_000
        if name == "ReputationChanged":
            reputation[key] += data.delta_ppm
        status[key] = {"MinerSuspended": "suspended", "MinerReinstated": "active"}.get(
            name, status.get(key, "active")
        )
    found = figures["miner-registry"]
    assert found["total_registered_miners"] == len(status) > 0
    heard = {b.miner: b.at for b in beaten}  # three beats are thirty minutes of event time
    beating = {m for m, at in heard.items() if count.now - at <= timedelta(minutes=30)}
    active = [m for m, s in status.items() if s == "active"]
    assert found["active_miners"] == len(beating & set(active))
    assert 0 < len(beating & set(active)) < len(active)  # the window cuts
    assert found["average_miner_reputation"] == pytest.approx(fmean(reputation.values()) / 1e6)
    assert found["miners_by_specialization"] == Counter(t for s in special.values() for t in s)


def test_validation_figures_equal_a_recount(
    told: Told, beaten: list[Beat], figures: dict[str, dict[str, Any]]
) -> None:
    count = Recount(told, beaten)
    events = count.kinds["validations"]
    requested = count.times("validations", "ValidationRequested")
    decided = count.times("validations", "ValidationDecided")
    judged = [data.upheld for name, _, _, data in events if name == "ValidationAudited"]
    asked_for = {k: d for name, k, _, d in events if name == "ValidationRequested"}
    wrong = [
        asked_for[k].miner_id
        for k in decided
        if asked_for[k].planted_sha256 not in (None, asked_for[k].solution_sha256)
    ]
    last = {key: data for name, key, _, data in events if name.startswith("Fraud")}
    guilty = {m for d in last.values() if type(d).__name__ == "FraudConfirmed" for m in d.suspects}
    found = figures["validation"]
    assert found["validation_queue_size"] == len(requested) - len(decided)
    assert found["average_validation_time"] == pytest.approx(count.mean_s(requested, decided))
    assert found["decisions_judged"] == len(judged) > 0
    assert found["validation_accuracy"] == pytest.approx(sum(judged) / len(judged))
    assert found["planted_answers_wrong"] == len(wrong) > 0
    caught = sum(m in guilty for m in wrong)
    assert found["fraud_detection_rate"] == pytest.approx(caught / len(wrong))


def test_reward_figures_equal_a_recount(
    told: Told, beaten: list[Beat], figures: dict[str, dict[str, Any]]
) -> None:
    count = Recount(told, beaten)
    events = count.kinds["rewards"]
    last = {key: name for name, key, _, _ in events}
    amounts = {k: d.amount_micro for name, k, _, d in events if name == "RewardCalculated"}
    paid = count.lately(count.times("rewards", "RewardPaid"))
    waits = [k for k, name in last.items() if name in ("RewardCalculated", "RewardReleased")]
    found = figures["rewards"]
    assert found["pending_payouts"] == len(waits)
    assert found["pending_payouts_micro"] == sum(amounts[k] for k in waits)
    assert found["withheld_payouts"] == sum(name == "RewardWithheld" for name in last.values())
    assert (found["paid_24h"], found["paid_24h_micro"]) == (
        len(paid), sum(amounts[k] for k in paid),
    )  # fmt: skip
    calculated = count.times("rewards", "RewardCalculated")
    assert found["average_payout_time"] == pytest.approx(count.mean_s(calculated, paid))
    first = min(waits, key=lambda k: (calculated[k], k), default=None)
    assert (found["oldest_payout"] or {"reward_id": None})["reward_id"] == first
    assert found["ledger_balance_micro"] == 0


def test_event_clock_is_the_latest_event_time(
    told: Told, beaten: list[Beat], figures: dict[str, dict[str, Any]]
) -> None:
    assert {f["event_clock"] for f in figures.values()} == {Recount(told, beaten).now}


BEAT_MS = NOW_MS - 1000


def _beat(node: str, kind: str, role: str, epoch: int, at_ms: int, **more: Any) -> tuple[Any, ...]:
    at = datetime.fromisoformat("2026-01-02T00:00:00+00:00")
    return (
        node, "eu", kind, more.get("which", ""), role, epoch, "e", "healthy", 500_000, 2, 4, 9, 1,
        ["inference"], stamp_at(at_ms), at, more.get("waits_for", ""),
    )  # fmt: skip


def test_nodes_primary_and_health_come_from_beats_and_the_control_log(lab: Lab) -> None:
    db = Heartbeats(lab.conninfo, lab.generation, "test")
    beats = [
        _beat("eu-tm-1", "task-manager", "primary", 1, NOW_MS - 60_000),
        _beat("eu-tm-2", "task-manager", "primary", 2, BEAT_MS),
        _beat("eu-tm-3", "task-manager", "secondary", 0, NOW_MS - 6_500),
        *(
            _beat(f"eu-val-{n}", "validation", "secondary", 0, BEAT_MS, which=which)
            for n, which in enumerate(("automatic", "peer-review", "expert"))
        ),
    ]
    db.nodes(beats)
    db.close()
    for it in asked(lab):
        found = cluster("task-manager", it)
        validators = cluster("validation", it)
    assert found["primary_node"]["node_id"] == "eu-tm-2"
    assert found["primary_node"]["health_score"] == 1.0
    assert found["primary_node"]["current_load"] == 0.5
    scores = {n["node_id"]: n["health_score"] for n in found["secondary_nodes"]}
    assert scores == {"eu-tm-1": 0.0, "eu-tm-3": 0.5}
    for name, node in (
        ("automatic_validators", 0), ("peer_review_coordinators", 1), ("expert_validators", 2),
    ):  # fmt: skip
        assert [n["node_id"] for n in validators[name]] == [f"eu-val-{node}"]
    decision = ScopeAssigned(
        scope_name="task-manager/eu", new_epoch=3, primary_node="eu-tm-3", region="eu",
        reason="forced", based_on=0, based_on_epoch=2,
    )  # fmt: skip
    scope = ScopeState("task-manager/eu", 3, "eu-tm-3", "eu", 5, decision, -1)
    lost = NodeState("eu-tm-2", "eu", "task-manager", "", "e", 0, "lost", 1)
    control = ControlState(5, {"task-manager/eu": scope}, {"eu-tm-2": lost})
    for it in asked(lab, control):
        found = cluster("task-manager", it)
    assert found["primary_node"]["node_id"] == "eu-tm-3"
    status = {n["node_id"]: (n["status"], n["health_score"]) for n in found["secondary_nodes"]}
    assert status["eu-tm-2"] == ("lost", 0.0)


NAMES = {
    "task-manager": {
        "region_id", "primary_node", "secondary_nodes", "active_tasks", "pending_tasks",
        "completed_tasks_24h", "average_completion_time", "failure_rate", "last_sync_timestamp",
    },
    "miner-registry": {
        "region_id", "primary_registry", "replica_registries", "total_registered_miners",
        "active_miners", "miners_by_specialization", "average_miner_reputation",
        "registry_sync_lag",
    },
    "validation": {
        "region_id", "automatic_validators", "peer_review_coordinators", "expert_validators",
        "validation_queue_size", "average_validation_time", "validation_accuracy",
        "fraud_detection_rate",
    },
    "rewards": {
        "region_id", "primary_node", "secondary_nodes", "pending_payouts", "last_sync_timestamp",
        "ledger_balance_micro",
    },
}  # fmt: skip
"""What users of the figures count on."""


def test_every_cluster_has_every_promised_figure(figures: dict[str, dict[str, Any]]) -> None:
    assert figures.keys() == NAMES.keys()
    assert {kind: names - figures[kind].keys() for kind, names in NAMES.items()} == {
        kind: set() for kind in NAMES
    }


def test_figures_are_synced_up_to_the_oldest_of_the_partitions_last_stamps(
    lab: Lab, figures: dict[str, dict[str, Any]]
) -> None:
    def last_ms(component: str) -> int:
        numbers = [lab.seqs[component, p] for p in range(TOPOLOGY.partitions)]
        return 1_000_000 + min(numbers)  # as the lab stamps them

    for kind, component in (("task-manager", "tasks"), ("rewards", "rewards")):
        synced = figures[kind]["last_sync_timestamp"]
        assert synced == datetime.fromtimestamp(last_ms(component) / 1000, UTC)
    lag = (NOW_MS - last_ms("miners")) / 1000
    assert figures["miner-registry"]["registry_sync_lag"] == lag


def test_node_is_shown_as_its_last_beat_says(lab: Lab) -> None:
    node = _beat("eu-mr-7", "miner-registry", "primary", 4, BEAT_MS, waits_for="t|m waits")
    other = _beat("eu-mr-8", "miner-registry", "secondary", 0, BEAT_MS)
    db = Heartbeats(lab.conninfo, lab.generation, "test")
    db.nodes((node, other))
    db.close()
    for it in asked(lab):
        found = cluster("miner-registry", it)
    shown = found["primary_registry"]
    said = {
        "node_id": "eu-mr-7", "endpoint": "e", "status": "healthy", "current_load": 0.5,
        "max_concurrent_tasks": 4, "current_tasks": 2, "health_score": 1.0,
        "last_heartbeat": node[15], "specialties": ["inference"], "role": "primary",
        "held_epoch": 4, "queue_size": 1, "waits_for": "t|m waits",
    }  # fmt: skip
    assert said.items() <= shown.items()
    assert [n["node_id"] for n in found["replica_registries"]] == ["eu-mr-8"]


def test_nothing_to_compute_from_is_unknown_never_one(lab: Lab) -> None:
    for it in asked(lab):
        nowhere = it._replace(region="us", origin="us.1")
        tasks, validation = cluster("task-manager", nowhere), cluster("validation", nowhere)
        registry, rewards = cluster("miner-registry", nowhere), cluster("rewards", nowhere)
    assert tasks["average_completion_time"] is tasks["failure_rate"] is None
    assert tasks["primary_node"] is tasks["last_sync_timestamp"] is None
    assert validation["validation_accuracy"] is validation["fraud_detection_rate"] is None
    assert registry["average_miner_reputation"] is registry["registry_sync_lag"] is None
    assert rewards["average_payout_time"] is None
    assert (tasks["active_tasks"], rewards["pending_payouts"]) == (0, 0)


def test_command_prints_every_cluster_as_json(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.time()
    where = ["--dir", str(lab.folder / "stack"), "--json"]
    assert run(["status", "clusters", *where]) == 0
    body = json.loads(capsys.readouterr().out)
    assert [f["kind"] for f in body["clusters"]] == list(KINDS)
    assert body["unreachable"] == {}
    assert {f["region_id"] for f in body["clusters"]} == {"eu"}
    lag = next(f for f in body["clusters"] if f["kind"] == "miner-registry")["registry_sync_lag"]
    assert lag > began - 1_000_000  # the test's facts are stamped in 1970
    assert run(["status", "clusters", "rewards", "eu", "--dir", str(lab.folder / "stack")]) == 0
    assert "pending_payouts" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "code"), [(["nothing"], 10), (["rewards", "mars"], 10)])
def test_command_names_what_it_does_not_know(
    lab: Lab, capsys: pytest.CaptureFixture[str], words: list[str], code: int
) -> None:
    where = ["--dir", str(lab.folder / "stack"), "--json"]
    assert run(["status", "clusters", *words, *where]) == code
    error = json.loads(capsys.readouterr().out)["error"]
    assert words[-1] in error["message"]
    assert "there are:" in error["hint"]


def test_database_that_does_not_answer_is_said_and_degraded(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.stack.stop("eu/postgres")
    try:
        code = run(["status", "clusters", "--dir", str(lab.folder / "stack"), "--json"])
    finally:
        lab.stack.restart("eu/postgres")
    body = json.loads(capsys.readouterr().out)
    assert (code, body["clusters"], list(body["unreachable"])) == (20, [], ["eu"])
