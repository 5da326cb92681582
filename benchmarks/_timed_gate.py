"""The gate of tasks, of a stack's first generation, timed. Run by its path.

The clock starts when a line comes on standard input. The last line of standard output is JSON: exit
code (1: something was found), seconds.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from everlode.avro.codec import Codec
from everlode.recovery.gates import AtTheCut, Built, gate_component
from everlode.settings.endpoints import Endpoints


def main(folder: Path, known: int) -> None:
    """Gate `known` tasks of `eu`."""
    endpoints = Endpoints.load(folder)
    place, partitions = endpoints.regions["eu"], endpoints.topology.partitions
    built = Built(place.postgres_conninfo(), place.kafka_bootstrap, 1, partitions)
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    found = gate_component(built, "tasks", Codec(), AtTheCut(known))
    seconds = time.perf_counter() - began
    print(found, file=sys.stderr)
    print(json.dumps({"code": int(bool(found.findings)), "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
