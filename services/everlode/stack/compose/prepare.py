"""Runs in a container of our image, beside the parts: before them, after them, and for faults.

    python -m everlode.stack.compose.prepare write '{"topology": {…}, "ports": {…}, …}'
    python -m everlode.stack.compose.prepare open
    python -m everlode.stack.compose.prepare mirror us eu,ap
    python -m everlode.stack.compose.prepare wipe 3

`write` makes settings and secrets, what is there stays; `open` makes the topics and buckets once
all parts serve; `mirror` writes a mirror's settings anew, for some sources only; `wipe` destroys
what is in a volume. Shell: files, and every part is asked.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from everlode.errors import EverlodeError
from everlode.settings.endpoints import Endpoints
from everlode.stack.compose.parts import (
    CONTROLLER,
    DATA,
    FOLDER,
    INSIDE,
    OUTSIDE,
    VOLUMES,
    endpoints_of,
    inside,
    service_of,
)
from everlode.stack.native.kafka import mirror_settings, new_id, node_settings, properties
from everlode.stack.native.layout import Layout
from everlode.stack.native.ports import HOST
from everlode.stack.opening import open_network
from everlode.stack.secret import write_secret
from everlode.telemetry.sink import to_stream
from everlode.topics import Topology, mirrored_topics

OPEN_S = 120.0
_WANTED = "wanted.json"


def layout_of(wanted: Mapping[str, Any], folder: Path) -> Layout:
    """What is wanted, with its files in `folder`. Pure."""
    topology = Topology.model_validate_json(json.dumps(wanted["topology"]))
    return Layout(
        topology, folder, mirrors=bool(wanted["mirrors"]),
        control_nodes=int(wanted["control_nodes"]), s3=bool(wanted["s3"]),
    )  # fmt: skip


def broker_settings(layout: Layout, part: str, port: int) -> dict[str, object]:
    """A node's settings, for those inside the network and for those outside at `port`. Pure."""
    region, _, number = part.partition("/")
    nodes = layout.controls if region == "control" else (part,)
    replication = layout.topology.control_replication if region == "control" else 1
    node_id = int(number) if region == "control" else 1
    ports = dict.fromkeys(range(1, len(nodes) + 1), CONTROLLER)
    voters = ",".join(f"{n}@{service_of(node)}:{CONTROLLER}" for n, node in enumerate(nodes, 1))
    known = "INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT"
    own = INSIDE["kafka"]
    return node_settings(node_id, own, ports, DATA / "kafka", replication) | {
        "controller.quorum.voters": voters,
        "listeners": f"INSIDE://:{own},OUTSIDE://:{OUTSIDE},CONTROLLER://:{CONTROLLER}",
        "advertised.listeners": f"INSIDE://{inside(part)},OUTSIDE://{HOST}:{port}",
        "inter.broker.listener.name": "INSIDE",
        "listener.security.protocol.map": known,
    }


def mirror_file(layout: Layout, target: str, sources: tuple[str, ...]) -> str:
    """Settings of the mirror next to `target`. Pure."""
    clusters = {region: inside(f"{region}/kafka") for region in layout.regions}
    topics = {source: mirrored_topics(layout.topology, source) for source in sources}
    settings = mirror_settings(target, clusters, topics, INSIDE["mirror"])
    return properties(settings | {"listeners": f"http://0.0.0.0:{INSIDE['mirror']}"})


def write(wanted: Mapping[str, Any], folder: Path) -> None:
    """Make what the containers read, in `folder`. Idempotent; secrets and ids stay."""
    layout = layout_of(wanted, folder)
    (folder / "secrets").mkdir(mode=0o700, exist_ok=True)
    for name in layout.names:
        region, _, part = name.partition("/")
        layout.folder(name).mkdir(parents=True, exist_ok=True)
        if part == "postgres":
            write_secret(layout.secret(f"{region}-postgres"))
        elif part == "mirror":
            others = tuple(one for one in layout.regions if one != region)
            layout.config(name).write_text(mirror_file(layout, region, others))
        elif name == "s3":
            write_secret(layout.secret("s3-access"), 12)
            write_secret(layout.secret("s3-secret"))
        else:
            cluster = folder / region / "cluster.id"
            if not cluster.exists():
                cluster.write_text(new_id())
            settings = broker_settings(layout, name, int(wanted["ports"][name]))
            layout.config(name).write_text(properties(settings))
    log = resources.files("everlode.stack.native").joinpath("log4j2.properties")
    (folder / "log4j2.properties").write_text(log.read_text())
    endpoints_of(layout, inside).save(folder)
    (folder / _WANTED).write_text(json.dumps(wanted, indent=1))


def _mirror(target: str, sources: str) -> None:
    layout = layout_of(json.loads((FOLDER / _WANTED).read_text()), FOLDER)
    named = tuple(filter(None, sources.split(",")))
    layout.config(f"{target}/mirror").write_text(mirror_file(layout, target, named))


def _wipe(volume: str) -> None:
    for path in (VOLUMES / volume).iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def main(words: list[str]) -> int:
    """One of the four; says on stderr what went wrong."""
    report = to_stream("prepare")
    try:
        match words:
            case ["write", wanted]:
                write(json.loads(wanted), FOLDER)
            case ["open"]:
                open_network(Endpoints.load(FOLDER), time.monotonic() + OPEN_S, report)
            case ["mirror", target, sources]:
                _mirror(target, sources)
            case ["wipe", volume]:
                _wipe(volume)
            case _:
                sys.stderr.write(f"prepare {words[:1]}: expected write, open, mirror or wipe\n")
                return 2
    except EverlodeError as error:
        sys.stderr.write(f"{error.message} ({error.code}); {error.hint}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
