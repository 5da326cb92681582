"""What the README says a user runs and writes, as it stands there, on one stack."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from everlode.adapters.kafka_control import ControlLog
from everlode.adapters.kafka_follower import ControlFollower
from everlode.adapters.kafka_topics import delete_topics
from everlode.adapters.postgres_read import Generation
from everlode.errors import Refusal
from everlode.events.commands import SuspendMiner
from everlode.events.control import ScopeAssigned
from everlode.sdk import Endpoints, MiningClient
from everlode.stack import NativeStack
from everlode.topics import Topology, state_topics
from tests.support.processes.entries import await_entry, entries, matching
from tests.support.world.region import until

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
EVERLODE = [sys.executable, "-m", "everlode.cli.main"]
SCOPE = "validation/eu"
START_S = 120
"""Processes start within this; it is no part of the time that a client waits for an answer."""
pytestmark = pytest.mark.timeout(300)


def section(title: str) -> str:
    """A section of the README."""
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


FIRST, EXAMPLES = section("A first command, from a miner"), section("What users write")


def command(line: str) -> list[str]:
    """A line of the README as it is run here."""
    program, *arguments = shlex.split(line.removesuffix("&"))
    if program == "everlode":
        return [*EVERLODE, *arguments]
    assert program == "python"
    return [sys.executable, str(ROOT / arguments[0]), *arguments[1:]]


class Desk:
    """A folder with a stack in it, and the processes that were started there."""

    def __init__(self, folder: Path, stack: NativeStack, ending: ExitStack) -> None:
        self.folder, self.stack = folder, stack
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._started: list[subprocess.Popen[bytes]] = []
        self._ending = ending
        ending.callback(self.end)

    def start(self, line: str) -> subprocess.Popen[bytes]:
        """A line of the README in the background; ended with the stack."""
        log = self._ending.enter_context(self.log(line).open("wb"))
        self._started.append(
            subprocess.Popen(command(line), cwd=self.folder, stdout=log, stderr=log)
        )
        return self._started[-1]

    def end(self) -> None:
        """End all that was started, at the same time; each does so in good order."""
        for process in self._started:
            process.send_signal(signal.SIGTERM)
        for process in self._started:
            process.wait(30)

    def log(self, line: str) -> Path:
        """Where the output of a line goes, by its node's name, or its last two words."""
        words = shlex.split(line.removesuffix("&"))
        named = words[words.index("--node-id") + 1 :][:1] if "--node-id" in words else words[-2:]
        return self.folder / f"{'-'.join(named)}.log"

    def explained(self, task_id: str) -> str:
        """What `everlode task explain` has as the task's status, or the error's code."""
        words = [*EVERLODE, "task", "explain", task_id, "--json", "--dir", "stack"]
        done = subprocess.run(words, cwd=self.folder, capture_output=True, check=False, timeout=60)
        found = json.loads(done.stdout)
        return str(found["status"] if done.returncode == 0 else found["error"]["code"])

    def states(self, *tasks: str) -> dict[str, bytes]:
        """The states of tasks as eu's projection has them."""
        place = Endpoints.load(self.folder / "stack").region("eu")
        with closing(Generation.current(place.postgres_conninfo())) as db:
            return dict(
                db.query("select key, doc from {g}.tasks where key = any(%s)", (list(tasks),))
            )

    def run(self, arguments: list[str]) -> list[str]:
        """Run to the end, well; lines of its output."""
        done = subprocess.run(
            arguments, cwd=self.folder, capture_output=True, text=True, timeout=120, check=False
        )
        logs = {path.name: path.read_text() for path in self.folder.glob("*.log")}
        assert done.returncode == 0, (done.stdout, done.stderr, logs)
        return done.stdout.splitlines()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """The stack and the processes of the README's first command: all that a failover needs."""
    folder = tmp_path_factory.mktemp("readme")
    background = [line.strip() for line in FIRST.splitlines() if line.endswith(" &")]
    kinds = [" ".join(line.split()[1:4]) for line in background]
    assert kinds == [
        "coordinator run --region", "detector run --region", "projector run --region",
        "node run miner-registry", "node run miner-registry",
    ]  # fmt: skip
    with ExitStack() as ending:
        stack = ending.enter_context(NativeStack(data_dir=folder / "stack"))
        ending.callback(stack.down, at_once=True)
        stack.up()
        made = Desk(folder, stack, ending)
        for line in background:
            made.nodes[line.split("--node-id ")[1].split()[0]] = made.start(line)
        registries = [made.log(line) for line in background[-2:]]
        until(
            lambda: any(matching(entries(log), "Led") for log in registries), START_S, "one leads"
        )
        yield made


