"""A stack's topology is the stack's: checked where it enters, contradicted by no setting."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from everlode.cli.main import run
from everlode.errors import ConfigError
from everlode.settings.endpoints import Endpoints, RegionEndpoints
from everlode.settings.environment import VARIABLES, settings, shown
from everlode.stack.native.supervisor import save_options, saved_topology
from everlode.topics import Topology

ONE = Topology(regions=("eu",), partitions=3)
EU = RegionEndpoints(
    kafka_bootstrap="k:1", postgres_dsn="postgresql://u@p/d", postgres_password_file=Path("pw"),
    origin="eu.1",
)  # fmt: skip
STACK = Endpoints(topology=ONE, regions={"eu": EU}, control_bootstrap="c:1", s3=None)


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The error of a command that ends with 2."""
    assert run([*words, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["hint"]
    return str(error["message"])


@pytest.mark.parametrize(
    ("regions", "named"),
    [
        ("control", "'control': the name is taken"),
        ("a.b,a_b", "'a.b': not a name"),
        ("a_b", "'a_b': not a name"),
        ("eu/x", "'eu/x': not a name"),
        ("../eu", "'../eu': not a name"),
        (",", "'': not a name"),
        ("eu,,us", "'': not a name"),
        ("EU", "'EU': not a name"),
        ("eu,eu", "name each region once"),
        ("x" * 300, "not a name"),
        (",".join(f"r{n}" for n in range(40)), "there are 40, at most 16"),
    ],
)
def test_region_that_cannot_be_is_refused_before_anything_is_made(
    regions: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "stack"
    message = refused(capsys, "stack", "up", "--regions", regions, "--dir", str(folder))
    assert named in message
    assert len(message) < 200
    assert not folder.exists()


def test_stack_that_there_is_keeps_its_topology(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_options(tmp_path, ONE, s3=None)
    words = ("stack", "up", "--dir", str(tmp_path))
    assert "has eu" in refused(capsys, *words, "--regions", "eu,us")
    file = tmp_path / "topology.yaml"
    file.write_text("regions: [eu]\npartitions: 5\n")
    monkeypatch.setenv("EVERLODE_TOPOLOGY", str(file))
    assert "partitions: 5; the stack has 3" in refused(capsys, *words)
    assert saved_topology(tmp_path) == ONE


def test_new_stack_with_regions_that_contradict_the_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text("regions: [eu, us]\n")
    monkeypatch.setenv("EVERLODE_TOPOLOGY", str(file))
    message = refused(capsys, "stack", "up", "--regions", "ap", "--dir", str(tmp_path / "s"))
    assert message == f"--regions ap: {file} has eu, us"


def test_topology_that_was_written_down_wrongly_is_named(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text('{"topology": {"regions": ["a.b"]}}')
    with pytest.raises(ConfigError, match=r"stack\.json: topology: .*'a\.b'"):
        saved_topology(tmp_path)


def test_topology_is_found_in_the_endpoints_where_no_command_wrote_it_down(tmp_path: Path) -> None:
    assert saved_topology(tmp_path) is None
    STACK.save(tmp_path)
    assert saved_topology(tmp_path) == ONE


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("regions: [eu]\n", None),
        ("partitions: 3\nregions: [eu]\n", None),
        ("regions: [eu, us]\n", "regions: eu, us; the stack has eu"),
        ("regions: [eu]\npartitions: 2\n", "partitions: 2; the stack has 3"),
        ("regions: [eu]\nincarnations: {eu: 2}\n", "incarnations"),
        ("task_types: [inference]\n", "task_types: inference; the stack has"),
    ],
)
def test_setting_that_contradicts_the_stack_is_an_error(
    text: str, named: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings().topology_of(STACK) == ONE
    file = tmp_path / "topology.yaml"
    file.write_text(text)
    monkeypatch.setenv("EVERLODE_TOPOLOGY", str(file))
    if named is None:
        assert settings().topology_of(STACK) == ONE
        return
    with pytest.raises(ConfigError, match=named) as caught:
        settings().topology_of(STACK)
    assert caught.value.code == "other_topology"
    assert "unset EVERLODE_TOPOLOGY" in caught.value.hint


@pytest.mark.parametrize("noun", ["node run validator", "projector run", "detector run"])
def test_process_whose_setting_contradicts_its_stack_does_not_start(
    noun: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    STACK.save(tmp_path)
    file = tmp_path / "topology.yaml"
    file.write_text("regions: [eu, us]\n")
    monkeypatch.setenv("EVERLODE_TOPOLOGY", str(file))
    words = [*noun.split(), "--region", "eu", "--node-id", "x", "--dir", str(tmp_path)]
    assert "the stack has eu" in refused(capsys, *words)


def test_settings_show_the_topology_of_the_stack(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    STACK.save(tmp_path)
    assert run(["settings", "--dir", str(tmp_path), "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["settings"]}
    assert (rows["topology.regions"]["value"], rows["topology.partitions"]["value"]) == ("eu", "3")
    assert {row.source for row in shown(settings(), STACK) if "topology." in row.name} == {"stack"}
