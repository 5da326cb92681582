"""A proxy before a real S3 server that refuses, drops, loses, cuts, shortens or delays.

Signatures hold through it: the Host that a client signs is passed on as it is.
"""

from __future__ import annotations

import http.client
import http.server
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, ClassVar, Literal, NamedTuple, Self
from urllib.parse import parse_qsl, urlsplit

HOST = "127.0.0.1"
SLOW_DOWN, INTERNAL, TIMEOUT = (503, "SlowDown"), (500, "InternalError"), (400, "RequestTimeout")


class Fault(NamedTuple):
    """What happens to a request."""

    kind: Literal["refuse", "drop", "lose", "cut", "shorten", "delay"]
    """refuse: answered in the store's place. drop: it does not reach the store. lose: it does, and
    its answer goes nowhere. cut: the connection ends within the answer's body. shorten: that is
    less, and nothing shows it. delay: the answer comes late."""
    answer: tuple[int, str] = SLOW_DOWN
    """Status and code of a refusal."""
    after: float = 0.5
    """Which part of the body comes, of what is cut or shortened; seconds, of what is delayed."""


class Asked(NamedTuple):
    """A request that came."""

    method: str
    target: str
    range: str
    fault: Fault | None


class FaultyProxy:
    """Use as a context manager; `endpoint` is host:port. `faults` decides, request by request."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.asked: list[Asked] = []
        self.faults: Callable[[str, str], Fault | None] = lambda _method, _target: None
        self.stopped = threading.Event()
        self._guard = threading.Lock()
        handler = type("Bound", (_Handler,), {"proxy": self})
        self._server = http.server.ThreadingHTTPServer((HOST, 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.endpoint = f"{HOST}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def each_once(self, *faults: Fault) -> None:
        """From now on each request that differs from all before fails once, by turns."""
        met: set[tuple[str, str]] = set()

        def decide(method: str, target: str) -> Fault | None:
            where = urlsplit(target)
            query = [
                f"{name}={value}" if name == "partNumber" else name
                for name, value in parse_qsl(where.query, keep_blank_values=True)
                if not name.startswith("X-Amz-")
            ]
            request = method, f"{where.path}?{'&'.join(query)}"
            if request in met:
                return None
            met.add(request)
            return faults[(len(met) - 1) % len(faults)]

        self.faults = decide

    def in_turn(self, method: str, key: str, *faults: Fault) -> None:
        """From now on these happen to the next such requests of an object, one after the other."""
        left = list(faults)

        def decide(asked: str, target: str) -> Fault | None:
            return left.pop(0) if left and asked == method and key in target else None

        self.faults = decide

    def take(self, method: str, target: str, ranged: str) -> Fault | None:
        """What happens to a request; it is noted."""
        with self._guard:
            fault = self.faults(method, target)
            self.asked.append(Asked(method, target, ranged, fault))
            return fault

    @property
    def failed(self) -> int:
        """Requests that something happened to."""
        return sum(1 for one in self.asked if one.fault is not None)


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    proxy: ClassVar[FaultyProxy]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def log_request(self, *_: Any) -> None:
        """Nothing is logged."""

    def _serve(self) -> None:
        with suppress(OSError):  # a client that has given up
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fault = self.proxy.take(self.command, self.path, self.headers.get("Range", ""))
            kind = fault.kind if fault is not None else ""
            if fault is not None and kind == "refuse":
                return self._refuse(fault)
            if kind == "drop":
                return self._drop()
            status, headers, data = self._forward(body)
            if kind == "lose":
                return self._drop()
            if fault is not None and kind == "delay":
                self.proxy.stopped.wait(fault.after)
            part = len(data)
            if fault is not None and kind in ("cut", "shorten"):
                part = int(len(data) * fault.after)
            self._answer(status, headers, data[:part], part if kind == "shorten" else len(data))
            if kind == "cut":
                self._drop()
        return None

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection(self.proxy.upstream, timeout=30)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                upstream.putheader(name, value)
            upstream.endheaders(body)
            answer = upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            upstream.close()

    def _answer(
        self, status: int, headers: list[tuple[str, str]], data: bytes, length: int
    ) -> None:
        self.send_response_only(status)
        ours = ("content-length", "transfer-encoding", "connection")
        for name, value in headers:
            if name.lower() not in ours:
                self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(data)

    def _refuse(self, fault: Fault) -> None:
        status, code = fault.answer
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>-</Message></Error>"
        self._answer(status, [("Content-Type", "application/xml")], text.encode(), len(text))

    def _drop(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
