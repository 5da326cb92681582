"""A collector of traces: takes what processes send by OTLP over HTTP, and keeps their spans."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Span(NamedTuple):
    """One span, as far as tests ask."""

    process: str
    name: str
    trace: bytes
    id: bytes
    parent: bytes
    links: list[bytes]
    message: str
    """Id of the message that it is about; empty without one."""


class Collector:
    """Use as a context manager; `address` is where traces go."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector._take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/v1/traces"

    def _take(self, request: Any) -> None:
        for of_process in request.resource_spans:
            process = _texts(of_process.resource.attributes)["service.instance.id"]
            for of_scope in of_process.scope_spans:
                for span in of_scope.spans:
                    links = [link.span_id for link in span.links]
                    message = _texts(span.attributes).get("messaging.message.id", "")
                    self._spans.append(
                        Span(
                            process, span.name, span.trace_id, span.span_id, span.parent_span_id,
                            links, message,
                        )
                    )  # fmt: skip

    def spans(self) -> list[Span]:
        """All that have come."""
        return [*self._spans]

    def of_command(self, command_id: str) -> dict[str, Span]:
        """Name → span, of the trace in which this command was sent; empty as long as none came."""
        found = self.spans()
        sent = [s for s in found if s.message == command_id and s.name.startswith("send ")]
        return {s.name: s for s in found if sent and s.trace == sent[0].trace}

    def __enter__(self) -> Collector:
        threading.Thread(target=self._server.serve_forever, name="collector", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _texts(attributes: Any) -> dict[str, str]:
    return {each.key: each.value.string_value for each in attributes}
