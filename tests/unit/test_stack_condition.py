"""What `stack status` makes of a folder: nothing that was written down stands for an answer."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from everlode.cli.main import run
from everlode.settings.endpoints import Endpoints, RegionEndpoints
from everlode.stack.condition import GONE, NEVER, look
from everlode.stack.native.lock import Recorded, StackLock, write_record
from everlode.stack.native.state import write_state
from everlode.topics import Topology

ME = os.getpid()
BORN = psutil.Process(ME).create_time()
DEAD = Recorded("eu/kafka", "kafka", 2**22 - 1, 1.0)
REUSED = Recorded("eu/kafka", "kafka", ME, BORN - 3600)
"""Our pid, of a process that began an hour before us."""


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Path]:
    """A folder whose lock is held, and nothing else."""
    lock = StackLock(tmp_path)
    lock.acquire()
    yield tmp_path
    lock.release()


def listening(folder: Path) -> None:
    """Endpoints of a stack that once was: nothing listens there."""
    secret = folder / "secret"
    secret.write_text("s")
    topology = Topology(regions=("eu",), control_replication=1, control_min_insync=1)
    place = RegionEndpoints(
        kafka_bootstrap="127.0.0.1:1", postgres_dsn="postgresql://e@127.0.0.1:1/e",
        postgres_password_file=secret, origin="eu.1",
    )  # fmt: skip
    Endpoints(topology=topology, regions={"eu": place}, control_bootstrap=None, s3=None).save(
        folder
    )


def said(folder: Path, state: str, at: float | None = None, **more: object) -> None:
    """What a supervisor wrote; `at` another time."""
    write_state(folder, state, **more)
    if at is not None:
        path = folder / "state.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "at": at}))


def test_lock_alone_is_not_ready(held: Path) -> None:
    found = look(held)
    assert (found.state, found.pid, found.as_asked) == ("degraded", ME, False)
    assert found.why == "it has no endpoints: nothing of it has served"
    assert run(["stack", "status", "--dir", str(held)]) == 20


def test_ready_that_was_written_down_is_asked_for_and_each_part_that_is_not_there_is_named(
    held: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listening(held)
    said(held, "ready", timings_s={"total": 3.0})
    write_record(held, [DEAD])
    found = look(held)
    assert found.state == "degraded"
    assert [(p.name, p.state, p.why) for p in found.parts] == [
        ("eu/kafka", "gone", GONE), ("eu/postgres", "missing", NEVER),
    ]  # fmt: skip
    assert run(["stack", "status", "--dir", str(held), "--json"]) == 20
    shown = json.loads(capsys.readouterr().out)
    assert [row["why"] for row in shown["processes"]] == [GONE, NEVER]


def test_part_that_lives_and_does_not_answer_is_silent(held: Path) -> None:
    listening(held)
    write_record(held, [Recorded("eu/postgres", "postgres", ME, BORN)])
    kafka, postgres = look(held).parts
    assert (kafka.state, postgres.state) == ("missing", "silent")
    assert "127.0.0.1" in postgres.why


def test_pid_that_another_process_has_now_is_gone(held: Path) -> None:
    listening(held)
    write_record(held, [REUSED])
    assert look(held).parts[0].state == "gone"


def test_old_failed_of_a_former_process_of_this_pid_is_not_believed(held: Path) -> None:
    error = {"message": "no room", "code": "c", "hint": ""}
    said(held, "failed", at=BORN - 3600, error=error)
    assert look(held).state == "degraded"
    said(held, "failed", error=error)
    assert (look(held).state, look(held).why) == ("failed", "no room")


@pytest.mark.parametrize("state", ["starting", "stopping"])
def test_holder_that_is_on_its_way_is_believed_and_not_ready(held: Path, state: str) -> None:
    said(held, state)
    assert (look(held).state, look(held).as_asked) == (state, False)


@pytest.mark.parametrize("state", ["starting", "ready", "stopping"])
def test_holder_that_ended_without_stopping_has_failed(tmp_path: Path, state: str) -> None:
    said(tmp_path, state, at=time.time())
    found = look(tmp_path)
    assert (found.state, found.as_asked) == ("failed", False)
    assert found.why == f"its holder, pid {ME}, ended without stopping it"


def test_start_that_failed_is_shown_with_its_reason(tmp_path: Path) -> None:
    said(tmp_path, "failed", error={"message": "no room", "code": "c", "hint": ""})
    assert (look(tmp_path).state, look(tmp_path).why) == ("failed", "no room")
    assert run(["stack", "status", "--dir", str(tmp_path)]) == 20


def test_stopped_stack_is_stopped_unless_something_of_it_runs(tmp_path: Path) -> None:
    said(tmp_path, "stopped")
    write_record(tmp_path, [DEAD, REUSED])
    assert (look(tmp_path).state, look(tmp_path).parts) == ("stopped", ())
    write_record(tmp_path, [Recorded("eu/kafka", "kafka", ME, BORN)])
    left = look(tmp_path)
    assert (left.state, left.as_asked) == ("degraded", False)
    assert [part.why for part in left.parts] == ["nobody keeps it"]
