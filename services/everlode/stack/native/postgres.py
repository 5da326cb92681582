"""PostgreSQL as a child of the stack: TCP on 127.0.0.1, a password, no socket, no root.

Shell: initdb and postgres of the wheel.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

import psutil

from everlode.errors import Unavailable
from everlode.stack.native.ports import HOST, answers
from everlode.stack.native.privilege import Identity, child_setup
from everlode.stack.native.process import Command

USER = "everlode"
DATABASE = "everlode"
_INIT_S = 60.0
_LEFT_S = 5.0
SETTINGS = {
    "listen_addresses": f"'{HOST}'",
    "unix_socket_directories": "''",
    "max_connections": "100",
    "shared_buffers": "'64MB'",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "'512MB'",
    "min_wal_size": "'80MB'",
    "io_method": "'worker'",
    "io_workers": "1",
    "max_parallel_workers": "0",
    "password_encryption": "'scram-sha-256'",
    "log_min_messages": "warning",
    "update_process_title": "off",
    "logging_collector": "off",
}


def initialise(binaries: Path, data: Path, password_file: Path, identity: Identity | None) -> None:
    """Make `data` a database cluster with our user and database. No-op if it is one.

    Raises: Unavailable: initdb fails.
    """
    if (data / "PG_VERSION").exists():
        return
    draft = data.with_name(data.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True, mode=0o700)
    copy = data.with_name(data.name + ".pw")
    copy.unlink(missing_ok=True)
    handle = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(password_file.read_text())
    try:
        if identity is not None:
            os.chown(draft, identity.uid, identity.gid)
            os.chown(copy, identity.uid, identity.gid)
        _run(
            [
                *(str(binaries / "initdb"), "-D", str(draft), "-U", USER, "--pwfile", str(copy)),
                *("--auth-host=scram-sha-256", "--auth-local=reject", "-E", "UTF8"),
                *("--locale=C", "--no-instructions"),
            ],
            identity,
        )
        _run(
            [str(binaries / "postgres"), "--single", "-D", str(draft), "postgres"],
            identity,
            stdin=f"CREATE DATABASE {DATABASE};\n",
        )
        draft.rename(data)
    finally:
        copy.unlink(missing_ok=True)
        shutil.rmtree(draft, ignore_errors=True)


def _run(argv: list[str], identity: Identity | None, stdin: str = "") -> None:
    setup = child_setup(os.getpid(), signal.SIGKILL, identity)
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_INIT_S,
            check=False,
            cwd="/",
            preexec_fn=setup,
        )
    except (OSError, subprocess.SubprocessError) as exc:
        raise Unavailable(f"{Path(argv[0]).name} cannot run: {exc}") from exc
    if done.returncode:
        raise Unavailable(f"{Path(argv[0]).name} failed: {done.stderr.strip()[-800:]}")


def command(
    name: str, binaries: Path, data: Path, port: int, log: Path, identity: Identity | None
) -> Command:
    """The server, to be supervised. Fast shutdown on stop; immediate if we die."""
    options = [f"--{key}={value.strip(chr(39))}" for key, value in SETTINGS.items()]
    return Command(
        name,
        "postgres",
        (str(binaries / "postgres"), "-D", str(data), "-p", str(port), *options),
        log,
        lambda: _serves(data, port),
        identity=identity,
        stop_signal=signal.SIGINT,
        orphan_signal=signal.SIGQUIT,
        cwd=Path("/"),
    )


def _serves(data: Path, port: int) -> bool:
    """The last line of postmaster.pid says ready once recovery has ended."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[7].strip() == "ready" and answers(port)


def end_leftovers(data: Path) -> None:
    """End the children of a server that was killed; two servers' would write the same files.

    Only for the holder of the stack's lock: no server of ours runs on `data` then.
    """
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd() == str(data):
                process.kill()
                left.append(process)
    psutil.wait_procs(left, timeout=_LEFT_S)


def clear_stale_pid(data: Path) -> None:
    """Remove the pid file of a server that was killed; PostgreSQL would take a reused pid for it.

    Only for the holder of the stack's lock: no server of ours runs on `data` then.
    """
    (data / "postmaster.pid").unlink(missing_ok=True)
