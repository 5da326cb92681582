"""What a manifest says of another network or build: named, and stopped where it must be."""

from __future__ import annotations

import io
import json
from importlib import resources
from typing import Any

import fastavro
import pytest

from everlode.avro.plain import state_dict, state_from_dict
from everlode.backup.container import read
from everlode.backup.differences import differences, require_alike
from everlode.backup.manifest import CutPosition, Manifest, TopicEntry
from everlode.errors import IntegrityError, Precondition
from everlode.events.catalogue import STATES
from everlode.events.states import State
from everlode.state.dispatch import FOLD_VERSION
from everlode.telemetry.entries import Entry, Note
from everlode.topics import Topology
from tests.support.world.state_play import play
from tests.unit.test_backup_manifest import manifest

TOPOLOGY = Topology(regions=("eu", "us"), partitions=2)


def made(*origins: str, **changes: object) -> Manifest:
    positions = tuple(
        CutPosition(topic=f"{o}.tasks", partition=0, seq=1, stamp=1, next_offset=1, status="live")
        for o in origins or ("eu.1", "us.1")
    )
    alike = {"partitions": 2, "fold_version": FOLD_VERSION, "positions": positions}
    return manifest(**(alike | changes))


def test_manifest_of_this_network_and_build_does_not_differ() -> None:
    assert differences(made(), TOPOLOGY) == ()


STOPS = [
    (made(partitions=4), "partitions_differ", "4 partitions, the topology 2", "partitions to 4"),
    (
        made(fold_version=FOLD_VERSION + 1),
        "fold_newer",
        f"version {FOLD_VERSION + 1}",
        "everlode 0",
    ),
    (made("eu.1", "us.1", "ap.1"), "origins_differ", "facts of ap.1", "EVERLODE_TOPOLOGY"),
    (made("eu.2", "us.1"), "origins_differ", "facts of eu.2", "EVERLODE_TOPOLOGY"),
]
NOTED = [
    (made(fold_version=FOLD_VERSION - 1), f"version {FOLD_VERSION - 1}", "everlode 0"),
    (made(fold_version=1, topology={}), "version 1", "stays as it is"),
    (made("eu.1"), "no facts of us.1", "from the beginning"),
]


@pytest.mark.parametrize(("found", "code", "text", "hint"), STOPS)
def test_difference_that_stops_is_a_precondition_with_the_way_out(
    found: Manifest, code: str, text: str, hint: str
) -> None:
    with pytest.raises(Precondition) as caught:
        require_alike(found, TOPOLOGY, lambda _: None)
    assert (caught.value.code, caught.value.exit_code) == (code, 14)
    assert caught.value.message.startswith("backup b ")
    assert text in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(("found", "text", "hint"), NOTED)
def test_difference_that_does_not_stop_is_noted(found: Manifest, text: str, hint: str) -> None:
    notes: list[Entry] = []
    require_alike(found, TOPOLOGY, notes.append)
    (note,) = notes
    assert isinstance(note, Note)
    assert text in note.remark
    assert hint in note.remark


def test_topics_that_were_made_again_are_named() -> None:
    at = TopicEntry(name="eu.1.tasks", topic_id="first", partitions=2, configs={})
    made_by_older = at.model_copy(update={"name": "eu.1.miners", "topic_id": ""})
    found, notes = made(topics=(at, made_by_older)), list[Entry]()
    require_alike(found, TOPOLOGY, notes.append, {"eu.1.tasks": "first", "eu.1.miners": "any"})
    require_alike(found, TOPOLOGY, notes.append, {})  # what is not there is no other topic
    assert notes == []
    require_alike(found, TOPOLOGY, notes.append, {"eu.1.tasks": "second"})
    (note,) = notes
    assert "made again: eu.1.tasks:" in note.text


def test_what_stops_goes_before_what_is_noted() -> None:
    found = differences(made("eu.1", "ap.1", partitions=4, fold_version=1), TOPOLOGY)
    assert [d.code for d in found] == [
        "partitions_differ", "origins_differ", "fold_older", "origins_new",
    ]  # fmt: skip


@pytest.mark.parametrize("topology", [{}, {"regions": ["eu", "us"], "unknown": 1}])
def test_topology_as_another_build_wrote_it_is_not_needed(topology: dict[str, object]) -> None:
    assert differences(made(topology=topology), TOPOLOGY) == ()


def past_schemas(name: str) -> list[dict[str, object]]:
    book = resources.files("everlode.events").joinpath("past", "states.jsonl").read_text()
    found = [json.loads(line)["schema"] for line in book.splitlines()]
    return [s for s in found if s["name"].rpartition(".")[2] == name]


@pytest.mark.parametrize("component", sorted(STATES))
def test_container_of_an_older_build_gives_states_of_today(component: str) -> None:
    name = STATES[component].__name__
    played = play(7, 200, "tasks", "miners", "validations", "rewards", "fraud").states
    state = next(s for (c, _), s in played.items() if c == component and s is not None)
    for schema in past_schemas(name):
        file = io.BytesIO()
        fastavro.writer(file, fastavro.parse_schema(schema, named_schemas={}), [state_dict(state)])
        file.seek(0)
        (value,) = read(file, "x", name)
        found: State = state_from_dict(component, value)
        assert _written(schema, found) == _written(schema, state)


def _written(schema: Any, state: State) -> bytes:
    """A state as far as a schema knows it, in records within it too."""
    out = io.BytesIO()
    parsed = fastavro.parse_schema(schema, named_schemas={})
    fastavro.schemaless_writer(out, parsed, state_dict(state))
    return out.getvalue()


def test_container_of_something_else_does_not_decode() -> None:
    file = io.BytesIO()
    schema = {"type": "record", "name": "Other", "fields": [{"name": "a", "type": "long"}]}
    fastavro.writer(file, schema, [{"a": 1}])
    file.seek(0)
    with pytest.raises(IntegrityError, match="x: does not decode"):
        list(read(file, "x", "TaskState"))
