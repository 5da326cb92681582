"""How much memory another process holds while it works, looked at again and again, and drawn."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from everlode.demo.charts import BOTTOM, HEIGHT, LEFT, WIDTH, Axes, path, rounded_up

LOOK_S = 0.25
MIB = 1 << 20
COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#8250df")


class Run(NamedTuple):
    """What one process took."""

    seconds: float
    memory: tuple[tuple[float, float], ...]
    """(second, MiB resident)."""
    said: Mapping[str, Any]
    """The last line of its standard output."""

    @property
    def most(self) -> float:
        """MiB."""
        return max(mib for _, mib in self.memory)


def watched(arguments: Sequence[str], log: Path, codes: Sequence[int] = (0,)) -> Run:
    """Run a process that says `ready`, waits for a line and ends with a JSON line.

    That has its exit code and seconds. Raises: RuntimeError: another code than `codes`.
    """
    with log.open("ab") as out:
        process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out, text=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        ready = process.stdout.readline()
        process.stdin.write("go\n")
        process.stdin.close()
        looked, began = psutil.Process(process.pid), time.monotonic()
        memory = []
        while process.poll() is None:
            memory.append((time.monotonic() - began, _resident(looked)))
            time.sleep(LOOK_S)
        done = process.stdout.read()
        process.stdout.close()
    last: dict[str, Any] = json.loads((done or "{}").splitlines()[-1])
    if ready != "ready\n" or last.get("code") not in codes:
        raise RuntimeError(f"{arguments[1]}: {last}\n{log.read_text()[-2000:]}")
    return Run(last["seconds"], tuple(memory), last)


def _resident(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss) / MIB
    except psutil.Error:
        return 0.0


def drawn(runs: Mapping[int, Run]) -> str:
    """Memory over time, a line a number of keys, as SVG."""
    top = rounded_up(max(run.most for run in runs.values()))
    axes = Axes(0.0, max(run.memory[-1][0] for run in runs.values()), top)
    lines = [
        f'<path d="{path(axes, run.memory, 9e9)}" fill="none" stroke="{COLOURS[n % 4]}"/>'
        f'<text x="{WIDTH - 260}" y="{HEIGHT - BOTTOM - 12 - 14 * n}" fill="{COLOURS[n % 4]}">'
        f"{keys:,} keys, at most {run.most:.0f} MiB</text>"
        for n, (keys, run) in enumerate(runs.items())
    ]
    marks = [
        *(f'<text x="4" y="{tick.at}">{tick.text}</text>' for tick in axes.values(" MiB")),
        *(f'<text x="{tick.at}" y="{HEIGHT - 4}">{tick.text}</text>' for tick in axes.seconds()),
        f'<path d="M{LEFT} 0V{HEIGHT - BOTTOM}H{WIDTH}" fill="none" stroke="#888"/>',
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" font-size="11">\n' + "\n".join([*marks, *lines]) + "\n</svg>\n"
    )
