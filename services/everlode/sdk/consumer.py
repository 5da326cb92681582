"""EventConsumer: typed facts from one region's cluster, resumable by an opaque position.

A position names the cluster that it was taken in, and is refused in another. Order: as in the log
within a partition. At least once: after a crash, what was read since the last saved position comes
again. Shell.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from everlode.adapters.kafka import Raw, Reader
from everlode.adapters.kafka_offsets import is_place
from everlode.avro.codec import Codec
from everlode.errors import ConfigError, ContractError, Refusal
from everlode.events.base import Fact
from everlode.events.catalogue import FACT_COMPONENTS, SIGNALS
from everlode.settings.endpoints import Endpoints
from everlode.topics.catalogue import ONE_PARTITION
from everlode.topics.names import fact_topic
from everlode.topics.place import TopicPartition, placed


class Received(NamedTuple):
    """A fact and where it stands in this cluster."""

    topic: str
    partition: int
    offset: int
    fact: Fact


class EventConsumer:
    """Reads components' topics in one region's cluster. Not thread-safe.

    From a position, or else from their beginning, or their end. Use as a context manager, or
    `close` it.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        region: str,
        components: Sequence[str],
        *,
        of: Sequence[str] | None = None,
        position: str | None = None,
        from_end: bool = False,
        damaged: Callable[[Raw, ContractError], None] | None = None,
        wait_ms: int = 100,
    ) -> None:
        """Facts or signals of `components` (tasks, miners, …) that happened in the regions `of`.

        Without `of`, the region's own; a region's cluster has copies of all others'. `damaged` is
        told of records that do not decode or belong; without it they raise.

        Raises: ConfigError: no such region or component. Unavailable. Refusal: the position is not
        one of ours, of another cluster, or what followed it is no longer kept.
        """
        wanted = [place for home in of or [region] for place in places(endpoints, home, components)]
        bootstrap = endpoints.parts(region).bootstrap
        self._reader = Reader(bootstrap, f"consumer-{uuid.uuid4()}", wait_ms=wait_ms)
        self._codec = Codec()
        self._read: deque[Raw] = deque()
        self._damaged = damaged
        self._cluster: str | None = None
        self._next = dict.fromkeys(wanted, 0)
        if from_end:
            self._next.update(self._reader.ends(wanted))
        if position is not None:
            cluster, at = _parse(position)
            if cluster != self._cluster_id():
                raise Refusal(
                    "the position is of another cluster: offsets differ there",
                    code="bad_position",
                    hint="go on in the cluster where it was taken, or begin anew",
                )
            self._require_kept(at)
            self._next.update(at)
        self._reader.assign(self._next)

    def _require_kept(self, at: Mapping[TopicPartition, int]) -> None:
        for (topic, partition), begin in self._reader.beginnings(at).items():
            offset = at[topic, partition]
            if offset < begin:
                raise Refusal(
                    f"the position is at {topic}/{partition}@{offset}, and what is kept begins at"
                    f" {begin}: facts between them would be missed",
                    code="position_expired",
                    hint="read the states anew, then go on from the beginning or the end",
                )

    @property
    def position(self) -> str:
        """Where to go on after the last fact that was handed out.

        Raises: Unavailable: the cluster's id is not known yet, and it does not answer.
        """
        items = [[t, p, o] for (t, p), o in sorted(self._next.items())]
        text = json.dumps([self._cluster_id(), items])
        return base64.urlsafe_b64encode(text.encode()).decode()

    def _cluster_id(self) -> str:
        if self._cluster is None:
            self._cluster = self._reader.cluster_id()
        return self._cluster

    def batch(self, most: int = 1000, timeout_s: float = 0.2) -> list[Received]:
        """Up to `most` facts; may be empty. Raises: ContractError: see `taken`."""
        self.fill(most, timeout_s)
        return self.taken(most)

    def fill(self, most: int = 1000, timeout_s: float = 0.2) -> None:
        """Read ahead, when nothing that was read waits to be taken; the position stays."""
        if not self._read:
            self._read.extend(self._reader.batch(most, timeout_s))

    def taken(self, most: int = 1000) -> list[Received]:
        """Up to `most` facts of what was read ahead; never waits.

        Raises: ContractError: the next record is damaged or does not belong, and there is no
        `damaged` to be told; it stays the next one.
        """
        found: list[Received] = []
        while self._read and len(found) < most:
            raw = self._read[0]
            try:
                fact = placed(self._codec, raw.topic, raw.key, raw.value)
            except ContractError as error:
                if self._damaged is None and not found:
                    raise
                if self._damaged is None:
                    break  # hand out what stands before it first
                self._damaged(raw, error)
            else:
                found.append(Received(raw.topic, raw.partition, raw.offset, fact))
            self._read.popleft()
            self._next[raw.topic, raw.partition] = raw.offset + 1
        return found

    def __iter__(self) -> Iterator[Received]:
        """Facts, one by one, for ever; the position follows each. Raises: ContractError."""
        while True:
            self.fill()
            while found := self.taken(1):
                yield found[0]

    def close(self) -> None:
        """Leave."""
        self._reader.close()

    def __enter__(self) -> EventConsumer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def places(endpoints: Endpoints, region: str, components: Sequence[str]) -> list[TopicPartition]:
    """All partitions of a region's components. Raises: ConfigError: no such region or component."""
    parts = endpoints.parts(region)
    known = (*FACT_COMPONENTS, *SIGNALS)
    for name in components:
        if name not in known:
            raise ConfigError(
                f"component {name!r} has no topic of facts", hint=f"there are: {', '.join(known)}"
            )
    return [
        (fact_topic(parts.origin, name), partition)
        for name in components
        for partition in range(1 if name in ONE_PARTITION else parts.partitions)
    ]


def _parse(position: str) -> tuple[str, dict[TopicPartition, int]]:
    try:
        cluster, items = json.loads(base64.urlsafe_b64decode(position.encode()))
        found = {(str(t), int(p)): int(o) for t, p, o in items}
        if not all(is_place(partition, offset) for (_, partition), offset in found.items()):
            raise ValueError("no place in a log")
        return str(cluster), found
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise Refusal(f"not a position: {error}", code="bad_position") from None
