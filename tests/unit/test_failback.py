"""A scope goes home: what counts on the control log, plan, freeze, and what is taken over."""

from __future__ import annotations

from types import MappingProxyType, SimpleNamespace
from typing import Any, cast

import pytest

from everlode.control.fences import Fence, Homecoming
from everlode.control.fold import ControlState
from everlode.control.snapshot import from_bytes, to_bytes
from everlode.control.wishes import Wish
from everlode.errors import IntegrityError, Unavailable
from everlode.events import tasks as t
from everlode.events.barriers import EpochOpened
from everlode.events.base import Event, Position, ScopeEpoch
from everlode.events.control import (
    FreezeAsked,
    NodeJoined,
    OperatorAnswered,
    OperatorAsked,
    ScopeAssigned,
    ScopeDrained,
)
from everlode.failover.eligible import Copy, WishView
from everlode.failover.foreseen import foresee
from everlode.failover.planner import Beating
from everlode.failover.policy import Succession
from everlode.failover.wishes import Answer, Await, Flip, Freeze, WishStep, plan
from everlode.log.facts import LoggedFact
from everlode.log.folds import Folds
from everlode.primary import adopted
from everlode.primary import freeze as module
from everlode.primary.adopted import Adoption
from everlode.projection.bounds import bounds
from everlode.projection.fold import PartitionFold
from everlode.projection.records import UNKNOWN, Incoming, Known
from everlode.settings.endpoints import RegionParts
from tests.support.facts.state_commands import fact_of, submit
from tests.unit.test_control_fences import SCOPE, Fenced

NOW_MS = 1_000_000
DRAINED = (Position(topic="eu.1.tasks", partition=0, seq=96),)
KEY = "us/t1"


class Back(Fenced):
    """us was taken over by eu, and is a member again; a node of it could lead its tasks."""

    def __init__(self, *, member: bool = True) -> None:
        super().__init__()
        self.taken()
        if member:
            assert self.come_back(5)
        for node, region in (("eu-tm-1", "eu"), ("us-tm-2", "us")):
            joined = NodeJoined(
                node_id=node, region=region, component="task-manager", kind="", endpoint="",
                priority=0,
            )  # fmt: skip
            self.append(joined, "", 0)

    def say(self, data: Event, by: str = "us") -> None:
        self.append(data, f"coordinator/{by}", self.state.epoch(f"coordinator/{by}"))

    def ask(self, operation: str = "one", scope: str = SCOPE, verb: str = "failback") -> None:
        asked = OperatorAsked.model_validate({
            "operation_id": operation, "verb": verb, "scope_name": scope, "node_id": "",
            "operator": "ann", "reason": "", "expires_ms": NOW_MS + 30_000,
            "based_on": self.state.position, "based_on_epoch": self.state.epoch(scope),
        })  # fmt: skip
        self.append(asked, scope, 0)

    def freeze(self) -> None:
        self.say(FreezeAsked(
            operation_id="one", scope_name=SCOPE, held_epoch=3, primary_node="eu-tm-1",
            target_node="us-tm-2", limit_ms=1,
        ))  # fmt: skip

    def drain(self, positions: tuple[Position, ...] = DRAINED) -> None:
        said = ScopeDrained(
            operation_id="one", scope_name=SCOPE, node_id="eu-tm-1", held_epoch=3,
            positions=positions,
        )  # fmt: skip
        self.append(said, SCOPE, 3)

    def flip(
        self, by: str = "us", operation: str | None = "one", reason: str = "switchover"
    ) -> bool:
        epoch = self.state.epoch(SCOPE)
        self.say(ScopeAssigned.model_validate({
            "scope_name": SCOPE, "new_epoch": epoch + 1, "primary_node": f"{by}-tm-2",
            "region": by, "reason": reason, "based_on": self.state.position,
            "based_on_epoch": epoch, "operation_id": operation,
            "coordinator_epoch": self.state.epoch(f"coordinator/{by}"),
        }), by)  # fmt: skip
        return self.state.epoch(SCOPE) == epoch + 1

    def end(self) -> None:
        self.say(OperatorAnswered(
            operation_id="one", scope_name=SCOPE, outcome="timed-out", reason="r"
        ))  # fmt: skip


