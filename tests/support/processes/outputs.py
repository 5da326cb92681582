"""What a verb prints with `--json`, against the schema that is shipped of it."""

from __future__ import annotations

import contextlib
import io
import json

import jsonschema_rs

from everlode.cli.main import run
from everlode.cli.outputs import schema_of


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


def printed_by(words: list[str]) -> tuple[int, str]:
    """The exit code and the standard output of a verb, with --json, in this process."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = run([*words, "--json"])
    return code, out.getvalue()
