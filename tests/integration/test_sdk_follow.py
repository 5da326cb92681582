"""A client follows its task and a miner its work, through restarts and kills; and why one waits."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from everlode.adapters.kafka import Raw, Reader
from everlode.cli.main import run
from everlode.errors import NotFound, Refusal
from everlode.events import commands as c
from everlode.events.base import Command, CommandAnswered
from everlode.sdk import AsyncMiningClient, Change, Endpoints, MiningClient
from everlode.topics.partition import partition_of
from tests.support.facts.poison import append
from tests.support.facts.state_commands import submit as submit_command
from tests.support.world.endpoints import one_region
from tests.support.world.region import PARTITIONS, Region, until

pytestmark = pytest.mark.timeout(240)
SLOW_MINER = Path(__file__).parents[1] / "support" / "processes" / "slow_miner.py"
PAYLOAD = "ab" * 32
WORK = "work.eu.1"
TASKS = 1
"""Which of the region's nodes leads the tasks at first."""


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    with Region(tmp_path_factory.mktemp("region")) as made:
        made.leader("miner-registry", "miners", "eu-mr-1")
        made.leader("task-manager", "tasks", "eu-tm-1")
        yield made


@pytest.fixture(scope="module")
def client(region: Region) -> Iterator[MiningClient]:
    with region.client("client-1") as made:
        yield made


def register(region: Region, miner_id: str, task_type: str) -> None:
    """A miner with stake that works on one type of task, one at a time."""
    with region.client(miner_id) as miner:
        miner.register_miner([task_type], endpoint="x")
        miner.deposit_stake(10_000_000)


def submit(client: MiningClient, task_id: str, task_type: str) -> CommandAnswered:
    return client.submit_task(task_id, task_type, f"s3://work/{task_id}", PAYLOAD, 64)


def kinds(changes: list[Change]) -> list[str]:
    return [change.kind for change in changes]


def until_status(client: MiningClient, task_id: str, status: str) -> Change:
    """The change after which the task is in that status."""
    with client.watch(task_id) as watch:
        return next(change for change in watch if change.status == status)


class SlowMiner:
    """The program of that name, as a process."""

    def __init__(self, region: Region, miner_id: str, go_on: Path) -> None:
        self.log = region.folder / f"{miner_id}-{time.monotonic_ns()}.log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(SLOW_MINER), str(region.folder / "stack"), miner_id,
                 str(go_on)],
                stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def wait_for(self, start: str) -> str:
        """The first line that begins so; fails when the process ends without."""

        def found() -> list[str]:
            return [line for line in self.lines() if line.startswith(start)]

        until(lambda: bool(found()) or self.process.poll() is not None, 60, f"{start}: {self.log}")
        assert found(), self.lines()
        return found()[0]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


def test_killed_miner_goes_on_with_what_it_had(
    region: Region, client: MiningClient, tmp_path: Path
) -> None:
    register(region, "killed", "training")
    go_on = tmp_path / "go-on"
    submit(client, "t-killed-1", "training")
    submit(client, "t-killed-2", "training")
    until_status(client, "t-killed-1", "assigned")  # before the miner's first start
    first = SlowMiner(region, "killed", go_on)
    begun = first.wait_for("begun")
    assert begun == "begun eu/t-killed-1 1 s3://work/t-killed-1 None 0"
    first.wait_for("half")
    first.kill()
    go_on.touch()
    second = SlowMiner(region, "killed", go_on)
    assert second.wait_for("begun") == (
        "begun eu/t-killed-1 1 s3://work/t-killed-1 s3://checkpoint/eu/t-killed-1 500000"
    )
    second.wait_for("handed-in eu/t-killed-2")
    second.kill()
    third = SlowMiner(region, "killed", go_on)  # all is handed in: there is nothing to do again
    third.wait_for("ready")
    submit(client, "t-killed-3", "training")
    third.wait_for("handed-in eu/t-killed-3")
    third.kill()
    assert [x for x in third.lines() if x.startswith("begun")] == [
        "begun eu/t-killed-3 1 s3://work/t-killed-3 None 0"
    ]
    assert until_status(client, "t-killed-1", "solved").fact.envelope.version == 4


