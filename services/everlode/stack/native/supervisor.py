"""The small process behind `everlode stack up --detach`: parent of everything, until told to stop.

Writes `state.json` in the data folder: starting, ready, failed or stopped. Invariants: whoever
stops it (SIGTERM, SIGINT, SIGKILL) stops the stack. Shell.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from everlode.errors import ConfigError, EverlodeError, NotFound
from everlode.settings.endpoints import Endpoints
from everlode.stack.native.stack import NativeStack
from everlode.stack.native.start import Limits
from everlode.telemetry.entries import Entry, Note, PartReady, StackReady
from everlode.topics import Topology

STATE_FILE = "state.json"
OPTIONS_FILE = "stack.json"
SUPERVISOR_LOG = "supervisor.log"
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


def write_state(data_dir: Path, state: str, **more: Any) -> None:
    """Replace the state that `status` and a waiting `up` read."""
    draft = data_dir / f"{STATE_FILE}.tmp"
    draft.write_text(json.dumps({"state": state, "pid": os.getpid(), "at": time.time(), **more}))
    os.replace(draft, data_dir / STATE_FILE)


def read_state(data_dir: Path) -> dict[str, Any]:
    """The last state; empty when there is none."""
    try:
        found = json.loads((data_dir / STATE_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def reported_by(state: dict[str, Any]) -> list[Entry]:
    """What a supervisor has reported so far, in its order."""
    return [REPORTED[e["entry"]](**_fields(e)) for e in state.get("reported", ())]


def _fields(value: dict[str, Any]) -> dict[str, Any]:
    return {name: found for name, found in value.items() if name != "entry"}


def save_options(data_dir: Path, topology: Topology, **options: Any) -> None:
    """Write down what the stack was started as, for `doctor` and the next `up`."""
    data_dir.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"topology": topology.model_dump(mode="json"), **options}, indent=1)
    (data_dir / OPTIONS_FILE).write_text(text)


def load_options(data_dir: Path) -> dict[str, Any]:
    """What `save_options` wrote; empty when it did not."""
    try:
        found = json.loads((data_dir / OPTIONS_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


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


def build(data_dir: Path, ports: dict[str, int], *, remake_topics: bool = False) -> NativeStack:
    """The stack that `save_options` describes."""
    options = load_options(data_dir)
    return NativeStack(
        saved_topology(data_dir),
        data_dir,
        mirrors=bool(options.get("mirrors", True)),
        control_nodes=int(options.get("control_nodes", 3)),
        s3=options.get("s3", "auto"),
        limits=Limits(fixed_ports=ports, remake_topics=remake_topics),
    )


def run(data_dir: Path, ports: dict[str, int], *, remake_topics: bool = False) -> int:
    """Bring the stack up, keep it until a signal, take it down. Returns an exit code."""
    stop_on_signals()
    stack = build(data_dir, ports, remake_topics=remake_topics)
    reported: list[dict[str, Any]] = []

    def report(record: Entry) -> None:
        reported.append({"entry": type(record).__name__, **asdict(record)})
        write_state(data_dir, "starting", reported=reported)

    code = 0
    try:
        stack.up(report)
        write_state(data_dir, "ready", reported=reported, timings_s=stack.timings_s)
        while True:
            signal.pause()
    except StopAsked:
        write_state(data_dir, "stopping")
        stack.down()
        write_state(data_dir, "stopped")
    except EverlodeError as exc:
        code = exc.exit_code
        with suppress(OSError):  # no room is one of the reasons
            write_state(data_dir, "failed", error=exc.as_dict(), exit_code=code)
    finally:
        stack.down()
    return code


def main() -> int:
    """Entry of the detached process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--port", action="append", default=[])
    parser.add_argument("--remake-topics", action="store_true")
    arguments = parser.parse_args()
    ports = {name: int(port) for name, _, port in (p.partition("=") for p in arguments.port)}
    return run(arguments.dir, ports, remake_topics=arguments.remake_topics)


if __name__ == "__main__":
    sys.exit(main())
