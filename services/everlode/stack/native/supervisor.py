"""The process behind `everlode stack up --detach`: starts everything, heals it, stops it.

Writes `state.json` in the data folder (see `state`). Invariants: SIGTERM and SIGINT stop the stack,
healing first; a death of its own stops nothing: its guard starts another one, which takes over what
runs. While one lives a second one is refused by name. Shell.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from everlode.errors import ConfigError, EverlodeError, Locked, NotFound, Precondition
from everlode.settings.endpoints import Endpoints
from everlode.settings.environment import settings
from everlode.stack.book import BOOK, Kept, read_book
from everlode.stack.healing_stream import HealingStream
from everlode.stack.native.bounded import BoundedLogs
from everlode.stack.native.guard import GUARD, guard_argv, ports_of
from everlode.stack.native.keeper import Keeper
from everlode.stack.native.layout import log_of
from everlode.stack.native.lock import read_record
from everlode.stack.native.members import Members, beside
from everlode.stack.native.process import Command
from everlode.stack.native.stack import NativeStack
from everlode.stack.native.start import Limits
from everlode.stack.native.state import (
    OPTIONS_FILE,
    load_options,
    read_state,
    write_options,
    write_state,
)
from everlode.telemetry.entries import Entry, Note, PartReady, StackReady
from everlode.telemetry.figures import REGISTRY, Supervised, SupervisorFigures, counted
from everlode.telemetry.scraped import scraped
from everlode.telemetry.sink import Sink, to_stream
from everlode.topics import Topology

REPORTED: dict[str, type[Entry]] = {c.__name__: c for c in (Note, PartReady, StackReady)}
"""What a stack reports while it comes up; the state file carries it to a waiting `up`."""


class StopAsked(BaseException):
    """A signal asked us to end; not an error, so not an `Exception`."""


def stop_on_signals() -> threading.Event:
    """From now on SIGTERM and SIGINT raise `StopAsked` in the main thread, once."""
    asked = threading.Event()

    def ask(number: int, _frame: object) -> None:
        if not asked.is_set():
            asked.set()
            raise StopAsked(number)

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    return asked


def reported_by(state: dict[str, Any]) -> list[Entry]:
    """What a supervisor has reported so far, in its order."""
    return [REPORTED[e["entry"]](**_fields(e)) for e in state.get("reported", ())]


def _fields(value: dict[str, Any]) -> dict[str, Any]:
    return {name: found for name, found in value.items() if name != "entry"}


def save_options(data_dir: Path, topology: Topology, **options: Any) -> None:
    """Write down what the stack was started as, for `doctor` and the next `up`."""
    data_dir.mkdir(parents=True, exist_ok=True)
    write_options(data_dir, {"topology": topology.model_dump(mode="json"), **options})


def saved_topology(data_dir: Path) -> Topology | None:
    """Topology of the stack in `data_dir`, from its first start on; None where there is none.

    Raises: ConfigError: what was written down is no topology.
    """
    found = load_options(data_dir).get("topology")
    try:
        if found is not None:
            return Topology.model_validate_json(json.dumps(found))
        return Endpoints.load(data_dir).topology
    except NotFound:
        return None
    except ValidationError as error:
        why = error.errors(include_url=False)[0]["msg"]
        raise ConfigError(
            f"{data_dir / OPTIONS_FILE}: topology: {why}", hint="another folder with --dir"
        ) from None


def build(
    data_dir: Path, ports: dict[str, int], *, remake_topics: bool = False, outlives: bool = False
) -> NativeStack:
    """The stack that `save_options` describes; its processes may outlive us."""
    options = load_options(data_dir)
    return NativeStack(
        saved_topology(data_dir),
        data_dir,
        mirrors=bool(options.get("mirrors", True)),
        control_nodes=int(options.get("control_nodes", 3)),
        s3=options.get("s3", "auto"),
        limits=Limits(fixed_ports=ports, remake_topics=remake_topics),
        outlives=outlives,
    )


def _guard(data_dir: Path, ports: dict[str, int]) -> Command:
    argv = guard_argv(data_dir, ports)
    return Command(GUARD, GUARD, argv, log_of(data_dir, GUARD), ready=lambda: True)


def begin(stack: NativeStack, others: Sequence[Command], report: Sink) -> Endpoints:
    """Start it all."""
    (stack.data_dir / BOOK).unlink(missing_ok=True)
    endpoints = stack.up(report)
    for command in others:
        stack.run(command)
    return endpoints


def resume(stack: NativeStack, others: Sequence[Command]) -> Endpoints | None:
    """Take over what a lost supervisor left running; None when there is no such thing.

    What it was about to start, or to stop, is no stack: that is ended, and begun anew.
    """
    folder = stack.data_dir
    if read_state(folder).get("state") == "ready" and any(p.alive for p in read_record(folder)):
        with suppress(Precondition):
            return stack.adopt(others)
    return None


def heal(stack: NativeStack, endpoints: Endpoints, report: Sink) -> None:
    """Keep everything running, the members as they are wanted by now, until `StopAsked`.

    Afterwards nothing is started any more.
    """
    stream = HealingStream(endpoints)
    keeper = Keeper(stack, stack.data_dir, stream.publish, report)
    members = Members(stack, keeper.starts, report)
    logs = BoundedLogs(stack.data_dir / "logs", settings().log_mib * 2**20, report)

    def before() -> None:
        members.turn()
        logs.turn()

    try:
        keeper.watch(before)
    finally:
        keeper.close()
        stream.close()


def supervised(stack: NativeStack) -> Iterator[Supervised]:
    """What runs of a stack, by its own processes and the book of their losses."""
    book = read_book(stack.data_dir)
    for name, process in sorted(stack.kept().items()):
        row = book.get(name, Kept(process.command.kind))
        runs = process.exit_status is None
        yield Supervised(name, process.command.kind, runs, row.restarts, row.given_up)


def run(data_dir: Path, ports: dict[str, int], *, remake_topics: bool = False) -> int:
    """Bring the stack up, keep it until a signal, take it down. Returns an exit code."""
    stop_on_signals()
    stack = build(data_dir, ports, remake_topics=remake_topics, outlives=True)
    others = [*beside(data_dir, stack.topology.regions), _guard(data_dir, ports)]
    reported: list[dict[str, Any]] = []
    log = counted(to_stream("supervisor"))
    REGISTRY.register(SupervisorFigures(lambda: supervised(stack)))

    def report(record: Entry) -> None:
        reported.append({"entry": type(record).__name__, **asdict(record)})
        write_state(data_dir, "starting", reported=reported)

    try:
        endpoints = resume(stack, others) or begin(stack, others, report)
        write_state(data_dir, "ready", reported=reported, timings_s=stack.timings_s)
        with scraped("supervisor", settings().figures(), log):
            heal(stack, endpoints, log)
    except StopAsked:
        write_state(data_dir, "stopping")
        stack.down()
        write_state(data_dir, "stopped")
    except Locked as exc:  # the state is the other one's to write
        log(Note("stack", exc.message))
        return exc.exit_code
    except EverlodeError as exc:
        with suppress(OSError):  # no room is one of the reasons
            write_state(data_dir, "failed", error=exc.as_dict(), exit_code=exc.exit_code)
        stack.down()
        return exc.exit_code
    return 0


def main() -> int:
    """Entry of the detached process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--port", action="append", default=[])
    parser.add_argument("--remake-topics", action="store_true")
    arguments = parser.parse_args()
    return run(arguments.dir, ports_of(arguments.port), remake_topics=arguments.remake_topics)


if __name__ == "__main__":
    sys.exit(main())
