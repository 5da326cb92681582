"""What a supervisor writes down of its stack: its state, and what it was started as. Shell: files.

The state is starting, ready, stopping, stopped or failed, with the pid of who wrote it.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

STATE_FILE = "state.json"
OPTIONS_FILE = "stack.json"
SUPERVISOR_LOG = "supervisor.log"


def write_state(data_dir: Path, state: str, **more: Any) -> None:
    """Replace the state that `status` and a waiting `up` read."""
    draft = data_dir / f"{STATE_FILE}.tmp"
    draft.write_text(json.dumps({"state": state, "pid": os.getpid(), "at": time.time(), **more}))
    os.replace(draft, data_dir / STATE_FILE)


def read_state(data_dir: Path) -> dict[str, Any]:
    """The last state; empty when there is none."""
    return _read(data_dir / STATE_FILE)


def write_options(data_dir: Path, options: dict[str, Any]) -> None:
    """Replace what `load_options` reads; a supervisor reads it at any moment."""
    draft = data_dir / f"{OPTIONS_FILE}.tmp"
    draft.write_text(json.dumps(options, indent=1))
    os.replace(draft, data_dir / OPTIONS_FILE)


def load_options(data_dir: Path) -> dict[str, Any]:
    """What `write_options` wrote; empty when nothing was."""
    return _read(data_dir / OPTIONS_FILE)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
