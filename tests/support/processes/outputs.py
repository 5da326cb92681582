"""What a verb prints with `--json`, against the schema that is shipped of it."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any
from unittest.mock import patch

import jsonschema_rs

from everlode.cli.main import run
from everlode.cli.outputs import OUTPUTS, schema_of


def misfits(verb: str, printed: str, *, lines: bool = False) -> list[str]:
    """Where the documents, one or one a line, do not fit; of an error by the schema of errors."""
    found = []
    for text in printed.splitlines() if lines else [printed]:
        document = json.loads(text)
        failed = isinstance(document, dict) and document.keys() == {"error"}
        validator = jsonschema_rs.Draft202012Validator(schema_of("error" if failed else verb))
        found += [
            f"{verb}: /{'/'.join(map(str, error.instance_path))}: {error.message}"
            for error in validator.iter_errors(document)
        ]
    return found


def verb_of(words: Sequence[str]) -> str:
    """The verb that a command's words begin with: of `backup keys list` the whole."""
    return next(name for n in (3, 2, 1) if (name := " ".join(words[:n])) in OUTPUTS)


def fitting(words: Sequence[str], printed: str) -> Any:
    """The one document that a command printed, which fits its verb's schema."""
    assert misfits(verb_of(words), printed) == []
    return json.loads(printed)


def printed_by(words: Sequence[str], env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """The exit code and the standard output of a verb, with --json, in this process.

    A process of its own would import everything first, which takes it longer than most verbs.
    """
    out = io.StringIO()
    with contextlib.redirect_stdout(out), patch.dict(os.environ, env or {}):
        code = run([*words, "--json"])
    return code, out.getvalue()
