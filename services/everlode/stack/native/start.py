"""Start a whole stack: independent parts at the same time, each step as soon as it can go.

1. every broker, database and the object store; 2. per cluster, as soon as it serves, its topics;
3. the mirrors, once the topics of all regions exist (they must never create one).
Invariants: the first failure ends the start; a process that dies meanwhile is a failure. Shell.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial

from everlode.adapters.kafka_admin import await_brokers, missing_topics
from everlode.adapters.kafka_topics import ensure_topics
from everlode.adapters.mirror_status import flow_state
from everlode.adapters.s3_buckets import ensure_buckets
from everlode.errors import DeadlineExceeded, Unavailable
from everlode.settings.endpoints import Endpoints
from everlode.stack.lost import lost_topics, require_topics
from everlode.stack.native.layout import BUCKETS
from everlode.stack.native.process import Process
from everlode.stack.native.recipes import Recipes
from everlode.stack.opening import wanted_topics
from everlode.telemetry.entries import Note, PartReady
from everlode.telemetry.sink import Sink

_WATCH_S = 0.1
_FLOW_POLL_S = 0.5


@dataclass(frozen=True)
class Limits:
    """Of one stack: room, time, and the choices that only tests and benchmarks make."""

    min_free_bytes: int = 2 * 2**30
    part_s: float = 90.0
    """Seconds that one part may take to serve."""
    fixed_ports: dict[str, int] = field(default_factory=dict)
    """Process name, or `<name>/controller`, → port that it must have."""
    parallel: bool = True
    aot: bool = True
    remake_topics: bool = False
    """Make topics again that a database has positions for: an operator's word."""


Add = Callable[[Process], None]
Step = Callable[[], None]


class _Start:
    def __init__(self, recipes: Recipes, add: Add, limits: Limits, report: Sink) -> None:
        self.recipes = recipes
        self.limits = limits
        self.report = report
        self.began = time.monotonic()
        self.timings: dict[str, float] = {}
        self.started: list[Process] = []
        self.aborted = threading.Event()
        self._databases = {region: threading.Event() for region in recipes.layout.regions}
        self._add = add

    def process(self, name: str) -> Process:
        """Prepare and start one process; does not wait."""
        self.recipes.prepare(name)
        if self.aborted.is_set():
            raise Unavailable("the start was given up")
        process = Process(self.recipes.command(name))
        self._add(process)
        self.started.append(process)
        return process

    def serving(self, name: str) -> None:
        process = self.process(name)
        process.await_ready(self._deadline(), self.aborted)
        self._ready(name)

    def database(self, region: str) -> None:
        self.serving(f"{region}/postgres")
        self._databases[region].set()

    def region_broker(self, region: str) -> None:
        self.serving(f"{region}/kafka")
        self._cluster(region, 1)

    def control(self) -> None:
        nodes = [self.process(name) for name in self.recipes.layout.controls]
        for node in nodes:
            node.await_ready(self._deadline(), self.aborted)
        self._cluster("control", len(nodes))

    def s3(self) -> None:
        self.serving("s3")
        server = self.recipes.parts.s3
        lockable = server is not None and server.kind == "minio"
        endpoint = self.recipes.endpoints().s3
        if endpoint is not None:
            ensure_buckets(
                endpoint.endpoint,
                endpoint.keys(),
                BUCKETS,
                lockable=lockable,
                deadline=self._deadline(),
            )

    def mirror(self, target: str) -> None:
        self.serving(f"{target}/mirror")
        sources = tuple(r for r in self.recipes.layout.regions if r != target)
        await_flows(self.recipes.bootstrap(target), target, sources, self._deadline(), self.aborted)
        self._ready(f"{target}/mirror flows")

    def _cluster(self, cluster: str, nodes: int) -> None:
        bootstrap = self.recipes.bootstrap(cluster)
        await_brokers(bootstrap, nodes, self._deadline(), self.aborted.is_set)
        wanted = wanted_topics(self.recipes.layout.topology, cluster, bootstrap)
        if cluster in self._databases and missing_topics(bootstrap, [s.name for s in wanted]):
            self._require_never_read(cluster)
        created = ensure_topics(bootstrap, wanted)
        self._ready(f"{cluster} topics", f"{len(created)} created" if created else "")

    def _require_never_read(self, region: str) -> None:
        """None of the topics that are missing may have been there. Raises: IntegrityError."""
        deadline = self._deadline()
        while not self._databases[region].wait(_WATCH_S):
            if self.aborted.is_set() or time.monotonic() > deadline:
                raise Unavailable(f"{region}/postgres was waited for in vain")
        conninfo = self.recipes.endpoints().regions[region].postgres_conninfo()
        bootstrap, topology = self.recipes.bootstrap(region), self.recipes.layout.topology
        if not self.limits.remake_topics:
            require_topics(region, topology, bootstrap, conninfo)
        elif lost := lost_topics(region, topology, bootstrap, conninfo):
            self.report(Note("stack", f"{region}: made again, empty: {', '.join(lost)}"))

    def _deadline(self) -> float:
        return time.monotonic() + self.limits.part_s

    def _ready(self, part: str, detail: str = "") -> None:
        took = time.monotonic() - self.began
        self.timings[part] = took
        self.report(PartReady(part, took, detail))

    def dead(self) -> Process | None:
        """A process that was started and has ended."""
        return next((p for p in list(self.started) if p.exit_status is not None), None)


