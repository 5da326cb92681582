"""A container engine for tests: the one that answers, or Debian's dockerd, started for them.

Its sockets are in a folder of its own; images and their layers stay in the user's cache, so that
the next run finds them. It changes no rule of the machine's packet filter.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes.languages import CACHE, tool

ROOT = Path(__file__).parents[3]
START_S, STOP_S = 60.0, 60.0


def answers(env: dict[str, str]) -> bool:
    """Whether an engine answers to `docker` in this environment."""
    words = ["docker", "version", "--format", "{{.Server.Version}}"]
    return subprocess.run(words, env=env, capture_output=True, check=False).returncode == 0


@contextmanager
def engine() -> Iterator[dict[str, str]]:
    """The variables under which `docker` reaches an engine; none when it does anyhow."""
    tool("docker")
    if answers(dict(os.environ)):
        yield {}
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "engine.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one engine at a time has the layers
        folder = Path(tempfile.mkdtemp(prefix="everlode-engine-"))
        host = {"DOCKER_HOST": f"unix://{folder}/docker.sock"}
        with (folder / "log").open("wb") as log:
            daemon = subprocess.Popen(_words(folder), stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + START_S
            while not answers(os.environ | host):
                said = (folder / "log").read_text()[-3000:]
                assert daemon.poll() is None, f"dockerd ended: {said}"
                assert time.monotonic() < deadline, f"dockerd does not serve: {said}"
                time.sleep(0.2)
            yield host
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(STOP_S)
            for left in (folder / "exec" / "netns").glob("*"):  # it leaves its own mounted
                subprocess.run(["umount", left], capture_output=True, check=False)
            shutil.rmtree(folder, ignore_errors=True)


def _words(folder: Path) -> list[str]:
    return [
        *(tool("dockerd"), "--host", f"unix://{folder}/docker.sock"),
        *("--data-root", str(CACHE / "engine"), "--exec-root", str(folder / "exec")),
        *("--pidfile", str(folder / "pid"), "--log-level", "warn", "--bridge", "none"),
        *("--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"),
    ]


def stand_ins(env: dict[str, str]) -> dict[str, str]:
    """Build what is missing; variable → image."""
    words = [sys.executable, str(ROOT / "deploy/standins/build.py")]
    done = subprocess.run(words, env=os.environ | env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(line.split("=", 1) for line in done.stdout.split())
