"""The proof on real parts: a broker and a PostgreSQL, filled by the projector's own code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from everlode.adapters.kafka import Record
from everlode.adapters.kafka_sender import Sender
from everlode.adapters.postgres import Projection
from everlode.avro.codec import encode_fact
from everlode.events.base import Fact
from everlode.projector.bulk import catch_up
from everlode.projector.worker import Home, PartitionWorker
from everlode.proof.findings import Proof
from everlode.proof.prove import prove
from everlode.settings.endpoints import Endpoints
from everlode.stack import NativeStack
from everlode.topics import Topology, fact_topics
from everlode.topics.partition import partition_of
from tests.support.world.projecting import fact, topic_of

PARTITIONS = 2
TOPOLOGY = Topology(regions=("eu",), control_replication=1, control_min_insync=1)
STORIES = (("tasks", "task-1", 4), ("tasks", "task-2", 2), ("miners", "m", 3),
           ("validations", "v-s", 3))  # fmt: skip


def write(bootstrap: str) -> list[tuple[str, int, Fact]]:
    """The stories' facts, each where its key belongs."""
    sender, found = Sender(bootstrap), []
    seqs: dict[tuple[str, int], int] = {}
    for component, key, versions in STORIES:
        partition = partition_of(key, PARTITIONS)
        for version in range(1, versions + 1):
            seq = seqs[component, partition] = seqs.get((component, partition), 0) + 1
            item = fact(component, key, version, seq)
            value = encode_fact(*item)
            sender.send(Record(topic_of(component), partition, key, value, []))
            found.append((topic_of(component), partition, item))
    assert sender.flush(20) == 0
    return found


def journal(path: Path, facts: list[tuple[str, int, Fact]]) -> Path:
    """What was acknowledged: every fact."""
    with path.open("w") as file:
        for topic, partition, (head, data) in facts:
            ref = [head.event_id, type(data).__name__, topic, partition, head.seq, head.version]
            entry = {"type": "X", "key": head.aggregate_id, "command": {}, "facts": [ref]}
            file.write(json.dumps(entry) + "\n")
    return path


def project(endpoints: Endpoints) -> str:
    """Fold the log into PostgreSQL; returns its conninfo."""
    place = endpoints.regions["eu"]
    conninfo = place.postgres_conninfo()
    tables = Projection(conninfo, 1, "test")
    tables.create()
    tables.close()
    home = Home("eu", place.kafka_bootstrap, conninfo, 1, "eu-proj-1")
    topics = fact_topics(TOPOLOGY)
    workers = {p: PartitionWorker(home, p, topics) for p in range(PARTITIONS)}
    catch_up(place.kafka_bootstrap, workers, topics)
    for worker in workers.values():
        worker.close()
    return conninfo


@pytest.mark.timeout(120)
def test_proof_is_green_until_a_row_or_an_event_is_missing(tmp_path: Path) -> None:
    with NativeStack.small(tmp_path / "stack", control=False) as stack:
        endpoints = stack.up()
        facts = write(endpoints.regions["eu"].kafka_bootstrap)
        conninfo = project(endpoints)
        acknowledged = journal(tmp_path / "eu.jsonl", facts)

        def proof() -> Proof:
            return prove(endpoints, TOPOLOGY, [acknowledged], [])

        green = proof()
        assert (green.differences, green.lost) == ([], [])
        assert (green.events, green.acknowledged, green.compared_keys) == (12, 12, 4)
        assert green.progress_acknowledged == 2

        db = Projection(conninfo, 1, "vandal")
        db.query("update {g}.tasks set status = 'failed' where key = 'task-1' returning key")
        assert proof().differences == [
            "eu tasks task-1: columns and state differ",
            "eu tasks task-1: status is 'failed', 'assigned' is right",
        ]
        db.query("update {g}.tasks set status = 'assigned' where key = 'task-1' returning key")
        db.query("delete from {g}.miners where key = 'm' returning key")
        db.close()
        assert proof().differences == ["eu miners m: missing"]

        topic, partition, (head, data) = facts[0]
        lost = Fact(head.model_copy(update={"event_id": "gone"}), data)
        journal(tmp_path / "eu.jsonl", [*facts, (topic, partition, lost)])
        assert proof().lost == ["gone"]
