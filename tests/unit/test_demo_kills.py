"""The killed primaries: which they are, and what the logs say came of each; no real parts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast

import pytest

from everlode.control.fold import ControlState, ScopeState
from everlode.demo.kills import Kill, Seen, ended, outcome, primaries
from everlode.demo.options import Options
from everlode.demo.run import Demo
from everlode.errors import Unavailable
from everlode.events.control import ScopeAssigned
from everlode.events.services import BY_FACTS, SERVICES
from everlode.fleet.fleet import NODES, SPARE, VALIDATORS, Fleet
from everlode.fleet.levels import WATCHERS, WRITERS
from everlode.proof.epochs import Led, epochs
from everlode.proof.floors import KINDS, SIGKILL
from everlode.proof.promises import without_answers_ms
from everlode.proof.recount import LoggedEvent

RD = BY_FACTS["rewards"]
KILL = Kill(RD, "eu-rd-1", 1)
ENDED = ("RewardRecoveryEnded", {"failed_distributor": "eu-rd-1", "success": True,
                                 "actual_recovery_ms": 3_000})  # fmt: skip


def led(scope: str, node: str, epoch: int = 1) -> ScopeState:
    decision = ScopeAssigned(
        scope_name=scope, new_epoch=epoch, primary_node=node, region="eu", reason="bootstrap",
        based_on=0, based_on_epoch=epoch - 1,
    )  # fmt: skip
    return ScopeState(scope, epoch, node, "eu", 0, decision, 1)


def control(**others: str) -> ControlState:
    """Each kind of eu is led by its first node; `others`: short name of a kind -> its primary."""
    found = {}
    for n, s in enumerate(SERVICES):
        scope = f"{s.scope}/eu"
        found[scope] = led(scope, others.get(s.short, f"eu-{s.short}-1"), n + 1)
        found[f"{s.scope}/us"] = led(f"{s.scope}/us", f"us-{s.short}-1")
    return ControlState(scopes=MappingProxyType(found))


def event(kind: str, epoch: int, ms: int, node: str = "") -> LoggedEvent:
    return LoggedEvent(kind, {"epoch": epoch, "stamp": ms << 16 | 7}, {"node_id": node}, 0)


LOG = [
    event("EpochOpened", 1, 900, "eu-rd-1"), event("RewardPaid", 1, 1_500),
    event("RewardCalculated", 1, 1_000), event("Barrier", 1, 1_900),
    event("EpochOpened", 2, 4_000, "eu-rd-2"), event("Barrier", 2, 4_100),
    event("RewardPaid", 2, 4_700),
]  # fmt: skip


def answer(node: str, at_ms: int) -> dict[str, Any]:
    return {"node": node, "at_ms": at_ms}


def seen(log: list[LoggedEvent], **more: Any) -> Seen:
    given = {"stream": [ENDED], "lost": {"eu-rd-1"}, "entries": [], **more}
    return Seen(epochs={"eu.1.rewards": epochs(log)}, **given)


def test_epochs_are_who_opened_each_and_what_was_written_in_it_marks_apart() -> None:
    assert epochs(reversed(LOG)) == {
        1: Led("eu-rd-1", 2, 1_000, 1_500), 2: Led("eu-rd-2", 1, 4_700, 4_700),
    }  # fmt: skip
    assert epochs([event("Barrier", 3, 1), event("EpochOpened", 4, 1, "n")]) == {4: Led("n")}
    assert epochs([event("RewardPaid", 5, 9)]) == {5: Led("", 1, 9, 9)}


def test_primary_of_each_kind_of_the_region_alone_is_killed() -> None:
    found = primaries(control(rd="eu-rd-2"), "eu")
    assert [(k.service.node, k.node, k.epoch) for k in found] == [
        ("task-manager", "eu-tm-1", 1), ("miner-registry", "eu-mr-1", 2),
        ("validator", "eu-val-1", 3), ("reward-distributor", "eu-rd-2", 4),
    ]  # fmt: skip
    with pytest.raises(Unavailable, match="rewards/eu has no primary"):
        primaries(control(rd=""), "eu")


def test_floor_asks_for_each_kind_that_is_killed() -> None:
    assert tuple(s.node for s in SERVICES) == KINDS


def test_what_came_of_a_kill_is_what_the_logs_say() -> None:
    entries = [answer("eu-rd-2", 5_000), answer("eu-rd-1", 1_400), answer("eu-rd-1", 1_600),
               answer("eu-rd-2", 5_100), answer("eu-tm-1", 9)]  # fmt: skip
    assert outcome(KILL, "eu.1", seen(LOG, entries=entries)) == {
        "killed": "eu-rd-1", "led": True, "found_lost": True, "successor": "eu-rd-2",
        "epoch_before": 1, "epoch_after": 2, "success": True, "recovery_ms": 3_000,
        "facts_before": 2, "facts_after": 1, "without_facts_ms": 3_200,
        "without_answers_ms": 3_400,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("log", "more", "expected"),
    [
        (LOG[:4], {}, {"successor": None, "epoch_after": None, "facts_after": 0,
                       "without_facts_ms": None}),
        (LOG[:4] + LOG[6:], {}, {"successor": None, "epoch_after": None}),
        (LOG[4:], {}, {"led": False, "facts_before": 0}),
        ([*LOG[1:4], event("EpochOpened", 1, 1, "eu-rd-2"), *LOG[4:]], {}, {"led": False}),
        (LOG, {"stream": []}, {"success": None, "recovery_ms": None}),
        (LOG, {"lost": {"eu-rd-2"}}, {"found_lost": False}),
        ([], {}, {"led": False, "successor": None, "without_facts_ms": None}),
    ],
    ids=["nobody", "unopened", "wrote-nothing", "a-secondary", "no-end", "not-missed", "no-log"],
)  # fmt: skip
def test_kill_without_an_effect_shows_none(
    log: list[LoggedEvent], more: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert expected.items() <= outcome(KILL, "eu.1", seen(log, **more)).items()


def test_end_of_a_failover_is_the_last_of_that_node_and_kind() -> None:
    for service in SERVICES:
        (failed,) = [x for x in service.ended.model_fields if x.startswith("failed_")]
        of = [(service.ended.__name__, {failed: node, "success": n})
              for n, node in enumerate(("a", "b", "a", "b"))]  # fmt: skip
        end = ended(of, service, "a")
        assert end is not None
        assert end["success"] == 2
        assert ended(of, service, "c") is None
    assert ended([ENDED], BY_FACTS["tasks"], "eu-rd-1") is None


def test_time_without_answers_needs_an_answer_of_each() -> None:
    both = [answer("a", 5), answer("b", 12), answer("b", 9)]
    assert without_answers_ms(both, "a", "b") == 4
    assert without_answers_ms(both, "a", "c") is None
    assert without_answers_ms(both, "c", "b") is None


class Killed(Demo):
    """A demo in which nothing runs, and kills are noted."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Options(None, 1, 1.0, 0.02, "mid-run", False, folder))
        self.killed: list[str] = []
        self._fleet = cast(Any, SimpleNamespace(kill=self.killed.append, dead=lambda: self.killed))
        self._control = cast(Any, SimpleNamespace(state=control()))
        for region in ("eu", "us", "ap"):
            status = self._plan.status(region)
            status.parent.mkdir(parents=True, exist_ok=True)
            lasting = {"eu-tm-1": 3, "eu-mr-1": 9} if region == "eu" else {}
            status.write_text(json.dumps({"tasks": 9, "ended": 0, "lasting": lasting}))


