"""The primary of each service is killed under load: no registration, vote or payout is lost or
doubled, and no task moves twice.

One region on real parts, shared by all tests in the order of this file. Its coordinators are
mortal: each is killed right after the first thing that it does about a node, and another one goes
on, so all that is seen here happens although they die at each step of each handler. A client keeps
the history of all that it asked for and was answered; the checkers read the logs and the payment
journal from their beginning, and compare. A fault that did not bite fails as vacuous: what was on
its way when the primary died must have been taken up by its successor. At the end primaries stand
still instead, under a coordinator that lives.
"""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest

from everlode.avro.codec import Codec
from everlode.events import commands as c
from everlode.events.barriers import EpochOpened
from everlode.events.base import Command, CommandAnswered, Event, Fact
from everlode.events.control import ScopeAssigned
from everlode.events.health import NodeDegraded, NodeLost
from everlode.events.heartbeats import NodeBeat
from everlode.events.miners import MinerRegistered
from everlode.events.recovery import (
    OperationStep,
    RegistryChanged,
    ValidationDelayMeasured,
    ValidationRecoveryEnded,
)
from everlode.events.rewards import RewardCalculated, RewardPaid
from everlode.events.stamp import millis_of
from everlode.events.tasks import TaskAssigned, TaskMigrated
from everlode.events.validations import (
    ValidationDecided,
    ValidationDeferred,
    ValidationRequested,
    VoteCast,
)
from everlode.sdk import EventConsumer, MiningClient
from everlode.sdk.reference import solution_hash
from tests.support.facts.one_writer import check_log
from tests.support.facts.state_commands import register
from tests.support.facts.whole_topic import records
from tests.support.processes.mortal_coordinator import COOL_MS, Mortals
from tests.support.world.one_region import Network, eventually, managers

pytestmark = pytest.mark.timeout(280)
SCOPES = ("task-manager/eu", "miner-registry/eu", "validation/eu", "rewards/eu")
TOPICS = ("tasks", "miners", "validations", "rewards")
NODES = {
    "eu-tm-1": ("task-manager", "--priority", "9"),
    "eu-tm-2": ("task-manager",),
    "eu-mr-1": ("miner-registry", "--priority", "9"),
    "eu-mr-2": ("miner-registry",),
    "eu-val-1": ("validator", "--priority", "9"),
    "eu-val-2": ("validator", "--priority", "5"),
    "eu-val-3": ("validator", "--validator-kind", "expert"),
    "eu-rd-1": ("reward-distributor", "--priority", "9"),
    "eu-rd-2": ("reward-distributor",),
}
VALIDATION = "validation/eu"
DYING = "tests.support.processes.dying_node"
HUNG, SLOW = "eu-val-hung", "eu-val-slow"
LEFT = {f"eu/hangs{n}" for n in range(8)} | {f"eu/brief{n}" for n in range(8)}
"""Tasks of which the judge of HUNG does not come back from the first eight."""
WORKERS = tuple(f"eu/worker-{n}" for n in range(6))
SHA = "a" * 64


