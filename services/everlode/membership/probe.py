"""Probes of one node by another: GET /livez on loopback, asked and answered.

Shell: one thread for the answers.
"""

from __future__ import annotations

import http.client
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROBE_S = 1.0
"""An answer is waited for this long."""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        ok = self.path == "/livez"
        self.send_response(200 if ok else 404)
        self.send_header("content-length", "2" if ok else "0")
        self.end_headers()
        if ok:
            self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Logs nothing: probes come often."""


class ProbeEndpoint:
    """Listens on a free port of 127.0.0.1."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self.endpoint = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(
            target=self._server.serve_forever, args=(1.0,), name="probe", daemon=True
        ).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def probe(endpoint: str) -> tuple[str, int]:
    """Ask GET /livez; (alive | refused | no-answer, milliseconds it took)."""
    began = time.monotonic()
    try:
        answer = _ask(endpoint)
    except ConnectionRefusedError:
        answer = "refused"
    except (OSError, http.client.HTTPException, ValueError, OverflowError):
        answer = "no-answer"  # also when a beat named what is no endpoint
    return answer, round((time.monotonic() - began) * 1000)


def _ask(endpoint: str) -> str:
    host, _, port = endpoint.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=PROBE_S)
    try:
        connection.request("GET", "/livez")
        return "alive" if connection.getresponse().status == 200 else "no-answer"
    finally:
        connection.close()