def test_demo_kills_one_primary_of_each_kind_once(tmp_path: Path) -> None:
    demo = Killed(tmp_path)
    demo._kill()
    demo._kill()
    assert demo.killed == ["eu-tm-1", "eu-mr-1", "eu-val-1", "eu-rd-1"]
    assert [k.node for k in demo.kills] == demo.killed
    assert demo.lasting == 3
    assert demo.windows[SIGKILL][1] - demo.windows[SIGKILL][0] == 30_000
    (mark,) = demo.timeline
    assert all(f"{k.node} ({k.service.node})" in mark["text"] for k in demo.kills)
    demo._check_alive()  # they are not taken for a fault of the run
    demo.kills.pop()
    with pytest.raises(OSError, match="eu-rd-1"):  # its log is looked for
        demo._check_alive()


def test_region_has_a_successor_for_each_kind_and_each_is_stopped_before_the_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str, ...]] = []
    note: Callable[..., None] = lambda _, name, *more: started.append((name, *more))  # noqa: E731
    monkeypatch.setattr(Fleet, "cli", note)
    fleet = Fleet(tmp_path, {})
    fleet.start_region("eu")
    fleet.start_spare("eu")
    names = [name for name, *_ in started]
    assert len(set(names)) == len(names)
    assert set(names) == {f"eu-{n}" for n in (*WATCHERS, *WRITERS, "proj-1")}
    for service in SERVICES:
        assert sum(kind == service.node for _, kind, *_ in started) >= 2
    assert min(NODES.values()) >= 2
    first = VALIDATORS[0][1]
    assert SPARE[1] == first, "who judges like the first validator when that is killed"
    (spare,) = [more for name, *more in started if name == f"eu-val-{SPARE[0]}"]
    assert first in spare
