"""One demo of a user at a time: it takes the whole machine. What was killed is removed. Shell."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

from everlode.errors import Locked

RUNNING = "running"
"""A file in the folder of a demo that runs, or was killed: one that ends takes it away."""
FOLDER = "everlode-demo-"


def only_one() -> IO[str]:
    """Hold the user's demo lock. Raises: Locked: another demo runs."""
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    path = base / f"everlode-demo-{os.getuid()}.lock"
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise Locked(
            f"another demo runs (process {holder})", hint="wait for it, or stop it"
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def remove_killed() -> None:
    """Remove what this user's killed demos left; for the holder of the lock alone.

    What a demo left that ended by itself was meant to stay: its logs, or all with --keep.
    """
    for mark in Path(tempfile.gettempdir()).glob(f"{FOLDER}*/{RUNNING}"):
        if mark.stat().st_uid == os.getuid():
            shutil.rmtree(mark.parent, ignore_errors=True)
