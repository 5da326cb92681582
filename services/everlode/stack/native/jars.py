"""Kafka's jars from Maven Central, by a committed lock file.

Invariants: a jar is used only if its SHA-256 is the lock's; all jars or none. Shell: HTTPS, files.
"""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import requests

from everlode.errors import ConfigError, IntegrityError, Unavailable
from everlode.stack.native.cache import assembled, provisioning_lock, require_room
from everlode.telemetry.entries import Note
from everlode.telemetry.sink import Sink, silent

KAFKA_VERSION = "4.3.1"
_CONNECT_S, _READ_S = 10.0, 60.0
_LINE = re.compile(r"^(\S+\.jar) ([0-9a-f]{64}) (\d+)$")


class Jar(NamedTuple):
    """One line of the lock."""

    path: str
    """Inside a Maven repository."""
    sha256: str
    size: int
    """Bytes."""

    @property
    def name(self) -> str:
        """File name."""
        return self.path.rpartition("/")[2]


def read_lock(text: str | None = None) -> tuple[Jar, ...]:
    """The locked jars, in the lock's order; `text` instead of the committed lock.

    Raises: ConfigError: a line does not fit, or the set would not run (see `_check`).
    """
    if text is None:
        text = resources.files("everlode.stack.native").joinpath("kafka-jars.lock").read_text()
    jars = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:
            raise ConfigError(
                f"kafka-jars.lock line {number}: expected PATH SHA256 BYTES, found {line!r}",
                hint="restore the file from the repository",
            )
        jars.append(Jar(match[1], match[2], int(match[3])))
    _check(jars)
    return tuple(jars)


def _check(jars: list[Jar]) -> None:
    """A mixed set dies deep in Kafka with a missing method: refuse it here."""
    for jar in jars:
        if jar.path.startswith("org/apache/kafka/") and f"/{KAFKA_VERSION}/" not in jar.path:
            raise ConfigError(f"kafka-jars.lock: {jar.name} is not of Kafka {KAFKA_VERSION}")
        if "/jakarta.ws.rs-api/" in jar.path and "/3.1.0/" not in jar.path:
            raise ConfigError(f"kafka-jars.lock: {jar.name}: Connect needs 3.1.0")


def lock_digest(jars: tuple[Jar, ...]) -> str:
    """Names a set of jars."""
    joined = "\n".join(f"{jar.path} {jar.sha256}" for jar in jars)
    return hashlib.sha256(joined.encode()).hexdigest()[:16]


def provide_jars(
    cache: Path, jars: tuple[Jar, ...], report: Sink = silent, *, maven: str | None = None
) -> tuple[Path, ...]:
    """Paths of the jars in `cache`, downloaded first if they are not there. Idempotent.

    `maven`: base URL of the repository; Maven Central without it.

    Raises: IntegrityError: a downloaded or cached jar is not what the lock says.
    Unavailable: the repository does not answer, or breaks off; no room.
    """
    folder = cache / "jars" / lock_digest(jars)
    with provisioning_lock(cache):
        if not folder.is_dir():
            total = sum(jar.size for jar in jars)
            require_room(cache, total * 2, "Kafka's jars")
            size = f"{total // 2**20} MiB"
            report(Note("provision", f"downloading {len(jars)} jars of Kafka, {size} (once)"))
            base = _repository(maven)
            with assembled(folder) as scratch, ThreadPoolExecutor(8) as pool:
                try:
                    for task in [pool.submit(_fetch, base, jar, scratch) for jar in jars]:
                        task.result()
                except BaseException:
                    pool.shutdown(cancel_futures=True)  # the rest need not come
                    raise
    return tuple(_checked(folder / jar.name, jar) for jar in jars)


def _checked(path: Path, jar: Jar) -> Path:
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as exc:
        raise IntegrityError(
            f"{path}: {exc.strerror}", hint=f"remove {path.parent}; it is downloaded again"
        ) from exc
    if found != jar.sha256:
        raise IntegrityError(
            f"{path}: SHA-256 is {found}, the lock says {jar.sha256}",
            hint=f"remove {path.parent}; it is downloaded again",
        )
    return path


def _repository(chosen: str | None) -> str:
    """Where jars come from: the chosen one, else what jgo takes."""
    if chosen:
        return chosen.rstrip("/")
    from jgo.constants import MAVEN_CENTRAL_URL  # here: it takes as long to load as all the rest

    return str(MAVEN_CENTRAL_URL)


def _fetch(base: str, jar: Jar, folder: Path) -> None:
    """One jar into `folder`; tried three times, because registries drop connections."""
    url = f"{base}/{jar.path}"
    for attempt in (1, 2, 3):
        try:
            body = _get(url, jar)
        except requests.RequestException as exc:
            if attempt == 3:
                raise Unavailable(
                    f"download of {url} broke off: {exc}",
                    code="download",
                    hint="check the network and run it again; EVERLODE_MAVEN names a mirror",
                ) from exc
            continue
        found = hashlib.sha256(body).hexdigest()
        if found != jar.sha256:
            raise IntegrityError(
                f"{url}: SHA-256 is {found}, the lock says {jar.sha256}",
                code="hash_differs",
                hint="do not trust this mirror; nothing was kept",
            )
        (folder / jar.name).write_bytes(body)
        return


def _get(url: str, jar: Jar) -> bytes:
    answer = requests.get(url, timeout=(_CONNECT_S, _READ_S))
    answer.raise_for_status()
    if len(answer.content) < jar.size:
        raise requests.ConnectionError(f"{len(answer.content)} of {jar.size} bytes came")
    return answer.content
