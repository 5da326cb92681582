"""Reading facts and what strangers write together, each with the isolation that it needs.

Isolation is a consumer's, not a topic's: so it is two consumers, of which the first waits and the
other is looked at now and then.

Invariant: facts count once they are committed; commands, answers and heartbeats once they are there
(see `Reader`). Shell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from everlode.adapters.kafka import Raw, Reader
from everlode.topics.place import TopicPartition

LOOK_S = 0.02
"""How long the one consumer is waited for before the other is looked at."""


class MixedReader:
    """Reads assigned partitions in batches. Not thread-safe."""

    def __init__(
        self,
        bootstrap: str,
        group: str,
        strangers: Collection[str],
        *,
        wait_ms: int = 100,
        min_bytes: int = 1,
    ) -> None:
        """`strangers`: the topics that anybody writes to; of all others committed records only."""
        self._strangers = frozenset(strangers)
        self._open = Reader(
            bootstrap, group, wait_ms=wait_ms, min_bytes=min_bytes, uncommitted=True
        )
        self._facts = Reader(bootstrap, group, wait_ms=wait_ms, min_bytes=min_bytes)
        self._both = False

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read exactly these partitions, each from its offset."""
        facts = {k: at for k, at in positions.items() if k[0] not in self._strangers}
        self._both = bool(facts)
        self._facts.assign(facts)
        self._open.assign({k: at for k, at in positions.items() if k not in facts})

    def positions(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """See `Reader.positions`."""
        return self._each(partitions, Reader.positions)

    def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """See `Offsets.ends`; of what strangers write, the offset after the last record there is.

        Raises: Unavailable.
        """
        return self._each(partitions, Reader.ends)

    def beginnings(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """See `Offsets.beginnings`. Raises: Unavailable."""
        return self._each(partitions, Reader.beginnings)

    def at_time(self, times_ms: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """See `Offsets.at_time`; not for what strangers write. Raises: Unavailable."""
        return self._facts.at_time(times_ms)

    def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """See `Offsets.committed`. Raises: Unavailable."""
        return self._facts.committed(partitions)

    def batch(self, most: int, timeout_s: float, linger_s: float = 0.0) -> list[Raw]:
        """Up to `most` records, in order within each partition.

        Waits `timeout_s` for the first, then only `linger_s` for more.
        """
        deadline = time.monotonic() + timeout_s
        found: list[Raw] = []
        while not found:
            left_s = max(0.0, deadline - time.monotonic())
            if self._both:
                found += self._facts.batch(max(1, most // 2), 0.0)  # the others have their share
                left_s = min(left_s, LOOK_S)
            wait_s = 0.0 if found else left_s
            found += self._open.batch(max(1, most - len(found)), wait_s, 0.0)
            if time.monotonic() >= deadline:
                break
        if found and linger_s and len(found) < most:
            found += self._open.batch(most - len(found), linger_s)
            if self._both and len(found) < most:
                found += self._facts.batch(most - len(found), 0.0)
        return found

    def group_metadata(self) -> Any:
        """For `Writer.write`."""
        return self._facts.group_metadata()

    def close(self) -> None:
        """Leave."""
        self._open.close()
        self._facts.close()

    def _each(
        self,
        partitions: Iterable[TopicPartition],
        ask: Callable[[Reader, Iterable[TopicPartition]], dict[TopicPartition, int]],
    ) -> dict[TopicPartition, int]:
        asked = list(partitions)
        facts = [k for k in asked if k[0] not in self._strangers]
        others = [k for k in asked if k[0] in self._strangers]
        return (ask(self._facts, facts) if facts else {}) | (
            ask(self._open, others) if others else {}
        )
