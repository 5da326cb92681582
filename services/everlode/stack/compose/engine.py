"""The container engine, by its own command line: calls, and what its refusals mean for an operator.

`docker` is asked, and `docker compose` (or the program `docker-compose`, as Debian has it); the
engine is the one that DOCKER_HOST or the user's context names. Invariants: nothing is pulled where
the image is there; an error names the thing and the way out. Shell, but for `meaning`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from everlode.errors import ConfigError, EverlodeError, Precondition, Unavailable
from everlode.stack.compose.parts import VARIABLES, Images

ASK_S = 30.0
PULL_S = 900.0
INSTALL = (
    "install Docker Engine (Debian: apt-get install docker.io docker-compose), "
    "or take the native stack"
)
STAND_INS = "python deploy/standins/build.py makes stand-ins where no image registry is reached"


class Said(NamedTuple):
    """A way in which engines refuse."""

    pattern: re.Pattern[str]
    error: type[EverlodeError]
    code: str
    message: str
    """With the pattern's groups."""
    hint: str


REFUSALS = (
    Said(
        re.compile(r"permission denied while trying to connect", re.I),
        Precondition, "engine_rights", "the container engine does not let this user in: {line}",
        "join the group that owns its socket (usermod -aG docker USER, then log in anew), "
        "or let DOCKER_HOST name an engine of yours",
    ),
    Said(
        re.compile(r"already allocated|address already in use|ports are not available", re.I),
        ConfigError, "port_in_use", "a port that the stack wants is in use: {line}",
        "stop what listens there (ss -ltnp), or choose another one: eu/kafka by EU_KAFKA_PORT",
    ),
    Said(
        re.compile(
            r"cannot connect to the docker daemon|failed to connect to the docker api|"
            r"error during connect|is the docker daemon running", re.I,
        ),
        Unavailable, "no_engine", "no container engine answers: {line}",
        "start it (service docker start, or dockerd as root), or let DOCKER_HOST name one",
    ),
    Said(
        re.compile(r"no space left on device", re.I),
        Unavailable, "no_room", "the engine has no room: {line}",
        "docker system df shows what takes it; docker system prune frees what nobody uses",
    ),
    Said(
        re.compile(r"unknown command: docker compose|'compose' is not a docker command", re.I),
        Precondition, "no_compose", "docker has no `compose`: {line}",
        "install the compose plugin, or docker-compose (Debian: apt-get install docker-compose)",
    ),
)  # fmt: skip
"""In this order: a message about rights also says that it cannot connect."""


def meaning(said: str, what: str) -> EverlodeError:
    """What an engine's refusal to do `what` means. Pure."""
    for known in REFUSALS:
        if known.pattern.search(said):
            line = next(one for one in said.splitlines() if known.pattern.search(one))
            text = known.message.format(line=line.strip())
            return known.error(text, code=known.code, hint=known.hint)
    last = " | ".join(line.strip() for line in said.strip().splitlines()[-4:])
    return Unavailable(f"the container engine failed to {what}: {last}", code="engine_failed")


class Container(NamedTuple):
    """One container of a stack, now."""

    id: str
    part: str
    kind: str
    state: str
    """created, running, paused, restarting, exited or dead."""
    pid: int
    """0 unless it runs."""
    exit_status: int
    health: str
    """starting, healthy or unhealthy; empty where nothing checks it."""


class Engine:
    """Calls for one project; `variables` join the environment of each."""

    def __init__(self, project: str, file: str, variables: Mapping[str, str] | None = None) -> None:
        self.project = project
        self._file = file
        self._env = os.environ | (variables or {})
        self._compose: tuple[str, ...] | None = None

    def check(self) -> None:
        """Raises: Precondition: no program, no rights. Unavailable: no engine answers."""
        self.docker("ask its version", "version", "--format", "{{.Server.Version}}")
        self._words()

    def require_images(self, images: Images) -> None:
        """Each is there, or is pulled. Raises: Unavailable: names the image and its variable."""
        for image, variable in zip(images, VARIABLES, strict=True):
            asked = self._run(["docker", "image", "inspect", "--format", "{{.Id}}", image], ASK_S)
            if asked.returncode == 0:
                continue
            pulled = self._run(["docker", "pull", "--quiet", image], PULL_S)
            if pulled.returncode:
                said = pulled.stderr.strip().splitlines()
                raise Unavailable(
                    f"the image {image} is not there, and cannot be pulled: {' '.join(said[-1:])}",
                    code="image_missing",
                    hint=f"{_WAYS[variable]}; or name another one by {variable}",
                )

    def docker(self, what: str, *words: str, within_s: float = ASK_S) -> str:
        """What `docker` prints. Raises: what a refusal to do `what` means."""
        return self._done(what, ["docker", *words], within_s)

    def compose(self, what: str, *words: str, within_s: float) -> str:
        """What `docker compose` prints about the project. Raises: as `docker`."""
        whole = [*self._words(), "-p", self.project, "-f", self._file, *words]
        return self._done(what, whole, within_s)

    def logs(self, container: str, lines: int) -> str:
        """Last lines that a container said, on either stream."""
        done = self._run(["docker", "logs", "--tail", str(lines), container], ASK_S)
        return (done.stdout + done.stderr).strip()

    def containers(self) -> list[Container]:
        """Those of the project that are a part or process of the stack, by name."""
        wanted = ("--filter", f"label=com.docker.compose.project={self.project}")
        listed = self.docker(
            "list containers", "ps", "-aq", *wanted, "--filter", "label=everlode.part"
        )
        found = listed.split()
        if not found:
            return []
        rows = json.loads(self.docker("look at containers", "inspect", *found))
        return sorted(map(_container, rows), key=lambda one: one.part)

    def _words(self) -> tuple[str, ...]:
        """How compose is called. Raises: Precondition: it is not there."""
        if self._compose is None:
            plugin = self._run(["docker", "compose", "version"], ASK_S)
            if plugin.returncode == 0:
                self._compose = ("docker", "compose")
            elif found := shutil.which("docker-compose", path=self._env.get("PATH")):
                self._compose = (found,)
            else:
                raise meaning("docker: 'compose' is not a docker command", "compose")
        return self._compose

    def _done(self, what: str, words: Sequence[str], within_s: float) -> str:
        done = self._run(words, within_s)
        if done.returncode:
            raise meaning(done.stderr or done.stdout, what)
        return done.stdout

    def _run(self, words: Sequence[str], within_s: float) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                words, env=self._env, capture_output=True, text=True, check=False,
                timeout=within_s, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except FileNotFoundError:
            raise Precondition(
                f"there is no program {words[0]}", code="no_engine", hint=INSTALL
            ) from None
        except subprocess.TimeoutExpired:
            raise Unavailable(
                f"{' '.join(words[:3])} gave no answer within {within_s:.0f} s", code="engine_slow",
                hint="is the engine busy or stuck? docker ps, and its own log",
            ) from None  # fmt: skip


BUILD = "docker build -f deploy/image/Dockerfile -t everlode:0.1.0 . builds it"
_WAYS = dict(zip(VARIABLES, (BUILD, STAND_INS, STAND_INS, STAND_INS), strict=True))


def _container(row: Mapping[str, Any]) -> Container:
    labels, state = row["Config"]["Labels"], row["State"]
    return Container(
        row["Id"], labels["everlode.part"], labels["everlode.kind"], state["Status"],
        int(state["Pid"]), int(state["ExitCode"]), state.get("Health", {}).get("Status", ""),
    )  # fmt: skip


def named(containers: Iterable[Container], part: str) -> Container | None:
    """The one of a part. Pure."""
    return next((one for one in containers if one.part == part), None)
