"""The user's cache of parts: one folder, one lock, nothing half-done.

Invariants: a finished part appears under its name by one rename; two processes never provision at
once; nothing is ever written into the work tree. Shell: files and a file lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from everlode.errors import ConfigError, Unavailable


def cache_dir(chosen: Path | None = None) -> Path:
    """`chosen`, else `$XDG_CACHE_HOME/everlode`, else `~/.cache/everlode`; created.

    Raises: ConfigError: it cannot be created or written.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = (chosen or base / "everlode").expanduser().absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(
            f"cache folder {path}: {exc.strerror}",
            hint="set EVERLODE_CACHE to a folder that you may write",
        ) from exc
    if not os.access(path, os.W_OK):
        raise ConfigError(
            f"cache folder {path} cannot be written",
            hint="set EVERLODE_CACHE to a folder that you may write",
        )
    return path


@contextlib.contextmanager
def provisioning_lock(cache: Path) -> Iterator[None]:
    """Held while parts are put into `cache`: others wait, and find the work done."""
    with (cache / "provision.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def assembled(target: Path) -> Iterator[Path]:
    """A scratch folder that becomes `target` by one rename when the block ends well.

    On any error the scratch folder is removed and `target` does not appear. Call it with the
    provisioning lock held: what an earlier process left when it was killed is removed first.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(left, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield scratch
        scratch.chmod(0o755)
        os.replace(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def require_room(folder: Path, needed: int, what: str) -> None:
    """Refuse to begin what the disk cannot hold. `needed` in bytes.

    Raises: Unavailable: less is free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise Unavailable(
            f"{folder}: {free // 2**20} MiB free, {what} needs {needed // 2**20} MiB",
            code="no_room",
            hint="free some space, or choose another folder (--dir, EVERLODE_CACHE)",
        )
