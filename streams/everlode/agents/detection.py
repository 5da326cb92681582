"""The detection agent: heartbeats of one origin in, verdicts on `<origin>.health` out.

A partition that is taken over is folded from a minute before, so that a node which fell silent
while no detector ran is known, and missed. Verdicts given before come again with the same ids.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition

from everlode.agents.acks import each_batch
from everlode.agents.app import client_login, make_app, raw_topic
from everlode.avro.codec import Codec
from everlode.avro.signals import Head, Now, Signal, SignalMaker
from everlode.detection.detector import Detector, Verdict
from everlode.errors import ContractError, unforeseen
from everlode.events.health import DetectorStarted
from everlode.topics.names import dead_letter_topic, fact_topic
from everlode.topics.place import Letter, letter, placed

BATCH, MORE_S = 200, 0.02
"""Records come in bursts (see `app`): a burst is not waited for longer than it takes to be read."""
WARM_MS = 60_000
"""A detector starts this long before the first heartbeat that is its own to take."""


class DetectionAgent:
    """Detectors of the assigned partitions, and what they published."""

    def __init__(
        self,
        origin: str,
        bootstrap: str,
        node_id: str,
        group: str,
        verdict: Callable[[Verdict], None] = lambda _: None,
    ) -> None:
        self.origin = origin
        self.node_id = node_id
        self.records = 0
        """Heartbeats, barriers and answers read."""
        self.verdicts = 0
        """Verdicts published."""
        self._bootstrap = bootstrap
        self.app: faust.App = make_app(
            group, bootstrap, uncommitted=True, broker_commit_interval=1.0
        )
        self._topic = fact_topic(origin, "heartbeats")
        self._health = fact_topic(origin, "health")
        self._dead = dead_letter_topic("detector", self._topic)
        self._codec = Codec()
        self._maker = SignalMaker(origin)
        self._detectors: dict[int, Detector] = {}
        self._verdict = verdict
        channel = raw_topic(self.app, self._topic)
        self.app.agent(channel, name=f"everlode.detection.{origin}")(self._agent)
        self.app.on_partitions_revoked.connect(self._revoked)  # type: ignore[arg-type]

    async def _agent(self, stream: Any) -> None:
        await each_batch(self.app, stream, self._effect, most=BATCH, within_s=MORE_S)

    async def _revoked(self, _app: Any, _revoked: Any, **_: Any) -> None:
        """Another worker may go on with any of them: what is known here is old by then."""
        self._detectors.clear()

    async def _effect(self, events: list[Any]) -> None:
        for event in events:
            message = event.message
            detector = self._detectors.get(message.partition)
            if detector is None:
                detector = await self._take(message)
                self._detectors[message.partition] = detector
            self.records += 1
            try:
                made = self._observed(detector, message)
            except ContractError as error:
                await self._quarantine(message, error)
                continue
            await self._send_all(made)

    def _observed(self, detector: Detector, record: Any) -> list[tuple[Verdict, Signal]]:
        """What the record leads to, ready to be sent. Raises: ContractError: it leads to nothing.

        All of this is of the record alone, so what goes wrong here goes wrong each time.
        """
        fact = placed(self._codec, self._topic, record.key, record.value)
        try:
            return [(v, self._made(v)) for v in detector.observe(record.offset, fact)]
        except ContractError:
            raise
        except Exception as error:  # noqa: BLE001 - see above
            raise unforeseen(f"{type(fact.data).__name__} cannot be observed", error) from None

    async def _send_all(self, made: list[tuple[Verdict, Signal]]) -> None:
        """Written and acknowledged before the heartbeats are."""
        for verdict, signal in made:
            await self._publish(verdict, signal)
            self.verdicts += 1
            self._verdict(verdict)

    async def _take(self, message: Any) -> Detector:
        """A detector for the partition of `message`, folded up to it."""
        detector = Detector(self._topic, message.partition)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            enable_auto_commit=False,
            isolation_level="read_uncommitted",  # as the app does: the position must reach it
            auto_offset_reset="earliest",
            **client_login(),
        )
        place = TopicPartition(self._topic, message.partition)
        await consumer.start()
        try:
            consumer.assign([place])
            since = max(0, round(message.timestamp * 1000) - WARM_MS)
            found = (await consumer.offsets_for_times({place: since}))[place]
            start = min(message.offset, found.offset if found is not None else message.offset)
            started = DetectorStarted(partition=message.partition, from_offset=start)
            first = Verdict(str(uuid.uuid4()), self.node_id, started)
            await self._publish(first, self._made(first))
            consumer.seek(place, start)
            while await consumer.position(place) < message.offset:
                for records in (await consumer.getmany(place, timeout_ms=500)).values():
                    await self._warm(detector, records, message.offset)
        finally:
            await consumer.stop()
        return detector

    async def _warm(self, detector: Detector, records: list[Any], end: int) -> None:
        for record in records:
            if record.offset < end:
                with suppress(ContractError):  # quarantined when it came the first time
                    await self._send_all(self._observed(detector, record))

    def _made(self, verdict: Verdict) -> Signal:
        wall_ms = time.time_ns() // 1_000_000
        now = datetime.now(UTC)
        at = now.replace(microsecond=now.microsecond // 1000 * 1000)
        head = Head(verdict.node_id, verdict.event_id)
        return self._maker.make(head, verdict.data, Now(wall_ms, at))

    async def _publish(self, verdict: Verdict, made: Signal) -> None:
        await self._send(self._health, verdict.node_id.encode(), made.value, made.headers)

    async def _quarantine(self, message: Any, error: ContractError) -> None:
        headers = message.headers
        found = headers.items() if isinstance(headers, dict) else (headers or ())
        record = Letter(message.key, message.value, list(found))
        at = (self._topic, message.partition, message.offset)
        await self._send(self._dead, *letter("detector", at, record, error))

    async def _send(self, topic: str, key: Any, value: Any, headers: Any) -> None:
        producer = await self.app.maybe_start_producer()
        await producer.send_and_wait(topic, key, value, 0, None, headers)