class Market:
    """Clients, miners and reviewers as one: what they asked for, and what they were answered."""

    def __init__(self, network: Network, mortals: Mortals) -> None:
        self.network, self.mortals = network, mortals
        self.client = MiningClient(network.endpoints, "eu", "market", timeout_s=90, window=4000)
        self.log = EventConsumer(network.endpoints, "eu", ["tasks", "validations"])
        self.asked: list[tuple[str, Command, Future[CommandAnswered]]] = []
        self.votes_due: list[tuple[str, c.CastVote]] = []
        """Votes that are held back."""
        self.assigned: list[tuple[str, TaskAssigned]] = []

    def send(self, key: str, command: Command) -> Future[CommandAnswered]:
        answer = self.client.send(key, command)
        self.asked.append((key, command, answer))
        return answer

    def submit(self, name: str, kind: str, payload_bytes: int = 1) -> None:
        command = c.SubmitTask(
            client_id="c", task_type=kind, payload_uri="s3://x", payload_sha256=SHA,
            payload_bytes=payload_bytes, cpu_milli=1, memory_mib=1, gpus=1, gpu_milli=1,
            base_reward_micro=1000, max_attempts=3,
            deadline_at=self.client._clock.event_now() + timedelta(days=365),
        )  # fmt: skip
        self.send(name, command)

    def look(self) -> None:
        """Learn what is to be solved, and judged."""
        for received in self.log.batch(2000, 0.05):
            data, key = received.fact.data, received.fact.envelope.aggregate_id
            if isinstance(data, TaskAssigned):
                self.assigned.append((key, data))
            elif isinstance(data, ValidationRequested):
                for reviewer in data.reviewers:
                    vote = c.CastVote(
                        voter_id=reviewer, voter_kind="peer-review", accept=True, score_ppm=900_000
                    )
                    self.votes_due.append((key, vote))

    def solve(self, work_ms: int = 60_000) -> None:
        """Hand in what is assigned."""
        for task, data in self.assigned:
            command = c.SubmitSolution(
                miner_id=data.miner_id, attempt=data.attempt, solution_id=f"s-{task}",
                solution_uri="u", solution_sha256=solution_hash(task, data.miner_id),
                solution_bytes=1, work_ms=work_ms,
            )  # fmt: skip
            self.send(task, command)
        self.assigned.clear()

    def brings(self, names: list[str], kind: str, payload_bytes: int = 1) -> None:
        """These tasks are submitted and assigned."""
        for name in names:
            self.submit(name, kind, payload_bytes)
        self.until(lambda: len(self.assigned) >= len(names))

    def until(self, true: Callable[[], bool], seconds: float = 60) -> None:
        def looked() -> bool:
            self.look()
            return true()

        eventually(looked, seconds, 0.05)

    def end(self) -> None:
        """All that was asked for was answered: nobody saw an error, or a refusal."""
        wrong = [
            (key, command, answer.result(90).code)
            for key, command, answer in self.asked
            if answer.result(90).outcome == "refused"
            # the quorum of a panel may be full, and its decision made, without the last voter
            and not (isinstance(command, c.CastVote) and answer.result(0).code in FULL)
        ]
        assert wrong == []

    def answered(self, kind: type[Command]) -> list[tuple[str, Any]]:
        """Of these commands, those that were carried out."""
        return [
            (key, command)
            for key, command, answer in self.asked
            if isinstance(command, kind) and answer.result(90).outcome != "refused"
        ]

    def close(self) -> None:
        self.client.close()
        self.log.close()


FULL = ("already_decided", "wrong_kind")


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    with Network(tmp_path_factory.mktemp("handlers")) as network, ExitStack() as held:
        network.start("eu-det-1", "detector", "run")
        for node, words in NODES.items():
            network.start(node, "node", "run", *words)
        network.await_nodes(len(NODES) + 1)
        mortals = held.enter_context(Mortals(network.folder, network.env()))
        network.until(lambda s: all(s.epoch(scope) == 1 for scope in SCOPES), 90)
        made = Market(network, mortals)
        for worker in WORKERS:
            made.send(worker, register(
                operator_id=f"of-{worker}", specialties=("inference", "training"),
                max_concurrent=1000,
            ))  # fmt: skip
            made.send(worker, c.DepositStake(amount_micro=10**12))
        made.end()
        eventually(lambda: NODES.keys() <= level(made))
        yield made
        made.close()


def level(market: Market) -> set[str]:
    """Nodes whose beats say that they have read of each partition."""
    beats = (fact for _, fact in market.network.log("eu.1.heartbeats"))
    return {f.envelope.aggregate_id for f in beats if getattr(f.data, "read_stamp", None)}


def beating(market: Market) -> set[str]:
    """Nodes of which a beat has come."""
    return {fact.envelope.aggregate_id for _, fact in market.network.log("eu.1.heartbeats")}


def facts(market: Market, component: str, *kinds: type[Event]) -> list[Fact]:
    """Of a component's log, all of these types."""
    partitions = 1 if component == "recovery" else 2
    found = (fact for _, fact in market.network.log(f"eu.1.{component}", partitions))
    return [fact for fact in found if isinstance(fact.data, kinds)]


def steps(market: Market, node: str) -> list[OperationStep]:
    """Of the node's handling, once it has ended."""
    network = market.network

    def recovery() -> list[Fact]:
        return [fact for _, fact in network.log("eu.1.recovery", 1)]

    def operation() -> str:
        ends = (f for f in recovery() if type(f.data).__name__.endswith("RecoveryEnded"))
        return next((f.envelope.aggregate_id for f in ends if node in vars(f.data).values()), "")

    found = eventually(operation, 90)
    own = [f for f in recovery() if f.envelope.aggregate_id == found]
    once = {f.envelope.event_id: f.data for f in own}
    return [data for data in once.values() if isinstance(data, OperationStep)]


