"""The command starts: every noun loads and shows its verbs, also to a shell; others are exit 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from everlode.cli.main import NOUNS, run


def test_help_lists_every_noun(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert [noun for noun in NOUNS if f" {noun} " not in shown] == []


@pytest.mark.parametrize("noun", NOUNS)
def test_noun_loads_and_shows_its_help(noun: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([noun, "--help"]) == 0
    assert f"everlode {noun}" in capsys.readouterr().out


def test_unknown_noun_is_a_usage_error_in_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["nonsense", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "usage"


@pytest.mark.parametrize(
    ("words", "offered"),
    [("everlode sc", "scope schema"), ("everlode scope s", "switchover"),
     ("everlode scope switchover task-manager/eu --w", "--wait"), ("everlode nonsense x", "")],
)  # fmt: skip
def test_shell_offers_nouns_verbs_and_options(words: str, offered: str) -> None:
    typed = words.split()
    script = (
        'source <(everlode --show-completion bash); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        '_everlode_completion everlode; echo "${COMPREPLY[@]}"'
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script, "bash", *typed], capture_output=True, text=True, check=True,
        env={**os.environ, "PATH": path}, timeout=60,
    )  # fmt: skip
    assert done.stdout.split() == offered.split()
