"""A Faust app as everything here needs it.

Faust reads uncommitted records unless it is transactional itself, which would show aborted facts
to the folds: its consumer is made to read committed ones, but of heartbeats. It keeps no tables, no
web server, and detects a dead worker in seconds. It makes no folders: a killed worker leaves
nothing on the disk. It logs where the process does. Shell.
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
from collections.abc import Callable
from typing import Any

import faust
from aiokafka import AIOKafkaConsumer
from faust.transport.drivers import aiokafka as driver

from everlode.access.login import Login, current
from everlode.avro.cloudevents import URGENT_BYTES

LOG = logging.getLogger(__name__)
FETCH_WAIT_MS = 250
"""A patient consumer waits so long at the broker, unless there is as much as an urgent record."""
STOP_S = 15.0
"""Seconds that Faust gets to stop in good order."""


def _transport(isolation: str, fetch_bytes: int) -> type[driver.Transport]:
    class Thread(driver.AIOKafkaConsumerThread):
        def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
            consumer = super()._create_worker_consumer(transport)
            consumer._isolation_level = isolation
            consumer._fetch_min_bytes = fetch_bytes
            consumer._fetch_max_wait_ms = FETCH_WAIT_MS
            return consumer

    class Consumer(driver.Consumer):
        def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
            return Thread(self, loop=self.loop, beacon=self.beacon)

    class Transport(driver.Transport):
        pass

    Transport.Consumer = Consumer
    return Transport


_COMMITTED = _transport("read_committed", 1)
# many small records come all the time: each answer costs this process a turn of its loop
_UNCOMMITTED = _transport("read_uncommitted", URGENT_BYTES)


class _FolderlessApp(faust.App):
    def _create_directories(self) -> None:
        """Of tables, on a disk; there are none."""


def make_app(
    app_id: str, bootstrap: str, *, uncommitted: bool = False, **settings: Any
) -> faust.App:
    """An app with id (and consumer group) `app_id`; `settings` override the defaults here.

    `uncommitted`: for topics that strangers write to, who may leave a transaction open; what is
    there counts, whether it is committed or not. They are read patiently, but for
    what is urgent; facts are read at once.
    """
    login = current()
    if login is not None:
        settings["broker_credentials"] = _credentials(login)
    app = _FolderlessApp(
        app_id,
        broker=f"kafka://{bootstrap}",
        store="memory://",
        web_enabled=False,
        **{
            "topic_disable_leader": True,
            "topic_allow_declare": False,
            "broker_session_timeout": 6.0,
            "broker_heartbeat_interval": 1.5,
            "broker_request_timeout": 20.0,
            "broker_commit_interval": 1.0,
            "broker_max_poll_records": 1000,
            "consumer_auto_offset_reset": "earliest",
            "stream_wait_empty": False,
            **settings,
        },
    )
    transport = _UNCOMMITTED if uncommitted else _COMMITTED
    app.transport = transport(app.conf.broker_consumer, app)
    return app


def _credentials(login: Login) -> faust.auth.Credentials:
    """The process's login in Faust's words."""
    if not login.user:
        return faust.SSLCredentials(context=tls_of(login))
    return faust.SASLCredentials(
        username=login.user,
        password=login.secret,
        mechanism=login.mechanism,
        ssl_context=tls_of(login),
    )


def tls_of(login: Login) -> ssl.SSLContext:
    """Believes the login's authorities, and shows its certificate if it has one."""
    context = ssl.create_default_context(cafile=login.ca)
    if login.certificate:
        context.load_cert_chain(login.certificate, login.key)
    return context


def client_login() -> dict[str, Any]:
    """The process's login in the words of aiokafka; nothing without one."""
    login = current()
    if login is None:
        return {}
    found = {"security_protocol": login.protocol, "ssl_context": tls_of(login)}
    if login.user:
        found |= {
            "sasl_mechanism": login.mechanism,
            "sasl_plain_username": login.user,
            "sasl_plain_password": login.secret,
        }
    return found


def raw_topic(app: faust.App, *names: str) -> Any:
    """A channel of raw bytes from these topics."""
    return app.topic(
        *names,
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
        internal=False,
    )


def no_notice(_: float) -> None:
    """Notifies nobody of an app that hangs at its end."""


def run_app(
    app: faust.App, notify_hanging: Callable[[float], None] = no_notice, *beside: faust.App
) -> int:
    """Run the app in this thread until SIGTERM, SIGINT or a crash; returns the exit code.

    `beside`: apps that start and end with it.
    Faust's own end can hang on a client that waits for an answer. An app that was stopped and is
    still there after STOP_S ends at once, with 1, once `notify_hanging` got the seconds: nothing
    unacknowledged is lost by that.
    """
    worker = faust.Worker(app, *beside, loglevel="warn", quiet=True, override_logging=False)
    worker.spinner = None  # it writes to stdout, quiet or not: half a line in the process's log
    ended = threading.Event()
    threading.Thread(
        target=_end_hanging, args=(app, worker, ended, notify_hanging), daemon=True
    ).start()
    try:
        worker.execute_from_commandline()
    except SystemExit as stop:
        return int(stop.code or 0) if not isinstance(stop.code, str) else 1
    finally:
        ended.set()
    return 0


def _end_hanging(
    app: faust.App,
    worker: faust.Worker,
    ended: threading.Event,
    notify_hanging: Callable[[float], None],
) -> None:
    while not (app.should_stop or worker.should_stop):
        if ended.wait(0.5):
            return
    if not ended.wait(STOP_S):
        notify_hanging(STOP_S)
        os._exit(1)
