"""What a stack runs, and the one place where what it is to run is written down. Shell: files."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from everlode.errors import Locked, NotFound, Precondition
from everlode.stack.native.lock import Recorded, holder, read_record
from everlode.stack.native.state import load_options, write_options
from everlode.stack.native.supervisor import saved_topology
from everlode.stack.services import as_rows, members_of
from everlode.topology.model import Network
from everlode.topology.plan import Running

LOCK = "topology.lock"


def look(folder: Path) -> Running:
    """What the stack in `folder` runs now.

    Raises: NotFound: there is no stack. Precondition: it does not run.
    """
    topology = saved_topology(folder)
    if topology is None:
        raise NotFound(f"no stack in {folder}", hint="everlode stack up --topology FILE")
    if holder(folder) is None:
        raise Precondition(f"the stack in {folder} does not run", hint="everlode stack up")
    options = load_options(folder)
    members = members_of(options.get("services", {}), topology.regions)
    leaving = members_of(options.get("leaving", ()), topology.regions)
    alive = {name: one.made_of for name, one in alive_in(folder).items()}
    network = Network(topology, bool(options.get("mirrors", True)), frozenset(members))
    down = frozenset(m.name for m in members if alive.get(m.name) != m.made_of)
    return Running(network, frozenset(leaving), down)


def alive_in(folder: Path) -> dict[str, Recorded]:
    """The processes of a stack that live, by name."""
    return {one.name: one for one in read_record(folder) if one.alive}


def write_down(folder: Path, running: Running) -> None:
    """Write down what is to run, and who leaves: its supervisor follows."""
    options = load_options(folder)
    if "topology" not in options:
        raise NotFound(f"no stack in {folder}", hint="everlode stack up --topology FILE")
    members, leaving = sorted(running.network.members), sorted(running.leaving)
    more = {"services": as_rows(members), "leaving": as_rows(leaving)}
    write_options(folder, options | more)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """One apply of a stack at a time. Raises: Locked: names the process of the other one."""
    with (folder / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Locked(
                f"another topology apply works on {folder}, process {file.read().strip()}",
                hint="wait until it has ended",
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
