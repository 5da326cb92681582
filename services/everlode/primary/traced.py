"""The traces of a primary's turn: from the commands that were read to the facts that follow.

A command has a span from its decision to its commit; a fact that was read has one only if something
follows from it. Facts carry on the trace of what their envelope names as their source. Shell: it
sets what the log adds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from everlode.adapters.kafka import Raw
from everlode.events.base import Envelope
from everlode.log.facts import FactLog
from everlode.primary.inputs import CommandRead, FactRead, Input
from everlode.telemetry.tracing import NOT_TRACED, Received, tracing


@contextmanager
def traced(log: FactLog, raws: Sequence[Raw], inputs: Sequence[Input]) -> Iterator[None]:
    """A turn on these records, each decoded to the input of the same place, lasts as the block."""
    if tracing() is NOT_TRACED:
        yield
        return
    with tracing().batch(log.topic, _received(raws, inputs)) as batch:
        log.carried = lambda envelope: batch.headers(_source(envelope))
        try:
            yield
        finally:
            log.carried = None


def _received(raws: Sequence[Raw], inputs: Sequence[Input]) -> Iterable[Received]:
    for raw, read in zip(raws, inputs, strict=True):
        position = read.fact.envelope.seq if isinstance(read, FactRead) else raw.offset
        source = (raw.topic, raw.partition, position)
        yield Received(source, raw.offset, raw.headers, alone=isinstance(read, CommandRead))


def _source(envelope: Envelope) -> tuple[str | None, int | None, int | None]:
    return envelope.source_topic, envelope.source_partition, envelope.source_position
