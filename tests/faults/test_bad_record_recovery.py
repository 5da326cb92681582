"""What cannot be applied stops neither a backup nor a recovery, on either side of the cut.

On real parts; its key stops there as it did before.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from everlode.adapters.kafka import Record
from everlode.adapters.kafka_writer import Writer
from everlode.adapters.postgres import Projection
from everlode.adapters.postgres_read import current_generation
from everlode.avro.codec import encode_state
from everlode.backup.container import read
from everlode.backup.operation import back_up
from everlode.backup.verify import fetch
from everlode.events.base import Fact
from everlode.events.states import TaskState
from everlode.events.tasks import TaskSubmitted
from everlode.recovery.operation import recover
from everlode.recovery.planner import RecoveryResult
from everlode.recovery.request import RecoveryRequest
from everlode.state.dispatch import evolve_fact
from everlode.topics.names import state_topic
from everlode.topics.partition import partition_of
from tests.support.facts.whole_topic import records
from tests.support.world.backed import TOPOLOGY, Backed, story

pytestmark = pytest.mark.timeout(280)
PLAN = RecoveryRequest(plan_name="test", disaster_type="database-corruption", target_region="eu")
FACTS = story(seed=2, tasks=12)
TASKS = [fact for component, fact in FACTS if component == "tasks"]
TASK = [f for f in TASKS if f.envelope.aggregate_id == TASKS[0].envelope.aggregate_id]
"""The facts of one task."""
LETTERS = "dlt.projector.eu.1.tasks"


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backed]:
    with Backed(tmp_path_factory.mktemp("bad-backed")) as found:
        found.write(FACTS)
        found.project()
        yield found


def bad(name: str) -> list[tuple[str, Fact]]:
    """A task whose submission PostgreSQL cannot hold, and its next fact."""
    first, second = (Backed.renamed(fact, name) for fact in TASK[:2])
    assert isinstance(first.data, TaskSubmitted)
    spoilt = first.data.model_copy(update={"client_id": "a\0b"})
    return [("tasks", Fact(first.envelope, spoilt)), ("tasks", second)]


def key_of(name: str) -> str:
    return f"{name}-{TASK[0].envelope.aggregate_id}"


def recovered(region: Backed, work: Path) -> RecoveryResult:
    return recover(PLAN, region.endpoints, TOPOLOGY, region.store, region.keys, work)


def unapplied(region: Backed) -> set[str]:
    """Keys of what could not be applied, in the current generation."""
    db = Projection(region.conninfo, current_generation(region.conninfo), "test")
    try:
        return {k for (k,) in db.query("select key from {g}.problems where kind = 'unapplied'")}
    finally:
        db.close()


def letters(region: Backed, key: str) -> list[dict[str, bytes]]:
    found = records(region.bootstrap, LETTERS)
    return [dict(raw.headers) for raw in found if raw.key == key.encode()]


def test_bad_facts_before_and_after_the_cut_stop_their_keys_alone(
    region: Backed, tmp_path: Path
) -> None:
    region.write([*bad("before"), *((c, region.renamed(f, "good")) for c, f in FACTS)])
    region.project()
    assert unapplied(region) == {key_of("before")}
    made = back_up("eu", region.endpoints, TOPOLOGY, region.store, region.keys)
    keys = set()
    for entry in made.objects:
        if entry.component == "tasks":
            with fetch(region.store, region.keys, entry, tmp_path).open("rb") as file:
                keys |= {value["key"] for value in read(file, entry.key)}
    assert key_of("good") in keys
    assert key_of("before") not in keys
    region.write([*bad("after"), *((c, region.renamed(f, "late")) for c, f in FACTS)])
    region.project()
    before = region.rows()
    region.disaster()
    result = recovered(region, tmp_path / "work")
    assert (result.held, result.lost_event_ids) == (False, ())
    assert region.rows() == before
    assert unapplied(region) == {key_of("before"), key_of("after")}
    assert len(letters(region, key_of("after"))) == 2  # a generation each
    again = back_up("eu", region.endpoints, TOPOLOGY, region.store, region.keys)
    assert sum(o.records for o in again.objects) >= sum(o.records for o in made.objects)


def test_state_that_cannot_be_restored_is_kept_and_its_key_waits(
    region: Backed, tmp_path: Path
) -> None:
    """As a cut may have folded it where no projector ever had to store it."""
    generation = region.project()
    key = "only-there"
    (_, first), _ = bad("x")
    head = first.envelope.model_copy(
        update={"aggregate_id": key, "seq": 1, "stamp": 1 << 16, "origin": "eu.1"}
    )
    partition = partition_of(key, TOPOLOGY.partitions)
    state = evolve_fact(None, Fact(head, first.data), partition)
    assert isinstance(state, TaskState)
    writer = Writer(region.bootstrap, f"projector.eu.g{generation}.{partition}")
    writer.open()
    topic = state_topic(generation, "tasks")
    writer.write([Record(topic, partition, key, encode_state(state), [])])
    writer.abandon()
    back_up("eu", region.endpoints, TOPOLOGY, region.store, region.keys)
    before = region.rows()
    region.disaster()
    assert not recovered(region, tmp_path / "work").held
    assert region.rows() == before
    assert key in unapplied(region)
    [letter] = letters(region, key)
    assert letter["dlt-object"] == f"tasks-{partition}".encode()
    assert int(letter["dlt-offset"]) < 0
    new = current_generation(region.conninfo)
    assert new > generation
    published = records(region.bootstrap, state_topic(new, "tasks"), TOPOLOGY.partitions)
    assert key.encode() not in {raw.key for raw in published}
