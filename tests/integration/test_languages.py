"""Java, Go, Rust and Node read what we write, and a real primary answers what they write.

Each with its own Avro library; see tests/languages/README.md.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest

from everlode.adapters.kafka import Record
from everlode.adapters.kafka_sender import Sender
from everlode.avro import schemas
from everlode.avro.codec import MARKER, Codec, encode_fact
from everlode.avro.fingerprints import FORMS, computed
from everlode.avro.plain import state_dict
from everlode.events.base import CommandAnswered
from everlode.events.states import State
from everlode.state.dispatch import evolve_fact
from everlode.topics.names import command_topic, reply_topic
from everlode.topics.partition import partition_of
from tests.contract.test_avro_golden import EVENTS, GOLDEN
from tests.support.processes.languages import run
from tests.support.world.backed import story
from tests.support.world.region import PARTITIONS, Region, until

pytestmark = pytest.mark.timeout(600)  # the first time Rust builds its library
LIBRARIES = {
    "java": ["java"],
    "go": ["hamba/avro", "goavro"],
    "rust": ["apache-avro"],
    "node": ["avsc"],
}
NO_FINGERPRINTS = {"avsc"}
COMMAND = "RegisterMiner"
CODEC = Codec()
STORY = story(seed=3, tasks=10)


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    with Region(tmp_path_factory.mktemp("languages")) as made:
        made.leader("miner-registry", "miners", "eu-mr-1")
        yield made


def command(library: str, now_ms: int) -> dict[str, Any]:
    """A command in Avro's JSON encoding."""
    return {
        "header": {
            "command_id": f"c-{library}", "aggregate_id": f"eu/miner of {library} Ω",
            "issued_by": "x", "reply_to": library, "issued_at": now_ms, "correlation_id": "c",
            "causation_id": {"string": "why"},
        },
        "operator_id": "o", "endpoint": "127.0.0.1:1", "specialties": ["inference", "training"],
        "gpus": 1, "gpu_model": "", "cpu_milli": 1000, "memory_mib": 2**20, "max_concurrent": 2,
    }  # fmt: skip


def states() -> list[State]:
    """States of tasks, as a backup holds them."""
    found: dict[str, State | None] = {}
    for component, fact in STORY:
        if component == "tasks":
            key = fact.envelope.aggregate_id
            found[key] = evolve_fact(found.get(key), fact, 0)
    return [state for state in found.values() if state is not None]


def given(folder: Path) -> list[str]:
    """Write what a program is given; the records of it."""
    records = [GOLDEN[name].replace("\n", "").replace(" ", "") for name in sorted(EVENTS)]
    records += [encode_fact(*fact).hex() for _, fact in STORY]
    entries = [
        {"type": n, "fingerprint": schemas.fingerprint(n).hex(), "schema": schemas.raw(n)}
        for n in schemas.names()
    ]
    now_ms = time.time_ns() // 1_000_000
    libraries = [name for names in LIBRARIES.values() for name in names]
    value = {
        "schemas": entries, "records": records, "command": COMMAND,
        "commands": {library: command(library, now_ms) for library in libraries},
    }  # fmt: skip
    (folder / "input.json").write_text(json.dumps(value))
    with (folder / "container.avro").open("wb") as file:
        values = [state_dict(state) for state in states()]
        fastavro.writer(file, schemas.parsed("TaskState"), values, codec="zstandard")
    return records


def ask(region: Region, framed: dict[str, str]) -> dict[str, CommandAnswered]:
    """Send a command of each library to the primary; library → the answer."""
    sender = Sender(region.bootstrap)
    for library, data in framed.items():
        key = command(library, 0)["header"]["aggregate_id"]
        topic = command_topic("eu", "miners")
        sender.send(Record(topic, partition_of(key, PARTITIONS), key, bytes.fromhex(data), []))
    sender.flush(20)
    answers: dict[str, CommandAnswered] = {}

    def answered() -> bool:
        for raw in region.records(reply_topic("eu")):
            answer = CODEC.decode_answer(raw.value)
            answers[answer.reply_to] = answer
        return framed.keys() <= answers.keys()

    until(answered, 30, f"{set(framed)} are answered")
    return answers


@pytest.mark.parametrize("language", sorted(LIBRARIES))
def test_language_reads_what_we_write_and_its_command_is_answered(
    region: Region, language: str, tmp_path: Path
) -> None:
    records, libraries = given(tmp_path), LIBRARIES[language]
    made = run(language, tmp_path)
    # records and a container file, read and written again by each of its libraries
    for library in libraries:
        assert len(made["records"][library]) == len(records)
        for before, after in zip(records, made["records"][library], strict=True):
            wanted = CODEC.decode_dict(bytes.fromhex(before))
            assert CODEC.decode_dict(bytes.fromhex(after)) == wanted
    mark = MARKER + schemas.fingerprint("TaskState")
    assert [CODEC.decode_state(mark + bytes.fromhex(b)) for b in made["container"]] == states()
    # the fingerprints that it computes are those that are known of it
    for library in set(libraries) - NO_FINGERPRINTS:
        for name in schemas.names():
            own = schemas.fingerprint(name).hex()
            known = computed(schemas.raw(name))[library] if library in FORMS else own
            assert made["fingerprints"][library][name] == known, (library, name)
    # a command as it writes and frames it
    assert made["commands"].keys() == set(libraries)
    for library, answer in ask(region, made["commands"]).items():
        if library in libraries:
            assert (answer.outcome, answer.code, answer.message) == ("done", "", "")
            assert answer.facts[0].event_type == "MinerRegistered"
