"""What only an operator asks, and what a successor knows: real processes, killed between."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from everlode.avro.codec import Codec
from everlode.errors import Refusal
from everlode.events import commands as c
from everlode.events.base import Evidence
from everlode.events.health import WorkWaits
from everlode.snapshots.read import read_snapshot
from everlode.topics.names import fact_topic
from tests.support.processes.outputs import fitting
from tests.support.world.region import PARTITIONS, Region, until

pytestmark = pytest.mark.timeout(180)
EVERLODE = [sys.executable, "-m", "everlode.cli.main"]
SEEN = (Evidence(topic="", partition=-1, offset=-1, note="seen"),)


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    with Region(tmp_path_factory.mktemp("region")) as made:
        yield made


def lift(region: Region, by: str) -> tuple[int, dict[str, Any]]:
    """`everlode miner reinstate`: its exit code, and what it says."""
    line = f'miner reinstate eu/m-lifted --region eu --by {by} --reason "rested" --json'
    words = [*EVERLODE, *shlex.split(line), "--dir", str(region.folder / "stack")]
    done = subprocess.run(words, capture_output=True, check=False, timeout=60)
    return done.returncode, fitting(shlex.split(line), done.stdout.decode())


def test_case_is_an_operators_and_so_is_the_end_of_a_suspension_for_fraud(region: Region) -> None:
    registry = region.leader("miner-registry", "miners", "eu-mr-case")
    judges = region.leader("validator", "validations", "eu-vd-case")
    case = c.OpenFraudCase(
        rule="copied-solution", suspects=("eu/m-lifted",), severity_ppm=1, evidence=SEEN
    )
    verdict = c.ResolveFraudCase(
        confirmed=True, decided_by="judge", penalty_micro=0, reason="seen", evidence=SEEN
    )
    with region.client("m-lifted") as miner:
        miner.register_miner(["inference"], endpoint="x")
        with pytest.raises(Refusal) as caught:
            miner.call("eu/case-lifted", case)
        assert caught.value.code == "operator_needed"
    with region.client("judge") as judge:
        judge.call("eu/case-lifted", case)
        judge.call("eu/case-lifted", verdict)
    # the registry reads the case's fact a moment later; until then nothing is lifted
    until(lambda: lift(region, "anybody")[0] == 1, 60, "it is suspended for fraud")
    code, found = lift(region, "anybody")
    assert (code, found["error"]["code"]) == (1, "operator_needed")
    code, found = lift(region, "judge")
    assert (code, [fact["event_type"] for fact in found["facts"]]) == (0, ["MinerReinstated"])
    for node in (registry, judges):
        node.kill()


def kept(region: Region, command_id: str) -> bool:
    """Whether the miners' snapshot says what a command asked for."""
    found = read_snapshot(region.bootstrap, "eu.1", "miners", PARTITIONS)
    return any(fact.command_id == command_id and fact.content for fact in found.answers())


def test_successor_refuses_another_command_under_an_id_that_its_predecessor_took(
    region: Region,
) -> None:
    first = region.leader("miner-registry", "miners", "eu-mr-first")
    heir = region.node("miner-registry", "eu-mr-heir")
    heir.ready()
    deposit = c.DepositStake(amount_micro=5)
    with region.client("m-other") as miner:
        miner.register_miner(["inference"], endpoint="x")
        answer = miner.call("eu/m-other", deposit, command_id="d-1")
        until(lambda: kept(region, "d-1"), 60, "what it asked for is in the snapshot")
        first.kill()
        heir.leads(region.assign("miners", "eu-mr-heir"))
        again = miner.call("eu/m-other", deposit, command_id="d-1")
        assert (again.outcome, again.facts) == ("repeated", answer.facts)
        with pytest.raises(Refusal) as caught:
            miner.call("eu/m-other", c.DepositStake(amount_micro=6), command_id="d-1")
        assert caught.value.code == "other_content"
    heir.kill()


def ended(region: Region) -> list[str]:
    """Ids of the events that say that no work waits for an expert."""
    codec = Codec()
    found = (codec.decode_fact(r.value) for r in region.records(fact_topic("eu.1", "health"), 1))
    return [
        fact.envelope.event_id
        for fact in found
        if isinstance(fact.data, WorkWaits)
        and (fact.data.work, fact.data.over) == ("validation/expert", True)
    ]


def test_each_primary_publishes_the_end_of_what_its_predecessor_may_have_published(
    region: Region,
) -> None:
    before = set(ended(region))
    first = region.leader("validator", "validations", "eu-vd-first")
    until(lambda: len(set(ended(region)) - before) == 1, 30, "the first says so")
    heir = region.node("validator", "eu-vd-heir")
    heir.ready()
    first.kill()
    heir.leads(region.assign("validations", "eu-vd-heir"))
    until(lambda: len(set(ended(region)) - before) == 2, 30, "and its successor")
    heir.kill()
