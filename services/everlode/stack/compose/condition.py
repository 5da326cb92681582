"""What runs of a stack in containers, by what answers now. Shell: the engine, and every part."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from everlode.errors import NotFound
from everlode.stack.compose.stack import ComposeStack
from everlode.stack.condition import GONE, Condition, Part, asks_of, why_silent
from everlode.stack.provider import ProcessStatus


def look(stack: ComposeStack) -> Condition:
    """The condition of the stack; takes as long as its slowest part to answer.

    Raises: NotFound: it has no endpoints, so it never served. Unavailable, Precondition: no engine.
    """
    if stack.endpoints is None:
        raise NotFound(f"no stack in {stack.data_dir}", hint="start one: everlode stack up")
    found = {one.name: one for one in stack.processes()}
    if not any(one.pid for one in found.values()):
        return Condition("stopped", None, None, ())
    asks = asks_of(stack.endpoints)
    with ThreadPoolExecutor(max(1, len(asks))) as pool:
        runs = {name: pool.submit(why_silent, ask) for name, ask in asks.items() if name in found}
    silent = {name: answer.result() for name, answer in runs.items()}
    parts = tuple(_part(one, silent.get(name, "")) for name, one in sorted(found.items()))
    return Condition("degraded" if any(p.why for p in parts) else "ready", None, None, parts)


def _part(one: ProcessStatus, why: str) -> Part:
    if one.pid is None:
        return Part(one.name, one.kind, None, "gone", 0, f"{GONE}, status {one.exit_status}")
    state = "silent" if why else "running"
    return Part(one.name, one.kind, one.pid, state, one.resident_bytes // 2**20, why)
