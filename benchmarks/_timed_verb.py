"""One verb of `everlode`, timed, by whichever build this interpreter has. Run by its path.

Everything is imported before the clock starts, which is when a line comes on standard input. The
last line of standard output is JSON: exit code, seconds, and seconds of processor time.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from everlode.cli.main import run
from everlode.stack import Endpoints
from everlode.topics import Topology


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


def main(folder: Path, arguments: list[str]) -> None:
    """Run the verb on the stack in `folder`."""
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
