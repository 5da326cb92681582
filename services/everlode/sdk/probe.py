"""The endpoint that answers probes: GET /livez on loopback. Shell: one thread."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        ok = self.path == "/livez"
        self.send_response(200 if ok else 404)
        self.send_header("content-length", "2" if ok else "0")
        self.end_headers()
        if ok:
            self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Say nothing: probes come often."""


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
