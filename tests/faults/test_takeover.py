"""A region is killed as a whole, on real parts: another one takes its scopes, and nothing that had
been mirrored is lost. It comes back with its disks: what it alone had is listed and counts nowhere,
and its projection becomes what the others' are. Then its scope goes home while clients write.

A stack of its own: a region that was fenced leads nothing.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from everlode.adapters.kafka_follower import ControlFollower
from everlode.adapters.postgres_read import Generation
from everlode.avro.codec import Codec
from everlode.cli.main import run
from everlode.control.fold import ControlState
from everlode.control.scopes import Scope
from everlode.events import commands as c
from everlode.events.base import CommandAnswered
from everlode.log.ends import ends_of
from everlode.sdk import MiningClient
from everlode.stack import NativeStack
from everlode.stack.native.members import commands_of
from everlode.stack.services import counted
from everlode.topics.names import fact_topic
from tests.support.world.region import until

pytestmark = pytest.mark.timeout(280)
REGIONS = ("eu", "us", "ap")
SCOPE = str(Scope("tasks", "us"))
RUNS = {"coordinator": 1, "projector": 1, "task-manager": 1}
SHA = "a" * 64
TAKEN_WITHIN_S = 60.0


class Network:
    """The stack, its control log, its copies and projections."""

    def __init__(self, stack: NativeStack) -> None:
        self.stack = stack
        self.endpoints = stack.up()
        for command in commands_of(counted(RUNS, REGIONS), stack.data_dir):
            stack.run(command)
        self.follower = ControlFollower(self.endpoints.control()).start()

    @property
    def control(self) -> ControlState:
        return self.follower.state

    def leads(self, region: str) -> bool:
        led = self.control.scopes.get(str(Scope("tasks", region)))
        return led is not None and led.renewed_at >= 0

    def end(self, region: str) -> list[int]:
        """The last `seq` of each partition of us's task facts in a region's copy."""
        parts = self.endpoints.parts(region)
        places = [(fact_topic("us.1", "tasks"), p) for p in range(parts.partitions)]
        return [end.seq for end in ends_of(parts.bootstrap, Codec(), places).values()]

    def tasks(self, region: str) -> dict[str, int]:
        """us's tasks in a region's projection, with their versions."""
        return {key: version for key, (version, *_) in self.states(region).items()}

    def states(self, region: str) -> dict[str, tuple[Any, ...]]:
        """us's tasks in a region's current generation, to the last byte of their states."""
        conninfo = self.endpoints.region(region).postgres_conninfo()
        with closing(Generation.current(conninfo)) as db:
            rows = db.query(
                "select key, version, event_id, status, doc from {g}.tasks"
                " where starts_with(key, 'us/')"
            )
        return {str(key): tuple(rest) for key, *rest in rows}

    def problems(self, region: str) -> set[tuple[str, str]]:
        with closing(Generation.current(self.endpoints.region(region).postgres_conninfo())) as db:
            rows = db.query("select kind, event_id from {g}.problems")
        return {(str(kind), str(event)) for kind, event in rows}

    def await_copy(self, region: str, seqs: list[int]) -> None:
        def reaches() -> bool:
            return all(h >= w for h, w in zip(self.end(region), seqs, strict=True))

        until(reaches, 30, f"{region} has them")

    def await_barriers(self, count: int) -> None:
        before = self.end("us")

        def passed() -> bool:
            return all(n >= b + count for n, b in zip(self.end("us"), before, strict=True))

        until(passed, 30, "us's primary has left barriers")

    def await_tasks(self, region: str, expected: dict[str, int]) -> None:
        until(lambda: self.tasks(region) == expected, 40, f"{region} has all that counts")

    def await_fenced(self, region: str, events: set[str]) -> None:
        def listed() -> bool:
            return {e for kind, e in self.problems(region) if kind == "above_vector"} == events

        until(listed, 60, f"{region} lists what was lost, and nothing else")

    def ended(self, name: str) -> bool:
        (found,) = (p for p in self.stack.processes() if p.name == name)
        return found.exit_status is not None

    def of(self, region: str) -> list[str]:
        return [p.name for p in self.stack.processes() if p.name.startswith(f"{region}/")]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVERLODE_TAKEOVER", "true")
        folder: Path = tmp_path_factory.mktemp("takeover")
        with NativeStack(data_dir=folder / "stack") as stack:
            made = Network(stack)
            with closing(made.follower):
                until(
                    lambda: all(made.leads(r) for r in REGIONS), 90, "each region's tasks are led"
                )
                yield made
            stack.down(at_once=True)


def submit(client: MiningClient, name: str) -> CommandAnswered:
    return client.submit_task(name, "inference", f"s3://{name}", SHA, 1)


def explained(network: Network, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What `scope explain` says of the takeover."""
    capsys.readouterr()
    assert run(["scope", "explain", SCOPE, "--dir", str(network.stack.data_dir), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["takeover"]
    return found


def said_by(network: Network, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """What a verb of `dlt` prints."""
    capsys.readouterr()
    assert run(["dlt", *words, "--dir", str(network.stack.data_dir), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def write_until(network: Network, stop: threading.Event, found: list[CommandAnswered]) -> None:
    """One task after another, with what a client of us is answered."""
    with MiningClient(network.endpoints, "us", "home-client", timeout_s=40) as client:
        while not stop.is_set():
            found.append(submit(client, f"home-{len(found)}"))


def failed_back(network: Network, capsys: pytest.CaptureFixture[str], *how: str) -> dict[str, Any]:
    """What `scope failback` prints."""
    capsys.readouterr()
    words = ["scope", "failback", SCOPE, "--dir", str(network.stack.data_dir), "--json", *how]
    assert run(words) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def ids(answers: list[CommandAnswered]) -> set[str]:
    return {ref.event_id for answer in answers for ref in answer.facts}


def comes_back(
    network: Network,
    names: list[str],
    lost: set[str],
    expected: dict[str, int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """us comes back: what it had beyond the vector has no effect, in its own projection neither."""
    back_at, stack = time.monotonic(), network.stack
    parts = [f"us/{part}" for part in ("kafka", "postgres", "mirror")]
    for name in (*parts, *sorted(set(names) - set(parts))):
        stack.restart(name)
    network.await_fenced("eu", lost)
    assert network.tasks("eu") == expected
    noted = {"above_vector", "fence_known", "unknown_epoch"}
    kinds = {kind for kind, _ in network.problems("eu")}
    assert kinds <= noted, "nothing is missing, and nothing twice"
    until(lambda: not network.control.fences["us"].out, 60, "us is a member again")
    with capsys.disabled():
        print(
            f"a member again {time.monotonic() - back_at:.1f} s after the start of the first part"
        )
    # its own projection had folded them: it is built anew, by itself
    until(lambda: network.control.generations.get("us") == 2, 60, "us is built anew")
    with capsys.disabled():
        print(f"built anew {time.monotonic() - back_at:.1f} s after the start of the first part")
    (projector,) = (name for name in names if "proj" in name)
    until(lambda: network.ended(projector), 30, "who wrote the generation before has ended")
    stack.restart(projector)  # as a supervisor would
    network.await_fenced("us", lost)
    network.await_tasks("us", expected)
    assert network.states("us") == network.states("eu") == network.states("ap")


def given_again(
    network: Network, lost: set[str], expected: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    """What was lost is listed everywhere, with where its commands are; given again it is done."""
    found = explained(network, capsys)
    assert (found["lost_known"], {row["event_id"] for row in found["lost"]}) == (True, lost)
    assert found["returned"]
    for region in REGIONS:
        listed = said_by(network, capsys, "fenced", "--region", region)["facts"]
        assert {row["event_id"] for row in listed} == lost
        assert {row["command_topic"] for row in listed} == {"us.commands.tasks"}
    for _ in range(2):  # again changes nothing
        given = said_by(network, capsys, "reissue", *sorted(lost), "--reason", "lost with us")
        assert {row["owner"] for row in given["commands"]} == {found["owner"]}
    whole = expected | {f"us/none-{n}": 1 for n in range(3)}
    for region in REGIONS:
        network.await_tasks(region, whole)
    assert network.states("us") == network.states("eu") == network.states("ap")
    rows = explained(network, capsys)["lost"]
    assert [bool(row["carried_out"]) for row in rows] == [True] * 3


def goes_home(
    network: Network, owner: str, expected: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    """us's tasks are led at home again; a client writes meanwhile, and hears of nothing."""
    steps = failed_back(network, capsys, "--dry-run")["steps"]
    assert [step["step"] for step in steps] == [
        "Await", "Freeze", "Await", "Flip", "Await", "Answer",
    ]  # fmt: skip
    stop, answers = threading.Event(), list[CommandAnswered]()
    with ThreadPoolExecutor(1) as hands:
        writing = hands.submit(write_until, network, stop, answers)
        try:
            until(lambda: len(answers) >= 5, 30, "the owner answers")
            asked_at = time.monotonic()
            wish = failed_back(network, capsys, "--wait")
            took_s = time.monotonic() - asked_at
            until(lambda: answers[-1].region == "us" or writing.done(), 30, "us answers")
        finally:
            stop.set()
        writing.result(60)
    led = network.control.scopes[SCOPE]
    assert (wish["outcome"], led.region, led.primary) == ("done", "us", wish["target"])
    assert {answer.outcome for answer in answers} == {"done"}
    served = [answer.region for answer in answers]
    home_at = served.index("us")
    assert set(served[:home_at]) == {owner}, "the owner, until the scope is at home"
    assert set(served[home_at:]) == {"us"}
    pause_s = (answers[home_at].answered_at - answers[home_at - 1].answered_at).total_seconds()
    with capsys.disabled():
        print(
            f"at home {took_s:.1f} s after it was asked for, {pause_s:.1f} s between two answers; "
            f"{home_at} written elsewhere, {len(answers) - home_at} at home"
        )
    expected = expected | {f"us/home-{n}": 1 for n in range(len(answers))}
    with MiningClient(network.endpoints, "us", "home-client", timeout_s=40) as client:
        for key in ("us/all-5", "us/new", "us/none-1", "us/home-0"):  # of all three times
            answer = client.call(key, c.CancelTask(reason="at home"))
            assert (answer.outcome, answer.region) == ("done", "us")
            assert [(f.topic, f.version) for f in answer.facts] == [("us.1.tasks", 2)]
            expected[key] = 2
        again = submit(client, "home-0")
        assert (again.outcome, ids([again])) == ("repeated", ids(answers[:1]))
    for region in REGIONS:
        network.await_tasks(region, expected)
    assert network.states("us") == network.states("eu") == network.states("ap")
    noted = {"above_vector", "fence_known", "unknown_epoch"}
    for region in REGIONS:
        assert {kind for kind, _ in network.problems(region)} <= noted
    found = explained(network, capsys)
    assert (found["owner"], len(found["lost"])) == ("us", 3)
    assert all(row["carried_out"] for row in found["lost"])


def test_scopes_of_a_killed_region_are_led_elsewhere_and_what_was_mirrored_is_there(
    network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = network.stack
    with MiningClient(network.endpoints, "us", "client") as client:
        everywhere = [submit(client, f"all-{n}") for n in range(20)]
        written = network.end("us")
        network.await_copy("eu", written)
        network.await_copy("ap", written)
        stack.pause("ap/mirror")
        for n in range(10):
            submit(client, f"one-{n}")
        written = network.end("us")
        network.await_copy("eu", written)
        stack.pause("eu/mirror")
        network.await_barriers(3)  # what a stopped mirror had asked for is answered by then
        nowhere = [submit(client, f"none-{n}") for n in range(3)]
    killed_at = time.monotonic()
    names = network.of("us")
    for name in names:
        stack.kill(name)
    stack.resume("eu/mirror")
    stack.resume("ap/mirror")
    until(lambda: "us" in network.control.fences, TAKEN_WITHIN_S, "us is fenced")
    fenced_s = time.monotonic() - killed_at
    until(lambda: network.control.fences["us"].accepted is not None, 30, "it is known what counts")
    accepted_s = time.monotonic() - killed_at
    until(lambda: network.control.scopes[SCOPE].region in ("eu", "ap"), 30, "its scope is taken")
    owner = network.control.scopes[SCOPE].region
    with MiningClient(network.endpoints, owner, "other-client", timeout_s=40) as client:
        answer = client.call("us/one-3", c.CancelTask(reason="no longer needed"))
        answered_s = time.monotonic() - killed_at
        assert (answer.outcome, answer.region) == ("done", owner)
        (fact,) = answer.facts
        assert (fact.topic, fact.version) == (f"{owner}.1.tasks", 2)
        with MiningClient(network.endpoints, owner, "client", timeout_s=40) as same:
            again = submit(same, "us/all-3")
        assert (again.outcome, ids([again])) == ("repeated", ids([everywhere[3]]))
        made = submit(client, "us/new")
        assert made.outcome == "done"
    said = (
        f"fenced {fenced_s:.1f} s, accepted {accepted_s:.1f} s, answered {answered_s:.1f} s after "
        f"the kill, by {owner}"
    )
    with capsys.disabled():
        print(said)
    expected = {f"us/all-{n}": 1 for n in range(20)} | {f"us/one-{n}": 1 for n in range(10)}
    expected |= {"us/one-3": 2, "us/new": 1}
    for region in ("eu", "ap"):
        network.await_tasks(region, expected)
    found = explained(network, capsys)
    assert (found["owner"], found["lost"], found["lost_known"]) == (owner, [], False)
    comes_back(network, names, ids(nowhere), expected, capsys)
    assert network.control.scopes[SCOPE].region == owner
    given_again(network, ids(nowhere), expected, capsys)
    expected |= {f"us/none-{n}": 1 for n in range(3)}
    goes_home(network, owner, expected, capsys)
