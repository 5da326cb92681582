"""What runs of a stack, by what answers now; that something was written down is no answer.

    lock held? ──no──► stopped, or failed: its start did, or its holder ended without stopping it
        │ yes
        ├── its holder says that it starts, stops or has failed ──► that
        └── every part is asked, and every process looked for
                 all answer ──► ready        else ──► degraded, each that does not with why

A part is there when its own process lives (pid and start time) and it answers. Shell: files,
processes, and every part is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from everlode.adapters.answers import ask_broker, ask_database, ask_http, ask_store
from everlode.adapters.mirror_status import flow_state
from everlode.errors import EverlodeError, NotFound, Unavailable
from everlode.settings.endpoints import Endpoints, RegionEndpoints, S3Endpoint
from everlode.stack.book import Kept, read_book
from everlode.stack.native.lock import Recorded, holder, read_record
from everlode.stack.native.process import resident_bytes
from everlode.stack.native.state import read_state

UNDER_WAY = ("starting", "stopping", "failed")
"""What a holder says of itself that no part could answer for."""
WRITTEN_S = 1.0
"""Start times are this exact."""
NEVER = "it was never started"
GONE = "its process is gone"

Ask = Callable[[], None]


class Part(NamedTuple):
    """One part, now. `why` it does not serve; empty when it does, or was not asked."""

    name: str
    kind: str
    pid: int | None
    state: str
    """running, silent (it lives and does not answer), gone, given up, or missing."""
    resident_mib: int
    why: str = ""
    restarts: int = 0
    """How often it was started again since the stack was."""


class Condition(NamedTuple):
    """A whole stack, now."""

    state: str
    """ready, degraded, starting, stopping, failed or stopped."""
    pid: int | None
    """Who holds its lock."""
    ready_after_s: float | None
    parts: tuple[Part, ...]
    why: str = ""
    """What is wrong with the whole, beside its parts."""

    @property
    def as_asked(self) -> bool:
        """True when it serves, or was stopped and nothing of it runs."""
        return self.state in ("ready", "stopped")


def look(folder: Path) -> Condition:
    """The condition of the stack in `folder`; takes as long as its slowest part to answer."""
    pid, said = holder(folder), read_state(folder)
    recorded = {process.name: process for process in read_record(folder)}
    if pid is None:
        return _without_holder(said, recorded)
    took = said.get("timings_s", {}).get("total") if _by(said, pid) else None
    if _by(said, pid) and said["state"] in UNDER_WAY:
        rows = tuple(_part(name, recorded.get(name), None) for name in sorted(recorded))
        return Condition(said["state"], pid, took, rows, _error(said))
    try:
        asks = asks_of(Endpoints.load(folder))
    except NotFound:
        return Condition("degraded", pid, took, (), "it has no endpoints: nothing of it has served")
    except EverlodeError as error:
        return Condition("degraded", pid, took, (), error.message)
    rows = _healed(_asked(asks, recorded), read_book(folder))
    state = "degraded" if any(row.why for row in rows) else "ready"
    return Condition(state, pid, took, rows)


def _without_holder(said: Mapping[str, Any], recorded: Mapping[str, Recorded]) -> Condition:
    left = tuple(_part(n, p, "nobody keeps it") for n, p in sorted(recorded.items()) if p.alive)
    if left:
        return Condition("degraded", None, None, left, "its holder is gone, parts of it still run")
    if said.get("state") == "failed":
        return Condition("failed", None, None, (), _error(said))
    if said.get("state") in ("starting", "ready", "stopping"):
        why = f"its holder, pid {said.get('pid')}, ended without stopping it"
        return Condition("failed", None, None, (), why)
    return Condition("stopped", None, None, ())


def _by(said: Mapping[str, Any], pid: int) -> bool:
    """True when the process of this pid wrote the state: not an earlier one of the same pid."""
    if said.get("pid") != pid:
        return False
    try:
        began = float(psutil.Process(pid).create_time())
    except psutil.Error:
        return False
    return bool(began - WRITTEN_S <= said.get("at", 0.0))


def _error(said: Mapping[str, Any]) -> str:
    return str(said["error"].get("message", "")) if said.get("state") == "failed" else ""


def _asked(asks: Mapping[str, Ask], recorded: Mapping[str, Recorded]) -> tuple[Part, ...]:
    """Each part, by name; those that are gone are not asked."""
    with ThreadPoolExecutor(max(1, len(asks))) as pool:
        answers = {
            name: pool.submit(why_silent, ask)
            for name, ask in asks.items()
            if name in recorded and recorded[name].alive
        }
    names = sorted(asks.keys() | recorded.keys())
    found = {name: answers[name].result() if name in answers else "" for name in names}
    return tuple(_part(name, recorded.get(name), found[name]) for name in names)


def _healed(rows: tuple[Part, ...], book: Mapping[str, Kept]) -> tuple[Part, ...]:
    """With what the supervisor does about those that do not run."""
    known = {row.name: row for row in rows}
    for name, kept in book.items():
        row = known.get(name) or Part(name, kept.kind, None, "gone", 0, GONE)
        if row.state in ("gone", "missing"):
            state = "given up" if kept.given_up else "gone"
            row = row._replace(state=state, why=kept.why or row.why or GONE)
        known[name] = row._replace(restarts=kept.restarts)
    return tuple(known[name] for name in sorted(known))


def why_silent(ask: Ask) -> str:
    """Why a part does not answer; empty when it does."""
    try:
        ask()
    except EverlodeError as error:
        return error.message
    except OSError as error:  # a secret's file
        return str(error)
    return ""


def _part(name: str, process: Recorded | None, why: str | None) -> Part:
    """`why` it does not answer; None: it was not asked."""
    if process is None:
        return Part(name, _kind(name), None, "missing", 0, NEVER)
    if not process.alive:
        return Part(name, process.kind, process.pid, "gone", 0, GONE if why is not None else "")
    size = resident_bytes(process.pid) // 2**20
    return Part(name, process.kind, process.pid, "silent" if why else "running", size, why or "")


def _kind(name: str) -> str:
    first, _, part = name.partition("/")
    return "control" if first == "control" else part or first


def asks_of(endpoints: Endpoints) -> dict[str, Ask]:
    """Part → what asks it. Each raises what it found: Unavailable, IntegrityError, OSError."""
    asks: dict[str, Ask] = {}
    for region, place in endpoints.regions.items():
        asks[f"{region}/kafka"] = partial(ask_broker, place.kafka_bootstrap)
        asks[f"{region}/postgres"] = partial(_database, place)
        if place.mirror_rest is not None:
            sources = [name for name in endpoints.regions if name != region]
            asks[f"{region}/mirror"] = partial(_mirror, region, place, sources)
    controls = (endpoints.control_bootstrap or "").split(",")
    for number, node in enumerate(filter(None, controls), start=1):
        asks[f"control/{number}"] = partial(ask_broker, node)
    if endpoints.s3 is not None:
        asks["s3"] = partial(_store, endpoints.s3)
    return asks


def _database(place: RegionEndpoints) -> None:
    ask_database(place.postgres_conninfo())


def _store(store: S3Endpoint) -> None:
    ask_store(store.endpoint, store.keys(), store.buckets)


def _mirror(target: str, place: RegionEndpoints, sources: list[str]) -> None:
    """It answers, and says that it copies from each source."""
    ask_http(place.mirror_rest or "")
    for source in sources:
        flow = flow_state(place.kafka_bootstrap, source, target)
        if not flow.runs:
            tasks = list(flow.tasks)
            raise Unavailable(f"{source} → {target} does not run: {flow.connector} {tasks}")
