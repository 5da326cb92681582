"""docs/asyncapi.json is made from the catalogues; running this file writes it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import fastavro
import pytest

from everlode.avro import schemas
from everlode.cli.main import run
from everlode.events.catalogue import COMMANDS, EVENTS, FACT_COMPONENTS
from everlode.topics import Topology, asyncapi
from everlode.topics.catalogue import catalogue

DOCUMENT = Path(__file__).parents[2] / "docs" / "asyncapi.json"


def made() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DOCUMENT.read_text())
    return found


def test_document_is_made_from_the_catalogues() -> None:
    assert DOCUMENT.read_text() == asyncapi.text(), "run: python tests/unit/test_docs_asyncapi.py"
    assert made() == asyncapi.document()


def test_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", "asyncapi"]) == 0
    assert capsys.readouterr().out == DOCUMENT.read_text()


def test_each_topic_of_a_network_has_one_channel_and_each_channel_a_topic() -> None:
    topology = Topology(regions=("eu", "us-east"), incarnations={"eu": 12}, partitions=3)
    patterns = {
        "region": r"(eu|us-east)", "origin": r"(eu\.12|us-east\.1)", "generation": r"\d+",
        "consumer": r"[a-z]+", "topic": r".+",
    }  # fmt: skip
    addresses = [channel["address"] for channel in made()["channels"].values()]
    forms = {
        address: re.compile(
            "".join(
                patterns[part[1:-1]] if part.startswith("{") else re.escape(part)
                for part in re.split(r"(\{\w+\})", address)
            )
        )
        for address in addresses
    }
    used = set()
    for spec in catalogue(topology, generation=17):
        found = [address for address, form in forms.items() if form.fullmatch(spec.name)]
        assert len(found) == 1, (spec.name, found)
        channel = next(c for c in made()["channels"].values() if c["address"] == found[0])
        configured = channel["bindings"]["kafka"]["topicConfiguration"]
        assert configured == {"cleanup.policy": [spec.cleanup]}
        server = "control" if spec.cluster == "control" else "region"
        assert channel["servers"] == [{"$ref": f"#/servers/{server}"}]
        used.add(found[0])
    assert used == set(addresses)


def test_each_type_is_a_message_where_the_catalogue_has_it() -> None:
    channels = {c["address"]: set(c["messages"]) for c in made()["channels"].values()}
    for name, kind in EVENTS.items():
        where = {address for address, names in channels.items() if name in names}
        if kind.topic == "*":
            assert len(where) == 9
        else:
            assert where == {"control" if kind.topic == "control" else f"{{origin}}.{kind.topic}"}
    for component in FACT_COMPONENTS:
        assert channels[f"{{region}}.commands.{component}"] == {
            name for name, command in COMMANDS.items() if command.component == component
        }
    assert channels["{region}.replies"] == {"CommandAnswered"}
    assert channels["state.g{generation}.fraud"] == {"FraudState"}


def test_payloads_are_the_schemas_whole() -> None:
    payloads = {
        name: message["payload"]["schema"]
        for name, message in made()["components"]["messages"].items()
        if "schemaFormat" in message["payload"]
    }
    assert len(payloads) > 120
    for name, schema in payloads.items():
        fastavro.parse_schema(schema)
        assert schemas.fingerprint_of(schema) == schemas.fingerprint(name)


def test_references_lead_somewhere_and_messages_are_used() -> None:
    whole = made()
    found = set(re.findall(r'"\$ref": "#/([^"]+)"', DOCUMENT.read_text()))
    for path in found:
        at: Any = whole
        for part in path.split("/"):
            at = at[part]
    defined = {f"components/messages/{name}" for name in whole["components"]["messages"]}
    assert defined <= found
    shared = set(schemas.names()) - set(whole["components"]["messages"])
    nested = json.dumps([m["payload"] for m in whole["components"]["messages"].values()])
    assert [name for name in shared if f'"name": "{name}"' not in nested] == []


if __name__ == "__main__":
    DOCUMENT.write_text(asyncapi.text())
