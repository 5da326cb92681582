"""The command's entry: errors become exit codes, `--json` makes them JSON, nouns load lazily."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from everlode.cli.main import NOUNS, run


def test_cli_unknown_verb_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["node", "walk"]) == 2
    assert "walk" in capsys.readouterr().err


def test_cli_without_a_stack_names_the_way_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EVERLODE_STACK_DIR", raising=False)
    arguments = ["node", "run", "miner-registry", "--region", "eu", "--node-id", "x"]
    assert run(arguments) == 2
    assert "EVERLODE_STACK_DIR" in capsys.readouterr().err


def test_cli_stack_that_is_not_there_is_exit_10_not_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["node", "run", "validator", "--region", "eu", "--node-id", "x", "--dir"]
    assert run([*arguments, str(tmp_path)]) == 10
    assert "everlode stack up" in capsys.readouterr().err


def test_cli_json_error_is_json_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["stack", "nothing", "--json"]) == 2
    out = capsys.readouterr().out
    assert set(json.loads(out)["error"]) == {"code", "message", "hint"}


def test_cli_entry_for_nodes_does_not_import_what_only_others_need() -> None:
    program = (
        "import sys; import everlode.cli.main, everlode.nodes.build; "
        "print([m for m in ('faust', 'psycopg', 'minio', 'jinja2', 'cryptography') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("noun", sorted(NOUNS))
def test_cli_every_noun_that_is_listed_has_help(
    noun: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([noun, "--help"]) == 0
    assert "everlode" in capsys.readouterr().out
