"""Keeps what a consumer cannot take, with where it came from.

Theory of operation. A record that a consumer cannot take would either stop its stream for ever or
be lost. So the record, as it was, goes to `dlt.<consumer>.<topic>`, and the stream goes on:

    eu.1.tasks   7   8   x   10        the projector folds 7, 8 and 10
                         |
    dlt.projector.eu.1.tasks  x        headers: eu.1.tasks, partition 0, offset 9, the error

  1. `add`: the letter is sent; the same record again, while it is on its way, is the same letter;
  2. `deliver`: wait until the broker has all letters; those that it has not are sent again;
  3. the consumer's position passes the record (must come after 2: what is passed is kept).
A consumer that is killed between 2 and 3 reads the record again and writes its letter again: the
headers tell that both are of one record. Shell.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from everlode.adapters.kafka import Raw, Record
from everlode.adapters.kafka_sender import Sender
from everlode.errors import EverlodeError, Unavailable
from everlode.topics.names import dead_letter_topic
from everlode.topics.place import Letter, letter

_Source = tuple[str, int, int]
"""Topic, partition and offset that a letter is of."""


class DeadLetters:
    """Of one consumer. Not thread-safe, but for the client's own thread.

    A letter counts as kept once the broker has it; until then its consumer must not pass it.
    """

    def __init__(self, sender: Sender, consumer: str) -> None:
        self._sender, self._consumer = sender, consumer
        self._missing: dict[_Source, Record] = {}
        self._why = ""

    def add(self, raw: Raw, error: EverlodeError) -> None:
        """1. Send a record, key, value and headers as they were, or why not.

        The same one again is the same letter.
        """
        source = (raw.topic, raw.partition, raw.offset)
        kept = letter(self._consumer, source, Letter(raw.key, raw.value, raw.headers), error)
        topic = dead_letter_topic(self._consumer, raw.topic)
        self._send(source, Record(topic, 0, kept.key, kept.value, [*kept.headers]))

    def _send(self, source: _Source, record: Record) -> None:
        self._missing[source] = record
        self._sender.send(record, partial(self._done, source))

    def _done(self, source: _Source, error: Any, _: Any) -> None:
        if error is None:
            self._missing.pop(source, None)
        else:
            self._why = error.str()

    def deliver(self, timeout_s: float) -> None:
        """2. Wait until all are there. Raises: Unavailable: some are not; they are sent again."""
        if not self._missing:
            return
        self._sender.flush(timeout_s)
        missing = dict(self._missing)
        if missing:
            why = self._why or "no answer in time"
            for source, record in missing.items():
                self._send(source, record)
            topic = next(iter(missing.values())).topic
            raise Unavailable(
                f"{topic}: {len(missing)} dead letters could not be written: {why}",
                code="dead_letters",
                hint="nothing is passed over until they are; see everlode stack doctor",
            )
