"""A larger share of the processor, for what a region waits for, and less work for it. Shell.

Linux serves sessions in turn, and niceness counts within a session only, where its autogroups are
on: forty processes of a region on two cores leave a backup a twentieth of a core, however little it
has to do. So both are set: the thread's niceness, and the session's. A system that does not permit
it, or has no such thing, leaves the share as it is: nothing depends on it but how long it takes.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

GAIN = 10
"""Steps of niceness: about ten times the share of one process among many."""
_SESSION = Path("/proc/self/autogroup")


@contextmanager
def preferred() -> Iterator[None]:
    """Within it this thread, and those that it starts, are served before others.

    Threads that were there before are not, but where sessions are served in turn the whole
    session is. A process that is killed within leaves its session as it is until that ends.
    """
    thread, session = os.getpriority(os.PRIO_PROCESS, 0), _session()
    _set(thread - GAIN, None if session is None else session - GAIN)
    try:
        yield
    finally:
        _set(thread, session)


@contextmanager
def uncollected() -> Iterator[None]:
    """No cyclic garbage collection within it: for work on many objects that makes no cycles.

    What is not in a cycle is given back as ever. Threads may be within it beside each other: the
    first that leaves ends the rest. A process that is forked within collects.
    """
    rest = object() if gc.isenabled() else None
    if rest is not None:
        _resting.add(rest)
        gc.disable()
    try:
        yield
    finally:
        if rest is not None:
            _resting.discard(rest)
            gc.enable()


_resting: set[object] = set()
"""Of those who found it on, and turned it off."""


def _forked() -> None:
    """The threads that were within are not in the child."""
    if _resting:
        _resting.clear()
        gc.enable()


os.register_at_fork(after_in_child=_forked)


def _session() -> int | None:
    with suppress(OSError, ValueError):
        return int(_SESSION.read_text().rpartition(" ")[2])
    return None


def _set(thread: int, session: int | None) -> None:
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, max(-20, thread))
    if session is not None:
        with suppress(OSError):
            _SESSION.write_text(str(max(-20, session)))
