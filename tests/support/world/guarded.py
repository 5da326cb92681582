"""One broker with TLS, users and rights, and nothing else: up in some seconds."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from everlode.access.login import Login, current, use
from everlode.adapters.kafka_admin import await_brokers
from everlode.stack.certificates import Pair, make_authority, make_pair
from everlode.stack.native.jvm import format_node
from everlode.stack.native.kafka import BROKER_CLASS, new_id, node_settings, properties
from everlode.stack.native.kafka_tls import OWN_USER, NodeKeys, secured
from everlode.stack.native.parts import provision
from everlode.stack.native.ports import HOST, answers, choose_ports
from everlode.stack.native.process import Command, Process
from everlode.stack.secret import write_private, write_secret
from everlode.telemetry.sink import silent


class Guarded(NamedTuple):
    """Where it listens, and what it believes."""

    bootstrap: str
    controller: str
    """Asks for a certificate."""
    folder: Path
    authority: Pair
    own: Login
    """Its super user."""


@contextmanager
def guarded_broker(folder: Path) -> Iterator[Guarded]:
    """Started, and empty."""
    parts = provision(silent, with_s3=False)
    authority, node = Pair.named(folder, "ca"), Pair.named(folder, "node")
    make_authority(authority, "everlode test")
    make_pair(authority, node, OWN_USER, [HOST])
    keystore = folder / "node.store"
    write_private(keystore, node.key.read_bytes() + node.certificate.read_bytes())
    secret = write_secret(folder / "own.secret")
    ports = choose_ports(("broker", "controller"), {}, {})
    plain = node_settings(1, ports["broker"], {1: ports["controller"]}, folder / "data")
    keys = NodeKeys(authority.certificate, keystore, secret)
    config = folder / "server.properties"
    write_private(config, properties(secured(plain, keys)).encode())
    format_node(parts.jvm, folder / "data", 1, new_id())
    scratch = folder / "scratch"
    scratch.mkdir()
    argv = parts.jvm.argv(BROKER_CLASS, str(config), scratch=scratch)
    log = folder / "broker.log"
    broker = Process(Command("guarded", "kafka", argv, log, lambda: answers(ports["broker"])))
    own = Login(
        source="the test's own", ca=str(authority.certificate), user=OWN_USER,
        mechanism="PLAIN", secret=secret, secret_file=str(folder / "own.secret"),
    )  # fmt: skip
    bootstrap = f"{HOST}:{ports['broker']}"
    try:
        broker.start()
        deadline = time.monotonic() + 60
        broker.await_ready(deadline)
        with being(own):
            await_brokers(bootstrap, 1, deadline)
        yield Guarded(bootstrap, f"{HOST}:{ports['controller']}", folder, authority, own)
    finally:
        broker.kill9()


@contextmanager
def being(login: Login | None) -> Iterator[None]:
    """This process is `login` to Kafka for as long."""
    before = current()
    use(login)
    try:
        yield
    finally:
        use(before)


def login_file(folder: Path, ca: Path, user: str, secret: str) -> Path:
    """The file of a login, with its secret beside it."""
    held = folder / f"{user}.secret"
    held.write_text(secret)
    os.chmod(held, 0o600)
    file = folder / f"{user}.json"
    file.write_text(f'{{"user": "{user}", "secret_file": "{held.name}", "ca_file": "{ca}"}}')
    return file


@contextmanager
def tls_server(pair: Pair) -> Iterator[str]:
    """Something with that certificate, which is as far as a client comes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    with server.accept()[0] as client:
                        context.wrap_socket(client, server_side=True).close()
                except ssl.SSLError:
                    continue
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
