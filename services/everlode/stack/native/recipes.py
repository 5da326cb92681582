"""How each process of a stack is prepared and run: files, settings, command lines.

Invariants: preparing twice changes nothing. Shell: files, initdb.
"""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

from everlode.errors import Unavailable
from everlode.settings.endpoints import Endpoints, RegionEndpoints, S3Endpoint
from everlode.stack.native import object_store, postgres
from everlode.stack.native.jvm import format_node
from everlode.stack.native.kafka import (
    BROKER_CLASS,
    MIRROR_CLASS,
    mirror_settings,
    new_id,
    node_settings,
    properties,
)
from everlode.stack.native.layout import BUCKETS, Layout
from everlode.stack.native.parts import Parts
from everlode.stack.native.ports import HOST, answers, choose_ports
from everlode.stack.native.privilege import unprivileged
from everlode.stack.native.process import Command
from everlode.stack.secret import write_secret
from everlode.topics import mirrored_topics

_STOP_S = {"kafka": 20.0, "control": 20.0, "mirror": 2.0}
"""A mirror's own end takes up to 10 s of waiting; killed, it loses nothing: exactly-once."""


class Recipes:
    """Recipes of one stack; ports are chosen when it is made the first time, and kept."""

    def __init__(
        self, layout: Layout, parts: Parts, fixed_ports: dict[str, int], aot: bool = True
    ) -> None:
        self.layout = layout
        self.parts = parts
        self._aot = aot
        self._fixed = fixed_ports
        self._ports: dict[str, int] | None = None
        self._lock = threading.Lock()
        (layout.data_dir / "secrets").mkdir(mode=0o700, exist_ok=True)

    def choose_ports(self) -> None:
        """Choose ports for a stack that does not run: kept ones if free."""
        chosen = choose_ports(self.layout.port_names, self._kept(), self._fixed)
        self._port_file.write_text(json.dumps(chosen, indent=1))
        self._ports = chosen

    def port(self, name: str) -> int:
        """Port of a process, or of `<name>/controller`."""
        if self._ports is None:
            self._ports = self._kept()
        return self._ports[name]

    def keeps(self, fixed: dict[str, int]) -> bool:
        """True when every part has a port from an earlier time, the fixed one if there is one."""
        kept = self._kept()
        return kept.keys() >= set(self.layout.port_names) and fixed.items() <= kept.items()

    def bootstrap(self, cluster: str) -> str:
        """host:port, by commas, of a region's cluster or of `control`."""
        nodes = self.layout.controls if cluster == "control" else (f"{cluster}/kafka",)
        return ",".join(f"{HOST}:{self.port(node)}" for node in nodes)

    def prepare(self, name: str) -> None:
        """Make whatever the process needs before it starts. Idempotent."""
        self.layout.folder(name).mkdir(parents=True, exist_ok=True)
        region, _, part = name.partition("/")
        if region == "control":
            self._prepare_kafka(name, int(part))
        elif part == "kafka":
            self._prepare_kafka(name, 1)
        elif part == "postgres":
            data = self._data(name)
            secret = self.layout.secret(f"{region}-postgres")
            write_secret(secret)
            postgres.initialise(self.parts.postgres_bin, data, secret, unprivileged())
            postgres.end_leftovers(data)
            postgres.clear_stale_pid(data)
        elif part == "mirror":
            self._new_scratch(name)
            self.write_mirror(region, tuple(r for r in self.layout.regions if r != region))
        else:
            self.s3_keys()

    def command(self, name: str) -> Command:
        """The process to supervise."""
        region, _, part = name.partition("/")
        log = self.layout.log(name)
        if name == "s3":
            if self.parts.s3 is None:
                raise Unavailable("no S3 server was provided")
            return object_store.command(
                self.parts.s3, self._data(name), self.port(name), self.s3_keys(), log
            )
        if part == "postgres":
            return postgres.command(
                name,
                self.parts.postgres_bin,
                self._data(name),
                self.port(name),
                log,
                unprivileged(),
            )
        main, more = BROKER_CLASS, list[str]()
        kind = "control" if region == "control" else part
        if part == "mirror":
            main, more = MIRROR_CLASS, ["--clusters", region]
        config = str(self.layout.config(name))
        scratch = self.layout.scratch(name)
        argv = self.parts.jvm.argv(main, config, *more, scratch=scratch, use_aot=self._aot)
        port = self.port(name)
        return Command(name, kind, argv, log, lambda: answers(port), stop_s=_STOP_S[kind])

    def write_mirror(self, target: str, sources: tuple[str, ...]) -> None:
        """Settings of the mirror next to `target`, reading from `sources` only."""
        topology = self.layout.topology
        settings = mirror_settings(
            target,
            {region: self.bootstrap(region) for region in self.layout.regions},
            {source: mirrored_topics(topology, source) for source in sources},
            self.port(f"{target}/mirror"),
        )
        self.layout.config(f"{target}/mirror").write_text(properties(settings))

    def s3_keys(self) -> tuple[str, str]:
        """Access key and secret key of the object store, made at the first time."""
        access = write_secret(self.layout.secret("s3-access"), 12)
        return access, write_secret(self.layout.secret("s3-secret"))

    def endpoints(self) -> Endpoints:
        """Where everything listens."""
        layout = self.layout
        regions = {
            region: RegionEndpoints(
                kafka_bootstrap=self.bootstrap(region),
                postgres_dsn=f"postgresql://{postgres.USER}@{HOST}:"
                f"{self.port(f'{region}/postgres')}/{postgres.DATABASE}",
                postgres_password_file=layout.secret(f"{region}-postgres"),
                origin=layout.topology.origin(region),
                mirror_rest=f"http://{HOST}:{self.port(f'{region}/mirror')}"
                if layout.mirrors
                else None,
            )
            for region in layout.regions
        }
        server = self.parts.s3
        s3 = None
        if server is not None:
            s3 = S3Endpoint(
                endpoint=f"{HOST}:{self.port('s3')}",
                access_key_file=layout.secret("s3-access"),
                secret_key_file=layout.secret("s3-secret"),
                buckets=BUCKETS,
                server=server.kind,
                reason=server.reason,
            )
        control = self.bootstrap("control") if layout.control_nodes else None
        return Endpoints(
            topology=layout.topology, regions=regions, control_bootstrap=control, s3=s3
        )

    def _prepare_kafka(self, name: str, node_id: int) -> None:
        self._new_scratch(name)
        data = self._data(name)
        cluster = name.partition("/")[0]
        format_node(self.parts.jvm, data, node_id, self._cluster_id(cluster))
        nodes = self.layout.controls if cluster == "control" else (name,)
        controllers = {n: self.port(f"{node}/controller") for n, node in enumerate(nodes, 1)}
        replication = self.layout.topology.control_replication if cluster == "control" else 1
        settings = node_settings(node_id, self.port(name), controllers, data, replication)
        self.layout.config(name).write_text(properties(settings))

    def _new_scratch(self, name: str) -> None:
        """Empty: whoever unpacked anything there before has ended."""
        shutil.rmtree(self.layout.scratch(name), ignore_errors=True)
        self.layout.scratch(name).mkdir()

    def _cluster_id(self, cluster: str) -> str:
        path = self.layout.data_dir / cluster / "cluster.id"
        with self._lock:
            if not path.exists():
                path.write_text(new_id())
            return path.read_text().strip()

    def _data(self, name: str) -> Path:
        data = self.layout.data(name)
        if data is None:
            raise Unavailable(f"{name} keeps no data")
        return data

    @property
    def _port_file(self) -> Path:
        return self.layout.data_dir / "ports.json"

    def _kept(self) -> dict[str, int]:
        try:
            kept = json.loads(self._port_file.read_text())
            return {str(name): int(port) for name, port in kept.items()}
        except (OSError, ValueError, AttributeError):
            return {}
