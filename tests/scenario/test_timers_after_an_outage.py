"""Nobody's time ends by the clock on the wall: what was stored before the end counts.

A task primary, a command log with the times at which its records were stored, and outages. Real
decisions, folds and timers; the log is a list.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import pytest

from everlode.adapters.clock import millis
from everlode.control.fold import ControlState
from everlode.errors import Unavailable
from everlode.events import commands as c
from everlode.events.base import Command, CommandHeader
from everlode.events.miners import MinerRegistered, StakeDeposited
from everlode.events.states import TaskState
from everlode.primary.core import Core
from everlode.primary.horizon import Horizon, Places
from everlode.primary.inputs import CommandRead, Tick, Turn
from everlode.primary.pending import HOME
from everlode.state.view import Where
from everlode.tasks.component import TaskComponent
from everlode.topics import Topology
from tests.support.facts.state_commands import NOW as NOON
from tests.support.facts.state_commands import fact_of, register, sha256_of, solution, submit
from tests.unit.test_primary_core import Log

MINUTE = timedelta(minutes=1)
LEASE = timedelta(hours=1)
COMMANDS = "eu.commands.tasks"
SOLVED, EXPIRED = "TaskSolved", "TaskLeaseExpired"


class Region:
    """The command log of eu, whoever leads its tasks, and a hand on the clock."""

    def __init__(self) -> None:
        self.now = NOON
        self.commands: list[tuple[CommandHeader, Command]] = []
        self.away = False
        """Whether the broker does not say where the log ends."""
        self.asked = 0
        self.component = TaskComponent("eu", Topology(), "eu-tm-1", LEASE, 10**6)
        for version, data in enumerate(
            (
                MinerRegistered(**register(max_concurrent=10**6).__dict__),
                StakeDeposited(amount_micro=10**12),
            ),
            1,
        ):
            fact = fact_of(data, "m", version, version=version, scope="miner-registry/eu")
            self.component.observe(fact)
        self.log = Log()
        self.log.origin, self.log.topic = "eu.1", "eu.1.tasks"
        self.core = Core(self.component, self.log, "eu", "eu-tm-1")
        self.horizon = Horizon(self.ends)
        self.read, self.mono = 0, 0.0
        self.happened: Counter[str] = Counter()
        self.promote()

    # -- the members ---------------------------------------------------------------------------

    def say(self, task: str, command: Command) -> None:
        """A command is stored now."""
        header = CommandHeader(
            command_id=f"c{len(self.commands)}", aggregate_id=task, issued_by="x", reply_to="r",
            issued_at=self.now, correlation_id="s",
        )  # fmt: skip
        self.commands.append((header, command))

    def hand_in(self, *tasks: str) -> None:
        for task in tasks:
            self.say(task, solution("m", 1, f"s-{task}", sha256_of(task)))

    # -- the primary ---------------------------------------------------------------------------

    def ends(self, positions: Places) -> Places:
        if self.away:
            raise Unavailable("no broker")
        self.asked += 1
        end = len(self.commands)
        return {at: end for at, position in positions.items() if position < end}

    def promote(self) -> None:
        """A primary begins where the last one has committed."""
        self.core.step_down()
        self.horizon.start({(COMMANDS, 0): self.read})
        opening = self.core.open({"eu": 1}, self.tick())
        self.commit(opening.facts)

    def tick(self) -> Tick:
        self.mono += 1
        return Tick(self.now, millis(self.now), self.mono)

    def commit(self, facts: list) -> None:  # type: ignore[type-arg]
        for partition, envelope, data in facts:
            self.log.seqs[partition] = envelope.seq
            self.happened[type(data).__name__] += 1
        self.core.committed(list(range(len(facts))))

    def turn(self, most: int = 500) -> list[str]:
        """One turn, with `most` commands of those that wait; codes of what it refuses."""
        batch = self.commands[self.read : self.read + most]
        inputs = [
            CommandRead(Where(COMMANDS, 0, self.read + n), *one) for n, one in enumerate(batch)
        ]
        self.read += len(batch)
        end = self.component.next_end()
        horizon = self.horizon.until(end, self.now, lambda: {(COMMANDS, 0): self.read or -1001})
        turn = Turn({"eu": 1}, inputs, self.tick(), ControlState(), horizon)
        for ready in self.core.turn(turn):
            self.commit(ready.facts)
        answers = self.core.held(HOME, self.now)
        return [a.code for a in answers if a.outcome == "refused"]

    def state(self, task: str) -> TaskState:
        found = self.component.folds.get("tasks", task)
        assert isinstance(found, TaskState)
        return found


def at_work(count: int, deadline: datetime = NOON + 100 * LEASE) -> Region:
    """`count` tasks, all with their miner since noon."""
    region = Region()
    for number in range(count):
        region.say(f"eu/t{number}", submit(deadline_at=deadline))
    for _ in range(2 + count // 200):
        assert region.turn() == []
    assert region.happened["TaskAssigned"] == count
    return region


def test_outage_of_61_minutes_refuses_nothing_that_was_handed_in_before_the_leases_end() -> None:
    region = at_work(2000)
    # 12:30  all but ten hand in; nobody leads
    region.now = NOON + 30 * MINUTE
    region.hand_in(*[f"eu/t{n}" for n in range(1990)])
    # 13:01  all leases are over by the wall; a primary comes, and its first fetch is empty
    region.now = NOON + 61 * MINUTE
    region.promote()
    assert region.turn(most=0) == []
    # it reads on, 500 at a time
    for _ in range(4):
        assert region.happened[EXPIRED] == 0
        assert region.turn() == []
    # all that was handed in counts, and only the ten are over
    assert (region.happened[SOLVED], region.happened[EXPIRED]) == (1990, 10)
    assert {region.state(f"eu/t{n}").status for n in range(1990)} == {"solved"}
    assert region.state("eu/t1999").reason == "lease_expired"


def test_backlog_that_never_ends_holds_no_lease_for_ever() -> None:
    region = at_work(1)
    region.now = NOON + 61 * MINUTE
    for _ in range(20):  # more is stored than is read, by whoever would like to keep the lease
        region.say("nothing", c.CancelTask(reason="flood"))
        region.say("nothing", c.CancelTask(reason="flood"))
        region.now += MINUTE
        region.turn(most=1)
    assert region.happened[EXPIRED] == 1


def test_what_is_stored_after_the_end_was_read_comes_too_late() -> None:
    region = at_work(2)
    region.now = NOON + 61 * MINUTE
    assert region.turn() == []  # everything is read: the leases are over
    region.hand_in("eu/t0")
    assert (region.turn(), region.happened[SOLVED]) == (["not_assigned"], 0)


def test_report_that_waited_prolongs_the_lease_that_was_over_by_the_wall() -> None:
    region = at_work(1)
    region.now = NOON + 50 * MINUTE
    said = c.ReportProgress(
        miner_id="m", attempt=1, progress_ppm=1, checkpoint_uri=None,
        lease_until=region.now + LEASE,
    )  # fmt: skip
    region.say("eu/t0", said)
    region.now = NOON + 61 * MINUTE
    region.promote()
    for _ in range(3):
        assert region.turn() == []
    assert region.state("eu/t0").lease_until == NOON + 50 * MINUTE + LEASE
    region.now = NOON + 111 * MINUTE
    region.turn()
    assert region.happened[EXPIRED] == 1


def test_cancel_stored_before_the_deadline_is_the_clients_not_the_clocks() -> None:
    region = Region()
    region.say("eu/t", submit(deadline_at=NOON + LEASE, gpus=999))
    region.turn()
    region.now = NOON + 59 * MINUTE
    region.say("eu/t", c.CancelTask(reason="no more"))
    region.now = NOON + 2 * LEASE
    region.promote()
    region.turn(most=0)
    region.turn()
    assert (region.state("eu/t").status, region.state("eu/t").reason) == ("cancelled", "no more")


def test_nothing_ends_while_the_broker_does_not_say_where_the_log_ends() -> None:
    region = at_work(1)
    region.now = NOON + 61 * MINUTE
    region.away = True
    for _ in range(3):
        region.turn()
    assert region.happened[EXPIRED] == 0
    region.away = False
    region.turn()
    assert region.happened[EXPIRED] == 1


@pytest.mark.parametrize("crash", ["before the commit", "after it"])
def test_successor_ends_a_lease_once_with_the_same_fact(crash: str) -> None:
    region = at_work(1)
    region.now = NOON + 61 * MINUTE
    if crash == "after it":
        region.turn()
    region.now += 9 * MINUTE
    region.promote()
    region.turn()
    assert region.happened[EXPIRED] == 1
    assert region.component.folds.get("tasks", "eu/t0").ended_at is None  # type: ignore[union-attr]


def test_nobody_asks_where_the_log_ends_while_nobodys_time_is_over() -> None:
    region = at_work(3)
    for _ in range(50):
        region.now += MINUTE
        region.turn()
    assert region.asked == 0
