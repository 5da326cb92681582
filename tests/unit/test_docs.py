"""The documents stay true of the contract: tables, vectors, links, code map."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from benchmarks._document import DOCUMENT, document
from everlode.avro import schemas
from everlode.backup.manifest import Manifest
from everlode.recovery.request import RecoveryRequest
from everlode.topics.partition import murmur2, partition_of

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "findings").glob("*.md")]
)
FORMAT = (ROOT / "docs/format.md").read_text()


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_document_links_lead_somewhere(path: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        name, _, fragment = link.partition("#")
        if name.startswith("http"):
            continue
        target = (path.parent / name) if name else path
        if not target.exists():
            broken.append(link)
        elif fragment:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.M)
            if fragment not in {anchor(heading) for heading in headings}:
                broken.append(link)
    assert broken == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_document_names_rooms_that_are_there(path: Path) -> None:
    def exists(name: str) -> bool:
        places = (
            ROOT / root / name.replace(".", "/") for root in ("schemas", "streams", "services")
        )
        return any(place.is_dir() or place.with_suffix(".py").exists() for place in places)

    named = set(re.findall(r"\beverlode(?:\.[a-z_]+)+\b(?![.\w<])", path.read_text()))
    assert [name for name in sorted(named) if not exists(name)] == []


@pytest.mark.parametrize("schema", ["Envelope", "CommandHeader", "CommandAnswered"])
def test_format_field_table_is_the_schema(schema: str) -> None:
    fields = schemas.source(schema)["fields"]
    rows = [
        (name, doc) for name, doc in re.findall(r"^\| `(\w+)` \| .+? \| (.+) \|$", FORMAT, re.M)
    ]
    wanted = [(field["name"], field["doc"]) for field in fields]
    start = next((i for i in range(len(rows)) if rows[i : i + len(wanted)] == wanted), None)
    assert start is not None, f"docs/format.md does not list {schema}'s fields as the schema does"


def test_format_partition_vectors_are_what_the_partitioner_gives() -> None:
    rows = re.findall(r"^\| `(\S+)` \| (\d+) \| (\d+) \| (\d+) \|$", FORMAT, re.M)
    assert len(rows) >= 5
    for key, hashed, of_2, of_8 in rows:
        plain = key.replace("\\|", "|")
        assert murmur2(plain.encode()) == int(hashed)
        assert (partition_of(plain, 2), partition_of(plain, 8)) == (int(of_2), int(of_8))


def test_decisions_are_numbered_without_holes_and_say_the_four_things() -> None:
    paths = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert [int(path.name[:4]) for path in paths] == list(range(1, len(paths) + 1))
    parts = ("**Context.**", "**Decision.**", "**Rejected.**", "**Consequences.**")
    assert [p.name for p in paths if not all(part in p.read_text() for part in parts)] == []


def test_benchmarks_document_is_made_from_the_results() -> None:
    assert DOCUMENT.read_text() == document(), "run: python -m benchmarks._document"


@pytest.mark.parametrize("model", [Manifest, RecoveryRequest])
def test_format_names_every_field_of_manifest_and_plan(model: type[BaseModel]) -> None:
    section = FORMAT.partition("## Backups")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.+?`) \|", section, re.M)
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert set(model.model_fields) - named == set()


def test_glossary_explains_every_cluster_figure() -> None:
    source = (ROOT / "services/everlode/views/clusters.py").read_text()
    figures = {
        key.value
        for function in ast.parse(source).body
        if isinstance(function, ast.FunctionDef) and function.name.startswith("_")
        for node in ast.walk(function)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant)
    }
    table = (ROOT / "docs/glossary.md").read_text().partition("## Figures of the clusters")[2]
    named = {
        n
        for cell in re.findall(r"^\| (`.+?`) \|", table, re.M)
        for n in re.findall(r"`(\w+)`", cell)
    }
    assert "active_tasks" in figures
    assert figures - named == set()


def test_architecture_code_map_is_the_import_contract() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    table = text.partition("## Code map")[2].partition("\n## ")[0]
    floors: dict[int, set[str]] = {}
    for floor, folders in re.findall(r"^\| (\d+) \| (`.+?) \|", table, re.M):
        floors.setdefault(int(floor), set()).update(re.findall(r"`(\w+)`", folders))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (layers,) = [
        contract["layers"]
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    ]
    found = [set(re.findall(r"\((\w+)\)", layer)) for layer in layers]
    assert list(floors) == sorted(floors, reverse=True)
    assert list(floors.values()) == found


def test_import_contract_keeps_the_packages_of_a_floor_apart() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    together = {
        layer
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
        for layer in contract["layers"]
        if ":" in layer
    }
    assert together == {"(avro) : (topics) : (events)"}


def test_each_picture_is_made_by_a_test_and_shown_by_a_page() -> None:
    there = {path.stem for path in (ROOT / "docs/images").iterdir()}
    tests = "".join(path.read_text() for path in (ROOT / "tests/integration").glob("*.py"))
    assert there == set(re.findall(r"shot\(page, \"([a-z-]+)\"\)", tests))
    pages = "".join(path.read_text() for path in (ROOT / "docs").rglob("*.md"))
    assert there == set(re.findall(r"!\[[^]]+\]\(\S*images/([a-z-]+)\.png\)", pages))
