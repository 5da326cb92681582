"""`everlode serve --wait`: it listens at once, before there is a stack; without, it says so."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from everlode.api.network import ServedRegion
from everlode.api.server import Hooks, Site, serve
from everlode.cli.serve import run as serve_verb
from everlode.errors import NotFound
from everlode.telemetry.sink import silent


def started(folder: Path, *options: str) -> subprocess.Popen[str]:
    words = ["serve", "--insecure", "--json", "--dir", str(folder), *options]
    return subprocess.Popen(
        [sys.executable, "-m", "everlode.cli.main", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def reached(address: str) -> bool:
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5):
        return True


def test_network_is_asked_for_once_the_server_listens() -> None:
    said: list[str] = []
    found: list[bool] = []

    def place() -> ServedRegion | None:
        found.append(reached(said[0]))
        return None

    site = Site("127.0.0.1", 0, tokens=None)
    serve(place, site, Hooks(said.append, silent, threading.Event()))
    assert found == [True]
    with pytest.raises(OSError, match="refused"):
        reached(said[0])


def test_server_that_waits_listens_and_ends_well_when_asked(tmp_path: Path) -> None:
    with started(tmp_path, "--wait", "60") as process:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        assert reached(address)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "")


def test_stack_that_does_not_come_is_named(tmp_path: Path) -> None:
    with started(tmp_path, "--wait", "0.1") as process:
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 10
    assert "address" in json.loads(out.splitlines()[0])
    assert str(tmp_path) in out


def test_server_without_a_stack_that_waits_for_none_says_no_address(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no stack"):
        serve_verb(insecure=True, folder=tmp_path)