def drained() -> Back:
    log = Back()
    log.ask()
    log.freeze()
    log.drain()
    return log


# -- the control log -------------------------------------------------------------------------------


def test_scope_goes_home_by_a_decision_of_its_home_once_the_owner_has_drained() -> None:
    log = Back()
    assert not log.flip(operation=None), "eu owns it"
    log.ask()
    assert not log.flip(), "nobody has drained"
    log.freeze()
    assert not log.flip(), "nobody has drained"
    log.drain()
    assert not log.flip(operation=None), "it is for no wish"
    assert not log.flip("ap"), "nobody else's"
    assert log.flip()
    led = log.state.scopes[SCOPE]
    assert (led.region, led.primary, led.epoch) == ("us", "us-tm-2", 4)
    assert log.us.home == {SCOPE: Homecoming(4, "eu.1.tasks", {"eu.1.tasks/0": 96})}
    assert not log.assign("eu", SCOPE, "eu-tm-1"), "it is us's"
    assert log.assign("us", SCOPE, "us-tm-3"), "us's own failover"
    assert log.us.home[SCOPE].epoch == 4
    assert from_bytes(to_bytes(log.state)) == log.state


@pytest.mark.parametrize("reason", ["switchover", "forced"])
def test_nothing_goes_home_undrained_whatever_its_reason(reason: str) -> None:
    log = Back()
    log.ask()
    log.freeze()
    assert not log.flip(reason=reason)
    log.drain(())
    assert not log.flip(reason=reason), "nothing is said of where"
    assert log.us.home == {}


def test_what_ends_a_failback_first_counts_for_all() -> None:
    log = drained()
    log.end()
    assert not log.flip(), "its time was over"
    log = drained()
    assert log.flip()
    log.end()
    assert log.state.scopes[SCOPE].region == "us"


def test_owners_own_failover_overtakes_a_failback() -> None:
    log = drained()
    assert log.assign("eu", SCOPE, "eu-tm-2")
    assert not log.flip()
    assert not log.flip(reason="forced"), "it has drained in another epoch"
    assert log.us.home == {}


def test_region_that_leads_its_own_again_is_not_fenced_a_second_time() -> None:
    log = drained()
    assert log.flip()
    log.suspect("eu", "us")
    log.suspect("ap", "us")
    log.fence()
    assert not log.us.out


# -- the plan --------------------------------------------------------------------------------------


def view(log: Back, copy: Copy | None = None, **changes: Any) -> WishView:
    wish = log.state.wishes.of(SCOPE) or Wish(_asked(log), 0)
    beats = {"us-tm-2": Beating(0, 0)}
    found = WishView(log.state, wish, beats, 1, NOW_MS, cast("Any", Succession()), None, copy=copy)
    return found._replace(**changes)


def _asked(log: Back, scope: str = SCOPE) -> OperatorAsked:
    return OperatorAsked(
        operation_id="x", verb="failback", scope_name=scope, node_id="", operator="ann", reason="",
        expires_ms=NOW_MS + 30_000, based_on=log.state.position,
        based_on_epoch=log.state.epoch(scope),
    )  # fmt: skip


def level(seq: int = 96, behind_ms: int = 0) -> Copy:
    return Copy({"eu.1.tasks/0": seq}, NOW_MS - behind_ms)


def test_owner_is_frozen_only_once_the_copy_at_home_is_nearly_level() -> None:
    log = Back()
    log.ask()
    assert isinstance(plan(view(log)), Await)
    assert isinstance(plan(view(log, level(behind_ms=3_001))), Await)
    assert plan(view(log, level(behind_ms=3_000))) == Freeze(SCOPE, 3, "eu-tm-1", "us-tm-2")


