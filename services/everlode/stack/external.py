"""The provider of a network that somebody else runs: its endpoints come from a file.

    stack = ExternalStack("endpoints.json", data_dir=folder)
    endpoints = stack.up()

Nothing of it is started, so nothing is stopped or broken either: `up` asks every part, makes and
checks all topics, and keeps the endpoints in `data_dir`, where every verb's `--dir` finds them.
Passwords and keys are in the files that the endpoints name. Shell.
"""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from pydantic import ValidationError

from everlode.errors import ConfigError, EverlodeError, Refusal, Unavailable
from everlode.settings.endpoints import Endpoints
from everlode.stack.condition import asks_of
from everlode.stack.opening import open_network
from everlode.stack.provider import ProcessStatus, StackProvider
from everlode.telemetry.entries import StackReady
from everlode.telemetry.sink import Sink, silent

UP_S = 60.0
"""The longest that `up` waits for clusters to answer and topics to be made."""


class ExternalStack(StackProvider):
    """Brokers, mirrors, databases and an object store at the endpoints of a file."""

    def __init__(self, file: Path | str, data_dir: Path | str, *, within_s: float = UP_S) -> None:
        """`file`: as `endpoints.json` of a stack. Raises: ConfigError: names the file and field."""
        self.file = Path(file).absolute()
        self.data_dir = Path(data_dir).absolute()
        self._within_s = within_s
        self._given = read_endpoints(self.file)
        self.topology = self._given.topology
        self.endpoints: Endpoints | None = None
        self.timings_s: dict[str, float] = {}

    def up(self, report: Sink = silent) -> Endpoints:
        """See `StackProvider`. Raises: Unavailable: names the part that does not answer."""
        began = time.monotonic()
        open_network(self._given, began + self._within_s, report)
        for name, ask in asks_of(self._given).items():
            try:
                ask()
            except (EverlodeError, OSError) as error:
                raise Unavailable(
                    f"{name} of {self.file} does not serve: {error}", code="part_silent",
                    hint="start it, or correct its endpoint in the file",
                ) from error  # fmt: skip
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._given.save(self.data_dir)
        self.endpoints = self._given
        self.timings_s["total"] = time.monotonic() - began
        report(StackReady(self.timings_s["total"]))
        return self._given

    def down(self, *, at_once: bool = False) -> None:
        """Let go of it; it runs on."""
        self.endpoints = None

    def processes(self) -> list[ProcessStatus]:
        """None: it has started none."""
        return []

    def kill(self, name: str) -> None:
        """Raises: Refusal: `not_ours`, like all that would break or mend a part."""
        self._refuse("kill", name)

    def pause(self, name: str) -> None:
        """See `kill`."""
        self._refuse("pause", name)

    def resume(self, name: str) -> None:
        """See `kill`."""
        self._refuse("resume", name)

    def stop(self, name: str) -> None:
        """See `kill`."""
        self._refuse("stop", name)

    def restart(self, name: str) -> None:
        """See `kill`."""
        self._refuse("restart", name)

    def wipe(self, name: str) -> None:
        """See `kill`."""
        self._refuse("wipe", name)

    def set_mirror_sources(self, target: str, sources: tuple[str, ...]) -> None:
        """See `kill`."""
        self._refuse("set the sources of", f"{target}/mirror")

    def _refuse(self, what: str, name: str) -> NoReturn:
        raise Refusal(
            f"this stack was not started here, and cannot {what} {name}", code="not_ours",
            hint="do it where it runs, or use the provider native or compose",
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.down()


def read_endpoints(file: Path) -> Endpoints:
    """The endpoints in a file. Raises: ConfigError: names the file, and the field that is wrong."""
    try:
        found = Endpoints.model_validate_json(file.read_text())
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}", hint="name a file of endpoints") from None
    except (UnicodeDecodeError, ValidationError) as error:
        item = error.errors()[0] if isinstance(error, ValidationError) else None
        field = ".".join(map(str, item["loc"])) if item else ""
        said = f"{field}: {item['msg']}" if item else "not UTF-8"
        raise ConfigError(
            f"{file}: {said.removeprefix(': ')}",
            hint="it is as endpoints.json in the folder of a stack that everlode stack up made",
        ) from None
    for secret in _secret_files(found):
        if not secret.is_file():
            raise ConfigError(
                f"{file}: {secret} is no file", hint="put the secret there, mode 0600"
            )
    return found


def _secret_files(endpoints: Endpoints) -> list[Path]:
    files = [place.postgres_password_file for place in endpoints.regions.values()]
    if endpoints.s3 is not None:
        files += [endpoints.s3.access_key_file, endpoints.s3.secret_key_file]
    return files
