"""Traces by OpenTelemetry, sent to a collector by OTLP over HTTP. In the extra `otel`.

Names and attributes are those of OpenTelemetry's conventions for messaging. A record that is worked
on is a span of its own, the child of the one that its header names, so that a command is one trace
from its sender to the projection; the batch that it was in is another trace, with a link to each of
its records, and each of them has a link to it. Of `tracestate` nothing is passed on. Samplers,
delays and a collector's credentials are set by OpenTelemetry's own variables (`OTEL_*`). Shell: a
thread that sends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    Link,
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace import TracerProvider as AnyProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from everlode.telemetry.tracing import HEADER, Batch, Headers, Received, Source, trace_by

LINKS = 128
"""Of a batch's span; OpenTelemetry keeps no more."""
SEND_S = 2
"""How long a collector may take; a process that ends waits for it so long."""
_W3C = TraceContextTextMapPropagator()


@contextmanager
def exported(collector: str, process: str) -> Iterator[None]:
    """This process is traced while the block lasts; a collector that is away is only logged."""
    resource = Resource.create({"service.name": "everlode", "service.instance.id": process})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=collector, timeout=SEND_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    before = trace_by(OpenTelemetry(provider))
    try:
        yield
    finally:
        trace_by(before)
        provider.shutdown()


class OpenTelemetry:
    """See `Tracing`. A command that is sent is the child of the caller's current span."""

    def __init__(self, provider: AnyProvider) -> None:
        self._tracer = provider.get_tracer("everlode", version("everlode"))

    def send(self, topic: str, command_id: str) -> Sent:
        """See Tracing."""
        attributes = _attributes("send", topic) | {"messaging.message.id": command_id}
        span = self._tracer.start_span(
            f"send {topic}", kind=SpanKind.PRODUCER, attributes=attributes
        )
        return Sent(span)

    @contextmanager
    def batch(self, name: str, records: Iterable[Received]) -> Iterator[Batch]:
        """See Tracing. Nothing is made of a batch in which nothing is traced."""
        traced = [(record, parent) for record in records if (parent := _parent(record)) is not None]
        batch = Worked(self._tracer, name, traced)
        try:
            yield batch
        except BaseException as error:
            batch.failed(error)
            raise
        finally:
            batch.end()


class Sent:
    """A command's span, until it is answered."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self.headers = _carried(span)

    def end(self, outcome: str) -> None:
        """See Sending."""
        if self._span.is_recording():
            self._span.set_attribute("everlode.outcome", outcome)
        self._span.end()


class Worked:
    """The spans of a batch."""

    def __init__(self, tracer: Tracer, name: str, traced: list[tuple[Received, Context]]) -> None:
        self._tracer = tracer
        self._waiting = {record.source: (record, parent) for record, parent in traced}
        self._spans: dict[Source, Span] = {}
        self._batch: Span | None = None
        if not traced:
            return
        links = [Link(get_current_span(parent).get_span_context()) for _, parent in traced[:LINKS]]
        self._batch = tracer.start_span(
            f"process {name}", Context(), SpanKind.CONSUMER, links=links,
            attributes={
                "messaging.system": "kafka", "messaging.operation.type": "process",
                "messaging.operation.name": "process", "messaging.batch.message_count": len(traced),
            },
        )  # fmt: skip
        for record, _ in traced:
            if record.alone:
                self._begin(record.source)

    def headers(self, source: Source) -> Headers:
        """See Batch."""
        if source in self._waiting:
            self._begin(source)
        span = self._spans.get(source)
        return [] if span is None else _carried(span)

    def _begin(self, source: Source) -> None:
        assert self._batch is not None  # noqa: S101 - there is one where anything waits
        record, parent = self._waiting.pop(source)
        topic, partition, _ = source
        self._spans[source] = self._tracer.start_span(
            f"process {topic}", parent, SpanKind.CONSUMER,
            links=[Link(self._batch.get_span_context())],
            attributes=_attributes("process", str(topic)) | {
                "messaging.destination.partition.id": str(partition),
                "messaging.kafka.offset": record.offset,
                "messaging.message.id": _text(record.headers, "ce_id"),
            },
        )  # fmt: skip

    def failed(self, error: BaseException) -> None:
        """The work has come to nothing."""
        for span in self._all():
            span.set_attribute("error.type", type(error).__qualname__)
            span.set_status(StatusCode.ERROR)

    def end(self) -> None:
        """It is over."""
        for span in self._all():
            span.end()

    def _all(self) -> list[Span]:
        return [*self._spans.values(), *([] if self._batch is None else [self._batch])]


def _attributes(operation: str, topic: str) -> dict[str, str | int]:
    return {
        "messaging.system": "kafka", "messaging.operation.type": operation,
        "messaging.operation.name": operation, "messaging.destination.name": topic,
    }  # fmt: skip


def _carried(span: Span) -> Headers:
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, set_span_in_context(span))
    return [(HEADER, carrier[HEADER].encode())] if HEADER in carrier else []


def _text(headers: Headers, name: str) -> str:
    found = next((value for known, value in headers if known == name), None)
    return (found or b"").decode("utf-8", "replace")


def _parent(record: Received) -> Context | None:
    """The context that a record's header names; None: it has none, or none that is lawful.

    Strangers write headers: whatever stands there raises nothing.
    """
    given = _text(record.headers, HEADER)
    if not given:
        return None
    found = _W3C.extract({HEADER: given}, Context())
    return found if get_current_span(found).get_span_context().is_valid else None