def test_readme_first_command_is_answered(desk: Desk) -> None:
    found = re.search(r"```python\n(.+?)```", FIRST, re.S)
    assert found is not None
    program = found[1]
    promised = re.findall(r"^# (.+)$", program, re.M)
    statements = [line for line in program.splitlines() if line.strip() and line[0] != "#"]
    assert len(statements) < 10
    assert desk.run([sys.executable, "-c", program]) == promised


def test_readme_first_commands_survive_the_loss_of_a_primary(desk: Desk) -> None:
    with MiningClient(Endpoints.load(desk.folder / "stack"), "eu", "miner-lost") as miner:
        first = miner.register_miner(["inference"], endpoint="x")
        desk.nodes[first.node_id].kill()
        second = miner.deposit_stake(1_000)
    assert {first.node_id, second.node_id} == {"eu-mr-1", "eu-mr-2"}
    assert second.outcome == "done"


def test_suspension_of_a_miner_is_lifted_from_the_command_line(desk: Desk) -> None:
    """Its own one. One for fraud: see tests/faults/test_word_of_operators.py."""
    words = shlex.split(
        'everlode miner reinstate eu/m-lifted --region eu --by ops --reason "rested"'
    )
    line = [*EVERLODE, *words[1:], "--dir", "stack", "--json"]
    with MiningClient(Endpoints.load(desk.folder / "stack"), "eu", "m-lifted") as miner:
        miner.register_miner(["inference"], endpoint="x")
        miner.call("eu/m-lifted", SuspendMiner(reason="a rest"))
        found = json.loads("".join(desk.run(line)))
        assert [fact["event_type"] for fact in found["facts"]] == ["MinerReinstated"]
        with pytest.raises(Refusal) as caught:
            miner.call("eu/m-lifted", SuspendMiner(reason="fraud:copied-solution"))
    assert caught.value.code == "reserved_reason", "nobody is suspended so but after a case"


def assign(desk: Desk, node_id: str) -> None:
    """Decide that a node leads the validations, as a coordinator does after a verdict."""
    control = Endpoints.load(desk.folder / "stack").control_bootstrap
    assert control is not None
    with closing(ControlLog(control)) as log, closing(ControlFollower(control).start()) as follower:
        state = follower.state
        decision = ScopeAssigned(
            scope_name=SCOPE, new_epoch=state.epoch(SCOPE) + 1, primary_node=node_id, region="eu",
            reason="forced", based_on=state.position, based_on_epoch=state.epoch(SCOPE),
        )  # fmt: skip
        at = log.append(SCOPE, decision, node_id="test", scope="coordinator/eu")
        state = follower.wait_for(lambda s: s.position >= at, 20)
        assert state.scopes[SCOPE].primary == node_id


