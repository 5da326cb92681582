"""A dashboard of one's own: what a network tells, as it happens, on a page of this program.

    python examples/dashboard.py ADDRESS [PORT]

ADDRESS is what `everlode serve` prints. The page follows `GET /events` there; what is asked of the
page is passed on: `?of=tasks&region=eu`, see docs/api.md. The token, if one is needed, is in
DASHBOARD_TOKEN: it stays here, and no browser sees it. The page is for this machine only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

PAGE = b"""<!doctype html><meta charset=utf-8><title>The network</title><ol id=line></ol><script>
new EventSource("/events" + location.search).onmessage = (message) => {
  const { time, type, subject } = JSON.parse(message.data), row = document.createElement("li");
  row.textContent = `${time} ${type} ${subject}`; line.prepend(row); };</script>"""


class Page(BaseHTTPRequestHandler):
    """The page, and the events that it follows."""

    def do_GET(self) -> None:
        """See BaseHTTPRequestHandler."""
        if self.headers["Host"] != HOST:
            self.send_error(421)  # another site's name leads here
        elif not self.path.startswith("/events"):
            self.answer("text/html", [PAGE])
        else:  # a browser that lost the line says where it was
            asked = {"Authorization": f"Bearer {os.environ.get('DASHBOARD_TOKEN')}"}
            asked["Last-Event-ID"] = self.headers["Last-Event-ID"] or ""
            wanted = Request(sys.argv[1] + self.path, headers=asked)
            with urlopen(wanted) as events:
                self.answer("text/event-stream", events)

    def answer(self, kind: str, lines: Iterable[bytes]) -> None:
        """Send lines as they come, until the browser goes."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        with suppress(ConnectionError):
            self.wfile.writelines(lines)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(*sys.argv[2:3])), Page)
    HOST = f"127.0.0.1:{server.server_port}"
    print(f"http://{HOST}", flush=True)
    server.serve_forever()
