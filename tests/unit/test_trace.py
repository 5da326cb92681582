"""The trace's loader: what fits, and what is wrong, named with file, line, column and way out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from everlode.errors import ConfigError
from everlode.workload.trace import (
    GPU_MIX,
    LONGEST,
    NODE_COLUMNS,
    NODE_MIX,
    PHASES,
    POD_COLUMNS,
    QOS_MIX,
    SHARE_MIX,
    Pod,
    generate,
    load,
    share_of,
)

NODES = [
    ",".join(NODE_COLUMNS),
    "node-0,64000,262144,2,P100",
    "node-1,96000,393216,8,G2",
]
PODS = [
    ",".join(POD_COLUMNS),
    "pod-b,6000,12288,1,460,,LS,Running,427061,12902960,427061",
    "pod-a,12000,16384,1,1000,,BE,Pending,100,200,",
    "pod-c,1000,2048,0,0,,BE,Failed,427061,427062,427061",
]


def write(folder: Path, nodes: list[str] = NODES, pods: list[str] = PODS) -> Path:
    (folder / "nodes.csv").write_text("\n".join(nodes) + "\n")
    (folder / "pods.csv").write_text("\n".join(pods) + "\n")
    return folder


def test_trace_that_fits_is_loaded_by_creation_time(tmp_path: Path) -> None:
    trace = load(write(tmp_path))
    assert [n.gpus for n in trace.nodes] == [2, 8]
    assert [p.name for p in trace.pods] == ["pod-a", "pod-b", "pod-c"]
    assert trace.pods[0] == Pod("pod-a", 12000, 16384, 1, 1000, "BE", "Pending", 100, 200)


@pytest.mark.parametrize(
    ("gpus", "milli", "qos", "expected"),
    [
        (0, 0, "LS", "data-processing"),
        (2, 1000, "BE", "training"),
        (1, 499, "LS", "inference"),
        (1, 500, "BE", "evaluation"),
        (1, 999, "BE", "evaluation"),
        (1, 1000, "BE", "fine-tuning"),
        (1, 1000, "Burstable", "training"),
    ],
)
def test_task_type_follows_from_gpus_and_qos(
    gpus: int, milli: int, qos: str, expected: str
) -> None:
    assert Pod("p", 1, 1, gpus, milli, qos, "Running", 0, 1).task_type == expected


def _line(change: Callable[[list[str]], None], number: int = 1) -> list[str]:
    cells = PODS[number].split(",")
    change(cells)
    return [*PODS[:number], ",".join(cells), *PODS[number + 1 :]]


def _set(column: str, value: str) -> Callable[[list[str]], None]:
    return lambda cells: cells.__setitem__(POD_COLUMNS.index(column), value)


HEADER = PODS[0]
BROKEN = {
    "unknown column": ([HEADER + ",colour", *PODS[1:]], ["pods.csv", "line 1", "'colour'"]),
    "missing column": ([HEADER.replace("qos,", ""), *PODS[1:]], ["line 1", "'qos' is missing"]),
    "columns in another order": (
        [HEADER.replace("name,cpu_milli", "cpu_milli,name"), *PODS[1:]],
        ["line 1", "another order"],
    ),
    "short line": ([*PODS[:2], "pod-x,1,2"], ["pods.csv", "line 3", "11 columns"]),
    "long line": ([*PODS[:2], PODS[2] + ",1"], ["line 3", "11 columns"]),
    "no number": (_line(_set("cpu_milli", "many")), ["line 2", "cpu_milli", "'many'"]),
    "fraction": (_line(_set("num_gpu", "0.5")), ["line 2", "num_gpu", "'0.5'"]),
    "below zero": (_line(_set("gpu_milli", "-1")), ["line 2", "gpu_milli", "'-1'"]),
    "empty number": (_line(_set("memory_mib", ""), 2), ["line 3", "memory_mib"]),
    "unknown phase": (_line(_set("pod_phase", "Evicted")), ["line 2", "pod_phase", "'Evicted'"]),
    "deleted too early": (_line(_set("deletion_time", "3")), ["line 2", "deletion_time"]),
    "name twice": (_line(_set("name", "pod-a")), ["pods.csv", "column name", "'pod-a'"]),
    "no name": (_line(_set("name", "")), ["pods.csv", "column name", "empty"]),
    "no pods": (PODS[:1], ["no lines"]),
    "empty file": ([], ["pods.csv", "line 1", "missing"]),
}


@pytest.mark.parametrize(("pods", "named"), BROKEN.values(), ids=BROKEN.keys())
def test_trace_that_is_broken_is_refused_by_name(
    tmp_path: Path, pods: list[str], named: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, pods=pods))
    for text in named:
        assert text in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["nodes.csv", "pods.csv"])
def test_trace_without_a_file_is_refused_with_the_way_out(tmp_path: Path, name: str) -> None:
    (write(tmp_path) / name).unlink()
    with pytest.raises(ConfigError, match=f"{name} is missing") as caught:
        load(tmp_path)
    assert "EVERLODE_TRACE" in caught.value.hint


def test_trace_of_bytes_that_are_no_text_is_refused(tmp_path: Path) -> None:
    (write(tmp_path) / "nodes.csv").write_bytes(b"\xff\xfe\x00sn")
    with pytest.raises(ConfigError, match=r"nodes\.csv"):
        load(tmp_path)


def test_generated_workload_has_the_published_proportions() -> None:
    trace = generate(7)
    assert Counter(p.phase for p in trace.pods) == PHASES
    assert Counter(p.gpus for p in trace.pods) == GPU_MIX
    assert Counter(p.qos for p in trace.pods) == QOS_MIX
    assert Counter((n.gpus, n.model) for n in trace.nodes) == NODE_MIX
    one = Counter(p.gpu_milli for p in trace.pods if p.gpus == 1)
    for milli, count in SHARE_MIX.items():
        assert abs(one[milli] - count) <= 0.05 * count + 10
    assert all(p.deleted_s > p.created_s for p in trace.pods)


@pytest.mark.parametrize("pods", [1, 10, 333])
def test_generated_workload_has_the_size_asked_for(pods: int) -> None:
    trace = generate(1, pods=pods, nodes=40)
    assert (len(trace.pods), len(trace.nodes)) == (pods, 40)


def test_generated_workload_depends_on_the_seed_alone() -> None:
    assert generate(3, 50, 30) == generate(3, 50, 30)
    assert generate(3, 50, 30) != generate(4, 50, 30)


def test_share_takes_pods_evenly_and_says_so() -> None:
    trace = generate(7)
    part = share_of(trace, 0.05)
    assert 0 <= len(part.pods) - round(0.05 * len(trace.pods)) <= LONGEST
    assert set(part.pods) <= set(trace.pods)
    assert "share 0.05" in part.source
    assert share_of(trace, 0.05) == part
    assert share_of(trace, 1) is trace
    spread = [trace.pods.index(p) for p in part.pods]
    assert max(b - a for a, b in pairwise(spread)) <= 21


@pytest.mark.parametrize("share", [0, -0.1, 1.01, float("nan")])
def test_share_outside_its_range_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="--share"):
        share_of(generate(7, 40, 40), share)