def test_scope_goes_home_only_once_the_copy_has_all_that_was_drained() -> None:
    log = Back()
    log.ask()
    log.freeze()
    assert isinstance(plan(view(log, level())), Await), "it has not drained"
    log.drain()
    assert isinstance(plan(view(log, level(95))), Await)
    assert isinstance(plan(view(log)), Await)
    assert plan(view(log, level(96))) == Flip(SCOPE, 4, "us-tm-2", "switchover")
    assert log.flip()
    assert isinstance(plan(view(log, None, opened=3)), Await)
    assert plan(view(log, None, opened=4)) == Answer("done", "us-tm-2 leads in epoch 4")


@pytest.mark.parametrize("at", ["asked", "frozen", "drained"])
def test_failback_whose_time_is_over_changes_nothing(at: str) -> None:
    log = Back()
    log.ask()
    if at != "asked":
        log.freeze()
    if at == "drained":
        log.drain()
    step = plan(view(log, level(95), now_ms=NOW_MS + 30_000))
    assert step == Answer("timed-out", "eu-tm-1 goes on as before")


def code(step: WishStep) -> str:
    assert isinstance(step, Answer)
    return f"{step.outcome}: {step.why}"


def test_failback_of_what_cannot_go_home_is_refused_by_name() -> None:
    away = Back(member=False)
    away.ask()
    assert "us is no member again" in code(plan(view(away, level())))
    log = Back()
    log.ask()
    assert "us-tm-2: it does not beat" in code(plan(view(log, level(), beats={})))
    lacks = Copy({}, NOW_MS, "eu.1.tasks")
    assert code(plan(view(log, lacks))) == (
        "refused: eu.1.tasks lacks its beginning: recover from a backup"
    )
    home = drained()
    assert home.flip()
    home.end()
    asked = Wish(_asked(home), 0)
    assert "task-manager/us is us's: it is at home" in code(plan(view(home, wish=asked)))
    other = Back()
    assert other.assign("eu", "rewards/eu", "eu-r-1")
    other.append(ScopeAssigned(
        scope_name="rewards/us", new_epoch=1, primary_node="eu-tm-1", region="eu",
        reason="bootstrap", based_on=0, based_on_epoch=0,
    ), "coordinator/eu", 1)  # fmt: skip
    asked = Wish(_asked(other, "rewards/us"), 0)
    said = code(plan(view(other, level(), wish=asked)))
    assert "rewards/us cannot go home" in said
    assert "so far only task-manager goes home" in said


def test_dry_run_shows_each_step_to_the_end() -> None:
    log = Back()
    steps = foresee(view(log)._replace(opened=3))
    assert [type(step).__name__ for step in steps] == [
        "Await", "Freeze", "Await", "Flip", "Await", "Answer",
    ]  # fmt: skip


# -- the freeze ------------------------------------------------------------------------------------


def test_frozen_owner_goes_on_only_once_the_wish_has_ended_on_the_control_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, now, sent = Back(), [0.0], list[Event]()
    appends = SimpleNamespace(append_async=lambda _, data, **__: sent.append(data))
    agent: Any = SimpleNamespace(identity=SimpleNamespace(node_id="eu-tm-1"), log=appends)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    node = module.Freeze(agent)

    def rests() -> bool:
        agent.control = log.state
        return node.holds({SCOPE: log.state.epoch(SCOPE)}, "eu.1.tasks", [96])

    log.ask()
    log.freeze()  # for a millisecond
    assert rests()
    now[0] = 5.0
    assert rests(), "what it has said may still be what the next one stands on"
    assert [type(data) for data in sent] == [ScopeDrained, OperatorAnswered, ScopeDrained]
    assert rests()
    assert len(sent) == 3, "once a second"
    log.append(sent[1], SCOPE, 3)
    assert not rests(), "it is read back: nobody decides any more"
    log.drain()
    assert not log.flip()


# -- folds of projections --------------------------------------------------------------------------


