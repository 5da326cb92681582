"""Payouts leave once, whatever comes between the sink and the log. One batch, no Kafka."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from everlode.control.fold import ControlState
from everlode.errors import IntegrityError, Unavailable
from everlode.events import commands as c
from everlode.events.base import (
    Command,
    CommandHeader,
    Envelope,
    Event,
    Evidence,
    Fact,
    OwnCommand,
)
from everlode.events.rewards import RewardCalculated
from everlode.events.stamp import MAX_AHEAD_MS, HybridClock, stamp_at
from everlode.events.states import RewardState
from everlode.events.validations import (
    FraudCleared,
    FraudConfirmed,
    FraudSuspected,
    ValidationDecided,
)
from everlode.primary.batch import Batch, Source
from everlode.primary.component import Owed
from everlode.primary.inputs import Tick
from everlode.rewards.component import RewardComponent
from everlode.rewards.payouts import FIRST_FAILS, LONGEST_S, PAY_AGAIN_S
from everlode.rewards.sink import Fence, JournalSink, PayoutConflict
from everlode.state.view import Where
from everlode.topics import Topology
from tests.support.facts.state_commands import fact_of

FENCE = Fence("rewards/eu", 1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
WALL_MS = 1_000_000
EVIDENCE = (Evidence(topic="", partition=-1, offset=-1, note="seen"),)
CALCULATE = c.CalculateReward(
    task_id="eu/t", miner_id="m", validation_id="v", base_micro=1000, score_ppm=1_000_000
)


class Log:
    """As much of a fact log as a batch needs."""

    def __init__(self) -> None:
        self.origin, self.topic, self.partitions, self.seqs = "eu.1", "eu.1.rewards", 1, [0]
        self.clock = HybridClock()

    def partition_of(self, _: str) -> int:
        return 0


class Sink:
    """Counts what leaves; answers, or times out after paying."""

    def __init__(self) -> None:
        self.paid: dict[str, str] = {}
        self.asked = 0
        self.silent = False

    def pay(self, payout_key: str, miner_id: str, amount_micro: int, fence: Fence) -> str:
        self.asked += 1
        self.paid.setdefault(payout_key, f"ref-{payout_key}")
        if self.silent:
            raise Unavailable("no answer")
        return self.paid[payout_key]

    def find(self, payout_key: str, fence: Fence) -> str | None:
        return self.paid.get(payout_key)


class Node:
    """One reward primary, a batch at a time."""

    def __init__(self, sink: Any) -> None:
        self.now_s = 100.0
        topology = Topology(operators=("op",))
        self.component = RewardComponent("eu", topology, sink, lambda: self.now_s)
        self.component.served = {"eu": FENCE.epoch}
        self.log: Any = Log()
        self.begin()

    def begin(self) -> None:
        self.batch = Batch(self.component, self.log, {"eu": 1}, "eu-rd-1", Tick(NOW, WALL_MS, 0.0))
        self.component.peek = self.batch.peek

    def commit(self) -> list[tuple[Envelope, Event]]:
        facts = self.batch.facts
        self.log.seqs = [len(facts)]
        self.batch.committed(list(range(len(facts))))
        self.begin()
        return [(envelope, data) for _, envelope, data in facts]

    def command(self, command: Command, key: str = "eu/t|m") -> None:
        """Ask for something: from outside, or of itself what nobody else may ask."""
        name = f"c{self.log.clock.last}{type(command).__name__}"
        if isinstance(command, OwnCommand):
            refused = self.batch.owed(Owed(name, key, command, NOW), None)
            assert refused is None
            return
        header = CommandHeader(
            command_id=name,
            aggregate_id=key,
            issued_by="op",
            reply_to="r",
            issued_at=NOW,
            correlation_id=name,
        )
        before = self.component.before(key, command, NOW)
        self.batch.command(header, command, Source("eu.commands.rewards", 0, 0), before)

    def read(self, fact: Fact) -> None:
        for owed in self.component.react(fact, Where("x", 0, 0)):
            self.batch.owed(owed, None, fact.envelope)

    def pay_what_waits(self) -> None:
        for owed in self.component.due(NOW, ControlState()):
            self.batch.owed(owed, None)

    @property
    def reward(self) -> RewardState:
        state = self.component.folds.get("rewards", "eu/t|m")
        assert isinstance(state, RewardState)
        return state


def cause(data: Event, key: str, stamp: int = 5) -> Fact:
    name = f"e-{type(data).__name__}"
    return fact_of(data, key, event_id=name, stamp=stamp, at=NOW, correlation_id="story")


def suspected(stamp: int = 5) -> Fact:
    data = FraudSuspected(
        rule="colluding-votes", suspects=("p",), task_id="eu/t", severity_ppm=1, evidence=EVIDENCE
    )
    return cause(data, "case", stamp)


def cleared(case: str = "case") -> Fact:
    data = FraudCleared(rule="colluding-votes", suspects=("p",), decided_by="x", reason="r")
    fact = cause(data, case)
    update = {"version": 3, "event_id": f"e-{case}-3"}
    return fact._replace(envelope=fact.envelope.model_copy(update=update))


CONFIRMED = cause(
    FraudConfirmed(
        rule="colluding-votes",
        suspects=("p",),
        task_id="eu/t",
        decided_by="x",
        penalty_micro=1,
        evidence=EVIDENCE,
    ),
    "case",
)
DECIDED = cause(
    ValidationDecided(
        task_id="eu/t", task_type="inference", solution_id="s", miner_id="m", kind="automatic",
        accepted=True, score_ppm=1_000_000, votes_for=1, votes_against=0, work_ms=1,
        base_reward_micro=1000,
    ),
    "v",
)  # fmt: skip


def a_node(sink: Any) -> tuple[Node, Fact]:
    """A node with one reward calculated, and the fact that asks for its payout."""
    node = Node(sink)
    node.command(CALCULATE)
    ((envelope, data),) = node.commit()
    assert isinstance(data, RewardCalculated)
    return node, Fact(envelope, data)


def test_reward_is_paid_once_however_often_its_fact_is_read() -> None:
    sink = Sink()
    node, calculated = a_node(sink)
    node.read(calculated)
    node.read(calculated)
    node.commit()
    node.read(calculated)
    assert node.commit() == []
    assert (node.reward.status, list(sink.paid)) == ("paid", ["eu/t|m"])


@pytest.mark.parametrize("by_operator", [True, False])
def test_reward_withheld_in_the_same_batch_does_not_leave_before_it_is_released(
    by_operator: bool,
) -> None:
    sink = Sink()
    node, calculated = a_node(sink)
    if by_operator:
        node.command(c.WithholdReward(case_id="case", reason="r"))
    else:
        node.read(suspected())
    node.read(calculated)
    node.commit()
    assert (node.reward.status, sink.asked) == ("withheld", 0)
    node.command(c.ReleaseReward(case_id="case", reason="r"))
    if not by_operator:
        assert node.commit() == [], "the case is open"
        node.read(cleared())
    ((envelope, data),) = node.commit()
    node.read(Fact(envelope, data))
    node.commit()
    assert (node.reward.status, sink.asked) == ("paid", 1)


@pytest.mark.parametrize(("fraud", "status"), [(suspected(), "paid"), (CONFIRMED, "reclaimed")])
def test_payout_that_left_before_a_crash_is_booked_before_it_could_be_held_back(
    fraud: Fact, status: str
) -> None:
    sink = Sink()
    node, calculated = a_node(sink)
    node.read(calculated)
    node.begin()  # it crashed before the commit; the successor reads the fraud first
    node.read(fraud)
    node.read(calculated)
    node.commit()
    assert (node.reward.status, node.reward.payout_ref) == (status, "ref-eu/t|m")
    assert list(sink.paid) == ["eu/t|m"]


def test_silent_sink_is_asked_again_and_pays_once() -> None:
    sink = Sink()
    node, calculated = a_node(sink)
    sink.silent = True
    node.read(calculated)
    assert node.commit() == []
    node.read(calculated)  # its fact again, or another's: not before it is time
    node.pay_what_waits()
    assert (sink.asked, node.reward.status) == (1, "calculated")
    sink.silent = False
    node.now_s += PAY_AGAIN_S
    node.pay_what_waits()
    node.commit()
    assert (node.reward.status, list(sink.paid)) == ("paid", ["eu/t|m"])


def test_nothing_leaves_once_the_lease_is_out() -> None:
    sink = Sink()
    node, calculated = a_node(sink)
    node.component.leads = lambda _: False
    with pytest.raises(Unavailable, match="lease"):
        node.read(calculated)
    assert sink.asked == 0


@pytest.mark.parametrize("looked", [True, False])
@pytest.mark.parametrize(
    ("fraud", "status"), [(suspected(), "withheld"), (CONFIRMED, "reversed"), (None, "paid")]
)
def test_case_that_was_there_before_the_reward_holds_it(
    fraud: Fact | None, status: str, looked: bool
) -> None:
    """Read before the decision, or only looked at, by a node that was started since."""
    sink = Sink()
    node = Node(sink)
    for fact in [fraud] if fraud is not None else [suspected(), cleared()]:
        if looked:
            node.component.observe(fact)
        else:
            node.read(fact)
            node.commit()
    node.read(DECIDED)
    facts = node.commit()
    assert isinstance(facts[0][1], RewardCalculated)
    node.read(Fact(*facts[0]))
    node.commit()
    assert (node.reward.status, sink.asked) == (status, int(status == "paid"))


def test_payout_that_left_unbooked_is_booked_before_an_operator_takes_it_back() -> None:
    sink = Sink()
    node, calculated = a_node(sink)
    sink.silent = True
    node.read(calculated)
    node.commit()
    node.command(c.ReverseReward(reason="r\0"))
    assert node.commit() == [], "what is refused at the door owes nothing"
    node.command(c.ReverseReward(reason="r"))
    node.commit()
    assert (node.reward.status, node.reward.payout_ref) == ("paid", "ref-eu/t|m")


def test_effect_is_stamped_above_its_cause_and_tells_its_story() -> None:
    sink = Sink()
    node, _ = a_node(sink)
    ahead = stamp_at(WALL_MS + 1000)
    node.read(suspected(ahead))
    ((envelope, _),) = node.commit()
    assert envelope.stamp > ahead
    assert envelope.correlation_id == "story"
    assert envelope.causation_id == "e-FraudSuspected"


def test_cause_too_far_ahead_is_read_again_and_not_lost() -> None:
    node, _ = a_node(Sink())
    with pytest.raises(Unavailable) as caught:
        node.read(suspected(stamp_at(WALL_MS + MAX_AHEAD_MS + 1)))
    assert caught.value.code == "clock_skew"


def test_journal_pays_a_key_once_for_two_nodes(tmp_path: Path) -> None:
    path = tmp_path / "payouts.jsonl"
    one, two = JournalSink(path), JournalSink(path)
    assert one.find("eu/t|m", FENCE) is None
    ref = one.pay("eu/t|m", "m", 5, FENCE)
    assert (
        two.find("eu/t|m", FENCE)
        == two.pay("eu/t|m", "m", 5, FENCE)
        == one.pay("eu/t|m", "m", 5, FENCE)
        == ref
    )
    assert len([x for x in path.read_text().splitlines() if "key" in x]) == 1
    with pytest.raises(PayoutConflict):
        two.pay("eu/t|m", "m", 6, FENCE)
    one.close()
    two.close()
    again = JournalSink(path)
    assert again.find("eu/t|m", FENCE) == ref
    again.close()


def test_journal_cuts_off_what_a_killed_node_left_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "payouts.jsonl"
    sink = JournalSink(path)
    ref = sink.pay("eu/t|m", "m", 5, FENCE)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    assert sink.find("eu/t|m", FENCE) == ref
    sink.pay("eu/u|m", "m", 7, FENCE)
    sink.close()
    again = JournalSink(path)
    assert [again.find("eu/t|m", FENCE), again.find("eu/u|m", FENCE) is not None] == [ref, True]
    again.close()
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == [
        "eu/t|m",
        "eu/u|m",
    ]


@pytest.mark.parametrize(
    "line",
    [b"{", b"[]", b'{"key": "eu/t|m"}', b"\xff\xfe", b"[" * 100_000,
     b'{"scope": "s", "epoch": Infinity}'],
    ids=lambda line: line[:9],
)  # fmt: skip
def test_journal_names_the_line_that_is_no_payout_at_every_look_until_it_is_mended(
    tmp_path: Path, line: bytes
) -> None:
    path, own = tmp_path / "payouts.jsonl", Fence("rewards/us", 1)
    with closing(JournalSink(path)) as sink:
        sink.pay("eu/t|m", "m", 5, FENCE)
        sink.pay("eu/u|m", "m", 5, FENCE)
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + line + b"\n" + second)
    with closing(JournalSink(path)) as damaged:
        for _ in range(3):
            for look in (damaged.find, lambda key, fence: damaged.pay(key, "m", 5, fence)):
                with pytest.raises(IntegrityError, match="line 2: not a payout") as caught:
                    look("eu/t|m", own)
                assert caught.value.code == "payout_journal_damaged"
        path.write_bytes(first + second + b"{\n")  # line 2 is mended; the next is found
        with pytest.raises(IntegrityError, match="line 3: not a payout"):
            damaged.find("eu/u|m", own)
        path.write_bytes(first + second)
        assert damaged.pay("eu/u|m", "m", 5, own) == json.loads(second)["ref"]


def test_payout_that_contradicts_one_that_left_stops_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The journal has another amount for the key: that reward waits for a human, no other does."""
    sink = JournalSink(tmp_path / "payouts.jsonl")
    sink.pay("eu/t|m", "m", 1, FENCE)
    node, calculated = a_node(sink)
    node.read(calculated)
    node.commit()
    node.now_s += 60
    assert list(node.component.due(NOW, ControlState())) == []  # it is not asked for again
    assert (node.reward.status, list(node.component.payouts.stopped)) == ("calculated", ["eu/t|m"])
    assert len([r for r in caplog.records if "payout eu/t|m stops" in r.getMessage()]) == 1
    sink.close()


