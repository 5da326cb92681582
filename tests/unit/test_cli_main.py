"""The command's entry: errors become exit codes, `--json` makes them JSON, nouns load lazily."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer._click.core import Command
from typer.core import TyperGroup

from everlode.cli.main import NOUNS, app, run


def test_cli_unknown_verb_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["node", "walk"]) == 2
    assert "walk" in capsys.readouterr().err


def test_cli_without_a_stack_names_where_it_looked_and_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EVERLODE_STACK_DIR", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    arguments = ["node", "run", "miner-registry", "--region", "eu", "--node-id", "x"]
    assert run(arguments) == 10
    error = capsys.readouterr().err
    assert str(tmp_path / "everlode" / "stack") in error
    assert "everlode stack up" in error


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
        "import sys; import everlode.cli.main, everlode.cli.node; "
        "print([m for m in ('faust', 'psycopg', 'minio', 'jinja2', 'cryptography') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_cli_completes_nouns_verbs_and_options_in_a_shell() -> None:
    def completed(*words: str) -> list[str]:
        asked = {
            "_EVERLODE_COMPLETE": "complete_bash", "COMP_WORDS": "everlode " + " ".join(words),
            "COMP_CWORD": str(len(words)),
        }  # fmt: skip
        program = "import sys; sys.argv = ['everlode']; from everlode.cli.entry import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", program], env=os.environ | asked, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        return done.stdout.split()

    assert completed("dlt", "re") == ["replay", "reissue"]
    assert "--operator" in completed("dlt", "replay", "--op")


@pytest.mark.parametrize("noun", sorted(NOUNS))
def test_cli_every_noun_that_is_listed_has_help(
    noun: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([noun, "--help"]) == 0
    assert "everlode" in capsys.readouterr().out


Words = tuple[str, ...]


def leaves(
    command: Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Command]]:
    """Every command that does something, and the words that lead to it."""
    if isinstance(command, TyperGroup):
        with typer.Context(command) as context:
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found is not None
                yield from leaves(found, (*path, name))
    else:
        yield path, command


LEAVES = {" ".join(path): command for path, command in leaves(typer.main.get_command(app))}


def test_cli_has_all_commands_of_the_catalogue() -> None:
    assert {
        "demo", "stack up", "stack down", "stack status", "stack logs", "stack doctor",
        "status clusters", "scope explain", "scope history", "scope plan", "backup create",
        "backup list", "backup show", "backup verify", "backup keys create", "backup keys list",
        "recover plan", "recover run", "node run", "projector run", "detector run",
        "coordinator run", "schema list", "schema show", "settings",
    } <= LEAVES.keys()  # fmt: skip


@pytest.mark.parametrize("words", LEAVES)
def test_cli_every_command_has_an_example_and_json(
    words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    assert run([*words.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Example: everlode {words}" in shown
    assert "--json" in shown
    assert run([*words.split(), "--no-such-option", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert "--no-such-option" in error["message"]
    assert error["hint"]


def test_cli_error_of_its_own_is_json_too_with_its_trace_beside(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr("everlode.cli.stack.look", broken)
    assert run(["stack", "status", "--dir", "/", "--json"]) == 1
    out, err = capsys.readouterr()
    error = json.loads(out)["error"]
    assert (error["code"], error["message"]) == ("internal", "ZeroDivisionError: a mistake")
    assert "Traceback" in err


@pytest.mark.parametrize("words", ["stack down", "stack logs"])
def test_cli_interrupted_is_130_and_says_so(
    words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("everlode.cli.stack.stack_dir", interrupted)
    assert run(words.split()) == 130
    assert "interrupted" in capsys.readouterr().err
    assert run([*words.split(), "--json"]) == 130
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "interrupted"
