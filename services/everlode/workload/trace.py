"""The trace of a production GPU cluster: nodes are miners, pods are tasks.

Files: `nodes.csv` (sn, cpu_milli, memory_mib, gpu, model) and `pods.csv` (name, cpu_milli,
memory_mib, num_gpu, gpu_milli, gpu_spec, qos, pod_phase, creation_time, deletion_time,
scheduled_time), times in seconds from the trace's zero. Source: Alibaba cluster-trace-gpu-v2023.

TaskType rule: no GPU → data-processing; two or more → training; one GPU: share below 500 →
inference, 500 to 999 → evaluation; a whole GPU: best effort → fine-tuning, else training.
"""

from __future__ import annotations

import csv
import random
from bisect import bisect_right
from collections import Counter
from math import exp, log
from pathlib import Path
from typing import NamedTuple, TypeVar

from everlode.errors import ConfigError

T = TypeVar("T")
NODE_COLUMNS = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
POD_COLUMNS = (
    "name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "gpu_spec", "qos", "pod_phase",
    "creation_time", "deletion_time", "scheduled_time",
)  # fmt: skip
PHASES = {"Running": 5193, "Failed": 1870, "Pending": 897, "Succeeded": 192}
"""Published proportions, of 8152 pods; the generated workload follows them."""
NODE_MIX = {
    (8, "G2"): 549, (2, "T4"): 387, (2, "P100"): 131, (8, "G3"): 39, (4, "V100M16"): 28,
    (8, "V100M32"): 21, (1, "V100M16"): 19, (4, "T4"): 17, (4, "V100M32"): 9, (8, "V100M16"): 8,
    (1, "P100"): 3, (1, "A10"): 2,
}  # fmt: skip
"""Published mix of 1,213 nodes: (GPUs, model) → nodes."""
GPU_MIX = {1: 6989, 0: 1088, 8: 44, 2: 16, 4: 15}
SHARE_MIX = {
    1000: 3911, 810: 1078, 470: 750, 320: 328, 650: 253, 230: 140, 460: 128, 590: 75, 160: 74,
    550: 72, 220: 62, 370: 47, 110: 24, 480: 19, 50: 7, 330: 7, 350: 6, 270: 4, 440: 2, 140: 1,
    290: 1,
}  # fmt: skip
"""Published shares, in thousandths of a GPU, of the pods that ask for one."""
QOS_MIX = {"LS": 4647, "BE": 3398, "Burstable": 100, "Guaranteed": 7}
SPAN_S = (10_300_000, 12_900_000)
"""Nine of ten pods were created in this part of the trace, in seconds from its zero."""
LENGTHS_S = (
    (0.0, 30), (0.05, 70), (0.25, 210), (0.5, 690), (0.75, 2_300), (0.9, 7_900), (0.95, 18_300),
    (0.98, 50_000), (0.99, 115_000), (0.995, 950_000), (0.999, 8_800_000), (1.0, 12_500_000),
)  # fmt: skip
"""Quantiles of how long pods ran, straight lines between the logarithms."""
LONGEST = 12
"""So many of the longest pods are in every share, so that some task is always under way."""


class Node(NamedTuple):
    """One miner-to-be."""

    name: str
    cpu_milli: int
    memory_mib: int
    gpus: int
    model: str


class Pod(NamedTuple):
    """One task-to-be; times in seconds from the trace's zero."""

    name: str
    cpu_milli: int
    memory_mib: int
    gpus: int
    gpu_milli: int
    qos: str
    phase: str
    created_s: int
    deleted_s: int

    @property
    def task_type(self) -> str:
        """By the module's rule."""
        if self.gpus == 0:
            return "data-processing"
        if self.gpus > 1:
            return "training"
        if self.gpu_milli < 500:
            return "inference"
        if self.gpu_milli < 1000:
            return "evaluation"
        return "fine-tuning" if self.qos == "BE" else "training"


class Trace(NamedTuple):
    """A workload: where it came from, its nodes and its pods, pods by creation time."""

    source: str
    nodes: tuple[Node, ...]
    pods: tuple[Pod, ...]