class Picky(Sink):
    """Fails, each time, for some payees, in its own way."""

    def __init__(self, bad: set[str], error: Exception | None = None) -> None:
        super().__init__()
        self.bad, self.error = bad, error or Unavailable("the payee's bank is closed")
        self.tried: list[str] = []

    def pay(self, payout_key: str, miner_id: str, amount_micro: int, fence: Fence) -> str:
        self.tried.append(payout_key)
        if payout_key in self.bad:
            raise self.error
        return super().pay(payout_key, miner_id, amount_micro, fence)


def owed(node: Node, keys: list[str]) -> list[Fact]:
    """Rewards of these tasks, calculated; the facts that ask for their payouts."""
    for key in keys:
        task, miner = key.split("|")
        node.command(CALCULATE.model_copy(update={"task_id": task, "miner_id": miner}), key)
    return [Fact(*fact) for fact in node.commit()]


ERRORS = [Unavailable("no\nanswer"), ValueError("a bug"), IntegrityError("its books differ")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_payee_whose_payout_always_fails_holds_up_nobody(error: Exception) -> None:
    keys = [f"eu/t{n}|m" for n in range(80)]
    sink = Picky({k for n, k in enumerate(keys) if n % 20 == 0}, error)
    node = Node(sink)
    facts = owed(node, keys)
    for fact in facts:
        node.read(fact)
    node.commit()
    assert len(sink.paid) == 76
    assert len(node.component.payouts) == 4
    for _ in range(10):
        node.now_s += LONGEST_S + 1
        node.pay_what_waits()
    more = owed(node, [f"eu/u{n}|m" for n in range(20)])
    for fact in more:
        node.read(fact)
    node.commit()
    assert len(sink.paid) == 96, "many failures of the same few are not the sink's"
    oldest = node.component.load().waits_for
    assert oldest.startswith("eu/t0|m waits for 6010 s, tried 11 times: ")
    assert oldest.isprintable()


def test_payout_that_fails_is_tried_after_twice_as_long_each_time() -> None:
    sink = Picky({"eu/t|m"})
    node, calculated = a_node(sink)
    node.read(calculated)
    began, waits = node.now_s, list[float]()
    while len(waits) < 9:
        node.now_s += 1
        before = len(sink.tried)
        node.pay_what_waits()
        if len(sink.tried) > before:
            waits.append(node.now_s - began)
            began = node.now_s
    assert waits == [5, 10, 20, 40, 80, 160, 320, 600, 600]


@pytest.mark.parametrize("payees", [1, FIRST_FAILS - 1])
def test_many_rewards_of_few_payees_that_fail_in_a_row_are_not_the_sinks_fault(
    payees: int,
) -> None:
    bad = [f"eu/t{n}|m{n % payees}" for n in range(50)]
    good = [f"eu/u{n}|honest" for n in range(5)]
    sink = Picky(set(bad))
    node = Node(sink)
    for fact in owed(node, [*bad, *good]):
        node.read(fact)
    node.commit()
    assert sorted(sink.paid) == sorted(good), "nobody waits for them"


@pytest.mark.parametrize(("takes_s", "turns"), [(0.0, 4), (0.06, 151)])
def test_many_payouts_of_one_payee_that_fail_take_few_turns_of_a_successor(
    takes_s: float, turns: int
) -> None:
    """It has them all due at one time, the others' behind them."""

    class Late(Picky):
        def pay(self, payout_key: str, miner_id: str, amount_micro: int, fence: Fence) -> str:
            node.now_s += takes_s
            return super().pay(payout_key, miner_id, amount_micro, fence)

    bad = [f"eu/t{n}|m" for n in range(300)]
    sink = Late(set(bad))
    node = Node(sink)
    owed(node, [*bad, "eu/u|honest"])
    node.now_s += PAY_AGAIN_S
    count = 0
    while not sink.paid and count < 1000:
        began, count = node.now_s, count + 1
        node.pay_what_waits()
        assert node.now_s - began < 0.2, "the lease is to be renewed"
    assert (list(sink.paid), count) == (["eu/u|honest"], turns)


def test_sink_that_fails_itself_is_left_alone_for_all() -> None:
    keys = [f"eu/t{n}|m{n}" for n in range(50)]
    sink = Picky(set(keys))
    node = Node(sink)
    for fact in owed(node, keys):
        node.read(fact)
    assert len(sink.tried) == FIRST_FAILS
    for _ in range(300):  # a minute
        node.now_s += 0.2
        node.pay_what_waits()
    assert len(sink.tried) <= FIRST_FAILS + 12
    sink.bad = set()
    for _ in range(700):
        node.now_s += 1
        node.pay_what_waits()
    node.commit()
    assert sorted(sink.paid) == sorted(keys)
    assert (len(node.component.payouts), node.component.load().waits_for) == (0, "")


def test_sink_that_takes_long_to_fail_does_not_take_the_turns_of_its_primary() -> None:
    class Slow(Picky):
        def pay(self, payout_key: str, miner_id: str, amount_micro: int, fence: Fence) -> str:
            node.now_s += 10
            return super().pay(payout_key, miner_id, amount_micro, fence)

    keys = [f"eu/t{n}|m" for n in range(20)]
    sink = Slow(set(keys))
    node = Node(sink)
    for fact in owed(node, keys):
        node.read(fact)
    assert len(sink.tried) == 1


def test_attempt_is_noted_before_it_is_made() -> None:
    """Whatever becomes of it, also when the process is asked in the middle."""
    noted: list[str] = []

    class Asking(Sink):
        def pay(self, payout_key: str, miner_id: str, amount_micro: int, fence: Fence) -> str:
            noted.append(node.component.load().waits_for)
            raise KeyboardInterrupt

    node, calculated = a_node(Asking())
    with pytest.raises(KeyboardInterrupt):
        node.read(calculated)
    assert noted == ["eu/t|m waits for 0 s, tried 1 times: asked, no answer yet"]
    node.read(calculated)  # its wait has begun: not asked again at once
    assert len(noted) == 1


def test_reference_that_no_record_can_hold_is_no_payout() -> None:
    class Long(Sink):
        def pay(self, payout_key: str, miner_id: str, amount_micro: int, fence: Fence) -> str:
            return "r" * 5000

    node, calculated = a_node(Long())
    node.read(calculated)
    assert node.commit() == []
    assert "ValidationError" in node.component.load().waits_for


def test_journal_is_on_disk_before_it_says_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "payouts.jsonl", list[str]()
    monkeypatch.setattr("os.fsync", lambda _: synced.append(path.read_text()))
    with closing(JournalSink(path)) as sink:
        ref = sink.pay("eu/t|m", "m", 5, FENCE)
    assert [json.loads(line)["ref"] for line in synced] == [ref]


def of_case(name: str, what: str, task: str = "eu/t", solver: str = "m") -> Fact:
    """A fact of the case `name`, about the reward of `solver` for `task`."""
    about: dict[str, Any] = {"rule": "colluding-votes", "suspects": ("p",), "evidence": EVIDENCE}
    data: Event
    if what == "suspected":
        data = FraudSuspected(**about, task_id=task, solver_id=solver, severity_ppm=1)
    elif what == "confirmed":
        more: dict[str, Any] = {"decided_by": "x", "penalty_micro": 1}
        data = FraudConfirmed(**about, task_id=task, solver_id=solver, **more)
    else:
        data = FraudCleared(**about, decided_by="x", reason="r")
    version = 1 if what == "suspected" else 2
    fact = cause(data, name)
    update = {"version": version, "event_id": f"{name}-{what}"}
    return fact._replace(envelope=fact.envelope.model_copy(update=update))


def read_all(node: Node, *facts: Fact) -> None:
    """Read and commit each, and what follows from it, until nothing does."""
    todo = list(facts)
    while todo:
        node.read(todo.pop(0))
        todo += [Fact(*made) for made in node.commit()]


def orders(*stories: tuple[Fact, ...]) -> list[tuple[Fact, ...]]:
    """All orders of facts of several keys; those of one key keep theirs."""
    if not any(stories):
        return [()]
    found = []
    for n, story in enumerate(stories):
        if story:
            left = (*stories[:n], story[1:], *stories[n + 1 :])
            found += [(story[0], *rest) for rest in orders(*left)]
    return found


ORDERS = orders(
    (DECIDED,),
    (of_case("one", "suspected"), of_case("one", "cleared")),
    (of_case("two", "suspected"), of_case("two", "cleared")),
)


@pytest.mark.parametrize("order", ORDERS)
def test_reward_leaves_while_no_case_is_open_and_not_before(order: tuple[Fact, ...]) -> None:
    sink = Sink()
    node = Node(sink)
    suspected_now: set[str] = set()
    for fact in order:
        key = fact.envelope.aggregate_id
        if isinstance(fact.data, FraudSuspected):
            suspected_now.add(key)
        if isinstance(fact.data, FraudCleared):
            suspected_now.discard(key)
        before = sink.asked
        read_all(node, fact)
        assert sink.asked == before or not suspected_now
    assert (node.reward.status, sink.asked, node.reward.cases) == ("paid", 1, ())


@pytest.mark.parametrize(
    "order",
    orders(
        (DECIDED,),
        (of_case("one", "suspected"), of_case("one", "confirmed")),
        (of_case("two", "suspected"), of_case("two", "cleared")),
    ),
)
def test_reward_of_a_case_that_is_confirmed_is_never_paid_or_is_owed(
    order: tuple[Fact, ...],
) -> None:
    sink = Sink()
    node = Node(sink)
    read_all(node, *order)
    assert node.reward.status == ("reclaimed" if sink.paid else "reversed")
    assert node.reward.debt_micro == (1000 if sink.paid else 0)


def test_case_that_is_only_looked_at_yet_holds_the_reward() -> None:
    sink = Sink()
    node = Node(sink)
    node.command(CALCULATE)
    ((envelope, data),) = node.commit()
    node.component.observe(of_case("one", "suspected"))
    node.read(Fact(envelope, data))
    node.commit()
    assert (sink.asked, node.reward.status) == (0, "calculated")
    read_all(node, of_case("one", "suspected"), of_case("one", "cleared"))
    assert (sink.asked, node.reward.status) == (1, "paid")


def test_case_that_is_opened_anew_holds_though_its_first_clearing_is_read_late() -> None:
    node = Node(Sink())
    node.command(CALCULATE)
    node.commit()
    read_all(node, of_case("one", "suspected"))
    again = of_case("one", "suspected")
    again = again._replace(envelope=again.envelope.model_copy(update={"version": 3}))
    node.component.observe(again)
    read_all(node, of_case("one", "cleared"))
    assert node.reward.status == "withheld"


def test_later_rewards_repay_what_was_paid_for_a_confirmed_fraud() -> None:
    sink = Sink()
    node, calculated = a_node(sink)
    read_all(node, calculated, of_case("one", "suspected"), of_case("one", "confirmed"))
    assert (node.reward.status, node.reward.debt_micro) == ("reclaimed", 1000)
    for task, base in (("u", 600), ("w", 900)):
        more = {"task_id": f"eu/{task}", "validation_id": f"v-{task}", "base_micro": base}
        node.command(CALCULATE.model_copy(update=more), f"eu/{task}|m")
        read_all(node, *(Fact(*made) for made in node.commit()))
    states = {
        key: node.component.folds.get("rewards", key) for key in ("eu/t|m", "eu/u|m", "eu/w|m")
    }
    got = {k: (s.status, s.reduced_micro) for k, s in states.items() if isinstance(s, RewardState)}
    assert got == {"eu/t|m": ("repaid", 0), "eu/u|m": ("paid", 600), "eu/w|m": ("paid", 400)}
    assert list(sink.paid) == ["eu/t|m", "eu/w|m"], "nothing leaves of what repaid a debt"
    booked: Counter[str] = Counter()
    for state in states.values():
        assert isinstance(state, RewardState)
        booked.update({entry.account: entry.amount_micro for entry in state.entries})
    assert booked == {"treasury": -1500, "paid:m": 1500, "payable:m": 0, "debt:m": 0}


def test_reward_that_left_unbooked_is_booked_whole_and_repays_nothing() -> None:
    """The sink was asked for an amount; it is not asked for another under the same key."""
    sink = Sink()
    node, calculated = a_node(sink)
    more = {"task_id": "eu/u", "validation_id": "v-u"}
    node.command(CALCULATE.model_copy(update=more), "eu/u|m")
    made = [Fact(*each) for each in node.commit()]
    for fact in made:
        node.read(fact)
    node.begin()  # it left; the node crashed before the commit
    read_all(node, calculated, of_case("one", "suspected"), of_case("one", "confirmed"), *made)
    node.now_s += PAY_AGAIN_S
    node.pay_what_waits()
    node.commit()
    state = node.component.folds.get("rewards", "eu/u|m")
    assert isinstance(state, RewardState)
    assert (state.status, state.reduced_micro, node.reward.status) == ("paid", 0, "reclaimed")
