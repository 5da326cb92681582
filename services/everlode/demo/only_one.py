"""One demo of a user at a time: it takes the whole machine. What was killed is removed. Shell."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.util import get_temp_dir
from pathlib import Path
from typing import IO

from everlode.errors import Locked
from everlode.stack.native.lock import read_record

RUNNING = "running"
"""A file in the folder of a demo that runs, who holds its lock, or was killed: one that ends takes
it away."""
FOLDER = "everlode-demo-"
SOCKETS = "fork-server"
"""A link to the folder of its fork server's socket, whose path must be short."""
STACK = "stack"
"""Of its stack, within it."""


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


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Mark a demo's folder as this process's own, for the length of the block."""
    draft, mark = folder / f"{RUNNING}.new", folder / RUNNING
    with draft.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        draft.rename(mark)  # held before anybody can meet it
        try:
            yield
        finally:
            mark.unlink(missing_ok=True)


def note_fork_server(folder: Path) -> None:
    """Say in the folder which one beside it, for its socket, this process's fork server has."""
    (folder / SOCKETS).symlink_to(get_temp_dir())


def remove_killed() -> None:
    """Remove what this user's killed demos left in the temporary folder.

    Not what anybody holds: its demo, or a part of its stack that is about to end. What a demo left
    that ended by itself was meant to stay: its logs, or all with --keep.
    """
    for mark in Path(tempfile.gettempdir()).glob(f"{FOLDER}*/{RUNNING}"):
        with suppress(OSError):  # held, or gone meanwhile
            _remove(mark)


def _remove(mark: Path) -> None:
    """Raises: OSError: its demo holds it."""
    found = mark.parent.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        return
    # anything may bear that name: nothing is followed, or waited for
    with open(os.open(mark, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not any(process.alive for process in read_record(mark.parent / STACK)):
            with suppress(OSError):  # it had none yet
                shutil.rmtree((mark.parent / SOCKETS).readlink())
            shutil.rmtree(mark.parent, ignore_errors=True)