def payouts(market: Market) -> list[dict[str, Any]]:
    """What the payment system has paid, in order."""
    (path,) = market.network.folder.rglob("payouts-eu.jsonl")
    lines = path.read_bytes().split(b"\n")[:-1]
    return [entry for line in lines if "key" in (entry := json.loads(line))]


def check(market: Market) -> None:
    """The checkers, over the whole logs."""
    market.end()
    for component in TOPICS:
        check_log(market.network.log(f"eu.1.{component}"))
    # registrations
    asked = [key for key, _ in market.answered(c.RegisterMiner)]
    registered = Counter(f.envelope.aggregate_id for f in facts(market, "miners", MinerRegistered))
    assert registered == Counter(asked), "lost_registration, or doubled"
    # votes
    cast = Counter(
        (f.envelope.aggregate_id, f.data.voter_id)
        for f in facts(market, "validations", VoteCast)
        if isinstance(f.data, VoteCast)
    )
    assert set(cast.values()) <= {1}, "doubled_vote"
    votes = {(key, vote.voter_id) for key, vote in market.answered(c.CastVote)}
    assert votes <= cast.keys(), "lost_vote"
    quorum = {
        f.envelope.aggregate_id: f.data.quorum
        for f in facts(market, "validations", ValidationRequested)
        if isinstance(f.data, ValidationRequested)
    }
    for fact in facts(market, "validations", ValidationDecided):
        assert isinstance(fact.data, ValidationDecided)
        decided = fact.data.votes_for + fact.data.votes_against
        assert decided >= (quorum[fact.envelope.aggregate_id] if fact.data.kind != "expert" else 1)
    once = Counter(f.envelope.aggregate_id for f in facts(market, "validations", ValidationDecided))
    assert set(once.values()) <= {1}, "decided_twice"


def check_paid(market: Market) -> None:
    """Every reward that was calculated is paid, once, by the ledger and by the payment system."""

    def owed() -> set[str]:
        return {f.envelope.aggregate_id for f in facts(market, "rewards", RewardCalculated)}

    def paid() -> list[str]:
        return [f.envelope.aggregate_id for f in facts(market, "rewards", RewardPaid)]

    def accepted() -> int:
        found = facts(market, "validations", ValidationDecided)
        return sum(isinstance(f.data, ValidationDecided) and f.data.accepted for f in found)

    eventually(lambda: len(owed()) >= accepted() and owed() <= set(paid()), 90)
    assert Counter(paid()) == Counter(owed()), "paid_twice, or what is owed to nobody"
    assert Counter(str(line["key"]) for line in payouts(market)) == Counter(owed()), "left_twice"


def paid_tasks(market: Market) -> dict[str, int]:
    """Tasks that are paid, each with the epoch in which it was."""
    found = facts(market, "rewards", RewardPaid)
    return {f.data.task_id: f.envelope.epoch for f in found if isinstance(f.data, RewardPaid)}


def heard(miner: EventConsumer) -> RegistryChanged:
    """The one change of its registry that a miner hears of."""

    def hears() -> list[RegistryChanged]:
        news = [received.fact.data for received in miner.batch()]
        return [data for data in news if isinstance(data, RegistryChanged)]

    (changed,) = eventually(hears)
    miner.close()
    return changed


def kill_frozen(market: Market, node: str, sent: list[Future[CommandAnswered]]) -> None:
    """SIGKILL, with what was sent last still unread: after the first answer it reads no more."""
    eventually(lambda: any(answer.done() for answer in sent), 30, 0.001)
    market.network.signal(node, signal.SIGSTOP)


def test_killed_registry_loses_no_registration_and_miners_see_no_error(market: Market) -> None:
    def registers(first: int, last: int) -> list[Future[CommandAnswered]]:
        return [
            market.send(f"eu/m{n}", register(operator_id=f"of-m{n}")) for n in range(first, last)
        ]

    miner = EventConsumer(market.network.endpoints, "eu", ["recovery"], from_end=True)
    kill_frozen(market, "eu-mr-1", registers(0, 200))
    late = registers(200, 300)
    market.network.signal("eu-mr-1", signal.SIGKILL)
    taken = steps(market, "eu-mr-1")
    assert [s.step for s in taken] == ["level", "decide", "promote", "notify"]
    assert taken[0].detail.startswith("eu-mr-2 is 0 ms behind")
    assert all(answer.result(60).node_id == "eu-mr-2" for answer in late), "vacuous"

    changed = heard(miner)
    node = market.network.control.state.nodes["eu-mr-2"]
    assert (changed.to_node, changed.scope_epoch) == ("eu-mr-2", 2)
    assert changed.endpoint == node.endpoint
    check(market)


