"""One demo of a user at a time: it takes the whole machine. Shell."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path
from typing import IO

from everlode.errors import Locked


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
