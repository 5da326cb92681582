"""An input that ends one process after another: it is marked, blamed, kept off, and named."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from everlode.adapters.clock import WallClock
from everlode.control.blame import MOST, blamed, kept_off
from everlode.events.control import InputBlamed
from everlode.membership.hand import DECIDING, JUDGING, Hands, Mark, Nothing, left
from everlode.sdk.reference import Solution, Verdict
from everlode.validations.limited import LimitedJudge
from everlode.validations.validator import Validator
from tests.support.world.region import until
from tests.unit.test_control_grounds import Log
from tests.unit.test_primary_core import BOTH, Desk, asked
from tests.unit.test_validator import Client, waiting

POISON = "us.commands.miners c7"
DIES = """
import os, signal, sys
from pathlib import Path
from everlode.membership.hand import Mark
mark = Mark(Path(sys.argv[1]), "n-" + sys.argv[2], sys.argv[2])
for slot, what in enumerate(sys.argv[3:]):
    mark.take(slot, what)
if not sys.argv[3:]:
    mark.take(0, "x")
    mark.drop(0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def dies(folder: Path, incarnation: str, *in_hand: str) -> None:
    """A process that is killed with these in hand."""
    done = subprocess.run(
        [sys.executable, "-c", DIES, str(folder), incarnation, *in_hand], check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL


def data(input_: str, process: str) -> InputBlamed:
    return InputBlamed(node_id="n", incarnation=process, input=input_)


def test_what_a_killed_process_had_in_hand_is_found_and_a_living_ones_is_not(
    tmp_path: Path,
) -> None:
    lives = Mark(tmp_path, "lives", "1")
    lives.take(DECIDING, POISON)
    dies(tmp_path, "2", POISON, "validation eu/v")
    dies(tmp_path, "3")
    (tmp_path / "torn").write_bytes(b"{")
    found = {(m.node_id, m.incarnation, m.inputs) for m in left(tmp_path)}
    assert found == {("n-2", "2", (POISON, "validation eu/v")), ("n-3", "3", ())}
    lives.close()
    assert not (tmp_path / "1").exists()
    assert list(left(tmp_path / "none")) == []


def test_mark_holds_the_last_thing_cut_to_its_place_and_each_slot_its_own(tmp_path: Path) -> None:
    mark = Mark(tmp_path, "n", "1")
    mark.take(DECIDING, "x" * 5_000)
    mark.take(JUDGING, "a long one")
    mark.take(JUDGING, "b")
    fcntl.flock(mark._file, fcntl.LOCK_UN)  # as if its process had ended
    (found,) = left(tmp_path)
    assert [len(found.inputs[0]), found.inputs[1]] == [766, "b"]
    mark.close()


def test_input_is_kept_off_once_two_processes_have_ended_with_it() -> None:
    known: Mapping[str, tuple[str, ...]] = {}
    for process in ("1", "1", "2"):
        assert kept_off(known, POISON) == ()
        after = blamed(known, data(POISON, process))
        known = known if isinstance(after, str) else after
    assert kept_off(known, POISON) == ("n (1)", "n (2)")
    assert blamed(known, data(POISON, "2")) == "n (2) was blamed on it before"
    for number in range(MOST):
        after = blamed(known, data(f"other-{number}", "3"))
        assert not isinstance(after, str)
        known = after
    assert len(known) == MOST
    assert POISON not in known


def test_what_is_found_is_published_once_and_folded(tmp_path: Path) -> None:
    log = Log()
    identity = SimpleNamespace(node_id="me", region="eu")
    agent = SimpleNamespace(
        identity=identity, incarnation=SimpleNamespace(id="own"), log=log,
        control_at=lambda at: log.state if log.state.position >= at else pytest.fail("not there"),
    )  # fmt: skip
    hands = Hands(tmp_path, cast("Any", agent))
    for process in ("1", "2"):
        dies(tmp_path, process, POISON)
        hands.blame()
        hands.blame()
        agent.control = log.state
        assert bool(hands.kept_off(POISON)) == (process == "2")
    assert len(log.records) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"own"}
    # what the own process, which lives, does not come back from
    hands.stands("validation eu/v")
    hands.blame()
    hands.blame()
    assert log.state.blamed["validation eu/v"] == ("me (own)",)
    assert len(log.records) == 3
    hands.close()
    assert list(tmp_path.iterdir()) == []


class Poisoned(Nothing):
    """What is in hand, in order; keeps off the poison."""

    def __init__(self, poison: str) -> None:
        self.poison, self.taken = poison, list[str]()

    def take(self, slot: int, what: str) -> None:
        self.taken.append(what)

    def kept_off(self, what: str) -> tuple[str, ...]:
        return ("a (1)", "b (2)") if what == self.poison else ()


def test_primary_sets_the_poison_aside_with_its_provenance_and_decides_the_rest() -> None:
    desk, hand = Desk(), Poisoned(POISON)
    desk.core._hand = hand
    (ready,) = desk.turn(BOTH, *(asked("m-us", offset=n) for n in (6, 7, 8)))
    assert [str(where.offset) for where, _ in ready.letters] == ["7"]
    error = ready.letters[0][1]
    assert error.code == "set_aside"
    assert "a (1), b (2)" in error.message
    assert sorted((outcome, code) for _, outcome, code in desk.answers()) == [
        ("done", ""), ("done", ""), ("refused", "set_aside"),
    ]  # fmt: skip
    assert [what.rpartition(" ")[2] for what in hand.taken] == ["c6", "c7", "c8"]


def test_validator_judges_no_case_that_has_ended_two_and_all_others() -> None:
    pending, client, judged = waiting(), Client(), list[str]()
    poison, *others = pending

    def judge(solution: Solution) -> Verdict:
        judged.append(next(k for k, s in pending.items() if s.task_id == solution.task_id))
        return Verdict(True, 1_000_000)

    hand = Poisoned(f"validation {poison}")
    worker = Validator(
        "v", "automatic", cast("Any", SimpleNamespace(pending=pending)), cast("Any", client),
        WallClock(), LimitedJudge(judge, 60), hand=hand,
    )  # fmt: skip
    worker.start()
    until(lambda: set(others) <= set(client.votes), 20, "the others are voted on")
    worker.stop()
    assert poison not in judged
    assert set(judged) == set(others)
    assert {what for what in hand.taken if what.startswith("validation ")} == {
        f"validation {key}" for key in others
    }