def test_killed_validator_loses_no_vote_and_lowers_no_quorum(market: Market) -> None:
    names = [f"eu/peer{n}" for n in range(30)]
    market.brings(names, "training")
    market.solve()
    market.until(lambda: len(market.votes_due) >= 3 * len(names))
    due, market.votes_due = market.votes_due, []
    first, second, third = due[0::3], due[1::3], due[2::3]
    early = [market.send(*vote) for vote in first]
    kill_frozen(market, "eu-val-1", early)
    late = [market.send(*vote) for vote in second]
    market.network.signal("eu-val-1", signal.SIGKILL)
    late += [market.send(*vote) for vote in third]
    taken = [s.step for s in steps(market, "eu-val-1")]
    assert taken[:2] == ["decide", "promote"]
    epochs = {f.envelope.epoch for f in facts(market, "validations", VoteCast)}
    assert epochs == {1, 2}, "vacuous: votes came before and after"
    assert len(late) == 2 * len(names)
    market.end()
    decided = {f.data.task_id for f in facts(market, "validations", ValidationDecided)}  # type: ignore[attr-defined]
    assert set(names) <= decided
    check(market)


def test_killed_distributor_pays_everybody_once(market: Market) -> None:
    names = [f"eu/cheap{n}" for n in range(60)]
    market.brings(names, "inference")
    before = len(payouts(market))
    market.solve()
    eventually(lambda: len(payouts(market)) >= before + 3, 60, 0.002)
    market.network.signal("eu-rd-1", signal.SIGKILL)
    left = len(payouts(market))
    assert [s.step for s in steps(market, "eu-rd-1")] == ["decide", "promote"]
    check_paid(market)
    assert left < len(payouts(market)), "vacuous: all had left before"
    paid = facts(market, "rewards", RewardPaid)
    assert {f.envelope.epoch for f in paid} == {1, 2}
    assert {f.data.task_id for f in paid} >= set(names)  # type: ignore[attr-defined]
    check(market)


def test_killed_task_manager_leaves_each_task_to_another_once(market: Market) -> None:
    names = {f"eu/moves{n}" for n in range(40)}
    market.brings(sorted(names), "inference")
    found = managers(market.network)
    left = {task for task in names if found[task] == "eu-tm-1"}
    assert left, "vacuous: it managed nothing"
    market.network.signal("eu-tm-1", signal.SIGKILL)
    assert [s.step for s in steps(market, "eu-tm-1")] == ["decide", "promote", "migrate"]
    ended = market.network.ended("eu-tm-1")
    assert (ended.recovery_action, ended.new_primary) == ("secondary-promoted", "eu-tm-2")
    assert market.network.control.state.epoch("task-manager/eu") == 2, "decided twice"
    moved = Counter(f.envelope.aggregate_id for f in facts(market, "tasks", TaskMigrated))
    assert moved == Counter(left)
    market.solve()
    eventually(lambda: names <= paid_tasks(market).keys(), 90)
    check(market)


def waiting_for(market: Market, kind: str) -> set[str]:
    """Tasks of which a validation of this kind has been asked for."""
    found = facts(market, "validations", ValidationRequested)
    return {
        f.data.task_id for f in found
        if isinstance(f.data, ValidationRequested) and f.data.kind == kind
    }  # fmt: skip


