"""The compose stack provider: a network in containers of one machine.

    stack = ComposeStack(topology, folder, services={"coordinator": 1, …}, images=Images(…))
    endpoints = stack.up(report)

Invariants: everything is published on 127.0.0.1 only; data survive `down` and the next `up` finds
them, in the engine's volumes; `destroy` takes those too. Containers outlive whoever started them.
Shell.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from everlode.errors import EverlodeError, Locked, NotFound, Precondition, Unavailable
from everlode.settings.endpoints import FILE_NAME, Endpoints
from everlode.stack.compose.engine import Container, Engine, named
from everlode.stack.compose.file import Shape, compose_file
from everlode.stack.compose.parts import (
    FOLDER,
    Images,
    default_ports,
    endpoints_of,
    outside,
    service_of,
    with_data,
)
from everlode.stack.condition import asks_of, why_silent
from everlode.stack.native.layout import Layout
from everlode.stack.native.lock import StackLock
from everlode.stack.native.ports import choose_ports
from everlode.stack.native.process import resident_bytes
from everlode.stack.provider import ProcessStatus, StackProvider
from everlode.stack.services import counted
from everlode.telemetry.entries import Note, StackReady
from everlode.telemetry.sink import Sink, silent
from everlode.topics import Topology

UP_S = 420.0
"""The longest that `docker compose up` may take, with every part's start."""
DOWN_S = 120.0
SERVES_S = 120.0
"""The longest that a part may take to serve once its container runs."""
_POLL_S = 0.3
_PORTS = "ports.json"
FILE = "docker-compose.yml"


