"""One verb of `everlode`, timed, by whichever build this interpreter has. Run by its path.

It reads what another build has written: the schemas that are named by BENCH_SCHEMAS, a JSON list,
are learnt before, and a record on the control log of a type that came later is passed over.
Everything is imported before the clock starts, which is when a line comes on standard input. The
last line of standard output is JSON: exit code, seconds, and seconds of processor time.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from everlode.cli.main import run
from everlode.stack import Endpoints
from everlode.topics import Topology

SCHEMAS = "BENCH_SCHEMAS"


def known(value: dict[str, Any], model: Any) -> dict[str, Any]:
    """What this build knows of it: a build refuses fields that came after it."""
    return {name: found for name, found in value.items() if name in model.model_fields}


def stack_of(folder: Path, target: Path) -> None:
    """The stack's description, as this build would have written it."""
    own: Any = sys.modules[Endpoints.__module__]  # it moves from build to build
    value = known(json.loads((folder / "endpoints.json").read_text()), Endpoints)
    value["regions"] = {n: known(r, own.RegionEndpoints) for n, r in value["regions"].items()}
    value["s3"] = known(value["s3"], own.S3Endpoint)
    if "topology" in value:
        value["topology"] = known(value["topology"], Topology)
    (target / "endpoints.json").write_text(json.dumps(value))
    options = folder / "stack.json"
    if options.exists():
        found = json.loads(options.read_text())
        found["topology"] = known(found["topology"], Topology)
        (target / "stack.json").write_text(json.dumps(found))


def teach(documents: list[str]) -> None:
    """Let every codec of this build know the schemas of another one, as far as it can."""
    codec = importlib.import_module("everlode.avro.codec")
    first = codec.Codec()
    for document in documents:
        with suppress(codec.ContractError):  # a type that this build does not have
            first.learn(document)
    made = codec.Codec.__init__

    def taught(self: Any) -> None:
        made(self)
        self._book = {**first._book, **self._book}

    codec.Codec.__init__ = taught


def pass_over_new_types() -> None:
    """Let the control log's follower of a build go on behind records that it has no type for."""
    follower: Any = importlib.import_module("everlode.adapters.kafka_control").ControlFollower
    one = follower._one

    def known(self: Any, message: Any) -> None:
        if message.error() is None and self._codec.type_name(message.value()) is None:
            with self._changed:
                self._state = replace(self._state, position=message.offset())
                self._changed.notify_all()
        else:
            one(self, message)

    follower._one = known


def main(folder: Path, arguments: list[str]) -> None:
    """Run the verb on the stack in `folder`."""
    if SCHEMAS in os.environ:
        teach(json.loads(Path(os.environ[SCHEMAS]).read_text()))
        pass_over_new_types()
    target = Path(tempfile.mkdtemp(prefix="everlode-bench-"))
    try:
        stack_of(folder, target)
        for noun in ("backup", "recover"):
            importlib.import_module(f"everlode.cli.{noun}")
        print("ready", flush=True)
        sys.stdin.readline()
        began, spent = time.perf_counter(), time.process_time()
        code = run([*arguments, "--dir", str(target)])
        seconds, cpu_s = time.perf_counter() - began, time.process_time() - spent
    finally:
        shutil.rmtree(target)
    print(json.dumps({"code": code, "seconds": seconds, "cpu_s": cpu_s}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
