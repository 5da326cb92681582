"""A process that is asked in lines of JSON, answers each with one, and ends with its input."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self


class Child:
    """One such process; it says a line of any kind once it is ready."""

    ends_s = 60
    """How long it may take to end."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out, text=True
            )

    def __enter__(self) -> Self:
        self._said()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=self.ends_s)

    def ask(self, **asked: Any) -> Any:
        """Its answer. Raises: RuntimeError: it has ended; with the end of its log."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return json.loads(self._said())

    def _said(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name}: {self._log.read_text()[-4000:]}")
        return line