def _rows(path: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Lines with their numbers. Raises: ConfigError: names file, line, column, and the way out."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            found = tuple(reader.fieldnames or ())
            if found != columns:
                strange = [f"column {x!r} is unknown" for x in found if x not in columns]
                strange += [f"column {x!r} is missing" for x in columns if x not in found]
                strange += ["the columns are in another order"]
                raise ConfigError(
                    f"{path}, line 1: {strange[0]}",
                    code="trace",
                    hint=f"expected the header: {','.join(columns)}",
                )
            rows = []
            for row in reader:
                if None in row or None in row.values():
                    raise ConfigError(
                        f"{path}, line {reader.line_num}: {len(columns)} columns expected",
                        code="trace",
                        hint="mend or remove the line",
                    )
                rows.append((reader.line_num, row))
            return rows
    except FileNotFoundError:
        raise ConfigError(
            f"{path} is missing",
            code="trace",
            hint="--trace (or EVERLODE_TRACE) names a folder with nodes.csv and pods.csv",
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: {error}", code="trace") from None


def _number(path: Path, line: int, row: dict[str, str], column: str) -> int:
    try:
        value = int(row[column])
        if value < 0:
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"{path}, line {line}, column {column}: {row[column]!r} is no whole number",
            code="trace",
            hint="mend or remove the line",
        ) from None
    return value


def _unique(path: Path, column: str, names: list[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1 or not name:
            what = "is there twice" if name else "is empty"
            raise ConfigError(
                f"{path}, column {column}: {name!r} {what}",
                code="trace",
                hint="every line needs a name of its own: mend or remove the line",
            )


def load(folder: Path) -> Trace:
    """Read a trace. Raises: ConfigError: names what is wrong, where, and what was expected."""
    at = folder / "nodes.csv"
    nodes = tuple(
        Node(
            row["sn"], _number(at, line, row, "cpu_milli"), _number(at, line, row, "memory_mib"),
            _number(at, line, row, "gpu"), row["model"],
        )
        for line, row in _rows(at, NODE_COLUMNS)
    )  # fmt: skip
    pods = [_pod(folder / "pods.csv", line, row) for line, row in _rows(folder / "pods.csv",
                                                                      POD_COLUMNS)]  # fmt: skip
    _unique(at, "sn", [n.name for n in nodes])
    _unique(folder / "pods.csv", "name", [p.name for p in pods])
    if not nodes or not pods:
        raise ConfigError(
            f"{folder}: nodes.csv or pods.csv has no lines below its header",
            code="trace",
            hint="at least one node and one pod are needed",
        )
    return Trace(str(folder.name), nodes, tuple(sorted(pods, key=lambda p: (p.created_s, p.name))))


def _pod(path: Path, line: int, row: dict[str, str]) -> Pod:
    if row["pod_phase"] not in PHASES:
        raise ConfigError(
            f"{path}, line {line}, column pod_phase: {row['pod_phase']!r} is unknown",
            code="trace",
            hint=f"expected one of: {', '.join(PHASES)}",
        )
    created = _number(path, line, row, "creation_time")
    deleted = _number(path, line, row, "deletion_time")
    if deleted < created:
        raise ConfigError(
            f"{path}, line {line}, column deletion_time: {deleted} is before the creation_time",
            code="trace",
            hint="mend or remove the line",
        )
    return Pod(
        row["name"], _number(path, line, row, "cpu_milli"),
        _number(path, line, row, "memory_mib"), _number(path, line, row, "num_gpu"),
        _number(path, line, row, "gpu_milli"), row["qos"], row["pod_phase"], created, deleted,
    )  # fmt: skip


def _deal(rng: random.Random, mix: dict[T, int], count: int) -> list[T]:
    """`count` items in the mix's proportions, the greatest remainders rounded up, shuffled."""
    total = sum(mix.values())
    parts = {item: divmod(count * n, total) for item, n in mix.items()}
    missing = count - sum(whole for whole, _ in parts.values())
    extra = set(sorted(parts, key=lambda item: -parts[item][1])[:missing])
    found = [item for item, (whole, _) in parts.items() for _ in range(whole + (item in extra))]
    rng.shuffle(found)
    return found


def _length(quantile: float) -> int:
    """How many seconds a pod runs, of `LENGTHS_S`."""
    i = min(bisect_right(LENGTHS_S, (quantile, 0)), len(LENGTHS_S) - 1)
    (low, least), (high, most) = LENGTHS_S[i - 1], LENGTHS_S[i]
    return round(least * exp((quantile - low) / (high - low) * log(most / least)))


def generate(seed: int, pods: int = 8152, nodes: int = 1213) -> Trace:
    """A workload with the trace's published proportions. Deterministic by seed."""
    rng = random.Random(seed)  # noqa: S311 - a workload, not a secret
    made_nodes = tuple(
        Node(f"gen-node-{i:04}", 64_000, 262_144, gpus, model)
        for i, (gpus, model) in enumerate(_deal(rng, NODE_MIX, nodes))
    )
    phases, counts = _deal(rng, PHASES, pods), _deal(rng, GPU_MIX, pods)
    shares, classes = _deal(rng, SHARE_MIX, pods), _deal(rng, QOS_MIX, pods)
    made = []
    for i in range(pods):
        length = _length(rng.random())
        created = max(0, min(rng.randrange(*SPAN_S), SPAN_S[1] - length))  # none outlives the trace
        gpu_milli = shares[i] if counts[i] == 1 else 1000 * min(1, counts[i])
        made.append(
            Pod(f"gen-pod-{i:04}", 6000, 16_384, counts[i], gpu_milli, classes[i], phases[i],
                created, created + length)
        )  # fmt: skip
    return Trace(
        f"generated, seed {seed}",
        made_nodes,
        tuple(sorted(made, key=lambda p: (p.created_s, p.name))),
    )


def share_of(trace: Trace, share: float) -> Trace:
    """Every so many pods and nodes, evenly over the trace, and its longest pods.

    Raises: ConfigError.
    """
    if not 0 < share <= 1:
        raise ConfigError(
            f"--share {share}: above 0, at most 1 expected", hint="e.g. --share 0.1 for a tenth"
        )
    if share == 1:
        return trace

    def some(count: int, least: int) -> list[int]:
        wanted = min(count, max(least, round(count * share)))
        return [i * count // wanted for i in range(wanted)]

    nodes = tuple(trace.nodes[i] for i in some(len(trace.nodes), 30))
    ran = [i for i, pod in enumerate(trace.pods) if pod.phase != "Pending"]
    longest = sorted(ran, key=lambda i: trace.pods[i].created_s - trace.pods[i].deleted_s)
    chosen = {*some(len(trace.pods), 30), *longest[:LONGEST]}
    pods = tuple(trace.pods[i] for i in sorted(chosen))
    return Trace(f"{trace.source}, share {share:g}", nodes, pods)
