"""What a process has reported: the entries in its log, to be waited for and compared."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from everlode.telemetry import entries as known


def entries(path: Path) -> list[dict[str, Any]]:
    """The entries of a log, in order; lines of other programs, and one half written, are left out.

    Each is the JSON object of `everlode.telemetry.sink.as_json`.
    """
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return [entry for line in lines if (entry := entry_in(line))]


def entry_in(line: str | bytes) -> dict[str, Any]:
    """The entry on a line; empty when there is none."""
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) and "entry" in value else {}


def matching(found: list[dict[str, Any]], kind: str = "", **fields: Any) -> list[dict[str, Any]]:
    """The entries of this class (any without one) with these fields; of `text` a part is enough."""
    assert not kind or hasattr(known, kind), f"no entry is named {kind}"
    part = fields.pop("text", "")
    return [
        e
        for e in found
        if (not kind or e["entry"] == kind)
        and part in e["text"]
        and all(e.get(name) == value for name, value in fields.items())
    ]


def await_entry(
    path: Path,
    kind: str,
    timeout: float = 60,
    ended: Callable[[], bool] = lambda: False,
    **fields: Any,
) -> dict[str, Any]:
    """The first entry that matches, once it is there; fails at once when the process has ended."""
    deadline = time.monotonic() + timeout
    while True:
        over = ended()  # asked first: what was reported by then is in the log
        found = matching(entries(path), kind, **fields)
        if found:
            return found[0]
        log = path.read_text(errors="replace") if path.exists() else "no log"
        assert not over, f"it ended without {kind} {fields}:\n{log}"
        assert time.monotonic() < deadline, f"no {kind} {fields} in {timeout} s:\n{log}"
        time.sleep(0.05)
