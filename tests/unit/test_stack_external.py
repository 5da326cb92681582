"""What `external` says of a file of endpoints that does not fit, before it asks anybody."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from everlode.cli.main import run
from everlode.errors import ConfigError
from everlode.stack import ExternalStack
from everlode.stack.compose.parts import default_ports, endpoints_of, outside
from everlode.stack.native.layout import Layout
from everlode.topics import Topology

SMALL = Topology(regions=("eu",), control_replication=1, control_min_insync=1)


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """Endpoints that are right, with their secrets in `tmp_path`."""
    layout = Layout(SMALL, tmp_path, mirrors=False, control_nodes=1, s3=True)
    found = endpoints_of(layout, outside(default_ports(layout)))
    (tmp_path / "secrets").mkdir()
    for name in ("eu-postgres", "s3-access", "s3-secret"):
        layout.secret(name).write_text("secret")
    made: dict[str, Any] = json.loads(found.model_dump_json())
    return made


def refused(given: dict[str, Any], folder: Path) -> ConfigError:
    file = folder / "given.json"
    file.write_text(json.dumps(given))
    with pytest.raises(ConfigError) as caught:
        ExternalStack(file, folder / "stack")
    assert "given.json" in caught.value.message
    assert caught.value.hint
    assert not (folder / "stack").exists()
    return caught.value


def test_file_that_fits_is_taken(given: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "given.json").write_text(json.dumps(given))
    assert ExternalStack(tmp_path / "given.json", tmp_path / "stack").topology == SMALL


def test_missing_field_is_named(given: dict[str, Any], tmp_path: Path) -> None:
    del given["regions"]["eu"]["kafka_bootstrap"]
    assert "regions.eu.kafka_bootstrap" in refused(given, tmp_path).message


def test_unknown_field_is_named(given: dict[str, Any], tmp_path: Path) -> None:
    given["regions"]["eu"]["sasl"] = "plain"
    assert "regions.eu.sasl" in refused(given, tmp_path).message


def test_regions_that_the_topology_does_not_have_are_named(
    given: dict[str, Any], tmp_path: Path
) -> None:
    given["regions"]["us"] = given["regions"]["eu"]
    assert "by the topology {'eu': 'eu.1'}" in refused(given, tmp_path).message


def test_secret_that_is_not_there_is_named(given: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "secrets/s3-secret").unlink()
    assert "s3-secret is no file" in refused(given, tmp_path).message


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json: No such file"):
        ExternalStack(tmp_path / "none.json", tmp_path)


WRONG = {
    "unknown provider": (["--provider", "helm"], "expected native, compose, external"),
    "no file": (["--provider", "external"], "belong together"),
    "file of another provider": (["--endpoints", "x.json"], "belong together"),
    "regions of what is elsewhere": (
        ["--provider", "external", "--endpoints", "x.json", "--regions", "eu"], "by its endpoints",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_options_that_do_not_fit_are_usage_errors(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, said = WRONG[kind]
    assert run(["stack", "up", *options, "--dir", str(tmp_path / "stack"), "--json"]) == 2
    assert said in json.loads(capsys.readouterr().out)["error"]["message"]
