"""The options that verbs share mean the same in every one of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer._click.core import Command
from typer.core import TyperGroup

from everlode.cli import options
from everlode.cli.main import app, run


def leaves(command: Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Command]]:
    """The words of every verb, and its command."""
    if isinstance(command, TyperGroup):
        with typer.Context(command) as context:
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found is not None
                yield from leaves(found, (*path, name))
    else:
        yield " ".join(path), command


def switches(command: Command) -> set[str]:
    return {switch for parameter in command.params for switch in parameter.opts}


VERBS = dict(leaves(typer.main.get_command(app)))
ON_A_STACK = sorted(words for words, command in VERBS.items() if "--dir" in switches(command))


class Looked(Exception):
    """A verb has come to the folder that it works on."""


def call(words: str, *more: str) -> list[str]:
    """A command line with all that the verb requires."""
    arguments = words.split()
    for parameter in VERBS[words].params:
        if parameter.required:
            arguments += [] if parameter.param_type_name == "argument" else [parameter.opts[0]]
            arguments.append("1")  # a text and a number
    return [*arguments, *more]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home, and verbs that end where they would look for the stack."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("EVERLODE_STACK_DIR", raising=False)
    monkeypatch.chdir(tmp_path)

    def look(path: Path) -> Path:
        raise Looked(path.expanduser().absolute())

    monkeypatch.setattr(options, "absolute", look)
    return tmp_path


def test_verbs_that_work_on_a_stack_are_there() -> None:
    assert {"stack up", "node run", "backup keys list", "scope plan", "status clusters"} <= set(
        ON_A_STACK
    )


@pytest.mark.parametrize("words", ON_A_STACK)
def test_folder_of_the_stack_is_found_in_the_same_way(
    words: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looked(*more: str) -> Path:
        with pytest.raises(Looked) as caught:
            run(call(words, *more))
        found = caught.value.args[0]
        assert isinstance(found, Path)
        return found

    assert looked() == home / ".local" / "state" / "everlode" / "stack"
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    assert looked() == home / "state" / "everlode" / "stack"
    monkeypatch.setenv("EVERLODE_STACK_DIR", "~/mine")
    assert looked() == home / "mine"
    assert looked("--dir", "here") == home / "here"
    assert looked("--dir", "~/there") == home / "there"


@pytest.mark.parametrize("switch", ["--dir", "--json", "--keys", "--bucket", "--node-id"])
def test_shared_option_has_one_help_in_all_verbs(switch: str) -> None:
    helps = {
        getattr(parameter, "help", "")
        for command in VERBS.values()
        for parameter in command.params
        if switch in parameter.opts
    }
    assert len(helps) == 1


def test_folder_of_keys_is_the_option_the_setting_or_in_the_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EVERLODE_KEYS_DIR", raising=False)
    assert options.keys_dir(None, tmp_path) == tmp_path / "keys"
    monkeypatch.setenv("EVERLODE_KEYS_DIR", "/mine")
    assert options.keys_dir(None, tmp_path) == Path("/mine")
    assert options.keys_dir(Path("/given"), tmp_path) == Path("/given")
