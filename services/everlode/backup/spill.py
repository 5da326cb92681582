"""What does not fit into memory, kept in a file without a name, a bucket of it at a time.

Written once, in any order, and read a bucket after the other: so the keys of a partition number are
worked on in slices, whatever their number is. However the process ends, nothing is left on the
disk. Memory: `BUFFER`, and what one bucket is read into. Shell.
"""

from __future__ import annotations

import marshal
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from everlode.backup.container import room
from everlode.projection.fold import Key

BUFFER = 8 << 20
"""Bytes that wait in memory before they are written."""
LEAST = 4096
"""A bucket waits for as many, so that the file is not read in crumbs."""
SLICE_KEYS = 8_000
"""So many keys are worked on at once, or fewer."""
Item = tuple[Any, ...]
"""Of plain values: None, numbers, text, bytes."""


class Slices:
    """How the keys of a partition number are divided: by component, then by a hash. Pure."""

    def __init__(self, keys: Mapping[str, int]) -> None:
        """`keys`: component → how many it has at most."""
        self._of: dict[str, range] = {}
        first = 0
        for component, count in keys.items():
            self._of[component] = range(first, first + max(1, -(-count // SLICE_KEYS)))
            first = self._of[component].stop
        self.count = first

    def of(self, key: Key) -> int:
        """The slice that a key is in."""
        component, name = key
        numbers = self._of[component]
        return numbers[zlib.crc32(name.encode(errors="surrogatepass")) % len(numbers)]

    def of_component(self, component: str) -> range:
        """All slices of a component."""
        return self._of[component]

    def component(self, number: int) -> str:
        """What the keys of a slice are."""
        return next(name for name, numbers in self._of.items() if number in numbers)


class Spill:
    """Items by bucket number; `close` it. Not thread-safe."""

    def __init__(self, buckets: int) -> None:
        """Raises: Unavailable: no file can be made."""
        with room():
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - until `close`
        self._waiting: list[list[Item]] = [[] for _ in range(buckets)]
        self._bytes = [0] * buckets
        self._chunks: list[list[tuple[int, int]]] = [[] for _ in range(buckets)]
        self._most = max(LEAST, BUFFER // buckets)

    def close(self) -> None:
        """Give the room back."""
        self._file.close()

    def add(self, bucket: int, item: Item, size: int) -> None:
        """Keep an item of about `size` bytes. Raises: Unavailable: no room."""
        self._waiting[bucket].append(item)
        self._bytes[bucket] += size
        if self._bytes[bucket] >= self._most:
            self._write(bucket)

    def items(self, bucket: int) -> Iterator[Item]:
        """What a bucket has, in the order in which it came; may be asked for again.

        Raises: Unavailable: the file cannot be read.
        """
        for start, size in self._chunks[bucket]:
            with room():
                self._file.seek(start)
                chunk = self._file.read(size)
            yield from marshal.loads(chunk)  # noqa: S302 - it is our own, of a moment ago
        yield from self._waiting[bucket]

    def _write(self, bucket: int) -> None:
        data = marshal.dumps(self._waiting[bucket])
        with room():
            start = self._file.seek(0, 2)
            self._file.write(data)
        self._chunks[bucket].append((start, len(data)))
        self._waiting[bucket].clear()
        self._bytes[bucket] = 0