def test_examples_pay_a_miner_and_go_on_after_every_end(desk: Desk) -> None:
    lines = [line.strip() for line in EXAMPLES.splitlines() if line.startswith("    ")]
    assert [line.endswith("&") for line in lines] == [True, True, True, True, False]
    programs = {p.name for p in (ROOT / "examples").glob("*.py") if p.stem[:5] != "test_"}
    assert programs == set(re.findall(r"python examples/(\S+)", EXAMPLES))
    processes = {line.split()[1]: desk.start(line) for line in lines[:-1]}
    for line in lines[:2]:
        await_entry(desk.log(line), "Led", START_S)
    begun = {desk.log(lines[2]): f"{SCOPE}: primary", desk.log(lines[3]): "is registered"}
    until(
        lambda: all(said in log.read_text() for log, said in begun.items()),
        START_S,
        f"all: {begun}",
    )
    first = desk.run(command(lines[-1]))
    assert first[0] == "task-1 done"
    assert first[1].endswith("TaskSubmitted")
    assert first[-1].endswith("TaskRewarded")
    assert len(first) == len(set(first))
    again = desk.run(command(lines[-1]))  # it has saved how far it was: the end comes again only
    assert again == ["task-1 repeated", first[-1]]
    until(lambda: desk.explained("task-1") == "rewarded", 60, "the projection has it")
    second = desk.start(lines[2].replace("eu-vd-1", "eu-vd-2"))
    log = desk.folder / "eu-eu-vd-2.log"
    until(lambda: "secondary" in log.read_text(), 40, "the second validator follows")
    for name in ("examples/validator.py", "examples/miner.py"):
        processes[name].kill()
        processes[name].wait(10)
    assign(desk, "eu-vd-2")
    desk.start(lines[3])  # the same miner
    third = desk.run(command(lines[-1].replace("task-1", "task-2")))
    assert third[-1].endswith("TaskRewarded")
    assert f"{SCOPE}: primary in epoch 2" in log.read_text()
    assert second.poll() is None


def test_task_of_that_name_in_another_region_is_another_task_and_both_are_shown(
    desk: Desk,
) -> None:
    """After the README's: its `task-1` of eu was paid, this one waits for a miner of us."""
    desk.start("everlode coordinator run --region us --node-id us-co-1 --dir stack")
    manager = "everlode node run task-manager --region us --node-id us-tm-1 --dir stack"
    desk.start(manager)
    await_entry(desk.log(manager), "Led", START_S)
    with MiningClient(Endpoints.load(desk.folder / "stack"), "us", "client-2") as other:
        answer = other.submit_task("task-1", "inference", "s3://other", "0" * 64, 1)
        assert (answer.outcome, answer.aggregate_id, answer.region) == ("done", "us/task-1", "us")
    until(lambda: desk.explained("us/task-1") == "submitted", 60, "the projection of eu has it")
    assert desk.explained("eu/task-1") == "rewarded"
    assert desk.explained("task-1") == "ambiguous"
    until(lambda: desk.explained("task-2") == "rewarded", 60, "the projection has that, too")


def test_backup_and_recovery_keep_two_tasks_of_one_name_apart(desk: Desk) -> None:
    """Of both homes: eu's database and state topics are destroyed, and come back from a backup."""
    projector = next(line.strip() for line in FIRST.splitlines() if "projector run" in line)
    both = ("eu/task-1", "us/task-1")
    before = desk.states(*both)
    assert before.keys() == set(both)
    for verb in ("backup keys create", "backup create --region eu", "backup verify --region eu"):
        desk.run([*EVERLODE, *verb.split(), "--dir", "stack"])

    desk.nodes["eu-pj-1"].send_signal(signal.SIGKILL)
    desk.stack.wipe("eu/postgres")
    place = Endpoints.load(desk.folder / "stack").region("eu")
    delete_topics(place.kafka_bootstrap, [s.name for s in state_topics(Topology(), "eu", 1)])
    desk.stack.restart("eu/postgres")
    accept = ["--accept", "services", "--reason", "not all of them run here"]
    desk.run([*EVERLODE, "recover", "run", "--region", "eu", "--dir", "stack", *accept])

    assert desk.states(*both) == before
    desk.start(projector)
    until(lambda: desk.explained("task-1") == "ambiguous", 60, "the projection is followed again")
    assert (desk.explained(both[0]), desk.explained(both[1])) == ("rewarded", "submitted")
