"""A coordinator's part in the takeover of lost regions: carries out what `takeover` plans.

    control log ─► steps (pure) ─► RegionFenced, ScopeAssigned ──────────► control log
                        └────────► how far the copy reaches, what it lacks ─► PrefixReported
                                   where its own log ends, once nobody adds ─► RegionReturned

What reads or writes copies is done in a thread of its own, one thing at a time, because barriers
must not wait; it is asked for anew until its record has been read back. A region's leases have run
out once none was renewed for `fence_after` as seen here: counted from the last renewal that this
process has read, by its own clock, so a successor waits anew. Shell.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from everlode.avro.codec import Codec
from everlode.control.fences import place
from everlode.control.fold import ControlState
from everlode.errors import EverlodeError
from everlode.events.base import Event
from everlode.events.catalogue import FACT_COMPONENTS
from everlode.events.control import PrefixReported, RegionFenced, RegionReturned
from everlode.failover.again import Again
from everlode.failover.decisions import Basis, Decisions, Loss
from everlode.failover.levelling import end_writer, fetch, lacks, reach
from everlode.failover.takeover import (
    FenceRegion,
    Level,
    Report,
    Return,
    Step,
    Take,
    places,
    steps,
    wanted,
)
from everlode.membership.agent import NodeAgent
from everlode.settings.endpoints import Endpoints
from everlode.telemetry.entries import TakeoverStep, Unanswered
from everlode.telemetry.sink import Sink, silent

AGAIN_S = 3.0
Said = Callable[[], Event]


class Leases:
    """For how long no lease of a region was renewed, as seen here. Not thread-safe."""

    def __init__(self, fence_after_s: float) -> None:
        self._fence_after_s = fence_after_s
        self._last: dict[str, tuple[int, float]] = {}
        """Region → (control offset of its last renewal or decision, when it was seen)."""

    def observe(self, control: ControlState) -> None:
        """Look at the log as it is now; often, so that what was renewed is seen soon."""
        last: dict[str, int] = {}
        for led in control.scopes.values():
            mark = max(led.renewed_at, led.decided_at)
            last[led.region] = max(mark, last.get(led.region, -1))
        for region, mark in last.items():
            seen = self._last.get(region)
            fence = control.fences.get(region)
            if seen is None or (seen[0] != mark and (fence is None or mark < fence.offset)):
                self._last[region] = mark, time.monotonic()

    def quiet(self, control: ControlState) -> frozenset[str]:
        """Fenced regions all of whose leases have run out."""
        now = time.monotonic()
        return frozenset(
            region for region in control.fences
            if region in self._last and now - self._last[region][1] > self._fence_after_s
        )  # fmt: skip


class Taker:
    """Of one coordinator. Closes neither `agent` nor anything else but its own thread."""

    def __init__(
        self, agent: NodeAgent, endpoints: Endpoints, fence_after_ms: int, report: Sink = silent
    ) -> None:
        self.region = agent.identity.region
        self._agent, self._endpoints, self._report = agent, endpoints, report
        self._scope = f"coordinator/{self.region}"
        self._decisions = Decisions(agent, report)
        self._leases = Leases(fence_after_ms / 1000)
        self._again = Again(AGAIN_S)
        self._hands = ThreadPoolExecutor(1, thread_name_prefix="takeover")
        self._work: tuple[str, Future[Event]] | None = None
        self._codec = Codec()

    def turn(self) -> None:
        """Take all steps that are due. Raises: Unavailable: a record may or may not have landed."""
        control = self._agent.control
        self._leases.observe(control)
        epoch = self._agent.leads(self._scope)
        if epoch is None:
            return
        self._said(epoch)
        for step in steps(control, self.region, self._leases.quiet(control)):
            self._take(step, control, epoch)

    def close(self) -> None:
        """Leave; what its thread has in hand is done again by whoever leads."""
        self._hands.shutdown(wait=False, cancel_futures=True)

    def _take(self, step: Step, control: ControlState, epoch: int) -> None:
        match step:
            case FenceRegion():
                data = RegionFenced(
                    region=step.region, fenced_origin=self._endpoints.parts(step.region).origin,
                    observers=step.observers, sites=step.sites, based_on=max(0, control.position),
                )  # fmt: skip
                if self._again.due(("fence", step.region)):
                    self._append(data, step.region, epoch, f"fence {step.region}")
            case Report():
                self._begin(step, lambda: self._prefix(step))
            case Level():
                self._begin(step, lambda: self._levelled(step))
            case Return():
                self._begin(step, lambda: self._returned(step))
            case Take():
                loss = Loss(None, reason="takeover")
                self._decisions.assign(Basis(control, epoch), step.scope, step.primary, loss)

    def _begin(self, step: Report | Level | Return, said: Said) -> None:
        region = step.fence.region
        if self._work is None and self._again.due((type(step), region)):
            self._work = region, self._hands.submit(said)

    def _said(self, epoch: int) -> None:
        """What the thread has found goes to the control log, in the present epoch."""
        if self._work is None or not self._work[1].done():
            return
        (region, found), self._work = self._work, None
        try:
            data = found.result()
        except EverlodeError as error:
            self._report(Unanswered(error.code, error.message, error.hint))
            return
        what = "return" if isinstance(data, RegionReturned) else f"report on {region}"
        self._append(data, region, epoch, what)

    def _prefix(self, step: Report | Level) -> PrefixReported:
        fence, own = step.fence, self._endpoints.parts(self.region)
        found = reach(own.bootstrap, self._codec, places(fence.origin, own.partitions))
        return PrefixReported(
            region=fence.region, observer=self.region, fenced_at=fence.offset, positions=found
        )

    def _returned(self, step: Return) -> RegionReturned:
        """Fences whoever wrote here before: what the log ends with is all that it ever had."""
        fence, own = step.fence, self._endpoints.parts(self.region)
        for component in FACT_COMPONENTS:
            end_writer(own.bootstrap, fence.origin, component)
        found = reach(own.bootstrap, self._codec, places(fence.origin, own.partitions))
        return RegionReturned(region=fence.region, fenced_at=fence.offset, positions=found)

    def _levelled(self, step: Level) -> PrefixReported:
        own = self._endpoints.parts(self.region).bootstrap
        for at, upto in lacks(wanted(step)):
            donor = self._endpoints.parts(step.donor(place(*at))).bootstrap
            count = fetch(own, donor, self._codec, at, upto)
            self._report(TakeoverStep(step.fence.region, f"{place(*at)}: {count} records fetched"))
        return self._prefix(step)

    def _append(self, data: Event, region: str, epoch: int, what: str) -> None:
        me = self._agent.identity.node_id
        self._agent.log.append(region, data, node_id=me, scope=self._scope, epoch=epoch)
        self._report(TakeoverStep(region, what))