class ComposeStack(StackProvider):
    """Brokers, mirrors, databases, an object store and the regions' own processes."""

    def __init__(
        self,
        topology: Topology | None = None,
        data_dir: Path | str = "everlode-compose",
        *,
        mirrors: bool = True,
        services: Mapping[str, int] | None = None,
        images: Images | None = None,
        ports: Mapping[str, int] | None = None,
    ) -> None:
        """`services`: kinds with counts for each region, as `parse_services` gives them; none
        without. `ports`: parts with the ports that they must have; others get free ones.
        """
        self.topology = topology or Topology()
        self.data_dir = Path(data_dir).absolute()
        several = len(self.topology.regions) > 1
        self.layout = Layout(
            self.topology, self.data_dir, mirrors=mirrors and several,
            control_nodes=self.topology.control_replication, s3=True,
        )  # fmt: skip
        self.images = images or Images()
        self.endpoints: Endpoints | None = None
        self.timings_s: dict[str, float] = {}
        self._services = dict(services or {})
        self._fixed = dict(ports or {})
        self._lock = StackLock(self.data_dir)
        digest = hashlib.sha256(str(self.data_dir).encode()).hexdigest()[:8]
        self.project = f"everlode-{digest}"
        patience = {"COMPOSE_HTTP_TIMEOUT": str(int(DOWN_S))}  # a busy engine is not a dead one
        self._engine = Engine(self.project, str(self.data_dir / FILE), patience)

    @classmethod
    def found(cls, data_dir: Path) -> ComposeStack | None:
        """The stack that an earlier process started in a folder; None: there is none.

        Raises: ConfigError: its endpoints are damaged.
        """
        if not (data_dir / FILE).exists() or not (data_dir / FILE_NAME).exists():
            return None
        known = Endpoints.load(data_dir)
        stack = cls(known.topology, data_dir, mirrors=any(
            place.mirror_rest for place in known.regions.values()
        ))  # fmt: skip
        stack.endpoints = known
        return stack

    def up(self, report: Sink = silent) -> Endpoints:
        """See `StackProvider`. Raises also: Precondition: no engine, or none that lets us in;
        Unavailable: an image is missing (`image_missing`), a container ended (with its last lines).
        """
        began = time.monotonic()
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock.acquire()
        try:
            self._engine.check()
            self._require_free()
        except BaseException:
            self._lock.release()
            raise
        try:
            self._engine.require_images(self.images)
            ports = self._chosen_ports()
            members = counted(self._services, self.topology.regions)
            text = compose_file(self.layout, members, Shape(ports, self.images))
            (self.data_dir / FILE).write_text(text)
            report(Note("compose", f"project {self.project}"))
            self._start()
            self._copy_secrets()
            endpoints = endpoints_of(self.layout, outside(ports))
            self._await_serving(endpoints)
            endpoints.save(self.data_dir)
            self.endpoints = endpoints
        except BaseException:
            with contextlib.suppress(EverlodeError):  # why it failed is what counts
                self.down(at_once=True)
            raise
        self.timings_s["total"] = time.monotonic() - began
        report(StackReady(self.timings_s["total"]))
        return endpoints

    def down(self, *, at_once: bool = False) -> None:
        """See `StackProvider`."""
        try:
            if (self.data_dir / FILE).exists():
                grace = "0" if at_once else "20"
                words = ("down", "--remove-orphans", "--timeout", grace)
                self._engine.compose("stop the stack", *words, within_s=DOWN_S)
        finally:
            self.endpoints = None
            self._lock.release()

    def destroy(self) -> None:
        """`down`, and its data and secrets are gone. Idempotent."""
        if (self.data_dir / FILE).exists():
            words = ("down", "--volumes", "--remove-orphans", "--timeout", "0")
            self._engine.compose("destroy the stack", *words, within_s=DOWN_S)
        self.endpoints = None
        self._lock.release()

    def processes(self) -> list[ProcessStatus]:
        """See `StackProvider`."""
        return [
            ProcessStatus(
                one.part, one.kind, one.pid or None, None if one.pid else one.exit_status,
                resident_bytes(one.pid) if one.pid else 0,
            )
            for one in self._engine.containers()
        ]  # fmt: skip

    def kill(self, name: str) -> None:
        """SIGKILL. Raises: NotFound, like all that name a part."""
        self._on(name, "kill")

    def pause(self, name: str) -> None:
        """See `StackProvider`: by the freezer."""
        self._on(name, "pause")

    def resume(self, name: str) -> None:
        """See `StackProvider`."""
        self._on(name, "unpause")

    def stop(self, name: str) -> None:
        """See `StackProvider`."""
        self._on(name, "stop", within_s=DOWN_S)

    def restart(self, name: str) -> None:
        """See `StackProvider`. Raises: Unavailable: it does not serve within SERVES_S."""
        self._on(name, "restart", "-t", "5", within_s=DOWN_S)
        if self.endpoints is not None:
            self._await_serving(self.endpoints, name)

    def wipe(self, name: str) -> None:
        """See `StackProvider`. Raises: Precondition: the part has no data."""
        self._named(name)
        if name not in with_data(self.layout):
            raise Precondition(f"{name} keeps no data", hint="kill it instead")
        if self._named(name).pid:
            self.kill(name)
        volume = with_data(self.layout).index(name) + 1
        self._prepare("wipe", str(volume))

    def set_mirror_sources(self, target: str, sources: tuple[str, ...]) -> None:
        """See `StackProvider`."""
        self._named(f"{target}/mirror")
        self._prepare("mirror", target, ",".join(sources))
        self.restart_unasked(f"{target}/mirror")

    def restart_unasked(self, name: str) -> None:
        """Restart without waiting for what it may not have any more: all its flows."""
        self._on(name, "restart", "-t", "5", within_s=DOWN_S)

    def log(self, name: str, lines: int = 20) -> str:
        """Last lines that a part or process said. Raises: NotFound."""
        return self._engine.logs(self._named(name).id, lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.down()

    def _require_free(self) -> None:
        """No container of an earlier `up` runs: who started it may have left."""
        runs = [one.part for one in self._engine.containers() if one.pid]
        if runs:
            raise Locked(
                f"a stack runs in {self.data_dir} already: {', '.join(runs)}",
                hint="everlode stack down, or another folder with --dir",
            )

    def _start(self) -> None:
        try:
            self._engine.compose("start the stack", "up", "--detach", within_s=UP_S)
        except Unavailable as error:
            for one in self._engine.containers():  # compose names its id, and not why
                if one.health == "unhealthy" or one.state in ("exited", "dead", "restarting"):
                    raise Unavailable(
                        f"{one.part} does not start\n{self.log(one.part)}", code="died",
                        hint="what it said last is above; docker compose logs has all of it",
                    ) from error  # fmt: skip
            raise

    def _prepare(self, *words: str) -> None:
        whole = ("run", "--rm", "-T", "--no-deps", "prepare", *words)
        self._engine.compose(f"prepare ({words[0]})", *whole, within_s=DOWN_S)

    def _on(self, name: str, verb: str, *words: str, within_s: float = 30.0) -> None:
        container = self._named(name)
        self._engine.docker(f"{verb} {name}", verb, *words, container.id, within_s=within_s)

    def _named(self, name: str) -> Container:
        found = self._engine.containers()
        if (container := named(found, name)) is None:
            known = ", ".join(one.part for one in found) or "none: the stack is not up"
            raise NotFound(f"no process {name}", hint=f"there are: {known}")
        return container

    def _chosen_ports(self) -> dict[str, int]:
        """Raises: ConfigError: a port that was asked for is in use."""
        path = self.data_dir / _PORTS
        kept = json.loads(path.read_text()) if path.exists() else default_ports(self.layout)
        chosen = choose_ports(self.layout.names, kept, self._fixed)
        path.write_text(json.dumps(chosen, indent=1))
        return chosen

    def _copy_secrets(self) -> None:
        """Out of the stack's volume, for who logs in from this machine; mode 0600 as there."""
        target = self.data_dir / "secrets"
        shutil.rmtree(target, ignore_errors=True)
        container = self._engine.docker(
            "find the preparation", "ps", "-aq",
            *("--filter", f"label=com.docker.compose.project={self.project}"),
            *("--filter", "label=com.docker.compose.service=prepare"),
        ).split()  # fmt: skip
        if not container:
            raise Unavailable("the stack was not prepared", code="not_prepared")
        source = f"{container[0]}:{FOLDER}/secrets"
        self._engine.docker("copy secrets", "cp", source, str(target))
        target.chmod(0o700)

    def _await_serving(self, endpoints: Endpoints, only: str | None = None) -> None:
        """Until all parts answer, or this one; a process of ours is asked whether it runs."""
        deadline = time.monotonic() + SERVES_S
        asks = asks_of(endpoints)
        for name, ask in asks.items():
            if only not in (None, name):
                continue
            while (why := why_silent(ask)) and time.monotonic() < deadline:
                self._require_running(name)
                time.sleep(_POLL_S)
            if why:
                raise Unavailable(f"{name} does not serve: {why}", hint=f"docker logs: {name}")
        for one in self._engine.containers():
            if only in (None, one.part):
                self._require_running(one.part)

    def _require_running(self, name: str) -> None:
        container = self._named(name)
        if container.state in ("exited", "dead"):
            raise Unavailable(
                f"{name} ended with status {container.exit_status}\n{self.log(name)}", code="died",
                hint=f"docker logs {service_of(name)} has all of it",
            )  # fmt: skip
