"""Keeps what a consumer cannot take, with where it came from. Shell."""

from __future__ import annotations

from functools import partial
from typing import Any

from everlode.adapters.kafka import Raw, Record
from everlode.adapters.kafka_sender import Sender
from everlode.errors import EverlodeError, Unavailable
from everlode.topics.names import dead_letter_topic
from everlode.topics.place import provenance

LARGEST = 900_000
"""Bytes of a value that is kept; a larger one, with its new headers, would not fit its topic."""
LARGEST_KEY = LARGEST_HEADERS = 30_000
"""Bytes of a key, and of all headers together; larger ones are left out too."""
_Place = tuple[str, int, int]


class DeadLetters:
    """Of one consumer. Not thread-safe, but for the client's own thread.

    A letter counts as kept once the broker has it; until then its consumer must not pass it.
    """

    def __init__(self, sender: Sender, consumer: str) -> None:
        self._sender, self._consumer = sender, consumer
        self._missing: dict[_Place, Record] = {}
        self._why = ""

    def add(self, raw: Raw, error: EverlodeError) -> None:
        """Send a record, key, value and headers as they were, or why not.

        The same one again is the same letter.
        """
        topic = dead_letter_topic(self._consumer, raw.topic)
        found = provenance(self._consumer, raw.topic, raw.partition, raw.offset, error)
        key, value, headers = raw.key, raw.value, raw.headers
        if value is not None and len(value) > LARGEST:
            found.append(("dlt-left-out", str(len(value)).encode()))
            value = None
        if key is not None and len(key) > LARGEST_KEY:
            found.append(("dlt-key-left-out", str(len(key)).encode()))
            key = None
        size = sum(len(name) + len(content or b"") for name, content in headers)
        if size > LARGEST_HEADERS:
            found.append(("dlt-headers-left-out", str(size).encode()))
            headers = []
        record = Record(topic, 0, key, value, [*headers, *found])
        self._send((raw.topic, raw.partition, raw.offset), record)

    def _send(self, place: _Place, record: Record) -> None:
        self._missing[place] = record
        self._sender.send(record, partial(self._done, place))

    def _done(self, place: _Place, error: Any, _: Any) -> None:
        if error is None:
            self._missing.pop(place, None)
        else:
            self._why = error.str()

    def settle(self, timeout_s: float) -> None:
        """Wait until all are there. Raises: Unavailable: some are not; they are sent again."""
        if not self._missing:
            return
        self._sender.flush(timeout_s)
        missing = dict(self._missing)
        if missing:
            why = self._why or "no answer in time"
            for place, record in missing.items():
                self._send(place, record)
            topic = next(iter(missing.values())).topic
            raise Unavailable(
                f"{topic}: {len(missing)} dead letters could not be written: {why}",
                code="dead_letters",
                hint="nothing is passed over until they are; see everlode stack doctor",
            )
