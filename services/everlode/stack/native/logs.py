"""The logs of a stack's processes, read on as they grow; of a stopped stack too. Shell: files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from everlode.errors import NotFound
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

    @property
    def several(self) -> bool:
        """True when lines come from more than one process."""
        return len(self._paths) > 1

    def last(self, count: int) -> Iterator[Line]:
        """The last lines of each log; what comes after them is `grown`."""
        for path in self._paths:
            lines = path.read_text(errors="replace").splitlines()[-count:] if count else []
            self._offsets[path] = path.stat().st_size
            for line in lines:
                yield Line(_process(path), line)

    def grown(self) -> Iterator[Line]:
        """The whole lines that have come since they were last read."""
        for path in self._paths:
            offset = self._offsets.get(path, 0)
            with path.open("rb") as log:
                log.seek(offset)
                new = log.read()
            end = new.rfind(b"\n") + 1
            self._offsets[path] = offset + end
            for line in new[:end].decode(errors="replace").splitlines():
                yield Line(_process(path), line)


def _process(path: Path) -> str:
    return path.stem.replace("-", "/", 1)