def test_watch_gives_each_change_once_and_goes_on_from_any_token(
    region: Region, client: MiningClient
) -> None:
    register(region, "watched", "data-processing")
    answer = submit(client, "t-watched", "data-processing")
    again = submit(client, "t-watched", "data-processing")
    assert (again.outcome, again.facts) == ("repeated", answer.facts)
    seen: list[Change] = []
    with region.client("watched") as miner, miner.work() as work:
        (job,) = [work.take(60)]
        assert job is not None
        assert (job.task_id, job.task_type, job.payload_bytes) == (
            "eu/t-watched", "data-processing", 64,
        )  # fmt: skip
        job.progress(10)
        assert work.running() == ("eu/t-watched",)
        job.give_up("out-of-memory", permanent=True)
        seen += client.watch("t-watched", answer)
        until(lambda: not job.mine, 20, "the miner sees it too")
    assert kinds(seen) == ["TaskSubmitted", "TaskAssigned", "TaskProgressed", "TaskAttemptFailed"]
    assert [x.status for x in seen] == ["submitted", "assigned", "assigned", "failed"]
    assert [x.version for x in seen] == [1, 2, 3, 4]
    for n, change in enumerate(seen):
        assert list(client.watch("t-watched", change.token)) == seen[n + 1 :]
    assert list(client.watch("t-watched")) == seen[-1:], "without a place: from its last change"
    assert list(client.watch("t-watched", again)) == seen


def test_watch_goes_on_in_another_cluster_by_the_version(
    region: Region, client: MiningClient
) -> None:
    """A token of elsewhere, as after a move to another region: offsets differ, versions do not."""
    submit(client, "t-moved", "evaluation")
    client.call("eu/t-moved", c.CancelTask(reason="r"))
    submitted, cancelled = client.watch("t-moved", submit(client, "t-moved", "evaluation"))
    token = json.loads(urlsafe_b64decode(submitted.token))
    token[0], token[3] = "another-cluster", 999_999
    moved = urlsafe_b64encode(json.dumps(token).encode()).decode()
    assert list(client.watch("t-moved", moved)) == [cancelled]
    with pytest.raises(Refusal, match="about eu/t-moved, not about eu/t-other"):
        client.watch("t-other", moved)
    with pytest.raises(Refusal, match="not a token"):
        client.watch("t-moved", "nonsense")
    with pytest.raises(NotFound, match="no fact about task eu/t-never"):
        client.watch("t-never")


OTHERS = 2_500
"""Tasks of others, with two facts each, and no miner for them."""


def theirs(client: MiningClient, make: Callable[[], Command]) -> None:
    """A command for each task of the others; returns once all are answered."""
    sent = [client.send(f"eu/theirs-{n}", make()) for n in range(OTHERS)]
    assert {answered.result(120).outcome for answered in sent} == {"done"}


def too_large() -> c.SubmitTask:
    deadline = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    return submit_command(task_type="training", gpus=64, deadline_at=deadline)


def spoiled(region: Region, records: dict[bytes, bytes | None]) -> None:
    """What stands in the index of miners' work is not so, as after a loss."""
    for key, value in records.items():
        partition = partition_of(key.partition(b"|")[0].decode(), PARTITIONS)
        append(region.bootstrap, WORK, [(key, value)], partition)


def newest(region: Region) -> dict[bytes, bytes | None]:
    """The index, by key."""
    return {raw.key or b"": raw.value for raw in region.records(WORK)}


