"""Each verb's `--json` has a JSON Schema that is shipped, and what needs no parts fits it.

What needs a network is held against it in tests/integration/test_docs_commands.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema_rs
import pytest

from everlode.cli.outputs import OUTPUTS, SILENT, schema_of
from everlode.errors import NotFound
from everlode.failover.eligible import NotEligible
from everlode.failover.planner import Candidate
from tests.support.processes.outputs import misfits, printed_by
from tests.unit.test_cli_main import LEAVES

FILE = "regions: [eu]\nclusters: {eu: {task-manager: {nodes: 1}}}\n"


def test_each_verb_that_prints_has_a_schema_and_nothing_else_has() -> None:
    with_json = {
        verb for verb, leaf in LEAVES.items() if any("--json" in p.opts for p in leaf.params)
    }
    assert {*OUTPUTS} - {"error", "status"} == with_json - SILENT - {"status"}
    assert with_json > SILENT
    with pytest.raises(NotFound, match="node run"):
        schema_of("node run")


@pytest.mark.parametrize("verb", OUTPUTS)
def test_schema_is_lawful_and_says_what_is_always_there(verb: str) -> None:
    schema = schema_of(verb)
    jsonschema_rs.meta.validate(schema)
    assert schema["title"]
    if verb not in ("schema output", "status"):
        assert not jsonschema_rs.is_valid(schema, {"nonsense": 1})


@pytest.mark.parametrize(
    ("words", "verb"),
    [("schema list", ""), ("schema show SubmitTask", "schema show"), ("settings", ""),
     ("events schema NodeLost", "events schema"), ("schema asyncapi", ""),
     ("schema output scope explain", "schema output"), ("schema show Nonsense", "schema show"),
     ("topology check {folder}/network.yaml", "topology check"), ("schema dance", "error"),
     ("topology check {folder}/wrong.yaml", "topology check"),
     ("backup keys create --keys {folder}/keys", "backup keys create"),
     ("backup keys list --keys {folder}/keys", "backup keys list"),
     ("stack status --dir {folder}/none", "stack status")],
)  # fmt: skip
def test_output_of_a_verb_without_a_network_fits(words: str, verb: str, tmp_path: Path) -> None:
    (tmp_path / "network.yaml").write_text(FILE)
    (tmp_path / "wrong.yaml").write_text("regions: [eu]\nnonsense: 1\n")
    _, out = printed_by(words.format(folder=tmp_path).split())
    assert misfits(verb or words, out) == []


def test_error_that_names_the_nodes_that_might_lead_fits() -> None:
    node = Candidate("eu-tm-1", "draining", 1, 0, 0, "it is draining", behind_ms=0)
    for error in (NotEligible("nobody can lead", [node]), NotFound("no such scope")):
        assert misfits("scope switchover", json.dumps({"error": error.as_dict()})) == []
    assert misfits("scope switchover", '{"error": {"code": "", "message": ""}}') != []


def test_output_that_says_more_less_or_otherwise_does_not_fit() -> None:
    _, out = printed_by(["schema", "list"])
    assert misfits("schema list", out) == []
    document = json.loads(out)
    (first, *rest) = document["schemas"]
    for wrong in (
        document | {"more": 1}, {}, {"schemas": [{**first, "topic": None}, *rest]},
        {"schemas": [{"type": "SubmitTask"}]},
    ):  # fmt: skip
        assert misfits("schema list", json.dumps(wrong)) != []