def test_last_expert_is_lost_and_what_waits_is_deferred_with_a_deadline(market: Market) -> None:
    market.network.signal("eu-val-3", signal.SIGSTOP)  # it judges what comes no more
    market.brings(["eu/hasty"], "inference", payload_bytes=10**9)
    market.solve(work_ms=1)  # less time than it takes to read the input: a case for an expert
    market.until(lambda: "eu/hasty" in waiting_for(market, "expert"))
    market.network.signal("eu-val-3", signal.SIGKILL)
    assert [(s.step, s.count) for s in steps(market, "eu-val-3")] == [("defer", 1)]
    deferred = eventually(lambda: facts(market, "validations", ValidationDeferred), 90)
    assert len(deferred) == 1
    (data,) = [f.data for f in deferred]
    (asked,) = [
        f.data for f in facts(market, "validations", ValidationRequested)
        if f.envelope.aggregate_id == deferred[0].envelope.aggregate_id
    ]  # fmt: skip
    assert isinstance(data, ValidationDeferred)
    assert isinstance(asked, ValidationRequested)
    assert (asked.kind, data.reason) == ("expert", "no expert validator works")
    assert data.deadline_at == asked.deadline_at + timedelta(hours=8)
    # another expert starts, and what was deferred is decided
    market.network.start("eu-val-4", "node", "run", "validator", "--validator-kind", "expert")
    key = deferred[0].envelope.aggregate_id
    eventually(
        lambda: key in {
            f.envelope.aggregate_id for f in facts(market, "validations", ValidationDecided)
        }, 90,
    )  # fmt: skip
    check(market)


def test_lost_coordinators_of_reviews_hand_over_what_waits_to_another_then_to_experts(
    market: Market,
) -> None:
    nodes = ("eu-val-5", "eu-val-6")
    for node in nodes:
        words = ("node", "run", "validator", "--validator-kind", "peer-review")
        market.network.start(node, *words)
    market.network.until(lambda s: all(node in s.nodes for node in nodes))
    eventually(lambda: set(nodes) <= beating(market))
    # decisions one after another: what is decided in one moment says nothing of how fast
    paced = {f"eu/paced{n}" for n in range(6)}
    market.brings(sorted(paced), "training")
    market.solve()
    market.until(
        lambda: paced <= waiting_for(market, "peer-review") and len(market.votes_due) >= 18
    )
    for vote in market.votes_due:
        market.send(*vote).result(60)
    market.votes_due = []
    names = {f"eu/handed{n}" for n in range(6)}
    market.brings(sorted(names), "training")
    market.solve()
    market.until(
        lambda: names <= waiting_for(market, "peer-review") and len(market.votes_due) >= 18
    )
    market.network.signal(nodes[0], signal.SIGKILL)
    (found,) = steps(market, nodes[0])
    assert (found.step, found.count) == ("redistribute", len(names))
    assert found.detail == f"what waits for peer-review votes is for {nodes[1]}"
    market.network.signal(nodes[1], signal.SIGKILL)
    (found,) = steps(market, nodes[1])
    assert (found.step, found.count) == ("escalate", len(names))
    # no vote was cast meanwhile, none is lost, and no quorum lowered
    due, market.votes_due = market.votes_due, []
    for vote in due:
        market.send(*vote)
    market.end()
    decided = {f.data.task_id for f in facts(market, "validations", ValidationDecided)}  # type: ignore[attr-defined]
    assert names <= decided
    check(market)
    # how long that took is told once, beside what was estimated
    ended = [
        f.data for f in facts(market, "recovery", ValidationRecoveryEnded)
        if isinstance(f.data, ValidationRecoveryEnded) and f.data.failed_validator == nodes[0]
    ]  # fmt: skip
    assert ended[0].estimated_delay_ms is not None
    measured = eventually(lambda: facts(market, "recovery", ValidationDelayMeasured))
    (data,) = {f.envelope.event_id: f.data for f in measured}.values()
    assert isinstance(data, ValidationDelayMeasured)
    assert data.failed_validator == nodes[0]
    assert data.estimated_delay_ms == ended[0].estimated_delay_ms
    assert data.actual_delay_ms > 0


def test_registry_that_is_switched_over_is_told_to_miners(market: Market) -> None:
    network = market.network
    miner = EventConsumer(network.endpoints, "eu", ["recovery"], from_end=True)
    network.start("eu-mr-1", "node", "run", "miner-registry", "--priority", "9")
    network.until(lambda s: s.nodes["eu-mr-1"].status == "healthy")
    asked = network.ask("scope", "switchover", "miner-registry/eu", "--wait")
    assert asked["outcome"] == "done"
    changed = heard(miner)
    assert (changed.from_node, changed.to_node) == ("eu-mr-2", "eu-mr-1")
    assert changed.scope_epoch == network.control.state.epoch("miner-registry/eu")
    check(market)