def test_miner_reads_its_own_work_alone_and_nothing_is_lost_or_repeated_over_a_failover(
    region: Region, client: MiningClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of facts about others' tasks do not come to it. Its index is made again by whoever
    leads next, where it was spoiled; where it was not, nothing comes twice."""
    read: list[Raw] = []

    class Counted(Reader):
        def batch(self, *some: Any) -> list[Raw]:
            found = super().batch(*some)
            read.extend(found)
            return found

    monkeypatch.setattr("everlode.sdk.work.Reader", Counted)
    for name, gpus in (("single", 2), ("robbed", 3)):
        with region.client(name) as made:
            made.register_miner(["training"], endpoint="x", gpus=gpus)
            made.deposit_stake(10_000_000)
        client.submit_task(f"t-{name}", "training", "s3://w", PAYLOAD, 64, gpus=gpus)
        until_status(client, f"t-{name}", "assigned")
    with region.client("robbed") as miner:
        miner.report_progress("eu/t-robbed", 1, 250_000)
    theirs(client, too_large)
    with region.client("single") as miner, miner.work() as work:
        job = work.take(60)
        assert job is not None
        job.progress(10, checkpoint_uri="s3://half")
        before = newest(region)
        spoiled(region, {b"eu/robbed|eu/t-robbed": None, b"eu/x|eu/never": b"junk"})
        assert newest(region) != before
        region.nodes[TASKS].kill()
        region.leader("task-manager", "tasks", "eu-tm-2")
        theirs(client, lambda: c.CancelTask(reason="r"))
        until(lambda: newest(region) == before | {b"eu/x|eu/never": None}, 60, "it is level")
        assert work.take(0) is None
        assert job.mine
        client.submit_task("t-next", "training", "s3://w", PAYLOAD, 64, gpus=2)
        job.hand_in("s3://x", PAYLOAD, 1, work_ms=5)
        following = work.take(60)
        assert following is not None
        assert (following.task_id, job.mine) == ("eu/t-next", False)
        following.progress(20)
    with region.client("single") as miner, miner.work() as work:
        again = work.take(60)
        assert again is not None
        assert (again.task_id, again.progress_ppm) == ("eu/t-next", 20)
        assert work.take(0) is None, "what is handed in does not come again"
        again.give_up("enough", permanent=True)
    with region.client("robbed") as miner, miner.work() as work:  # for the first time
        job = work.take(60)
        assert job is not None
        found = (job.task_id, job.progress_ppm, job.payload_uri, job.attempt)
        assert found == ("eu/t-robbed", 250_000, "s3://w", 1)
        job.give_up("enough", permanent=True)
    own = partition_of("eu/single", PARTITIONS), partition_of("eu/robbed", PARTITIONS)
    assert {(raw.topic, raw.partition) for raw in read} <= {(WORK, p) for p in own}
    mine = [raw.value for raw in region.records(WORK) if raw.key == b"eu/single|eu/t-single"]
    assert [value is None for value in mine] == [False, False, True], "given, half, handed in"
    facts = len(region.records("eu.1.tasks"))
    assert (facts > 2 * OTHERS, len(read) < 100) == (True, True), (facts, len(read))


def test_async_miner_and_client_do_the_same(region: Region) -> None:
    register(region, "async-miner", "fine-tuning")

    async def mine() -> str:
        async with (
            AsyncMiningClient(region.endpoints, "eu", "async-miner") as miner,
            miner.work() as work,
        ):
            async for job in work:
                await job.progress(10)
                await job.hand_in("s3://x", PAYLOAD, 1)
                return job.sync.task_id
        raise AssertionError("the work never ends")

    async def follow() -> list[str]:
        async with AsyncMiningClient(region.endpoints, "eu", "async-client") as client:
            answer = await client.run(
                MiningClient.submit_task, "t-async", "fine-tuning", "s3://a", PAYLOAD, 1
            )
            found = []
            async with client.watch("t-async", answer) as watch:
                async for change in watch:
                    found.append(change.status)
                    if change.status == "solved":
                        break
            return found

    async def story() -> tuple[str, list[str]]:
        return await asyncio.gather(mine(), follow())

    done, seen = asyncio.run(story())
    assert done == "eu/t-async"
    assert seen == ["submitted", "assigned", "assigned", "solved"]


def told(region: Region, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """What a verb prints as JSON, with its exit code."""
    code = run([*words, "--json", "--dir", str(region.folder / "stack")])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found | {"exit": code}


def test_explain_says_why_a_task_waits_and_what_a_miner_may_not_take(
    region: Region, client: MiningClient, capsys: pytest.CaptureFixture[str]
) -> None:
    region.process("projector", "eu-pj-1")
    register(region, "idle", "inference")
    submit(client, "t-full-1", "inference")
    until_status(client, "t-full-1", "assigned")
    submit(client, "t-full-2", "inference")
    client.submit_task("t-dear", "inference", "s3://x", PAYLOAD, 1, reward_micro=10**12)
    client.submit_task("t-wide", "inference", "s3://x", PAYLOAD, 1, gpus=8)

    def arrived() -> bool:
        return bool(told(region, capsys, "task", "explain", "t-wide")["exit"] == 0)

    until(arrived, 60, "the projection has it")
    full = told(region, capsys, "task", "explain", "t-full-2")
    others = full["waits_for"]["miners"] - 1
    assert full["status"] == "submitted"
    assert full["waits_for"]["excluded"] == {"type": others, "full": 1}
    assert full["waits_for"]["silent"]["full"] == 1, "it has never beaten"
    assert full["waits_for"]["held_up_by"] == ["no miner may take it now"]
    assert [e["event"] for e in full["events"]] == ["TaskSubmitted"]
    place = full["events"][0]["place"]
    assert place in {f"{r.topic}/{r.partition}@{r.offset}" for r in region.records("eu.1.tasks")}
    wide = told(region, capsys, "task", "explain", "t-wide")["waits_for"]
    assert wide["excluded"] == {"type": others, "gpus": 1}
    at_work = told(region, capsys, "task", "explain", "t-full-1")
    assert at_work["waits_for"]["for"] == "miner eu/idle"
    assert at_work["waits_for"]["silent"] is True
    idle = told(region, capsys, "miner", "explain", "idle")
    assert [x["task_id"] for x in idle["working_on"]] == ["eu/t-full-1"]
    assert idle["waiting_tasks"] == {"full": 2, "gpus": 1}
    with region.client("idle") as miner, miner.work() as work:  # it beats, and frees itself
        job = work.take(60)
        assert job is not None
        job.hand_in("s3://x", PAYLOAD, 1)
        job = work.take(60)
        assert job is not None
        assert job.task_id == "eu/t-full-2"

        def dear() -> dict[str, Any]:
            found: dict[str, Any] = told(region, capsys, "task", "explain", "t-dear")["waits_for"]
            return found

        until(lambda: dear()["silent"].get("full", 0) == 0, 60, "it beats")
        job.hand_in("s3://x", PAYLOAD, 1)
        until(lambda: dear()["excluded"].get("stake") == 1, 60, "its stake does not cover it")
    assert run(["task", "explain", "t-dear", "--dir", str(region.folder / "stack")]) == 0
    assert "no miner may take it now" in capsys.readouterr().out
    for noun in ("task", "miner"):
        missing = told(region, capsys, noun, "explain", "never")
        assert (missing["exit"], missing["error"]["code"]) == (10, "not_found")
        assert f"no {noun} is named 'never'" in missing["error"]["message"]


def test_endpoints_of_one_region_are_all_that_a_watch_needs(
    region: Region, client: MiningClient
) -> None:
    """No database, no control cluster: the log is enough."""
    submit(client, "t-log", "evaluation")
    client.call("eu/t-log", c.CancelTask(reason="r"))
    alone: Endpoints = one_region(region.bootstrap, 2)
    with MiningClient(alone, "eu", "client-2") as other:
        assert kinds(list(other.watch("t-log"))) == ["TaskCancelled"]