def item(data: Event, version: int, topic: str, seq: int, epoch: int) -> Incoming:
    fact = fact_of(data, KEY, seq + 10 * epoch, version=version)
    origin = topic.rpartition(".")[0]
    envelope = fact.envelope.model_copy(update={
        "scope": SCOPE, "epoch": epoch, "seq": seq, "origin": origin, "event_id": f"{topic}-{seq}",
    })  # fmt: skip
    return Incoming(topic, seq, fact._replace(envelope=envelope), b"")


MADE = item(t.TaskSubmitted(**submit().__dict__), 1, "us.1.tasks", 3, 1)
LOST = item(t.TaskCancelled(reason="lost"), 2, "us.1.tasks", 4, 1)
AWAY = item(t.TaskCancelled(reason="away"), 2, "eu.1.tasks", 96, 3)
HOME = item(t.TaskDeleted(reason="home"), 3, "us.1.tasks", 6, 4)


@pytest.mark.parametrize(
    "order",
    [[MADE, LOST, AWAY, HOME], [MADE, LOST, HOME, AWAY], [AWAY, MADE, LOST, HOME]],
    ids=["in order", "home before away", "away first"],
)
@pytest.mark.parametrize("known", [True, False], ids=["epochs known", "epochs late"])
def test_facts_at_home_wait_for_those_of_elsewhere_in_whatever_order_they_come(
    order: list[Incoming], known: bool
) -> None:
    log = drained()
    assert log.flip()
    fold = PartitionFold(0, {}, {}, [], ("ap", "eu", "us"))
    fold.bound(bounds(log.state.fences, 0))
    states: dict[Any, Known] = {}
    kinds: list[str] = []
    for one in (*order, None):
        batch = [one] if one is not None else []
        epochs = {SCOPE: 4 if known or one is None else 0}
        keys = PartitionFold.keys(batch) | fold.releasable(epochs)
        out = fold.fold(batch, {k: states.get(k, UNKNOWN) for k in keys}, epochs)
        states.update(out.changed)
        kinds += [problem.kind for problem in out.problems]
    assert states["tasks", KEY].version == 3
    assert not {"conflict", "version_gap", "unlawful"} & set(kinds)
    assert kinds.count("above_vector") == 1


@pytest.mark.parametrize("read", ["not yet", "as it comes"])
def test_fact_at_home_that_comes_before_the_return_is_read_waits_and_is_not_lost(read: str) -> None:
    log = Back(member=False)
    before = log.state.fences
    assert log.come_back(5)
    log.ask()
    log.freeze()
    log.drain()
    assert log.flip()
    fold = PartitionFold(0, {}, {}, [], ("ap", "eu", "us"))
    fold.bound(bounds(before, 0))
    states: dict[Any, Known] = {}
    out = fold.fold([MADE, LOST, AWAY], {("tasks", KEY): UNKNOWN}, {SCOPE: 3})
    states.update(out.changed)
    marks = EpochOpened(node_id="n", scopes=(ScopeEpoch(scope=SCOPE, epoch=4),))
    opens = item(marks, 0, "us.1.tasks", 6, 4)
    home = item(t.TaskDeleted(reason="home"), 3, "us.1.tasks", 7, 4)
    if read == "as it comes":
        fold.bound(bounds(log.state.fences, 0))
    epochs = {SCOPE: 4 if read == "as it comes" else 3}
    out = fold.fold([opens, home], dict(states), epochs)
    assert out.opened == {("us.1.tasks", SCOPE): 4}
    fold.bound(bounds(log.state.fences, 0))
    later = fold.fold([], dict(states), {SCOPE: 4})
    folded = {**states, **out.changed, **later.changed}
    assert folded["tasks", KEY].version == 3
    assert "above_vector" not in {p.kind for p in (*out.problems, *later.problems)}


# -- what a primary takes over ---------------------------------------------------------------------

BACK = Fence(
    "us", "us.1", 7, ("ap", "eu"), {SCOPE: 2}, {}, {"us.1.tasks/0": 3}, {"us.1.tasks/0": 5}, 90,
    {SCOPE: Homecoming(4, "eu.1.tasks", {"eu.1.tasks/0": 96})},
)  # fmt: skip


