"""Everything that a topic holds, for tests that look at it afterwards."""

from __future__ import annotations

from contextlib import closing

from everlode.adapters.kafka import Raw, Reader


def records(bootstrap: str, topic: str, partitions: int = 1) -> list[Raw]:
    """All committed records of a topic, by partition, in order."""
    with closing(Reader(bootstrap, "test-records", wait_ms=10)) as reader:
        batches = reader.to_ends({(topic, p): 0 for p in range(partitions)}, 30)
        found = [raw for batch in batches for raw in batch]
    return sorted(found, key=lambda raw: (raw.partition, raw.offset))
