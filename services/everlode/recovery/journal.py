"""The journal of a recovery: what is done, line by line, on disk before the next step begins.

A run that was killed is resumed by reading it: steps that are in it are not done again. So a line
that was changed would have them left out, or done to another generation: each line carries a hash
over all lines before it and itself. What is left of a journal that lost its end is one.

Invariants: what does not hash is no journal. Shell.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from everlode.errors import IntegrityError


class RecoveryJournal:
    """One JSON object a line: {"step", "at_ms", ..., "sha256"}. Thread-safe."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.done: dict[str, dict[str, Any]] = {}
        self._sha256 = ""
        self._guard = threading.Lock()
        if path.exists():
            whole, _, torn = path.read_bytes().rpartition(b"\n")
            if torn:  # killed while writing it: the step is done again
                os.truncate(path, len(whole) + 1 if whole else 0)
            for number, line in enumerate(whole.decode(errors="replace").splitlines(), 1):
                self._read(number, line)
        self._file = path.open("a", encoding="utf-8")
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)  # the file's name too
        os.close(folder)

    def _read(self, number: int, line: str) -> None:
        try:
            entry = json.loads(line)
            found = entry.pop("sha256")
            self._sha256 = _chained(self._sha256, entry)
            if found != self._sha256:
                raise ValueError("its hash is another")
            self.done[entry["step"]] = entry
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise IntegrityError(
                f"{self.path}, line {number}: not a journal, or one that was changed",
                code="journal_changed",
                hint="begin anew in another folder, with --staging",
            ) from None

    def note(self, step: str, **detail: Any) -> dict[str, Any]:
        """Write that a step is done; returns the entry. Raises: OSError: no room."""
        with self._guard:
            entry = {"step": step, "at_ms": time.time_ns() // 1_000_000, **detail}
            self._sha256 = _chained(self._sha256, entry)
            self._file.write(json.dumps({**entry, "sha256": self._sha256}) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            self.done = {**self.done, step: entry}  # who looks through it sees it whole
        return entry

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _chained(before: str, entry: dict[str, Any]) -> str:
    """The hash of an entry and of what was before it."""
    return hashlib.sha256((before + json.dumps(entry)).encode()).hexdigest()
