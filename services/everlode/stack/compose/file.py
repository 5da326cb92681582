"""The compose file of a stack: the repository's for anybody, or a provider's for its folder.

    python -m everlode.stack.compose.file > docker-compose.yml

Pure, but for the template that it reads.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined

from everlode.stack.compose.parts import (
    DATABASE,
    FOLDER,
    OUTSIDE,
    USER,
    VARIABLES,
    Images,
    default_ports,
    kind_of,
    service_of,
    variable_of,
    with_data,
)
from everlode.stack.native.kafka import HEAP
from everlode.stack.native.layout import Layout
from everlode.stack.native.postgres import SETTINGS
from everlode.stack.services import ALL, Member, counted, settings_of, words_of
from everlode.topics import Topology

PYTHON = "/opt/everlode/bin/python3"
"""Of our image."""
PAYOUTS = "payouts"
_PAYER = "reward-distributor"
_PORT_CHECK = '{{test: [CMD, bash, -c, ": </dev/tcp/127.0.0.1/{}"], {}}}'
_CHECKED = "interval: 2s, timeout: 5s, start_period: 120s"
_NOT_IN_A_CONTAINER = ("listen_addresses", "unix_socket_directories")


class Shape(NamedTuple):
    """What a file is made for."""

    ports: Mapping[str, int | str]
    """Part → port on 127.0.0.1, or the variable that has it."""
    images: Images
    profiles: bool = False
    """Whether mirrors wait for the profile `mirror`."""
    build: bool = False
    """Whether our image is built where it is missing."""
    title: str = "A stack of Everlode."


def wanted_of(layout: Layout, ports: Mapping[str, int | str]) -> str:
    """What the preparation is told, as JSON."""
    topology = layout.topology.model_dump(mode="json", exclude_defaults=True)
    brokers = [name for name in layout.names if kind_of(name) in ("kafka", "control")]
    return json.dumps(
        {
            "topology": topology | {"regions": list(layout.regions)},
            "mirrors": layout.mirrors, "control_nodes": layout.control_nodes, "s3": layout.s3,
            "ports": {name: ports[name] for name in brokers},
        }
    )  # fmt: skip


def volumes_of(layout: Layout) -> list[str]:
    """Names of the volumes in the numbering of the preparation, from 1. Raises: ConfigError."""
    return [*map(service_of, with_data(layout)), PAYOUTS]


def compose_file(layout: Layout, members: Iterable[Member], shape: Shape) -> str:
    """The file's text. Raises: ConfigError: more volumes than there can be."""
    # JSON is YAML, and quotes what has to be
    environment = Environment(
        undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True  # noqa: S701
    )  # fmt: skip
    environment.policies["json.dumps_function"] = json.dumps
    environment.filters["tojson"] = json.dumps
    text = resources.files("everlode.stack.compose").joinpath("compose.yml.j2").read_text()
    server = {n: v.strip("'") for n, v in SETTINGS.items() if n not in _NOT_IN_A_CONTAINER}
    options = [word for name, value in server.items() for word in ("-c", f"{name}={value}")]
    return environment.from_string(text).render(
        title=shape.title, user=USER, folder=str(FOLDER), outside=OUTSIDE, database=DATABASE,
        images=shape.images, profiles=shape.profiles, build=shape.build, python=PYTHON,
        heap=" ".join(word for word in HEAP if word.startswith("-Xm")),
        performance=" ".join(word for word in HEAP if not word.startswith("-Xm")),
        postgres=["postgres", "-c", "listen_addresses=*", *options],
        port_check=lambda port: _PORT_CHECK.format(port, _CHECKED),
        wanted=wanted_of(layout, shape.ports), volumes=volumes_of(layout),
        parts=[_part(name, shape.ports) for name in layout.names],
        members=[_member(member) for member in members],
    )  # fmt: skip


def _part(name: str, ports: Mapping[str, int | str]) -> dict[str, Any]:
    return {
        "name": name, "service": service_of(name), "kind": kind_of(name),
        "cluster": name.partition("/")[0], "port": ports[name],
    }  # fmt: skip


def _member(member: Member) -> dict[str, Any]:
    pays = member.kind == _PAYER
    env = settings_of(member) | ({"EVERLODE_PAYOUT_DIR": f"/{PAYOUTS}"} if pays else {})
    return {
        "name": member.name, "node_id": member.node_id, "kind": member.kind,
        "words": words_of(member, FOLDER), "env": env, "pays": pays,
    }  # fmt: skip


def repository_file() -> str:
    """docker-compose.yml of the repository: three regions, everything by its default."""
    layout = Layout(Topology(), FOLDER, mirrors=True, control_nodes=3, s3=True)
    ports = {n: f"${{{variable_of(n)}:-{port}}}" for n, port in default_ports(layout).items()}
    named = zip(VARIABLES, Images(), strict=True)
    images = Images(*(f"${{{variable}:-{image}}}" for variable, image in named))
    title = "Three regions, a control cluster, an object store and the regions' own processes."
    shape = Shape(ports, images, profiles=True, build=True, title=title)
    return compose_file(layout, counted(ALL, layout.regions), shape)


if __name__ == "__main__":
    sys.stdout.write(repository_file())
