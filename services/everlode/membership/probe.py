"""Probes of one node by another: GET /livez on loopback, asked and answered.

Shell: one thread for the answers.
"""

from __future__ import annotations

import http.client
import socket
import threading
import time
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROBE_S = 1.0
"""An answer is waited for this long."""
MOST = 256
"""Bytes of an answer that are read."""


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, answer: bytes, *connection: Any) -> None:
        self._answer = answer
        super().__init__(*connection)

    def do_GET(self) -> None:
        ok = self.path == "/livez"
        self.send_response(200 if ok else 404)
        self.send_header("content-length", str(len(self._answer)) if ok else "0")
        self.end_headers()
        if ok:
            self.wfile.write(self._answer)

    def log_message(self, *_: object) -> None:
        """Logs nothing: probes come often."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *how: Any) -> None:
        self.open = set[Any]()
        """Connections; whoever watches this process keeps one open for as long as it lives."""
        super().__init__(*how)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, *_: object) -> None:
        """Logs nothing: who asked has left, e.g. while this process was stopped."""


class ProbeEndpoint:
    """Listens on a free port of 127.0.0.1; answers `ok` and the process's incarnation."""

    def __init__(self, incarnation: str = "") -> None:
        handler = partial(_Handler, f"ok {incarnation}".strip().encode())
        self._server = _Server(("127.0.0.1", 0), handler)
        self.endpoint = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(
            target=self._server.serve_forever, args=(1.0,), name="probe", daemon=True
        ).start()

    @property
    def watched(self) -> bool:
        """True while somebody holds a connection open."""
        return bool(self._server.open)

    def close(self) -> None:
        """Stop listening, and end what is open: whoever watches it knows at once."""
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._server.open):
            with suppress(OSError):  # the other side was first
                connection.shutdown(socket.SHUT_RDWR)


def probe(endpoint: str, incarnation: str = "") -> tuple[str, int]:
    """Ask GET /livez; (alive | refused | no-answer, milliseconds it took).

    With an `incarnation` another process that answers there is as good as a closed port.
    """
    began = time.monotonic()
    try:
        answer = _ask(endpoint, incarnation)
    except ConnectionRefusedError:
        answer = "refused"
    except (OSError, http.client.HTTPException, ValueError, OverflowError):
        answer = "no-answer"  # also when a beat named what is no endpoint
    return answer, round((time.monotonic() - began) * 1000)


def _ask(endpoint: str, incarnation: str) -> str:
    host, _, port = endpoint.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=PROBE_S)
    try:
        connection.request("GET", "/livez")
        answer = connection.getresponse()
        words = answer.read(MOST).decode("ascii", "replace").split()
        if answer.status != 200:
            return "no-answer"
        return "alive" if not incarnation or words[1:] == [incarnation] else "refused"
    finally:
        connection.close()
