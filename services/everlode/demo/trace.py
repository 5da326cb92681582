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
from pathlib import Path
from typing import NamedTuple

from everlode.errors import ConfigError

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
SPAN_S = 12_900_000
"""Length of the trace in seconds."""


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
                strange = sorted(set(found) ^ set(columns)) or list(found)
                raise ConfigError(
                    f"{path}: column {strange[0]!r} is unknown or missing",
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
    if not nodes or not pods:
        raise ConfigError(f"{folder}: the trace is empty", code="trace")
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
        raise ConfigError(f"{path}, line {line}: deleted before it was created", code="trace")
    return Pod(
        row["name"], _number(path, line, row, "cpu_milli"),
        _number(path, line, row, "memory_mib"), _number(path, line, row, "num_gpu"),
        _number(path, line, row, "gpu_milli"), row["qos"], row["pod_phase"], created, deleted,
    )  # fmt: skip


def generate(seed: int, pods: int = 8152, nodes: int = 1213) -> Trace:
    """A workload with the trace's published proportions. Deterministic by seed."""
    rng = random.Random(seed)  # noqa: S311 - a workload, not a secret
    mixes, weights = list(NODE_MIX), list(NODE_MIX.values())
    made_nodes = []
    for i in range(nodes):
        gpus, model = rng.choices(mixes, weights)[0]
        made_nodes.append(Node(f"gen-node-{i:04}", 64_000, 262_144, gpus, model))
    made = []
    for i in range(pods):
        created = rng.randrange(SPAN_S)
        gpus = rng.choices(list(GPU_MIX), list(GPU_MIX.values()))[0]
        phase = rng.choices(list(PHASES), list(PHASES.values()))[0]
        share = 1000 if gpus != 1 else rng.choice((160, 460, 590, 1000))
        qos = rng.choices(("LS", "BE", "Burstable"), (57, 42, 1))[0]
        length = max(30, int(rng.expovariate(1 / 7200)))
        made.append(
            Pod(f"gen-pod-{i:04}", 6000, 16_384, gpus, share if gpus else 0, qos, phase, created,
                created + length)
        )  # fmt: skip
    return Trace(
        f"generated, seed {seed}",
        tuple(made_nodes),
        tuple(sorted(made, key=lambda p: (p.created_s, p.name))),
    )


def share_of(trace: Trace, share: float) -> Trace:
    """Every so many pods and nodes, evenly over the trace. Raises: ConfigError."""
    if not 0 < share <= 1:
        raise ConfigError(f"--share {share}: above 0, at most 1 expected")
    if share == 1:
        return trace

    def some(count: int, least: int) -> list[int]:
        wanted = min(count, max(least, round(count * share)))
        return [i * count // wanted for i in range(wanted)]

    nodes = tuple(trace.nodes[i] for i in some(len(trace.nodes), 30))
    pods = tuple(trace.pods[i] for i in some(len(trace.pods), 30))
    return Trace(f"{trace.source}, share {share:g}", nodes, pods)
