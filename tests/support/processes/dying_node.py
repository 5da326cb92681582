"""A node with a planted fault, for tests of failover.

`python -m tests.support.processes.dying_node node run ...`.
DYING_NODE_AT names the stage at which it kills itself, with SIGKILL, around the transaction
of the first StakeDeposited that it writes: staged, written, committed or answered. `stubborn`
does not die: it believes in its first epoch, whatever the control log says, until it is fenced.
`elected` dies as soon as it may lead a scope, before it has written anything there. `slow` waits
then, for SIGUSR1, and says meanwhile that it stands still.
`lossy` loses half of its beats, at random; `hangs` has a judge that never comes back from what is
named so; `blocked` has a payment system that never answers;
`poison` is killed by each command to an aggregate that is named so. Nor does `sink` die: its
payment system refuses the first payment of a key, takes the second without an answer, and then
answers each time; that of `unpaying` takes none. `often` writes a snapshot twice a second;
so does `unpaying`, and `mark`, which after SIGUSR1 dies within the next one: its entries and first
mark stand in an open transaction by then, and its other marks are never written.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from typing import Any

import confluent_kafka

from everlode.adapters import kafka_sender, kafka_writer
from everlode.cli.main import main
from everlode.errors import FencedOut, Unavailable
from everlode.events.heartbeats import NodeBeat
from everlode.events.snapshots import MARK
from everlode.log.facts import FactLog
from everlode.membership.agent import NodeAgent
from everlode.primary import standstill
from everlode.primary.component import Component
from everlode.primary.standstill import Turns
from everlode.processes import node
from everlode.rewards.sink import Fence, JournalSink
from everlode.sdk.reference import Solution, Verdict, reference_judge
from everlode.telemetry.entries import Note
from everlode.telemetry.sink import to_stream
from tests.support.processes.often import write_snapshots_often

STAGE = os.environ["DYING_NODE_AT"]
EVENT = b"everlode.StakeDeposited"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DyingProducer(confluent_kafka.Producer):
    """Marks a transaction that holds the event, and dies in it."""

    marked = False
    answering = False
    asked = False
    """By SIGUSR1, to die within a snapshot."""

    def produce(self, topic: str, *args: Any, **kwargs: Any) -> Any:
        if ("ce_type", EVENT) in kwargs.get("headers", ()) and ".commands." not in topic:
            if STAGE == "staged":
                die()
            self.marked = True
        self._within_a_snapshot(topic, kwargs)
        done = super().produce(topic, *args, **kwargs)
        if DyingProducer.answering and topic.endswith(".replies"):
            self.flush(5)
            die()
        return done

    def _within_a_snapshot(self, topic: str, record: dict[str, Any]) -> None:
        """Before the second mark: what goes with the first one is there."""
        if self.asked and topic.startswith("snapshot.") and record["key"] == MARK + b"1":
            self.flush(5)
            die()

    def commit_transaction(self, *args: Any, **kwargs: Any) -> Any:
        if self.marked and STAGE == "written":
            self.flush(5)
            die()
        done = super().commit_transaction(*args, **kwargs)
        if self.marked and STAGE == "committed":
            die()
        if self.marked and STAGE == "answered":
            DyingProducer.answering = True
        self.marked = False
        return done


def be_stubborn() -> None:
    """Plant the bug: neither control log nor lease is heeded, until the broker refuses a write."""
    honest_leads, honest_append = NodeAgent.leads, FactLog.append
    held: dict[str, int] = {}
    fenced: list[FencedOut] = []

    def leads(self: NodeAgent, scope: str) -> int | None:
        if fenced:
            return None
        epoch = honest_leads(self, scope)
        return held.setdefault(scope, epoch) if epoch else held.get(scope)

    def append(self: FactLog, *args: Any, **kwargs: Any) -> Any:
        try:
            return honest_append(self, *args, **kwargs)
        except FencedOut as error:
            fenced.append(error)
            raise

    NodeAgent.leads = leads  # type: ignore[method-assign]
    FactLog.append = append  # type: ignore[method-assign]
    FactLog.watch = lambda *_: None  # type: ignore[method-assign]


def be_killed_when_elected() -> None:
    """Die at the first look that finds that this node leads."""
    leads = NodeAgent.leads

    def elected(self: NodeAgent, scope: str) -> int | None:
        if leads(self, scope) is not None:
            die()
        return None

    NodeAgent.leads = elected  # type: ignore[method-assign]


def be_slow() -> None:
    """Open no log to lead before SIGUSR1, and say so."""
    go, waits = threading.Event(), threading.Event()
    open_, stands = FactLog.open, Turns.stands

    def slow(self: FactLog, *args: Any, **kwargs: Any) -> None:
        waits.set()
        go.wait()
        waits.clear()
        open_(self, *args, **kwargs)

    signal.signal(signal.SIGUSR1, lambda *_: go.set())
    FactLog.open = slow  # type: ignore[method-assign]
    Turns.stands = lambda self: "SIGUSR1" if waits.is_set() else stands(self)  # type: ignore[method-assign]


def be_badly_served() -> None:
    """Plant the payment system's faults."""
    pay, asked, report = JournalSink.pay, Counter[str](), to_stream("sink")

    def unsure(
        self: JournalSink, payout_key: str, miner_id: str, amount_micro: int, fence: Fence
    ) -> str:
        asked[payout_key] += 1
        report(Note("payment", f"asked to pay {payout_key}, time {asked[payout_key]}"))
        if asked[payout_key] == 1:
            raise Unavailable("the payment system is down")
        ref = pay(self, payout_key, miner_id, amount_micro, fence)
        if asked[payout_key] == 2:
            raise Unavailable("the payment system does not answer")
        return ref

    JournalSink.pay = unsure  # type: ignore[method-assign]


