"""Facts of one partition number as they come: decoded, or kept as dead letters, or read back.

Invariant: a position passes a record that cannot be decoded only after its dead letter is kept.
Shell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing

from everlode.adapters.dead_letters import DeadLetters
from everlode.adapters.kafka import Raw, Reader
from everlode.adapters.kafka_sender import Sender
from everlode.avro.codec import Codec, UnknownSchema
from everlode.errors import ContractError, EverlodeError, Unavailable
from everlode.events.base import Fact
from everlode.log.learn import Learn
from everlode.projection.fold import Incoming, Key, Prefix
from everlode.state.dispatch import state_component
from everlode.topics.place import check_place

DEAD_LETTER_S = 15.0
READ_BACK_S = 30.0


class Intake:
    """Of one partition number. Not thread-safe."""

    def __init__(self, bootstrap: str, partition: int, node_id: str, learn: Learn) -> None:
        self._bootstrap = bootstrap
        self._partition = partition
        self._node_id = node_id
        self._learn = learn
        self._codec = Codec()
        self._dead = DeadLetters(Sender(bootstrap), "projector")
        self._quarantined: dict[str, int] = {}
        """Topic → offset after the last one of this batch."""
        self._folds_into: dict[bytes, str] = {}
        """What a record begins with → its state component."""
        self._sent: set[tuple[str, int]] = set()
        """(topic, offset) of letters of this batch; what is applied in parts is read again."""

    def keys(self, raws: Sequence[Raw]) -> set[Key]:
        """Aggregates that the records name, so that their states come in one go."""
        found = set()
        for raw in raws:
            mark = (raw.value or b"")[:10]
            component = self._folds_into.get(mark) or self._component(mark)
            if component is not None and raw.key is not None:
                found.add((component, raw.key.decode(errors="replace")))
        return found

    def _component(self, mark: bytes) -> str | None:
        component = state_component(self._codec.type_name(mark))
        if component is not None:
            self._folds_into[mark] = component
        return component

    def decoded(self, raws: Sequence[Raw]) -> list[Incoming]:
        """Facts of the records, in order; the others are on their way to the dead letters."""
        found = []
        for raw in raws:
            topic, _, offset, key, value, _ = raw
            try:
                fact = self._decode(value)
                check_place(topic, key, fact)
            except ContractError as error:
                self._quarantine(raw, error)
            else:
                found.append(Incoming(topic, offset, fact, value or b""))
        return found

    def waiting(self, value: bytes) -> Fact:
        """Decode what an owner before us could: its schema must come again.

        Raises: Unavailable: it has not come. ContractError.
        """
        try:
            return self._decode(value)
        except UnknownSchema as error:
            raise Unavailable(f"a record that waits: {error.message}", hint=error.hint) from None

    def read_back(
        self, missing: Mapping[str, tuple[int, int]], batch: Sequence[Raw]
    ) -> list[Incoming]:
        """Facts between what was applied and the batch, which Faust did not hand out.

        `missing`: topic → (offset to read from, offset to stop at). What is in the batch is not
        read again, so that no dead letter is written twice. Raises: Unavailable.
        """
        spans = {}
        for topic, (start, end) in missing.items():
            first = min((r.offset for r in batch if r.topic == topic), default=end)
            if start < min(first, end):
                spans[topic] = (start, min(first, end))
        return self.decoded(self._read(spans)) if spans else []

    def pass_over(self, positions: Mapping[str, Prefix]) -> None:
        """Wait for the dead letters, then move the positions past what they are of.

        Raises: Unavailable: not all are kept; nothing has moved.
        """
        self._dead.deliver(DEAD_LETTER_S)
        for topic, offset in self._quarantined.items():
            position = positions[topic]
            position.next_offset = max(position.next_offset, offset)
        self._quarantined.clear()

    def quarantine(self, item: Incoming, error: EverlodeError, raws: Sequence[Raw]) -> None:
        """Send a fact that was decoded, and yet cannot be applied, to the dead letters.

        As it was read, when it is one of `raws`. Kept once `pass_over` returns.
        """
        key = item.fact.envelope.aggregate_id.encode()
        raw = Raw(item.topic, self._partition, item.offset, key, item.value, [])
        place = (item.topic, item.offset)
        self._send(next((r for r in raws if (r.topic, r.offset) == place), raw), error)

    def again(self) -> None:
        """The batch was not applied: no position passes anything."""
        self._quarantined.clear()

    def done(self) -> None:
        """The batch is behind."""
        self._sent.clear()

    def _decode(self, value: bytes | None) -> Fact:
        try:
            return self._codec.decode_fact(value)
        except UnknownSchema as error:
            if not self._learn(self._codec, error.fingerprint):
                raise
            return self._codec.decode_fact(value)

    def _send(self, raw: Raw, error: EverlodeError) -> None:
        if (raw.topic, raw.offset) not in self._sent:
            self._dead.add(raw, error)
            self._sent.add((raw.topic, raw.offset))

    def _quarantine(self, raw: Raw, error: ContractError) -> None:
        self._send(raw, error)
        passed = self._quarantined.get(raw.topic, 0)
        self._quarantined[raw.topic] = max(passed, raw.offset + 1)

    def _read(self, spans: Mapping[str, tuple[int, int]]) -> list[Raw]:
        """Records of these topics from one offset up to, not with, another."""
        starts = {(topic, self._partition): start for topic, (start, _) in spans.items()}
        ends = {(topic, self._partition): end for topic, (_, end) in spans.items()}
        with closing(Reader(self._bootstrap, f"read-back-{self._node_id}", wait_ms=50)) as reader:
            reader.assign(starts)
            return [
                raw
                for batch in reader.until(ends, READ_BACK_S)
                for raw in batch
                if raw.offset < spans[raw.topic][1]
            ]
