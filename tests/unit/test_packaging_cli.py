"""The command line starts: every noun loads and shows its verbs, an unknown one is exit 2."""

from __future__ import annotations

import json

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
