"""The journal of everything that was acknowledged to the demo's producers.

One JSON line an answer, in the order they came; `proof` reads it, and nothing else of the demo.
Shell.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from everlode.events.base import CommandAnswered


class Journal:
    """Appends answers; on disk within a second. Thread-safe."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")
        self._guard = threading.Lock()
        self._synced = time.monotonic()

    def answered(self, answer: CommandAnswered, command: dict[str, Any], took_ms: int) -> None:
        """Note an answer, what was asked, and how long it took."""
        line = json.dumps(
            {
                "at_ms": time.time_ns() // 1_000_000,
                "took_ms": took_ms,
                "command_id": answer.command_id,
                "type": answer.command_type,
                "key": answer.aggregate_id,
                "outcome": answer.outcome,
                "code": answer.code,
                "region": answer.region,
                "node": answer.node_id,
                "command": command,
                "facts": [
                    [f.event_id, f.event_type, f.topic, f.partition, f.seq, f.version]
                    for f in answer.facts
                ],
            },
            default=str,
        )
        self._line(line)

    def failed(self, command_id: str, kind: str, key: str, error: str, took_ms: int) -> None:
        """Note a command without an answer: an error that the client saw."""
        now = time.time_ns() // 1_000_000
        entry = {
            "at_ms": now, "took_ms": took_ms, "command_id": command_id, "type": kind, "key": key,
            "outcome": "error", "code": error, "region": "", "node": "", "command": {}, "facts": [],
        }  # fmt: skip
        self._line(json.dumps(entry))

    def _line(self, line: str) -> None:
        with self._guard:
            self._file.write(line + "\n")
            if time.monotonic() - self._synced > 1:
                self._sync()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def close(self) -> None:
        """Put everything on disk."""
        with self._guard:
            self._sync()
            self._file.close()


def read(paths: list[Path]) -> Iterator[dict[str, Any]]:
    """All entries of the journals, each file in order."""
    for path in paths:
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)
