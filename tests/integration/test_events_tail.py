"""`everlode events tail`: each event once, resumed exactly, by positions that `/events` has too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from everlode.adapters.clock import WallClock
from everlode.cli.main import run
from everlode.events.base import Event
from everlode.events.health import NodeLost
from everlode.events.recovery import (
    HealingSucceeded,
    OperationStarted,
    OperationStep,
    TaskManagerRecoveryEnded,
)
from everlode.log.signals import SignalWriter
from tests.support.world.region import Region
from tests.support.world.serving import Server

pytestmark = pytest.mark.timeout(180)
SCOPE = "task-manager/eu"


def started() -> Event:
    return OperationStarted(
        kind="task-manager-failover", region="eu", subject="eu-tm-1", scope_name=SCOPE,
        scope_epoch=2, evidence=(),
    )  # fmt: skip


def step(number: int) -> Event:
    return OperationStep(
        kind="task-manager-failover", number=number, step="migrate", subject="", outcome="done",
        detail="a b\x85c", duration_ms=1,
    )  # fmt: skip


def ended() -> Event:
    return TaskManagerRecoveryEnded(
        failed_node="eu-tm-1", recovery_action="secondary-promoted", migrated_tasks=1,
        actual_recovery_ms=5, detect_ms=1, success=True,
    )  # fmt: skip


def healed(number: int) -> Event:
    return HealingSucceeded(process="eu/kafka", process_kind="kafka", attempts=number, lost_ms=5)


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    with Region(tmp_path_factory.mktemp("tail")) as made:
        writer = SignalWriter(made.bootstrap, "eu.1", WallClock())
        for key, event in (
            ("f-1", started()), ("f-1", step(1)), *((f"h-{n}", healed(n)) for n in range(1, 40)),
            ("f-1", step(2)), ("f-1", ended()),
        ):  # fmt: skip
            writer.signal(event, topic="recovery", key=key, partition=0)
        assert writer.flush(20) == 0
        yield made


def tail(
    region: Region, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[list[dict[str, Any]], list[str]]:
    """The events, and the positions of all lines."""
    arguments = ["events", "tail", "--json", "--dir", str(region.folder / "stack"), *words]
    assert run(arguments) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [line["event"] for line in lines[:-1]], [line["position"] for line in lines]


def ids(events: Sequence[dict[str, Any]]) -> list[str]:
    return [event["offset"] for event in events]


def test_last_20_are_shown_and_what_comes_after_them_from_their_position_on(
    region: Region, capsys: pytest.CaptureFixture[str]
) -> None:
    events, positions = tail(region, capsys)
    assert len(events) == 20
    assert events[-1]["type"] == "everlode.TaskManagerRecoveryEnded"
    whole, all_positions = tail(region, capsys, "--position", "beginning")
    assert [e["data"].get("attempts") for e in whole[2:41]] == [str(n) for n in range(1, 40)]
    assert len(set(ids(whole))) == len(whole) == 43
    # from each position on exactly the rest comes, whatever was shown before it
    for number in (0, 1, 17, 41, 42):
        rest, _ = tail(region, capsys, "--position", all_positions[number])
        assert ids(rest) == ids(whole)[number + 1 :]
    none, _ = tail(region, capsys, "--position", positions[-1])
    assert none == []
    assert tail(region, capsys, "--position", "end")[0] == []


def test_filters_choose_and_an_operation_is_known_from_before_the_position(
    region: Region, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, positions = tail(region, capsys, "--position", "beginning")
    of_scope, _ = tail(region, capsys, "--scope", SCOPE)
    assert [e["type"] for e in of_scope] == [
        "everlode.OperationStarted", "everlode.OperationStep", "everlode.OperationStep",
        "everlode.TaskManagerRecoveryEnded",
    ]  # fmt: skip
    later, _ = tail(region, capsys, "--scope", SCOPE, "--position", positions[20])
    assert ids(later) == ids(of_scope)[2:]
    assert ids(tail(region, capsys, "--operation", "f-1")[0]) == ids(of_scope)
    typed, _ = tail(
        region, capsys, "--type", "OperationStep", "--type", "OperationStarted", "--region", "eu"
    )
    assert ids(typed) == ids(of_scope)[:3]
    assert tail(region, capsys, "--region", "us")[0] == []
    assert len(whole) > len(of_scope)


def test_position_goes_on_at_the_server_and_the_servers_here(
    region: Region, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    whole, positions = tail(region, capsys, "--position", "beginning")
    with Server(region.folder / "stack", tmp_path / "serve.log", "--insecure") as server:
        deadline = time.monotonic() + 30
        while server.ask("/operations", role=None).status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        listener = server.listen("", positions[30])
        seen = listener.until("TaskManagerRecoveryEnded")
        listener.close()
        assert ids([event.data for event in seen]) == ids(whole)[31:]
        assert [event.data for event in seen] == whole[31:]  # in each field
        rest, _ = tail(region, capsys, "--position", seen[3].id)
    assert ids(rest) == ids(whole)[35:]


@pytest.mark.parametrize(
    ("position", "code"),
    [
        ("nonsense", "bad_position"), ("machinery~x~00000000~1.2", "other_position"),
        ("tasks~x~00000000~1", "other_position"), ("", "bad_position"),
    ],
)  # fmt: skip
def test_position_that_is_none_of_its_own_is_refused(
    region: Region, capsys: pytest.CaptureFixture[str], position: str, code: str
) -> None:
    words = ["events", "tail", "--dir", str(region.folder / "stack"), "--position", position]
    assert run([*words, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code


def test_position_beyond_the_log_is_refused(
    region: Region, capsys: pytest.CaptureFixture[str]
) -> None:
    _, positions = tail(region, capsys, "--position", "end")
    head, _, offsets = positions[-1].rpartition("~")
    word = f"{head}~{'.'.join(str(int(o) + 9) for o in offsets.split('.'))}"
    words = ["events", "tail", "--dir", str(region.folder / "stack"), "--position", word, "--json"]
    assert run(words) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "other_position"


@pytest.mark.parametrize("words", [["--type", "Nonsense"], ["--of", "nonsense"]])
def test_unknown_type_and_stream_are_not_found(region: Region, words: list[str]) -> None:
    assert run(["events", "tail", "--dir", str(region.folder / "stack"), *words]) == 10


def test_followed_events_come_and_ctrl_c_leaves_the_position(region: Region) -> None:
    words = ["events", "tail", "--follow", "--json", "--position", "end"]
    child = subprocess.Popen(
        [sys.executable, "-m", "everlode.cli.main", *words, "--dir", str(region.folder / "stack")],
        stdout=subprocess.PIPE, env=dict(os.environ), text=True,
    )  # fmt: skip
    assert child.stdout is not None
    writer = SignalWriter(region.bootstrap, "eu.1", WallClock())
    lost = NodeLost(
        component="task-manager", rule="phi", silence_ms=3000, phi=1.0, actionable=True, evidence=()
    )
    deadline = time.monotonic() + 40
    lines: list[dict[str, Any]] = []
    try:
        while not lines:  # it shows what comes once it has begun
            assert time.monotonic() < deadline
            writer.signal(lost, topic="health", key="eu-tm-1", partition=0)
            assert writer.flush(10) == 0
            os.set_blocking(child.stdout.fileno(), False)
            time.sleep(0.2)
            lines += [json.loads(line) for line in child.stdout.readlines()]
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130
        lines += [json.loads(line) for line in child.stdout.readlines()]
    finally:
        child.kill()
        child.wait(10)
        child.stdout.close()
    events = [line["event"] for line in lines if "event" in line]
    assert {event["type"] for event in events} == {"everlode.NodeLost"}
    assert {event["scope"] for event in events} == {SCOPE}
    assert lines[-2] == {"position": [line for line in lines if "event" in line][-1]["position"]}
    assert lines[-1]["error"]["code"] == "interrupted"


def test_text_is_one_line_an_event_with_nothing_that_moves_a_terminal(
    region: Region, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["events", "tail", "--operation", "f-1", "--dir", str(region.folder / "stack")]
    assert run(words) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert len(lines) == 4
    assert "OperationStep" in lines[1]
    assert r'detail="a b\u0085c"' in lines[1]
    assert "position machinery~" in shown.err


def test_schema_of_an_event_is_that_of_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["events", "schema", "NodeLost", "--json"]) == 0
    shown = capsys.readouterr().out
    assert run(["schema", "show", "NodeLost", "--json"]) == 0
    assert shown == capsys.readouterr().out
    assert run(["events", "schema", "SubmitTask"]) == 10
