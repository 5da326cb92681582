"""The core of a primary: several scopes served at once, and answers that wait. No Kafka."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import pytest

from everlode.avro.unread import Addressee
from everlode.control.fold import ControlState
from everlode.errors import Refusal
from everlode.events import commands as c
from everlode.events.barriers import Barrier, EpochOpened
from everlode.events.base import Command, CommandAnswered, CommandHeader, ScopeEpoch
from everlode.events.miners import MinerRegistered
from everlode.events.stamp import HybridClock
from everlode.events.tasks import TaskAssigned
from everlode.events.types import LONGEST_REMARK
from everlode.log.facts import LoggedFact
from everlode.miners.component import MinerComponent
from everlode.primary.core import Core
from everlode.primary.inputs import (
    CommandRead,
    FactRead,
    Input,
    NothingRead,
    RefusedRead,
    Tick,
    Turn,
)
from everlode.primary.pending import HOME, Answer, Pending
from everlode.primary.ready import Ready
from everlode.state.view import Where
from everlode.telemetry.entries import SteppedDown, Undecided
from everlode.topics import Topology
from everlode.validations.component import ValidationComponent
from tests.support.facts.state_commands import fact_of, register

NOW = datetime(2026, 1, 1, tzinfo=UTC)
US, EU = "miner-registry/us", "miner-registry/eu"
BOTH = {"us": 5, "eu": 8}
DEPOSIT = c.DepositStake(amount_micro=5)
ASSIGNED = TaskAssigned(
    attempt=1, miner_id="m-eu", manager_node="n", lease_until=NOW,
    base_reward_micro=10,
)  # fmt: skip


class Log:
    """As much of a fact log as a core needs."""

    def __init__(self) -> None:
        self.origin, self.topic, self.partitions, self.seqs = "us.1", "us.1.miners", 2, [0, 0]
        self.clock = HybridClock()

    def partition_of(self, key: str) -> int:
        return len(key) % 2


class Desk:
    """The primary of miners in us, which has taken the miners of eu over."""

    def __init__(self, led: Mapping[str, int] = BOTH) -> None:
        self.component, self.log = MinerComponent("us", Topology()), Log()
        self.core = Core(self.component, self.log, "us", "us-mr-1")
        self.count = 0
        for home in ("us", "eu"):
            data = MinerRegistered(**register().__dict__)
            scope = f"miner-registry/{home}"
            fact = fact_of(data, f"m-{home}", scope=scope, origin="us.1", event_id=f"e-{home}")
            self.component.folds.fold(LoggedFact(fact, 0, 0))
        self.opening = self.core.open(led, self.tick())
        self.commit(self.opening)

    def tick(self) -> Tick:
        self.count += 1
        return Tick(NOW, 1_000_000, float(self.count))

    def begin(self, led: Mapping[str, int], *inputs: Input) -> Iterable[Ready]:
        return self.core.turn(Turn(led, inputs, self.tick(), ControlState()))

    def commit(self, ready: Ready) -> None:
        for partition, envelope, _ in ready.facts:
            self.log.seqs[partition] = envelope.seq
        self.core.committed(list(range(len(ready.facts))))

    def turn(self, led: Mapping[str, int], *inputs: Input) -> list[Ready]:
        found = []
        for ready in self.begin(led, *inputs):
            self.commit(ready)
            found.append(ready)
        return found

    def answers(self) -> list[tuple[str, str, str]]:
        return [(a.aggregate_id, a.outcome, a.code) for a in self.core.held(HOME, NOW)]


def asked(key: str, command: Command = DEPOSIT, offset: int = 0, name: str = "") -> CommandRead:
    header = CommandHeader(
        command_id=name or f"c{offset}", aggregate_id=key, issued_by="x", reply_to="r",
        issued_at=NOW, correlation_id="s",
    )  # fmt: skip
    return CommandRead(Where("us.commands.miners", 0, offset), header, command)


def assigned(offset: int) -> FactRead:
    fact = fact_of(ASSIGNED, "t", event_id=f"assigned{offset}", scope="task-manager/us")
    return FactRead(Where("us.1.tasks", 0, offset), fact)


def scopes(ready: Ready) -> dict[str, tuple[str, int]]:
    facts = [e for _, e, data in ready.facts if not isinstance(data, Barrier)]
    return {e.aggregate_id: (e.scope, e.epoch) for e in facts}


def test_core_epochs_of_all_its_scopes_are_opened_in_every_partition() -> None:
    opened = Desk().opening.facts
    wanted = (ScopeEpoch(scope=US, epoch=5), ScopeEpoch(scope=EU, epoch=8))
    assert [(p, e.seq, e.scope, e.epoch) for p, e, _ in opened] == [(0, 1, US, 5), (1, 1, US, 5)]
    assert [data for _, _, data in opened] == [EpochOpened(node_id="us-mr-1", scopes=wanted)] * 2


def test_core_two_scopes_each_fact_has_the_scope_and_epoch_of_its_aggregates_home() -> None:
    desk = Desk()
    (ready,) = desk.turn(
        BOTH, asked("m-us", offset=0), asked("m-eu", offset=1), asked("us/new", register(), 2),
        asked("eu/new", register(), 3), asked("ap/new", register(), 4),
    )  # fmt: skip
    done = {"m-us": (US, 5), "m-eu": (EU, 8), "us/new": (US, 5), "eu/new": (EU, 8)}
    assert scopes(ready) == done
    answers = [(key, "done", "") for key in done]
    assert desk.answers() == [*answers, ("ap/new", "refused", "not_at_home")]


@pytest.mark.parametrize(("task", "locks"), [("t", 1), ("alice/t", 1), ("us/t", 1), ("ap/t", 0)])
def test_core_fact_about_what_is_at_home_elsewhere_causes_nothing(task: str, locks: int) -> None:
    """Names of older logs may have a `/`: they count, unless a region is called so."""
    desk = Desk()
    deposit = c.DepositStake(amount_micro=10**9)
    desk.turn(BOTH, asked("m-us", deposit, offset=0))
    data = ASSIGNED.model_copy(update={"miner_id": "m-us"})
    fact = fact_of(data, task, scope="task-manager/us", origin="us.1")
    (ready,) = desk.turn(BOTH, FactRead(Where("us.1.tasks", 0, 7), fact))
    assert len(scopes(ready)) == locks
    assert ready.read[("us.1.tasks", 0)] == 8 if locks else True


def test_core_fenced_scope_is_refused_and_the_other_goes_on() -> None:
    desk = Desk()
    (ready,) = desk.turn({"us": 5}, asked("m-us", offset=0), asked("m-eu", offset=1))
    assert scopes(ready) == {"m-us": (US, 5)}
    assert ready.report == [SteppedDown(EU, 8)]
    assert desk.answers() == [("m-us", "done", ""), ("m-eu", "refused", "not_served")]
    (later,) = desk.turn(BOTH, asked("m-eu", offset=2))  # led again is not opened again
    assert (scopes(later), later.report, desk.core.served) == ({}, [], {"us": 5})
    desk.commit(desk.core.open({"us": 5, "eu": 9}, desk.tick()))
    (back,) = desk.turn({"us": 5, "eu": 9}, asked("m-eu", offset=3))
    assert scopes(back) == {"m-eu": (EU, 9)}


def test_core_without_its_own_scope_goes_on_with_the_others_and_marks_in_their_name() -> None:
    desk = Desk()
    (ready,) = desk.turn({"eu": 8}, asked("m-eu", offset=0), asked("us/new", register(), 1))
    assert {(e.scope, e.epoch) for _, e, _ in ready.facts} == {(EU, 8)}
    assert desk.answers() == [("m-eu", "done", ""), ("us/new", "refused", "not_served")]


def test_core_reaction_owed_for_a_fenced_scope_is_read_again_when_it_is_back() -> None:
    desk = Desk()
    desk.turn(BOTH, asked("m-eu", c.DepositStake(amount_micro=10**9), 0))
    commands = ("us.commands.miners", 0)
    (ready,) = desk.turn({"us": 5}, assigned(7), assigned(8), asked("m-us", offset=1))
    assert (scopes(ready), dict(ready.read)) == ({"m-us": (US, 5)}, {commands: 2})
    desk.commit(desk.core.open({"us": 5, "eu": 9}, desk.tick()))
    (back,) = desk.turn({"us": 5, "eu": 9}, assigned(7))
    assert scopes(back) == {"m-eu": (EU, 9)}


def test_core_reaction_for_a_home_that_was_never_opened_is_another_primarys() -> None:
    desk = Desk({"us": 5})
    (ready,) = desk.turn({"us": 5}, assigned(7))
    assert (scopes(ready), ready.read["us.1.tasks", 0]) == ({}, 8)


def test_core_that_stepped_down_serves_nothing_and_says_each_scope() -> None:
    desk = Desk()
    assert desk.core.step_down() == [SteppedDown(US, 5), SteppedDown(EU, 8)]
    assert (desk.core.served, desk.core.step_down()) == ({}, [])


def test_core_epochs_that_are_not_committed_are_not_served() -> None:
    desk = Desk()
    desk.core.step_down()
    desk.core.open(BOTH, desk.tick())
    assert desk.core.served == {}


def test_core_answers_only_what_is_committed_and_a_lost_turn_leaves_nothing() -> None:
    desk = Desk()
    (lost,) = desk.begin(BOTH, asked("m-us"))
    assert desk.answers() == []
    desk.core.step_down()
    desk.commit(desk.core.open(BOTH, desk.tick()))
    (ready,) = desk.turn(BOTH, asked("m-eu", offset=1), asked("m-us"))
    first, again = ({e.aggregate_id: e for _, e, _ in r.facts} for r in (lost, ready))
    assert first["m-us"].event_id == again["m-us"].event_id
    assert [e.seq for p, e, _ in ready.facts if p == 0] == [3, 4, 5]
    assert dict(ready.read) == {("us.commands.miners", 0): 1}
    assert desk.answers() == [("m-eu", "done", ""), ("m-us", "done", "")]
    assert desk.answers() == []


def test_core_fact_that_needs_what_is_before_it_committed_divides_the_turn() -> None:
    desk = Desk()
    desk.component.needs_committed = (TaskAssigned,)  # type: ignore[misc]
    first, second = desk.turn(
        BOTH, asked("m-eu", c.DepositStake(amount_micro=10**9), 0), assigned(7)
    )
    assert [scopes(r) for r in (first, second)] == [{"m-eu": (EU, 8)}] * 2
    assert (dict(first.read), dict(second.read)) == (
        {("us.commands.miners", 0): 1},
        {("us.1.tasks", 0): 8},
    )


def test_core_positions_of_a_turn_without_facts_are_committed_with_the_next_ones() -> None:
    desk = Desk()
    desk.turn(BOTH, asked("m-us"))
    desk.count -= 1  # the same second: no barrier
    (empty,) = desk.turn(BOTH, NothingRead(Where("us.1.tasks", 1, 4)))
    assert (empty.facts, dict(empty.read)) == ([], {("us.1.tasks", 1): 5})
    (ready,) = desk.turn(BOTH, asked("m-us", offset=3))
    assert dict(ready.read) == {("us.1.tasks", 1): 5, ("us.commands.miners", 0): 4}


@pytest.mark.parametrize(("level", "given"), [(1, ["a"]), (2, ["a", "b"]), (3, ["a", "b"])])
def test_answers_wait_until_as_many_regions_hold_them_as_they_ask_for(
    level: int, given: list[str]
) -> None:
    pending = Pending(MinerComponent("us", Topology()).folds, "us.1.miners", "us", "n")
    wanted = [Addressee(key, key, "r", "X") for key in ("a", "b")]
    unread = wanted[0]._replace(reply_to="")
    pending.committed(
        [
            Answer(wanted[0], "done"),
            Answer(wanted[1], "done", None, 2),
            Answer(unread, "done"),
        ]
    )
    found: list[CommandAnswered] = pending.held(level, NOW)
    assert [(a.command_id, a.level) for a in found] == [(name, level) for name in given]
    later = [a.command_id for a in pending.held(2, NOW)]
    assert given + later == ["a", "b"]


def test_component_looks_at_each_home_by_itself() -> None:
    component = ValidationComponent("us", Topology())
    for home in ("us", "eu"):
        data = MinerRegistered(**register().__dict__)
        component.observe(fact_of(data, f"m-{home}", scope=f"miner-registry/{home}"))
    reviewers = {home: list(component.view_of(home).reviewers()) for home in ("us", "eu")}
    assert reviewers == {"us": ["m-us"], "eu": ["m-eu"]}


def test_command_that_cannot_be_read_is_answered_in_its_turn_and_its_position_passed() -> None:
    desk = Desk()
    where = Where("us.commands.miners", 0, 1)
    unread = RefusedRead(where, Addressee("", "x", "r", ""), Refusal("what it is", code="broken"))
    (ready,) = desk.turn(BOTH, asked("m-us", offset=0), unread, asked("m-eu", offset=2))
    assert ready.read["us.commands.miners", 0] == 3
    assert desk.answers() == [
        ("m-us", "done", ""),
        ("x", "refused", "broken"),
        ("m-eu", "done", ""),
    ]


def test_field_that_strangers_may_not_send_is_refused_by_name_and_stops_nobody() -> None:
    desk = Desk()
    hostile = c.UpdateMiner(endpoint="10.0.0.7\0:1", specialties=("a",), max_concurrent=1)
    desk.turn(BOTH, asked("m-us", hostile, 0), asked("m-us", DEPOSIT, 1))
    refused, done = desk.core.held(HOME, NOW)
    assert (refused.outcome, refused.code) == ("refused", "bad_field")
    assert refused.message == "endpoint has the control character U+0000 at 8"
    assert done.outcome == "done"


def test_header_is_asked_like_the_command() -> None:
    desk = Desk()
    read = asked("m-us")
    header = read.header.model_copy(update={"command_id": "a\nb"})
    desk.turn(BOTH, read._replace(header=header))
    [answer] = desk.core.held(HOME, NOW)
    assert (answer.code, answer.facts) == ("bad_field", ())


def test_answer_that_cannot_be_made_is_set_aside_alone_and_reported() -> None:
    desk = Desk()
    where = Where("us.commands.miners", 0, 1)
    nobody = Addressee("c\ud800", "x", "r", "Untrue")  # no Unicode: nothing reads it in, any more
    unread = RefusedRead(where, nobody, Refusal("what it is", code="broken"))
    desk.turn(BOTH, asked("m-us", offset=0), unread, asked("m-eu", offset=2))
    assert desk.answers() == [("m-us", "done", ""), ("m-eu", "done", "")]
    (ready,) = desk.turn(BOTH)
    [entry] = [e for e in ready.report if isinstance(e, Undecided)]
    assert entry.reason.startswith("the answer to Untrue c?: ValidationError")
    (later,) = desk.turn(BOTH)
    assert (later.report, desk.answers()) == ([], [])


def test_answer_holds_only_so_much_of_what_was_refused() -> None:
    desk = Desk()
    long = "x" * 4096
    data = c.UpdateMiner(endpoint="10.0.0.7:1", specialties=(long,), max_concurrent=1)
    desk.turn(BOTH, asked("m-us", data, 0), asked("m-us", DEPOSIT, 1))
    refused, done = desk.core.held(HOME, NOW)
    assert (refused.outcome, done.outcome) == ("refused", "done")
    assert max(len(refused.message), len(refused.hint)) <= LONGEST_REMARK