def adoption(region: str, fence: Fence) -> tuple[Adoption, Folds, list[Fence]]:
    fences = [fence]
    folds = Folds(("tasks",), lambda *_: None)
    component = SimpleNamespace(name="tasks", states=("tasks",), folds=folds)
    parts = RegionParts(region, f"{region}.1", "nowhere:1", 1)

    def control() -> ControlState:
        return ControlState(fences=MappingProxyType({"us": fences[0]}))

    return Adoption(cast("Any", component), parts, control), folds, fences


def logged(one: Incoming) -> LoggedFact:
    return LoggedFact(one.fact, 0, one.offset)


def copied(monkeypatch: pytest.MonkeyPatch, *copy: Incoming) -> None:
    def facts(_self: Adoption, upto: dict[Any, int]) -> Any:
        (((topic, _), seq),) = upto.items()
        have = [one for one in copy if one.topic == topic]
        if not have or have[-1].fact.envelope.seq < seq:
            raise Unavailable("too short")
        return iter([logged(one) for one in have])

    monkeypatch.setattr(adopted.Adoption, "_facts", facts)


def test_node_at_home_folds_what_counts_then_what_was_made_elsewhere_then_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copied(monkeypatch, AWAY)
    found, folds, _ = adoption("us", BACK)
    assert found.fold(logged(MADE))
    assert not found.fold(logged(LOST)), "it does not count"
    assert folds.version("tasks", KEY) == 1
    assert found.fold(logged(HOME))
    assert folds.version("tasks", KEY) == 3


def test_node_at_home_decides_nothing_before_it_has_what_was_made_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copied(monkeypatch)
    found, folds, _ = adoption("us", BACK)
    found.fold(logged(MADE))
    with pytest.raises(Unavailable):
        found.bring_home()
    with pytest.raises(Unavailable):
        found.fold(logged(HOME))
    copied(monkeypatch, AWAY)
    found.bring_home()
    assert folds.version("tasks", KEY) == 2
    assert len(folds.dirty) == 1, "it is no part of the snapshot: its own fact alone is"
    found.bring_home()
    assert found.fold(logged(HOME))


def test_what_follows_from_a_fact_at_home_is_owed_though_the_return_is_not_read_yet() -> None:
    found, _, _ = adoption("eu", BACK._replace(returned_at=-1, ended=None, home={}))
    assert not found.may_cause("us.1.tasks", 0, LOST.fact.envelope.model_copy(update={"epoch": 0}))
    assert found.may_cause("us.1.tasks", 0, HOME.fact.envelope)


def test_who_had_taken_a_scope_forgets_it_when_it_has_gone_home(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copied(monkeypatch, MADE)
    away = BACK._replace(home={})
    found, folds, fences = adoption("eu", away)
    before = found.marks()
    assert found.able({"eu": 1, "us": 3}) == {"eu": 1, "us": 3}
    assert found.fold(logged(AWAY))
    assert folds.version("tasks", KEY) == 2
    fences[0] = BACK
    assert found.marks() != before, "its primary opens its own epoch anew, without us"
    assert found.able({"eu": 1}) == {"eu": 1}
    assert folds.version("tasks", KEY) == 0
    assert not found.fold(logged(AWAY)), "who begins now folds none of it"
    assert folds.version("tasks", KEY) == 0


def test_node_that_remembers_what_may_not_count_ends_and_one_of_a_fenced_region_waits() -> None:
    out = BACK._replace(returned_at=-1, home={})
    found, _, fences = adoption("us", out)
    assert found.fenced(), "it is not settled what counts"
    fences[0] = BACK
    assert not found.fenced(), "it has not begun"
    assert found.begin(), "with its log, not with a snapshot"
    assert not found.fenced()
    fences[0] = BACK._replace(offset=70)
    with pytest.raises(IntegrityError, match="may not count"):
        found.fenced()
    elsewhere, _, _ = adoption("eu", out)
    assert not elsewhere.fenced()
    assert not elsewhere.begin()
