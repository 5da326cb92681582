"""One region of a running network, as a suite meets it: where it listens, who leads, what it tells.

Shell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from everlode.adapters.kafka import Reader
from everlode.adapters.kafka_follower import ControlFollower
from everlode.avro.codec import Codec
from everlode.control.scopes import Scope
from everlode.errors import NotFound, Refusal, Unavailable
from everlode.events.base import Event, Fact
from everlode.events.services import BY_FACTS, SERVICES
from everlode.settings.endpoints import Endpoints
from everlode.stack import NativeStack
from everlode.stack.native.layout import log_of
from everlode.stack.native.members import commands_of
from everlode.stack.services import counted
from everlode.topics.names import fact_topic
from everlode.topics.place import placed

START_S = 120.0
"""How long the region's processes may take until each service is led."""
RECOVERY_S = 60.0
TOPICS = ("recovery", "health")
"""Of one partition each."""
E = TypeVar("E", bound=Event)


class Region(NamedTuple):
    """A region whose services run."""

    name: str
    endpoints: Endpoints
    stack: NativeStack | None
    """What runs it; None when the suite was given a running one."""

    def primary(self, component: str) -> str:
        """Name of the process that leads `tasks`, `miners`, `validations` or `rewards`, e.g.
        `eu/tm-1`: what `everlode_faults` takes.

        Raises: NotFound: nobody leads it; no such component. Unavailable.
        """
        if component not in BY_FACTS:
            raise NotFound(f"no component {component!r}", hint=f"of: {', '.join(BY_FACTS)}")
        scope = str(Scope.of(component, self.name))
        with closing(ControlFollower(self._control()).start()) as follower:
            leader = follower.state.scopes.get(scope)
        if leader is None:
            raise NotFound(f"nobody leads {scope}", hint="wait for the region to be up")
        return f"{self.name}/{leader.primary.removeprefix(f'{self.name}-')}"

    def await_led(self, components: Iterable[str], within_s: float = START_S) -> None:
        """Return once each component has a primary that holds its lease. Raises: Unavailable."""
        scopes = [str(Scope.of(component, self.name)) for component in components]
        with closing(ControlFollower(self._control()).start()) as follower:
            follower.wait_for(
                lambda state: all(
                    scope in state.scopes and state.scopes[scope].renewed_at >= 0
                    for scope in scopes
                ),
                within_s,
            )

    def _control(self) -> str:
        if self.endpoints.control_bootstrap is None:
            raise Refusal("the stack has no control cluster", code="no_control")
        return self.endpoints.control_bootstrap


def start_services(stack: NativeStack, endpoints: Endpoints, counts: dict[str, int]) -> Region:
    """Run a region's processes beside its stack; returns once all its services are led.

    Raises: Unavailable: within START_S they are not; it names the folder of their logs.
    """
    (name,) = endpoints.regions
    for command in commands_of(counted(counts, (name,)), stack.data_dir):
        stack.run(command)
    region = Region(name, endpoints, stack)
    nodes = {service.node: service.facts for service in SERVICES}
    try:
        region.await_led([nodes[kind] for kind in counts if kind in nodes])
    except Unavailable as error:
        logs = log_of(stack.data_dir, f"{name}/x").parent
        raise Unavailable(f"{error.message}; the processes' logs are in {logs}") from None
    return region


def running(folder: Path, name: str | None) -> Region:
    """A region of a stack that somebody else has started in `folder`; its first without a name.

    Raises: NotFound: no such stack, or no such region.
    """
    endpoints = Endpoints.load(folder)
    found = name or next(iter(endpoints.regions))
    if found not in endpoints.regions:
        raise NotFound(
            f"no region {found} in {folder}", hint=f"there are: {', '.join(endpoints.regions)}"
        )
    return Region(found, endpoints, None)


class Faults:
    """Breaks processes and parts of a region by name, and mends them at the end of the test."""

    def __init__(self, region: Region) -> None:
        self._region = region
        self._killed: list[str] = []
        self._paused: list[str] = []

    def kill(self, name: str) -> None:
        """SIGKILL: `eu/tm-1`, or a part: `eu/kafka`, `eu/postgres`. Raises: NotFound; Refusal."""
        self._stack().kill(name)
        self._killed.append(name)

    def pause(self, name: str) -> None:
        """SIGSTOP: it keeps its connections and answers nothing. Raises: as `kill`."""
        self._stack().pause(name)
        self._paused.append(name)

    def resume(self, name: str) -> None:
        """Let a paused one go on. Raises: as `kill`."""
        self._stack().resume(name)
        self._paused = [n for n in self._paused if n != name]

    def restart(self, name: str) -> None:
        """Start a killed one again; of a part, return once it serves. Raises: as `kill`."""
        self._stack().restart(name)
        self._killed = [n for n in self._killed if n != name]

    def heal(self) -> None:
        """Undo what was done and not undone: parts first, since nodes need them. Idempotent."""
        for name in dict.fromkeys(self._paused):
            self.resume(name)
        parts = {"kafka", "postgres", "mirror"}
        names = dict.fromkeys(self._killed)
        for name in sorted(names, key=lambda n: n.rpartition("/")[2] not in parts):
            self.restart(name)

    def _stack(self) -> NativeStack:
        if self._region.stack is None:
            raise Refusal(
                "faults are for a region that the suite has started",
                code="not_ours",
                hint="leave --everlode-stack out",
            )
        return self._region.stack


class Published(NamedTuple, Generic[E]):
    """An event, and whom it is about: a node, a process, an operation."""

    subject: str
    data: E


class RecoveryEvents:
    """What the region tells about its recoveries and its health, from the beginning of the test."""

    def __init__(self, region: Region) -> None:
        parts = region.endpoints.parts(region.name)
        self._codec = Codec()
        self._reader = Reader(parts.bootstrap, "everlode-suite", wait_ms=100)
        self._reader.assign(self._reader.ends([(fact_topic(parts.origin, t), 0) for t in TOPICS]))
        self.seen: list[Fact] = []
        """All that was read so far, in the order of reading."""
        self._looked = 0

    def wait(
        self,
        kind: type[E],
        within_s: float = RECOVERY_S,
        *,
        where: Callable[[Published[E]], bool] = lambda _: True,
    ) -> Published[E]:
        """The next event of this type, for which `where` holds; each event is given once.

        Those before it count as looked at. Raises: TimeoutError: none came; it names what did.
        """
        deadline = time.monotonic() + within_s
        while True:
            while self._looked < len(self.seen):
                envelope, data = self.seen[self._looked]
                self._looked += 1
                if isinstance(data, kind) and where(told := Published(envelope.aggregate_id, data)):
                    return told
            if time.monotonic() > deadline:
                came = ", ".join(type(fact.data).__name__ for fact in self.seen) or "none"
                raise TimeoutError(
                    f"no such {kind.__name__} within {within_s:.0f} s; events that came: {came}"
                )
            for raw in self._reader.batch(100, 0.2, 0.0):
                self.seen.append(placed(self._codec, raw.topic, raw.key, raw.value))

    def close(self) -> None:
        """Leave."""
        self._reader.close()
