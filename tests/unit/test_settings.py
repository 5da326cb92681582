"""Settings: one list of variables, unknown ones refused by name, values shown with sources."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from everlode.cli.main import run
from everlode.errors import ConfigError
from everlode.settings.environment import VARIABLES, check_known, hide_login, settings, shown
from everlode.settings.topology import load_topology

ROOT = Path(__file__).parents[2]
READ = sorted(
    path
    for folder in ("services", "streams", "schemas", "tests", "benchmarks", "examples", "docs")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".md"}
) + [ROOT / name for name in ("README.md", "Makefile", ".ci/run")]
PLANTED = {"EVERLODE_BEAT", "EVERLODE_RENEW", "EVERLODE_NONSENSE", "EVERLODE_TOPOLOGIES"}
"""Wrong on purpose, in this file."""


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_every_variable_that_is_named_anywhere_is_on_the_list() -> None:
    named = {
        name.rstrip("_")
        for path in READ
        for name in re.findall(r"\bEVERLODE_[A-Z0-9_]+", path.read_text())
    }
    assert named - PLANTED == named & set(VARIABLES)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("EVERLODE_BEAT", "EVERLODE_BEAT_MS"),
        ("EVERLODE_TOPOLOGIES", "EVERLODE_TOPOLOGY"),
        ("everlode_renew", "EVERLODE_RENEW_MS"),
        ("EVERLODE_NONSENSE", ""),
    ],
)
def test_unknown_variable_is_refused_with_the_nearest_known(name: str, nearest: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_known(["PATH", *VARIABLES, name])
    assert caught.value.message.startswith(f"{name}: ")
    assert nearest in caught.value.message
    assert (caught.value.code, caught.value.exit_code) == ("unknown_setting", 2)


@pytest.mark.parametrize(
    "words",
    [
        "settings",
        "stack status",
        "backup list",
        "node run validator --region eu --node-id x",
        "projector run --region eu --node-id x",
        "demo",
    ],
)
def test_unknown_variable_stops_every_verb(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVERLODE_NONSENSE", "1")
    assert run([*words.split(), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert "EVERLODE_NONSENSE" in error["message"]
    assert error["hint"]
    assert run([words.split()[0], "--help"]) == 0


@pytest.mark.parametrize(
    "program",
    [
        "from everlode.stack.native.supervisor import main; sys.argv.insert(1, '--dir')",
        "from everlode.workload.actors import main; sys.argv[1:] = ['eu', 'no-plan.json']",
    ],
    ids=["supervisor", "actors"],
)
def test_unknown_variable_stops_a_process_that_is_not_a_verb(program: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {program}; sys.exit(main())", str(tmp_path / "s")],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "EVERLODE_NONSENSE": "1"},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    state = tmp_path / "s" / "state.json"
    assert "EVERLODE_NONSENSE" in done.stderr + (state.read_text() if state.exists() else "")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"BEAT_MS": "soon"}, "EVERLODE_BEAT_MS=soon"),
        ({"S3": "floppy"}, "EVERLODE_S3=floppy"),
        ({"LOG": "loud"}, "EVERLODE_LOG=loud"),
        ({"S3": "rclone", "REQUIRE_MINIO": "1"}, "EVERLODE_REQUIRE_MINIO"),
        ({"FENCE_AFTER_MS": "1000"}, "fence_after_ms"),
        ({"ENDED_AT_HAND": "0"}, "EVERLODE_ENDED_AT_HAND=0"),
        ({"ANSWERS_AT_HAND": "999"}, "EVERLODE_ANSWERS_AT_HAND=999"),
        ({"ANSWERS_AT_HAND": "50001"}, "EVERLODE_ANSWERS_AT_HAND=50001"),
    ],
)
def test_wrong_value_and_contradiction_are_refused_by_name(
    values: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"EVERLODE_{name}", value)
    with pytest.raises(ConfigError, match=named) as caught:
        settings()
    assert caught.value.exit_code == 2


def test_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERLODE_S3", "")
    monkeypatch.setenv("EVERLODE_BEAT_MS", "")
    assert settings() == settings().model_copy(update={"s3": "auto", "beat_ms": 1000})


@pytest.mark.parametrize("shell", ["a", "b"])
def test_payouts_are_in_the_stacks_folder_wherever_the_shell_stands(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / shell).mkdir()
    monkeypatch.chdir(tmp_path / shell)
    stack = tmp_path / "stack"
    assert settings().payouts(stack) == stack / "payouts"
    monkeypatch.setenv("EVERLODE_PAYOUT_DIR", "money")
    assert settings().payouts(stack) == stack / "money"
    monkeypatch.setenv("EVERLODE_PAYOUT_DIR", str(tmp_path / "else"))
    assert settings().payouts(stack) == tmp_path / "else"


def test_settings_are_shown_with_value_source_and_meaning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text("regions: [eu, us]\n")
    monkeypatch.setenv("EVERLODE_TOPOLOGY", str(file))
    monkeypatch.setenv("EVERLODE_MAVEN", "https://me:secret@maven.example/m2")
    rows = {row.name: row for row in shown(settings())}
    assert rows.keys() >= set(VARIABLES)
    assert all(row.meaning for name, row in rows.items() if name in VARIABLES)
    assert rows["EVERLODE_TOPOLOGY"][1:3] == (str(file), "environment")
    assert rows["EVERLODE_BEAT_MS"][1:3] == ("1000", "default")
    assert rows["topology.regions"][1:3] == ("eu,us", "file")
    assert rows["topology.partitions"][1:3] == ("2", "default")
    for more in ((), ("--json",)):
        assert run(["settings", *more]) == 0
        printed = capsys.readouterr().out
        assert "EVERLODE_BEAT_MS" in printed
        assert "secret" not in printed.replace("secrets", "")
    assert json.loads(printed)["settings"][0].keys() == {"name", "value", "source", "meaning"}


def test_address_is_shown_without_its_login() -> None:
    assert hide_login("https://me:pw@host:1/x") == "https://***@host:1/x"
    assert hide_login("https://host/x") == "https://host/x"
    assert hide_login("a@b") == "a@b"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("regions: [eu", "while parsing"),
        ("- eu\n", "mapping"),
        ("regions: [eu, eu]\n", "once"),
        ("partitions: many\n", "partitions"),
        ("colour: red\n", "colour"),
    ],
)
def test_topology_file_that_is_wrong_is_named_with_setting_and_field(
    tmp_path: Path, text: str, named: str
) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_topology(file)
    assert caught.value.message.startswith(f"EVERLODE_TOPOLOGY={file}: ")
    assert named in caught.value.message
    assert caught.value.hint


def test_topology_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_topology(tmp_path / "none.yaml")
