"""The logs of a stack's processes, read on as they grow; of a stopped stack too. Shell: files.

A log that was full begins anew (see `bounded`): what came before is in its older part, and is read
there by who had not come to it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from everlode.errors import NotFound
from everlode.stack.native.bounded import older_of
from everlode.stack.native.layout import log_of


class Line(NamedTuple):
    """One line, and the process whose log has it, e.g. us/mirror."""

    process: str
    line: str


class Logs:
    """The log of one process, or of all."""

    def __init__(self, data_dir: Path, name: str | None = None) -> None:
        """`name`: a process; all without one.

        Raises: NotFound: it has no log; names those that have one.
        """
        found = sorted((data_dir / "logs").glob("*.log"))
        self._paths = [p for p in found if name is None or p == log_of(data_dir, name)]
        if not self._paths:
            raise NotFound(
                f"no log of {name or 'a stack'} in {data_dir}",
                hint=f"there are: {', '.join(map(_process, found)) or 'none'}",
            )
        self._offsets: dict[Path, int] = {}
        self._older = {path: _identity(path) for path in self._paths}
        """Log → which older part it had when it was last looked at."""

    @property
    def several(self) -> bool:
        """True when lines come from more than one process."""
        return len(self._paths) > 1

    def last(self, count: int) -> Iterator[Line]:
        """The last lines of each log; what comes after them is `grown`."""
        for path in self._paths:
            self._older[path] = _identity(path)
            lines = path.read_text(errors="replace").splitlines()[-count:] if count else []
            self._offsets[path] = path.stat().st_size
            if lacking := count - len(lines):
                with suppress(FileNotFoundError):
                    before = older_of(path).read_text(errors="replace").splitlines()
                    lines = [*before[-lacking:], *lines]
            for line in lines:
                yield Line(_process(path), line)

    def grown(self) -> Iterator[Line]:
        """The whole lines that have come since they were last read."""
        for path in self._paths:
            for line in self._unread(path).decode(errors="replace").splitlines():
                yield Line(_process(path), line)

    def _unread(self, path: Path) -> bytes:
        offset, older, before = self._offsets.get(path, 0), _identity(path), b""
        if older != self._older[path]:
            with older_of(path).open("rb") as moved:
                if path.stat().st_size >= os.fstat(moved.fileno()).st_size:
                    return b""  # it is copied and not cut yet
                moved.seek(offset)
                offset, before = 0, moved.read()
            self._older[path] = older
        with path.open("rb") as log:
            log.seek(offset)
            new = log.read()
        end = new.rfind(b"\n") + 1
        self._offsets[path] = offset + end
        return before + new[:end]


def _identity(path: Path) -> tuple[int, int] | None:
    """Which older part a log has; None: none."""
    try:
        found = older_of(path).stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _process(path: Path) -> str:
    return path.stem.replace("-", "/", 1)
