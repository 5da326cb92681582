"""Members of a running stack follow what is written down: started, replaced, ended, not healed."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from everlode.stack.native.keeper import Keeper
from everlode.stack.native.members import Members
from everlode.stack.native.process import Command, Process
from everlode.stack.native.stack import NativeStack
from everlode.stack.native.state import load_options, write_options
from everlode.stack.services import Member, as_rows
from everlode.telemetry.sink import silent
from everlode.topics import Topology
from tests.support.world.region import until

EU = Topology(regions=("eu",), control_replication=1, control_min_insync=1)
LASTS = "import time; print('up', flush=True); time.sleep(600)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {LASTS}"
ONE, TWO = (Member("eu", "task-manager", n, 100 - n) for n in (1, 2))


class Follows:
    """A stack without parts, whose members are Python processes that only last."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stack = NativeStack(EU, folder, mirrors=False, control_nodes=0, s3=None)
        self.code = LASTS
        run = self.stack.run

        def small(command: Command) -> None:
            argv = (sys.executable, "-c", self.code)
            run(replace(command, argv=argv, stop_s=1.0))

        monkeypatch.setattr(self.stack, "run", small)
        self.keeper = Keeper(self.stack, folder, lambda _name, _event: None, silent)
        self.members = Members(self.stack, self.keeper.starts, silent)

    def want(self, *members: Member) -> None:
        write_options(self.stack.data_dir, {"topology": {}, "services": as_rows(members)})

    def turn(self) -> None:
        self.members.turn()
        self.keeper.turn()

    def until(self, holds: Callable[[], bool], what: str) -> None:
        def looked() -> bool:
            self.turn()
            return holds()

        until(looked, 20, what)

    def pids(self) -> dict[str, int | None]:
        return {name: process.pid for name, process in self.stack.kept().items()}

    def process(self, name: str) -> Process:
        return self.stack.kept()[name]


@pytest.fixture
def follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Follows]:
    found = Follows(tmp_path, monkeypatch)
    yield found
    found.keeper.close()
    for process in (*found.stack.kept().values(), *found.stack.leaving().values()):
        process.kill9()


def test_member_that_is_wanted_is_started_and_one_that_is_not_ends(follows: Follows) -> None:
    follows.want(ONE, TWO)
    follows.turn()
    before = follows.pids()
    assert before.keys() == {"eu/tm-1", "eu/tm-2"}
    assert None not in before.values()
    ends = follows.process("eu/tm-2")
    follows.want(ONE)
    follows.until(lambda: not follows.stack.leaving() and len(follows.pids()) == 1, "tm-2 left")
    assert ends.exit_status == -signal.SIGTERM
    assert follows.pids() == {"eu/tm-1": before["eu/tm-1"]}
    for _ in range(20):  # healing leaves it alone
        follows.turn()
        time.sleep(0.02)
    assert follows.pids() == {"eu/tm-1": before["eu/tm-1"]}


def test_member_that_is_wanted_otherwise_is_replaced_and_others_go_on(follows: Follows) -> None:
    follows.want(ONE, TWO)
    follows.turn()
    before = follows.pids()
    after = TWO._replace(settings=(("beat_ms", 500),))
    follows.want(ONE, after)
    follows.until(lambda: follows.pids().get("eu/tm-2") not in (None, before["eu/tm-2"]), "new")
    assert follows.pids()["eu/tm-1"] == before["eu/tm-1"]
    assert follows.process("eu/tm-2").made_of == after.made_of
    assert follows.process("eu/tm-2").command.env == {"EVERLODE_BEAT_MS": "500"}


def test_member_that_does_not_end_in_its_time_is_killed(follows: Follows) -> None:
    follows.code = DEAF
    follows.want(ONE)
    follows.turn()
    deaf = follows.process("eu/tm-1")
    until(lambda: "up" in deaf.tail(), 20, "it ignores SIGTERM")
    follows.want()
    follows.until(lambda: not follows.stack.leaving(), "it is let go")
    assert deaf.exit_status == -signal.SIGKILL


def test_member_that_is_healed_just_then_ends_all_the_same(follows: Follows) -> None:
    follows.want(ONE)
    follows.turn()
    pid = follows.pids()["eu/tm-1"]
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: follows.process("eu/tm-1").exit_status is not None, 20, "it has ended")
    follows.keeper.turn()  # a start is under way
    process = follows.process("eu/tm-1")
    follows.want()
    follows.until(lambda: not follows.stack.leaving(), "it is let go")
    assert process.pid is None
    assert follows.pids() == {}


@pytest.mark.parametrize("text", ["", "{", '{"services": [{"region": "eu"}]}'])
def test_options_that_cannot_be_read_end_nobody(follows: Follows, text: str) -> None:
    follows.want(ONE)
    follows.turn()
    before = follows.pids()
    (follows.stack.data_dir / "stack.json").write_text(text)
    for _ in range(3):
        follows.turn()
    assert follows.pids() == before
    follows.want(ONE, TWO)
    assert "services" in load_options(follows.stack.data_dir)
    follows.until(lambda: len(follows.pids()) == 2, "it is followed again")
