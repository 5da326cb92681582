"""One region as a client sees it: commands out, answers back.

Invariants: answers are read from their partition's end as of before the first command, so none of
ours can be missed. Shell: one thread.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable

from everlode.adapters.kafka import Raw, Reader, Record
from everlode.adapters.kafka_sender import Sender
from everlode.avro.cloudevents import command_headers
from everlode.avro.codec import Codec
from everlode.errors import ConfigError, ContractError, EverlodeError, Refusal
from everlode.events.base import CommandAnswered
from everlode.sdk.waiting import Asked
from everlode.settings.endpoints import RegionParts
from everlode.topics.names import command_topic, reply_topic
from everlode.topics.partition import partition_of


class RegionLink:
    """Sends commands to one region; `answered(answer)` is called in its own thread."""

    def __init__(
        self,
        parts: RegionParts,
        reply_to: str,
        answered: Callable[[CommandAnswered], None],
    ) -> None:
        self.region = parts.region
        self.reply_to = reply_to
        self._partitions = parts.partitions
        self._sender = Sender(parts.bootstrap)
        group = f"client-{uuid.uuid4()}"
        self._reader = Reader(parts.bootstrap, group, wait_ms=500, uncommitted=True)
        self._answered = answered
        self._codec = Codec()
        self._stop = threading.Event()
        self._settled = threading.Event()
        self.refused: EverlodeError | None = None
        """Why the region does not let this client in, or read its answers: it does not ask again.

        A `ConfigError` or a `Refusal`.
        """
        self._thread = threading.Thread(
            target=self._run, name=f"answers-{self.region}", daemon=True
        )
        self._thread.start()

    def ready(self, timeout_s: float) -> bool:
        """True once answers are being read; commands must not be sent before."""
        return self._settled.wait(timeout_s) and self.refused is None

    def send(self, asked: Asked) -> None:
        """Queue a command; delivery is not waited for, the answer is the proof."""
        header, command = asked.header, asked.command
        key = header.aggregate_id
        self._sender.send(
            Record(
                command_topic(self.region, command.component),
                partition_of(key, self._partitions),
                key,
                asked.value,
                [*command_headers(header, type(command).__name__), *asked.trace.headers],
            )
        )

    def poll(self) -> None:
        """Serve the producer."""
        self._sender.poll()

    def close(self) -> None:
        """Stop reading; wait shortly for what is queued."""
        self._stop.set()
        self._sender.flush(2)
        self._thread.join(3)

    def _run(self) -> None:
        topic, mine = reply_topic(self.region), partition_of(self.reply_to, self._partitions)
        while not self._stop.is_set():
            try:
                ends = self._reader.ends([(topic, mine)], timeout_s=2)
            except (ConfigError, Refusal) as error:
                self.refused = error
                self._settled.set()
                self._reader.close()
                return
            except EverlodeError:
                self._sender.poll()  # so that what cannot be delivered is known
                continue  # the region is away; the client's deadline decides
            self._reader.assign(ends)
            break
        self._settled.set()
        me = self.reply_to.encode()
        while not self._stop.is_set():
            for raw in self._reader.batch(1000, 0.2, 0.0):
                if raw.key == me:
                    self._one(raw)
            self._sender.poll()
        self._reader.close()

    def _one(self, raw: Raw) -> None:
        try:
            answer = self._codec.decode_answer(raw.value)
        except ContractError:
            return  # not from a primary of ours; the command is asked again
        self._answered(answer)
