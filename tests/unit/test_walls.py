"""The import contracts bite: each arrow that they forbid, planted in a copy, is named.

All arrows are planted at once, each in a module of its own that nothing imports, so that none hides
another; the linter reads the copy alone (`-S`: an editable install beside it is not on the path).
"""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
ROOTS = ("schemas", "streams", "services")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]
LAYERS = next(c["layers"] for c in CONTRACTS if c["type"] == "layers")
FLOORS = [re.findall(r"\((\w+)\)", layer) for layer in LAYERS]
"""From the top down."""
KEPT_APART = [
    (floor[0], floor[1]) for layer, floor in zip(LAYERS, FLOORS, strict=True) if "|" in layer
]
UPWARD = [(lower[0], upper[-1]) for upper, lower in pairwise(FLOORS)]
MODULES = {path.stem for root in ROOTS for path in (ROOT / root / "everlode").glob("*.py")}
"""Packages of one file: the arrow is planted in it."""
LINT = (
    "import everlode; print(*everlode.__path__, sep='|');"
    "from importlinter.cli import lint_imports_command as lint; lint()"
)


class Arrow(NamedTuple):
    """An import that must be refused; `via` is a lawful module of that package between the two."""

    package: str
    imported: str
    via: str = ""

    def __str__(self) -> str:
        return " -> ".join(part for part in (self.package, self.via, self.imported) if part)


ARROWS = [
    *(Arrow(lower, f"everlode.{upper}") for lower, upper in UPWARD),
    *(Arrow(one, f"everlode.{other}") for one, other in KEPT_APART),
    Arrow("adapters", "everlode.recovery"),
    Arrow("proof", "everlode.projection", via="adapters"),
    Arrow("proof", "everlode.control", via="adapters"),
    Arrow("proof", "everlode.avro"),
    Arrow("state", "random"),
    Arrow("events", "time"),
    Arrow("projection", "psycopg"),
    Arrow("backup", "everlode.settings.environment"),
    Arrow("sdk", "subprocess"),
    Arrow("recovery", "confluent_kafka"),
    Arrow("projector", "faust"),
    Arrow("primary", "opentelemetry"),
]


def plant(copy: Path, number: int, arrow: Arrow) -> None:
    """Write the arrow's modules, `planted_<number>`, into the copy."""
    hops = [arrow.package, arrow.via] if arrow.via else [arrow.package]
    targets = [f"everlode.{hop}.planted_{number}" for hop in hops[1:]] + [arrow.imported]
    for package, target in zip(hops, targets, strict=True):
        (place,) = (p for p in copy.glob(f"*/everlode/{package}*") if p.stem == package)
        module = place if package in MODULES else place / f"planted_{number}.py"
        with module.open("a") as file:
            file.write(f"import {target}\n")


def lint(copy: Path) -> tuple[int, str]:
    """Exit code and report of import-linter, on this tree of sources and no other."""
    roots = [str(copy / root) for root in ROOTS]
    done = subprocess.run(
        [sys.executable, "-S", "-c", LINT, "--no-logo", "--no-cache"],
        cwd=copy,
        env={"PYTHONPATH": os.pathsep.join([*roots, *site.getsitepackages()])},
        capture_output=True,
        text=True,
        check=False,
    )
    where, _, report = done.stdout.partition("\n")
    assert where.split("|") == [f"{root}/everlode" for root in roots], done.stdout + done.stderr
    return done.returncode, report


def files_read(report: str) -> int:
    """How many modules the linter says it has read, those of other packages among them."""
    found = re.search(r"Analyzed (\d+) files", report)
    assert found is not None, report
    return int(found[1])


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("walls")
    for root in ROOTS:
        shutil.copytree(ROOT / root, folder / root, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.fixture(scope="module")
def report(copy: Path) -> str:
    """What the linter says of the copy with every arrow in it; without them it has no complaint."""
    modules = len(list(copy.rglob("*.py")))
    code, clean = lint(copy)
    assert code == 0, clean
    assert files_read(clean) >= modules
    for number, arrow in enumerate(ARROWS):
        plant(copy, number, arrow)
    planted = len(list(copy.rglob("*.py"))) - modules
    code, broken = lint(copy)
    assert code == 1
    assert files_read(broken) == files_read(clean) + planted, "another tree was read"
    return broken


@pytest.mark.parametrize("number", range(len(ARROWS)), ids=[str(arrow) for arrow in ARROWS])
def test_forbidden_import_is_named(number: int, report: str) -> None:
    arrow = ARROWS[number]
    head = rf"everlode(\.{arrow.package})?(\.planted_{number})? is not allowed to import"
    said = re.search(rf"^{head} {re.escape(arrow.imported)}:$", report, re.M)
    assert said is not None, report
    chain = report[said.end() :]
    first = arrow.package if arrow.package in MODULES else f"{arrow.package}.planted_{number}"
    assert re.search(rf"everlode\.{first} -> ", chain.partition("is not allowed")[0]), chain


def test_every_contract_is_broken_by_some_arrow(report: str) -> None:
    kept = [c["name"] for c in CONTRACTS if f"{c['name']} BROKEN" not in report]
    assert kept == []


def test_arrows_reach_every_floor() -> None:
    assert {one for one, _ in UPWARD} == {floor[0] for floor in FLOORS[1:]}
    assert len(KEPT_APART) == sum("|" in layer for layer in LAYERS) > 3
