"""Memory and processor time by kind of process, from one pass over /proc a measurement.

A process counts for the nearest of its ancestors that has a kind. Memory is resident memory, each
page divided by the number of processes that share it (PSS), so that sums are right. Shell: reads
/proc (Linux).
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")
ALL = "all together"


class Seen(NamedTuple):
    """One process now. Times in seconds since it began."""

    parent: int
    began: int
    cpu_s: float


def processes(root: Path = Path("/proc")) -> dict[int, Seen]:
    """All processes of the machine; what ends meanwhile is left out."""
    found = {}
    for name in os.listdir(root):
        if not name.isdigit():
            continue
        try:
            stat = (root / name / "stat").read_text()
        except OSError:
            continue
        field = stat[stat.rindex(")") + 2 :].split()
        found[int(name)] = Seen(
            int(field[1]), int(field[19]), (int(field[11]) + int(field[12])) / TICKS
        )  # fmt: skip
    return found


def proportional(pid: int, root: Path = Path("/proc")) -> int:
    """Resident bytes of a process, shared pages by share; 0 when it has ended or may not be read.

    Dear: the kernel walks the process's pages.
    """
    with contextlib.suppress(OSError):
        for line in (root / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


class Meter:
    """Keeps the peaks of memory and the sums of processor time."""

    def __init__(self) -> None:
        self.peak_bytes: dict[str, int] = defaultdict(int)
        """By kind: greatest sum of resident memory at one moment; `all together` too."""
        self.cpu_s: dict[str, float] = defaultdict(float)
        """By kind: processor time, of children and of what has ended too."""
        self._spent: dict[tuple[int, int], float] = {}

    def measure(
        self,
        kinds: Mapping[int, str],
        seen: dict[int, Seen] | None = None,
        size: Callable[[int], int] | None = None,
    ) -> None:
        """Note what the processes `kinds` (pid → kind) and their children use.

        Memory only with `size` (pid → bytes, e.g. `proportional`).
        """
        seen = processes() if seen is None else seen
        now: dict[str, int] = defaultdict(int)
        for pid, process in seen.items():
            kind = self._kind(pid, kinds, seen)
            if kind is None:
                continue
            if size is not None:
                now[kind] += size(pid)
            before = self._spent.get((pid, process.began), 0.0)
            self._spent[pid, process.began] = process.cpu_s
            self.cpu_s[kind] += max(0.0, process.cpu_s - before)
        for kind, total in (*now.items(), (ALL, sum(now.values()))):
            self.peak_bytes[kind] = max(self.peak_bytes[kind], total)

    @staticmethod
    def _kind(pid: int, kinds: Mapping[int, str], seen: dict[int, Seen]) -> str | None:
        for _ in range(32):
            if pid in kinds:
                return kinds[pid]
            if pid not in seen or pid <= 1:
                return None
            pid = seen[pid].parent
        return None
