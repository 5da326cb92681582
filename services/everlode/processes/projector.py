"""`everlode projector run`: bulk catch-up, then Faust, from PostgreSQL's positions. Shell."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import NamedTuple

from everlode.adapters.kafka_group import commit_group, group_members
from everlode.adapters.postgres_read import current_generation
from everlode.agents.app import STOP_S, run_app
from everlode.agents.projection import Effects, ProjectionAgents
from everlode.control.fold import ControlState
from everlode.errors import EverlodeError, FencedOut, Unavailable
from everlode.events.control import GenerationSwitched
from everlode.log.signals import SignalWriter
from everlode.membership.agent import Identity, Load, NodeAgent
from everlode.processes.host import Host, agent_of, end_when_failed, failure, hosted
from everlode.projector import anew
from everlode.projector.epochs import DecidedEpochs
from everlode.projector.findings import Findings, no_report
from everlode.projector.live import Projector
from everlode.projector.standstill import LOOK_S, Standing, Watch, report_threads
from everlode.projector.worker import Home, Outside
from everlode.settings.endpoints import Endpoints
from everlode.telemetry.entries import (
    CaughtUp,
    Note,
    OtherCatchesUp,
    ProcessReady,
    StopHung,
    Unanswered,
)
from everlode.telemetry.sink import Sink
from everlode.topics import Topology
from everlode.topics.names import fact_topic

OVERTAKEN_S = 1.0
"""How often a projector looks whether its generation is still the current one."""
ANEW_S = 2.0
"""How often it looks whether its projection is to be built anew."""
LISTENS_S = 0.05
"""How often one that is to end looks whether Faust listens to SIGTERM yet."""


def run_projector(region: str, node_id: str, endpoints: Endpoints) -> None:
    """Run a projector until SIGTERM, or until its generation is no longer the current one.

    Raises: ConfigError: unknown region. Unavailable: PostgreSQL or Kafka does not answer.
    FencedOut: a recovery has switched to another generation; start it again.
    """
    with hosted(node_id) as host:
        sys.exit(_run(region, node_id, endpoints, host))


def _run(region: str, node_id: str, endpoints: Endpoints, host: Host) -> int:
    """Returns Faust's exit code."""
    place = endpoints.region(region)
    cfg, report = host
    topology = cfg.topology_of(endpoints)
    conninfo = place.postgres_conninfo()
    generation = current_generation(conninfo)
    home = Home(region, place.kafka_bootstrap, conninfo, generation, node_id)
    signals = SignalWriter(place.kafka_bootstrap, place.origin, cfg.clock())
    epochs = DecidedEpochs(lambda: agent.control)
    outside = Outside(epochs=epochs, problems=Findings(place.origin, signals), bounds=epochs.bounds)
    projector = Projector(home, topology, outside, report)
    agent = agent_of(
        Identity(node_id, region, place.origin, "projector"),
        endpoints,
        cfg,
        load=lambda: Load(work_done=projector.applied),
    )
    agent.start()
    group = f"projector.{region}.g{generation}"
    if not group_members(place.kafka_bootstrap, group):
        _begin(projector, group, report)
    agents = _agents(projector, group)
    report(ProcessReady())
    overtaken = threading.Event()
    threading.Thread(
        target=_end_when_overtaken, args=(home, lambda: agent.control, overtaken), daemon=True
    ).start()
    rebuilding = Rebuilding(home, topology, outside._replace(problems=no_report), agent, report)
    threading.Thread(target=rebuilding.watch, args=(overtaken,), name="anew", daemon=True).start()
    end_when_failed(agent)
    watch = Watch(home.bootstrap, projector.assignment, -(-cfg.stall_s // int(LOOK_S)), report)
    stalled: list[Exception] = []
    threading.Thread(
        target=_end_when_stalled, args=(watch, home, stalled, report), name="look", daemon=True
    ).start()

    def cause() -> Exception | None:
        """Why it ends, unless it was asked to."""
        if stalled:
            return stalled[0]
        return agent.failed or (_replaced(home) if overtaken.is_set() else None)

    def hangs(after_s: float) -> None:
        report(StopHung(after_s))
        error = cause()
        if error is not None:  # the process ends here: nobody raises it
            report(failure(error))

    code = run_app(agents.app, hangs, agents.beats)
    signals.close()
    error = cause()
    agent.close()
    if error is not None:
        raise error
    return code


class Rebuilding(NamedTuple):
    """What builds a projection anew that says so, beside the one that is read."""

    home: Home
    topology: Topology
    outside: Outside
    agent: NodeAgent
    report: Sink

    def watch(self, over: threading.Event) -> None:
        """Look until `over`; what fails is tried again."""
        while not over.wait(ANEW_S):
            try:
                if anew.due(self.home.conninfo):
                    self._build()
            except EverlodeError as error:
                self.report(Unanswered(error.code, error.message, error.hint))
                over.wait(10 * ANEW_S)

    def _build(self) -> None:
        with closing(anew.Anew(*self[:3], self.report)) as work:
            generation = work.build()
            if generation is None:  # another process does
                return
            data = GenerationSwitched(
                region=self.home.region, generation=generation, operation_id=str(uuid.uuid4())
            )
            self.agent.log.append(self.home.region, data, node_id=self.home.node_id)
            anew.built(self.home, generation)
        remark = f"{self.home.generation} had folded what does not count; {generation} is current"
        self.report(Note("generation", remark))


def _replaced(home: Home) -> FencedOut:
    return FencedOut(
        f"{home.node_id}: generation {home.generation} of {home.region} is no longer the "
        "current one",
        code="generation_replaced",
        hint="start it again: it goes on with the generation that is",
    )


def _end_when_overtaken(
    home: Home, control: Callable[[], ControlState], overtaken: threading.Event
) -> None:
    """End this process once its generation is replaced: what it writes is not read any more."""
    while (newest := control().generations.get(home.region, 0)) <= home.generation:
        time.sleep(OVERTAKEN_S)
    with suppress(EverlodeError):  # who decided it may have been killed since
        anew.built(home, newest)
    overtaken.set()
    _terminate()


def _end_when_stalled(watch: Watch, home: Home, stalled: list[Exception], report: Sink) -> None:
    """Look for as long as this process lives; end it with the place that nothing helps.

    With or without Faust, whose loop may be what hangs.
    """
    while not stalled:
        time.sleep(LOOK_S)
        try:
            place = watch.look()
        except Exception as error:  # noqa: BLE001 - what a reading raised ends the process, as elsewhere
            stalled.append(error)
        else:
            if place is not None:
                report_threads(report)
                stalled.append(_stalled(home, place))
    threading.Thread(target=_terminate, daemon=True).start()
    time.sleep(2 * STOP_S)
    report(failure(stalled[0]))
    os._exit(1)


def _stalled(home: Home, at: Standing) -> Unavailable:
    return Unavailable(
        f"{home.node_id}: {at.topic}/{at.partition} stands at offset {at.position} of {at.end} "
        f"for {at.looks * LOOK_S:.0f} s",
        code="stalled",
        hint="start it again; what its threads were at is in its log",
    )


def _terminate() -> None:
    """SIGTERM to this process, once it would not end without a word."""
    while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        time.sleep(LISTENS_S)
    os.kill(os.getpid(), signal.SIGTERM)


def _agents(projector: Projector, group: str) -> ProjectionAgents:
    """The Faust app of the group, with what this projector does."""
    return ProjectionAgents(
        group,
        projector.home.bootstrap,
        projector.topics,
        [fact_topic(o, "heartbeats") for o in projector.topology.origins],
        Effects(
            projector.apply,
            projector.heartbeats,
            projector.assignment.assign,
            projector.assignment.reconcile,
        ),
    )


def _begin(projector: Projector, group: str, report: Sink) -> None:
    """Catch up in bulk as the first of the group, which then starts where that ended."""
    home = projector.home
    with ThreadPoolExecutor() as threads:
        numbers = range(projector.topology.partitions)
        workers = dict(enumerate(threads.map(projector.assignment.worker, numbers)))
    try:
        count = projector.catch_up(workers)
    except FencedOut:  # one that was started at the same time does it
        report(OtherCatchesUp())
        return
    report(CaughtUp(count, home.generation))
    commit_group(
        home.bootstrap,
        group,
        {
            (topic, p): position.next_offset
            for p, worker in workers.items()
            for topic, position in worker.positions().items()
        },
    )
