"""The closed list of figures that processes have for Prometheus, beside those of the network.

What a process counts itself is counted here from its start on; what it knows anyway is asked when
it is scraped. Names are the ecosystem's, units are base units, and no label holds the id of a task
or a miner. Figures of the whole network are `everlode.api.metrics`.
"""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from everlode.telemetry import entries
from everlode.telemetry.sink import Sink

disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()
"""Of this process."""
ProcessCollector(registry=REGISTRY)

ENTRIES = Counter(
    "everlode_entries", "Lines of the process's log, by what they report.",
    labelnames=("entry", "level"), registry=REGISTRY,
)  # fmt: skip
TURNS = Histogram(
    "everlode_primary_turn_seconds",
    "From the decision on a batch of commands and facts to the answers, with its commit.",
    labelnames=("component",), registry=REGISTRY,
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)  # fmt: skip
FACTS = Counter(
    "everlode_facts_appended", "Facts that a primary has committed to its log.",
    labelnames=("component",), registry=REGISTRY,
)  # fmt: skip
OUTCOMES = ("done", "repeated", "refused")
ANSWERS = Counter(
    "everlode_commands_answered", "Commands that a primary has answered.",
    labelnames=("component", "outcome"), registry=REGISTRY,
)  # fmt: skip
APPLIED = Counter(
    "everlode_projector_records", "Records that a projector has applied: live, or in bulk.",
    labelnames=("how",), registry=REGISTRY,
)  # fmt: skip
BATCHES = Histogram(
    "everlode_projector_batch_seconds", "One batch of live records into PostgreSQL.",
    labelnames=("region",), registry=REGISTRY,
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)  # fmt: skip
VERDICTS = Counter(
    "everlode_detector_verdicts", "Verdicts that a detector has published.",
    labelnames=("type",), registry=REGISTRY,
)  # fmt: skip

for _kind in vars(entries).values():  # what may come is there at 0, so that its first is seen
    if isinstance(_kind, type) and issubclass(_kind, entries.Entry) and _kind is not entries.Entry:
        ENTRIES.labels(_kind.__name__, _kind.level)


class PrimaryFigures:
    """What the node of a component counts while it leads; all of it is there before its first."""

    def __init__(self, component: str) -> None:
        self._component = component
        self._turns, self._facts = TURNS.labels(component), FACTS.labels(component)
        self.answered(())

    def turned(self, took_s: float) -> None:
        """A turn with a batch has ended."""
        self._turns.observe(took_s)

    def committed(self, facts: int) -> None:
        """So many facts are in the log."""
        self._facts.inc(facts)

    def answered(self, outcomes: Iterable[str]) -> None:
        """Commands were answered so."""
        for outcome, count in (dict.fromkeys(OUTCOMES, 0) | Count(outcomes)).items():
            ANSWERS.labels(self._component, outcome).inc(count)


def counted(report: Sink) -> Sink:
    """The same sink, whose entries are counted."""

    def counts(entry: entries.Entry) -> None:
        ENTRIES.labels(type(entry).__name__, entry.level).inc()
        report(entry)

    return counts


class Member(NamedTuple):
    """A member of the network, now."""

    node: str
    region: str
    component: str
    leads: Mapping[str, bool]
    """Scope that it may be chosen for → whether it leads it."""
    work_done: int
    queue_size: int
    stands_still: bool


class MemberFigures(Collector):
    """Of one member; `ask` is called at each scrape, by its thread."""

    def __init__(self, ask: Callable[[], Member | None]) -> None:
        """`ask`: None as long as it has not joined."""
        self._ask = ask

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        now = self._ask()
        if now is None:
            return
        info = GaugeMetricFamily(
            "everlode_node_info", "1; its labels say whose figures these are.",
            labels=["node", "region", "component"],
        )  # fmt: skip
        info.add_metric([now.node, now.region, now.component], 1)
        leads = GaugeMetricFamily(
            "everlode_node_leads", "Whether it leads a scope, by its own lease.", labels=["scope"]
        )
        for scope, led in now.leads.items():
            leads.add_metric([scope], led)
        done = CounterMetricFamily(
            "everlode_node_work_done", "What it has worked on: commands, facts or records, by kind."
        )
        done.add_metric([], now.work_done)
        queue = GaugeMetricFamily("everlode_node_queue_size", "What waits to be worked on.")
        queue.add_metric([], now.queue_size)
        still = GaugeMetricFamily(
            "everlode_node_stands_still", "Whether it lives and does not do its work."
        )
        still.add_metric([], now.stands_still)
        yield from (info, leads, done, queue, still)


class Supervised(NamedTuple):
    """A process of a stack, now."""

    name: str
    kind: str
    runs: bool
    restarts: int
    given_up: bool


class SupervisorFigures(Collector):
    """Of a stack's processes, as their supervisor sees them: brokers and databases too."""

    def __init__(self, ask: Callable[[], Iterable[Supervised]]) -> None:
        self._ask = ask

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        runs = GaugeMetricFamily(
            "everlode_stack_process_up", "Whether a process of the stack runs.",
            labels=["name", "kind"],
        )  # fmt: skip
        restarts = CounterMetricFamily(
            "everlode_stack_process_restarts", "Starts after a loss, since the stack came up.",
            labels=["name", "kind"],
        )  # fmt: skip
        over = GaugeMetricFamily(
            "everlode_stack_process_given_up", "Whether it is not started any more.",
            labels=["name", "kind"],
        )  # fmt: skip
        for one in self._ask():
            key = [one.name, one.kind]
            runs.add_metric(key, one.runs)
            restarts.add_metric(key, one.restarts)
            over.add_metric(key, one.given_up)
        yield from (runs, restarts, over)


class ActorFigures(Collector):
    """Of the clients, miners and reviewers of a region that act in one process."""

    def __init__(self, ask: Callable[[], tuple[Mapping[tuple[str, str], int], int]]) -> None:
        """`ask`: answers by command and outcome, and how many commands wait for theirs."""
        self._ask = ask

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        found, waiting = self._ask()
        answers = CounterMetricFamily(
            "everlode_actors_answers", "Answers that clients and miners got.",
            labels=["command", "outcome"],
        )  # fmt: skip
        for key, count in sorted(found.items()):
            answers.add_metric(key, count)
        waits = GaugeMetricFamily(
            "everlode_actors_commands_waiting", "Commands that wait for their answers."
        )
        waits.add_metric([], waiting)
        yield from (answers, waits)
