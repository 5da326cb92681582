"""Inputs that processes had in hand when they ended: of one that ended two, others keep off.

A mistake of ours that raises is refused where it happens. One that ends the process (a library that
crashes, memory that runs out) leaves nobody to refuse anything: the successor reads the same input,
and ends too. What a process has in hand is written down beside it; whoever finds that it has ended
says so on the control log, and so all agree what is kept off. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from everlode.events.control import InputBlamed

TWICE = 2
"""One end proves nothing: a process may be killed while it works on anything."""
MOST = 1_000
"""Inputs that are remembered, the last ones."""
Blamed = Mapping[str, tuple[str, ...]]
"""Input → the processes that ended with it in hand, as `node (incarnation)`."""


def blamed(before: Blamed, data: InputBlamed) -> Blamed | str:
    """With one more process; a text says why the record has no effect."""
    process = f"{data.node_id} ({data.incarnation})"
    known = before.get(data.input, ())
    if process in known:
        return f"{process} was blamed on it before"
    rest = {name: ended for name, ended in before.items() if name != data.input}
    after = [*rest.items(), (data.input, (*known, process))]
    return MappingProxyType(dict(after[-MOST:]))


def kept_off(found: Blamed, what: str) -> tuple[str, ...]:
    """The processes that an input has ended, when it is not to be touched again; else none."""
    ended = found.get(what, ())
    return ended if len(ended) >= TWICE else ()