def test_validator_whose_judge_does_not_come_back_says_so_and_is_replaced(market: Market) -> None:
    network = market.network
    network.start(HUNG, "node", "run", "validator", module=DYING, die="hangs")
    network.start(SLOW, "node", "run", "validator", "--priority", "99", module=DYING, die="slow")
    network.until(lambda s: {HUNG, SLOW} <= s.nodes.keys())
    eventually(lambda: {HUNG, SLOW} <= beating(market))
    asked = network.ask("scope", "switchover", VALIDATION, "--to", HUNG, "--wait")
    assert asked["outcome"] == "done"
    market.brings(list(LEFT), "inference")
    market.solve()
    led = network.until(lambda s: s.scopes[VALIDATION].primary != HUNG, 90).scopes[VALIDATION]
    assert (led.decision.reason, led.decision.failed_node) == ("node-unsteady", HUNG)
    assert led.primary == SLOW
    (told,) = [
        f.data for _, f in network.log("eu.1.health", 1)
        if isinstance(f.data, NodeDegraded) and f.envelope.aggregate_id == HUNG
        and f.data.actionable
    ]  # fmt: skip
    assert told.rule == "says-so"
    codec = Codec()
    beats = {
        (raw.partition, raw.offset): codec.decode_fact(raw.value).data
        for raw in records(network.bootstrap, "eu.1.heartbeats", 2)
    }
    for evidence in told.evidence:
        said = beats[evidence.partition, evidence.offset]
        assert isinstance(said, NodeBeat)
        assert said.waits_for.startswith("a judge that began ")


def roles(market: Market, node: str) -> set[str]:
    """What a node has said that it is."""
    beats = (fact for _, fact in market.network.log("eu.1.heartbeats"))
    return {
        f.data.role for f in beats
        if isinstance(f.data, NodeBeat) and f.envelope.aggregate_id == node
    }  # fmt: skip


def decisions(market: Market) -> list[tuple[int, str, int]]:
    """Of who leads the validations: (epoch, node, wall ms), in order."""
    bootstrap, codec = market.network.endpoints.control_bootstrap, Codec()
    assert bootstrap is not None
    found = [codec.decode_fact(raw.value) for raw in records(bootstrap, "control")]
    return [
        (f.data.new_epoch, f.data.primary_node, millis_of(f.envelope.stamp)) for f in found
        if isinstance(f.data, ScopeAssigned) and f.data.scope_name == VALIDATION
    ]  # fmt: skip


def test_recovery_slower_than_the_cool_down_is_not_overtaken_and_cools_down_from_its_end(
    market: Market,
) -> None:
    """The successor says that it does not do its work, either, while it opens its epoch."""
    network = market.network
    epoch, node, decided_ms = decisions(market)[-1]
    assert node == SLOW
    network.until(lambda s: s.nodes[SLOW].status == "degraded")
    why = f"{VALIDATION} keeps {SLOW}: it has not opened epoch {epoch} yet"
    eventually(lambda: market.mortals.reported("HandlingStuck", node=SLOW, reason=why))
    assert time.time() * 1000 > decided_ms + COOL_MS, "vacuous: the scope cooled down still"
    assert decisions(market)[-1] == (epoch, SLOW, decided_ms)
    assert {"secondary"} == roles(market, SLOW), "it does not lead yet"
    network.signal(SLOW, signal.SIGUSR1)
    network.until(lambda s: s.scopes[VALIDATION].primary != SLOW)
    assert "primary" in roles(market, SLOW)
    opened_ms = max(
        millis_of(f.envelope.stamp) for f in facts(market, "validations", EpochOpened)
        if f.envelope.epoch == epoch
    )  # fmt: skip
    assert opened_ms > decided_ms + COOL_MS, "vacuous: it opened sooner"
    later, _, again_ms = decisions(market)[-1]
    assert later == epoch + 1
    assert again_ms >= opened_ms + COOL_MS, "it was given no time"


def test_what_a_judge_has_left_is_judged_by_others(market: Market) -> None:
    def decided() -> set[str]:
        found = facts(market, "validations", ValidationDecided)
        return {f.data.task_id for f in found if isinstance(f.data, ValidationDecided)}

    eventually(lambda: decided() >= LEFT, 90)
    blamed = market.network.control.state.blamed
    cases = {
        what.removeprefix("validation ") for what, ended in blamed.items()
        if any(text.partition(" ")[0] == HUNG for text in ended)
    }  # fmt: skip
    voters = {
        f.data.voter_id for f in facts(market, "validations", VoteCast)
        if isinstance(f.data, VoteCast) and f.envelope.aggregate_id in cases
    }  # fmt: skip
    assert voters, "vacuous: nothing was left to others"
    assert HUNG not in voters
    check(market)


