"""A command's trace, from its sender through a primary's turn to a projector's batch."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from everlode.errors import ConfigError
from everlode.telemetry.otel import LINKS, SEND_S, OpenTelemetry
from everlode.telemetry.tracing import HEADER, NOT_TRACED, Headers, Received, exported, tracing

COMMANDS, FACTS = "eu.commands.tasks", "eu.1.tasks"


class Traced:
    """Who traces, and what has ended."""

    def __init__(self) -> None:
        self._found = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._found))
        self.by = OpenTelemetry(self.provider)

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self._found.get_finished_spans()}


@pytest.fixture
def traced() -> Iterator[Traced]:
    made = Traced()
    yield made
    made.provider.shutdown()


def received(topic: str, position: int, headers: Headers, **more: Any) -> Received:
    return Received((topic, 0, position), position + 100, headers, **more)


def id_of(span: ReadableSpan) -> tuple[int, int]:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id


def parent_of(span: ReadableSpan) -> tuple[int, int] | None:
    return None if span.parent is None else (span.parent.trace_id, span.parent.span_id)


def linked(span: ReadableSpan) -> list[tuple[int, int]]:
    return [(link.context.trace_id, link.context.span_id) for link in span.links]


def test_command_is_one_trace_from_its_sender_to_the_projection(traced: Traced) -> None:
    sending = traced.by.send(COMMANDS, "c-1")
    command = received(COMMANDS, 7, [("ce_id", b"c-1"), *sending.headers])
    with traced.by.batch("turn", [command, received(COMMANDS, 8, [])]) as turn:
        fact = turn.headers((COMMANDS, 0, 7))
        assert turn.headers((COMMANDS, 0, 8)) == turn.headers((None, None, None)) == []
        assert [span for span in traced.spans() if span.startswith("process")] == []
    sending.end("done")
    with traced.by.batch("projection eu", [received(FACTS, 3, [("ce_id", b"e-1"), *fact])]):
        pass
    found = traced.spans()
    sent, decided, visible = (
        found[n] for n in (f"send {COMMANDS}", f"process {COMMANDS}", f"process {FACTS}")
    )
    assert len({id_of(span)[0] for span in (sent, decided, visible)}) == 1
    assert parent_of(sent) is None
    assert parent_of(decided) == id_of(sent)
    assert parent_of(visible) == id_of(decided)
    kinds = [span.kind for span in (sent, decided, visible)]
    assert kinds == [SpanKind.PRODUCER, SpanKind.CONSUMER, SpanKind.CONSUMER]
    assert dict(sent.attributes or {})["everlode.outcome"] == "done"
    assert dict(decided.attributes or {}) == {
        "messaging.system": "kafka", "messaging.operation.type": "process",
        "messaging.operation.name": "process", "messaging.destination.name": COMMANDS,
        "messaging.destination.partition.id": "0", "messaging.kafka.offset": 107,
        "messaging.message.id": "c-1",
    }  # fmt: skip
    batch = found["process turn"]
    assert (parent_of(batch), linked(batch), linked(decided)) == (
        None,
        [id_of(sent)],
        [id_of(batch)],
    )


def test_command_is_the_child_of_what_its_caller_does(traced: Traced) -> None:
    tracer = traced.provider.get_tracer("a program of somebody's")
    with tracer.start_as_current_span("order"):
        traced.by.send(COMMANDS, "c").end("done")
    found = traced.spans()
    assert parent_of(found[f"send {COMMANDS}"]) == id_of(found["order"])


def test_fact_that_was_read_has_a_span_only_if_something_follows(traced: Traced) -> None:
    carried = traced.by.send(COMMANDS, "c").headers
    facts = [received(FACTS, seq, carried, alone=False) for seq in (1, 2)]
    with traced.by.batch("turn", facts) as turn:
        assert turn.headers((FACTS, 0, 2)) == turn.headers((FACTS, 0, 2)) != []
    names = [span.name for span in traced._found.get_finished_spans()]
    assert sorted(names) == [f"process {FACTS}", "process turn"]


def test_work_that_fails_says_so_and_the_error_goes_on(traced: Traced) -> None:
    carried = traced.by.send(COMMANDS, "c").headers
    with (
        pytest.raises(ConfigError),
        traced.by.batch("turn", [received(COMMANDS, 1, carried)]),
    ):
        raise ConfigError("away")
    assert {span.status.status_code for span in traced.spans().values()} == {StatusCode.ERROR}
    assert dict(traced.spans()["process turn"].attributes or {})["error.type"] == "ConfigError"


def test_batch_links_to_as_many_of_its_records_as_are_kept(traced: Traced) -> None:
    many = [
        received(FACTS, n, traced.by.send(COMMANDS, str(n)).headers, alone=False)
        for n in range(LINKS + 10)
    ]
    with traced.by.batch("projection eu", many):
        pass
    batch = traced.spans()["process projection eu"]
    assert len(batch.links) == LINKS
    assert dict(batch.attributes or {})["messaging.batch.message_count"] == LINKS + 10


@given(st.one_of(st.none(), st.binary(max_size=80), st.text("0123456789abcdef-", max_size=60)))
def test_header_of_a_stranger_traces_nothing_and_stops_nobody(value: Any) -> None:
    traced = Traced()
    given_value = value.encode() if isinstance(value, str) else value
    headers: Any = [("h", b"\xff"), (HEADER, given_value)]
    with traced.by.batch("turn", [received(COMMANDS, 1, headers)]) as turn:
        assert turn.headers((COMMANDS, 0, 1)) == []
    assert traced.spans() == {}


def test_without_a_wish_nothing_is_imported_read_or_added() -> None:
    program = (
        "import sys, everlode.sdk, everlode.primary.runtime, everlode.projector.live; "
        "from everlode.telemetry.tracing import tracing; t = tracing(); "
        "assert t.send('t', 'c').headers == []; "
        "with_ = t.batch('n', (1 / 0 for _ in '1')); "
        "assert with_.__enter__().headers(('t', 0, 1)) == []; "
        "print([m for m in sys.modules if m.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_wish_without_the_extra_is_refused_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    monkeypatch.delitem(sys.modules, "everlode.telemetry.otel")
    monkeypatch.delitem(sys.modules, "opentelemetry.sdk.trace")
    with pytest.raises(ConfigError) as refused:
        exported("http://127.0.0.1:4318/v1/traces", "eu-tm-1")
    assert refused.value.code == "missing_extra"
    assert "everlode[otel]" in refused.value.hint
    assert tracing() is NOT_TRACED


def test_collector_that_does_not_answer_holds_up_no_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces"
        with exported(address, "eu-tm-1"):
            assert tracing() is not NOT_TRACED
            tracing().send(COMMANDS, "c").end("done")
            began = time.monotonic()
        assert time.monotonic() - began < 4 * SEND_S  # its exporter's own patience is ten seconds
    assert tracing() is NOT_TRACED