def be_unpaying() -> None:
    """The payment system takes nothing."""

    def away(*_: object) -> str:
        raise Unavailable("the payment system is down")

    JournalSink.pay = away  # type: ignore[method-assign, assignment]


def be_stopped_before_paying() -> None:
    """Stand still after the last look at the lease, right before the first payment."""
    pay = JournalSink.pay
    report = to_stream("sink")

    def stopped(
        self: JournalSink, payout_key: str, miner_id: str, amount_micro: int, fence: Fence
    ) -> str:
        report(Note("payment", f"about to pay {payout_key}"))
        os.kill(os.getpid(), signal.SIGSTOP)
        report(Note("payment", f"goes on to pay {payout_key}"))
        return pay(self, payout_key, miner_id, amount_micro, fence)

    JournalSink.pay = stopped  # type: ignore[method-assign]


def be_blocked() -> None:
    """A payment never returns: neither an answer nor an error. Its node says so soon."""
    setattr(standstill, "STILL_S", 3.0)  # noqa: B010 - for less to wait for
    report = to_stream("sink")

    def blocked(
        self: JournalSink, payout_key: str, miner_id: str, amount_micro: int, fence: Fence
    ) -> str:
        report(Note("payment", f"waits for ever to pay {payout_key}"))
        threading.Event().wait()
        return ""

    JournalSink.pay = blocked  # type: ignore[method-assign]


def be_poisoned() -> None:
    """A library crashes the process on what is named so."""
    before = Component.before

    def crashes(self: Component, aggregate_id: str, *args: Any) -> Any:
        if "poison" in aggregate_id:
            die()
        return before(self, aggregate_id, *args)

    Component.before = crashes  # type: ignore[assignment, method-assign]


def be_hung() -> None:
    """A judge waits for ever on what is named so."""
    report = to_stream("judge")

    def hangs(solution: Solution) -> Verdict:
        if "hangs" in solution.task_id:
            report(Note("judge", f"waits for ever on {solution.task_id}"))
            threading.Event().wait()
        return reference_judge(solution)

    setattr(node, "reference_judge", hangs)  # noqa: B010 - a planted fault


def be_lossy() -> None:
    """Half of the beats are lost on their way; all else arrives."""
    made, signal_ = random.Random(7), NodeAgent.signal

    def lossy(self: NodeAgent, data: Any, *args: Any, **kwargs: Any) -> None:
        if not isinstance(data, NodeBeat) or made.random() < 0.5:
            signal_(self, data, *args, **kwargs)

    NodeAgent.signal = lossy  # type: ignore[method-assign]


if __name__ == "__main__":
    for module in (kafka_sender, kafka_writer):
        setattr(module, "Producer", DyingProducer)  # noqa: B010 - a planted fault
    if STAGE == "stubborn":
        be_stubborn()
    if STAGE == "elected":
        be_killed_when_elected()
    if STAGE == "slow":
        be_slow()
    if STAGE == "unpaid":
        be_stopped_before_paying()
    if STAGE == "sink":
        be_badly_served()
    if STAGE == "unpaying":
        be_unpaying()
    if STAGE in ("often", "mark", "unpaying"):
        write_snapshots_often()
    if STAGE == "mark":
        signal.signal(signal.SIGUSR1, lambda *_: setattr(DyingProducer, "asked", True))
    if STAGE == "blocked":
        be_blocked()
    if STAGE == "poison":
        be_poisoned()
    if STAGE == "hangs":
        be_hung()
    if STAGE == "lossy":
        be_lossy()
    main()