def await_flows(
    bootstrap: str,
    target: str,
    sources: Sequence[str],
    deadline: float,
    aborted: threading.Event | None = None,
) -> None:
    """Wait until the mirror next to `target` says that it copies from all of `sources`.

    Raises: DeadlineExceeded: names the flow, its state and the first line of its failure.
    """
    for source in sources:
        while aborted is None or not aborted.is_set():
            state = flow_state(bootstrap, source, target)
            if state.runs:
                break
            if time.monotonic() > deadline:
                raise DeadlineExceeded(
                    f"mirror {source} → {target} does not run: connector {state.connector}, "
                    f"tasks {list(state.tasks)} {state.trace}".rstrip()
                )
            time.sleep(_FLOW_POLL_S)


def start_all(
    recipes: Recipes, add: Add, limits: Limits, report: Sink, timings: dict[str, float]
) -> Endpoints:
    """Start all processes of the stack; `add` starts and keeps one. Fills `timings`.

    Raises: as `NativeStack.up`. The caller stops what was started.
    """
    recipes.choose_ports()
    layout = recipes.layout
    start = _Start(recipes, add, limits, report)
    brokers: list[Step] = [partial(start.region_broker, region) for region in layout.regions]
    others: list[Step] = [partial(start.database, region) for region in layout.regions]
    if layout.controls:
        others.insert(0, start.control)
    if layout.s3:
        others.append(start.s3)
    mirrors: list[Step] = [partial(start.mirror, r) for r in layout.regions if layout.mirrors]
    if limits.parallel:
        _run_parallel(start, brokers, others, mirrors)
    else:
        for step in (*others, *brokers, *mirrors):
            step()
    _require_alive(start)
    timings.update(start.timings)
    return recipes.endpoints()


def _run_parallel(
    start: _Start,
    brokers: Sequence[Step],
    others: Sequence[Step],
    mirrors: Sequence[Step],
) -> None:
    with ThreadPoolExecutor(len(brokers) + len(others) + len(mirrors)) as pool:
        try:
            before = [pool.submit(step) for step in brokers]
            beside = [pool.submit(step) for step in others]
            _await(start, before)
            _await(start, [pool.submit(step) for step in mirrors] + beside)
        except BaseException:
            start.aborted.set()
            raise


def _await(start: _Start, tasks: list[Future[None]]) -> None:
    """Until all are done; the first error, or the first dead process, ends it."""
    pending = set(tasks)
    while pending:
        done, pending = wait(pending, _WATCH_S, FIRST_COMPLETED)
        for task in done:
            error = task.exception()
            if error is not None:
                _require_alive(start)
                raise error
        _require_alive(start)


def _require_alive(start: _Start) -> None:
    dead = start.dead()
    if dead is not None:
        raise Unavailable(
            f"{dead.name} ended with status {dead.exit_status} during the start\n{dead.tail()}",
            code="died",
            hint=_hint(start, dead),
        )


def _hint(start: _Start, dead: Process) -> str:
    free = shutil.disk_usage(start.recipes.layout.data_dir).free
    if free < 64 * 2**20:
        return f"only {free // 2**20} MiB are free in {start.recipes.layout.data_dir}"
    return f"its log is {dead.command.log}"
