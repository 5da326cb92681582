"""What a process has reported: the entries in its log, one JSON object a line.

Lines of others (a library, a traceback), and one that is being written, are passed over.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any


def entries(path: Path) -> list[dict[str, Any]]:
    """All entries in a log so far, in order; none while there is no file."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and "entry" in value:
            found.append(value)
    return found


def await_entry(path: Path, entry: str, *, timeout: float = 60, **fields: Any) -> dict[str, Any]:
    """The first entry of this class that has these fields; an AssertionError after `timeout` s."""
    deadline = time.monotonic() + timeout
    while True:
        for found in entries(path):
            if found["entry"] == entry and found.items() >= fields.items():
                return found
        assert time.monotonic() < deadline, f"no {entry} {fields} in {path}: {entries(path)[-20:]}"
        time.sleep(0.05)