def test_time_of_a_handling_is_unknown_while_few_were_seen_and_they_are_counted(
    market: Market,
) -> None:
    unknown = {"cases": 0, "typical_error_ms": None, "within_half": None}
    for scope, cases in (("miner-registry/eu", 1), ("validation/eu", 4), ("rewards/eu", 1)):
        found = market.network.ask("scope", "explain", scope)["recovery"]
        delay = {**unknown, "cases": 1} if scope == "validation/eu" else None
        wanted = {"ms": None, "cases": cases, "score": unknown, "delay_score": delay}
        assert found == wanted


def test_coordinator_was_killed_at_each_step_of_each_handler(market: Market) -> None:
    """Each step has come once all the same: the tests before this one have looked."""
    died = Counter(market.mortals.deaths())
    led = ("eu-mr-1", "eu-val-1", "eu-rd-1", "eu-tm-1")
    for node in (*led, "eu-val-3", "eu-val-5", "eu-val-6"):
        assert died[f"{node} lost"] == 1
    for node in led:
        assert died[f"{node} assigned"] == 1
    assert (died["eu-tm-1 probed"], died["OperationStarted"]) == (1, 7)
    once = (
        "level", "notify", "redistribute", "escalate", "defer", "migrate", "RegistryRecoveryEnded",
        "RewardRecoveryEnded", "TaskManagerRecoveryEnded", "ValidationDelayMeasured",
    )  # fmt: skip
    wanted = {"decide": 4, "promote": 4, **dict.fromkeys(once, 1)}
    assert {step: died[step] for step in wanted} == wanted
    # nodes that live, and do not do their work
    for node in (HUNG, SLOW):
        assert (died[f"{node} degraded"], died[f"{node} assigned"]) == (1, 1)
    # a node that comes back
    assert [died[f"eu-mr-1 {status}"] for status in ("rejoining", "healthy")] == [0, 1]


def lost_by_silence(network: Network) -> set[str]:
    """Nodes that the detector has found so."""
    found = (fact for _, fact in network.log("eu.1.health", 1))
    return {
        f.envelope.aggregate_id for f in found
        if isinstance(f.data, NodeLost) and f.data.rule == "phi"
    }  # fmt: skip


def test_primaries_that_stand_still_are_replaced_and_do_no_harm_when_they_wake(
    market: Market,
) -> None:
    """Of the three kinds at once; a task manager's is in `test_failover_evidence`."""
    network = market.network
    market.mortals.retire()
    network.start("eu-co-plain", "coordinator", "run")
    network.start("eu-rd-3", "node", "run", "reward-distributor")
    network.until(lambda s: s.scopes["coordinator/eu"].primary == "eu-co-plain")
    eventually(lambda: "eu-rd-3" in beating(market))
    led = {scope: network.control.state.scopes[scope] for scope in SCOPES[1:]}
    names = {f"eu/woken{n}" for n in range(20)}
    market.brings(sorted(names), "inference")
    for was in led.values():
        network.signal(was.primary, signal.SIGSTOP)
    late = [market.send(f"eu/late{n}", register(operator_id=f"of-late{n}")) for n in range(50)]
    market.solve()
    state = network.until(
        lambda s: all(
            s.epoch(scope) == was.epoch + 1 and s.scopes[scope].renewed_at >= 0
            for scope, was in led.items()
        ), 90,
    )  # fmt: skip
    registry = state.scopes["miner-registry/eu"].primary
    assert {answer.result(60).node_id for answer in late} == {registry}, "vacuous"
    # a lease that nobody renews is found too, a moment later
    eventually(lambda: {was.primary for was in led.values()} <= lost_by_silence(network))
    for scope, was in led.items():
        assert state.scopes[scope].decision.failed_node == was.primary
        network.signal(was.primary, signal.SIGCONT)
    for scope, was in led.items():
        eventually(
            lambda scope=scope, was=was: network.reported(  # type: ignore[misc]
                was.primary, "SteppedDown", scope=scope, epoch=was.epoch
            )
        )
    network.until(lambda s: {s.nodes[was.primary].status for was in led.values()} == {"healthy"})
    eventually(lambda: names <= paid_tasks(market).keys(), 90)
    paid = paid_tasks(market)
    assert {paid[name] for name in names} == {led["rewards/eu"].epoch + 1}, "vacuous"
    check_paid(market)
    check(market)
