"""Where ended aggregates stand in one partition of the archive: 16 bytes for each.

An aggregate is found by the hash of its name. What was archived last is in a dict; once there are
PAGE of it, it becomes a sorted page, which is kept in the snapshot topic; MERGE such pages become
one, so that there are few to look through:

      add ──► recent {hash: offset}  ──PAGE──►  [page] [page] …  ──MERGE──►  [large page] …

Source of the idea: O'Neil et al., The Log-Structured Merge-Tree (1996); without its levels, for
PAGE * MERGE entries fill a record. Invariants: the newest offset of a hash is the one that is
found; a hash may be another name's, so whoever reads the archive compares names. Pure.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple

from everlode.events.snapshots import ArchivePage

PAGE = 4096
MERGE = 8


def name_hash(name: bytes) -> int:
    """The first eight bytes of the SHA-256 of an archive record's key, little-endian."""
    return int.from_bytes(sha256(name).digest()[:8], "little")


class _Page(NamedTuple):
    start: int
    end: int
    hashes: array[int]
    offsets: array[int]


class PartitionIndex:
    """Index of one partition. `end` is the offset up to which it knows the archive."""

    def __init__(self, pages: Iterable[ArchivePage] = ()) -> None:
        self._pages = [_read(page) for page in _whole(pages)]
        self._recent: dict[int, int] = {}
        self.paged = self._pages[-1].end if self._pages else 0
        """Offset up to which pages name what is there."""
        self.end = self.paged

    def add(self, hashed: int, offset: int) -> None:
        """Something is archived at `offset`; offsets rise."""
        self._recent[hashed] = offset
        self.end = offset + 1

    def find(self, hashed: int) -> int | None:
        """The newest offset of what has this hash."""
        found = self._recent.get(hashed)
        if found is not None:
            return found
        for page in reversed(self._pages):
            at = bisect_left(page.hashes, hashed)
            if at < len(page.hashes) and page.hashes[at] == hashed:
                return page.offsets[at]
        return None

    def __len__(self) -> int:
        return len(self._recent) + sum(len(page.hashes) for page in self._pages)

    def fold_up(self) -> tuple[list[ArchivePage], list[int]]:
        """Make pages of what is recent, once it is enough: the new pages, and those they replace.

        A page is named by its start. To be written before the next call.
        """
        if len(self._recent) < PAGE:
            return [], []
        page = _page(self.paged, self.end, self._recent.items())
        self._recent = {}
        self._pages.append(page)
        self.paged = page.end
        small = self._pages[-MERGE:]
        if len(small) < MERGE or any(len(p.hashes) >= MERGE * PAGE // 2 for p in small):
            return [_written(page)], []
        merged: dict[int, int] = {}
        for one in small:
            merged.update(zip(one.hashes, one.offsets, strict=True))
        large = _page(small[0].start, page.end, merged.items())
        self._pages[-MERGE:] = [large]
        return [_written(large)], [one.start for one in small[1:-1]]


def _page(start: int, end: int, items: Iterable[tuple[int, int]]) -> _Page:
    pairs = sorted(items)
    return _Page(start, end, array("Q", (h for h, _ in pairs)), array("Q", (o for _, o in pairs)))


def _whole(pages: Iterable[ArchivePage]) -> list[ArchivePage]:
    """The pages that cover the archive from its beginning, without a hole, the larger ones first.

    Behind a hole the archive itself is read.
    """
    found: list[ArchivePage] = []
    for page in sorted(pages, key=lambda p: (p.start, -p.end)):
        end = found[-1].end if found else 0
        if page.start == end:
            found.append(page)
        elif page.start > end:
            break
    return found


def _read(page: ArchivePage) -> _Page:
    return _Page(page.start, page.end, _array(page.hashes), _array(page.offsets))


def _written(page: _Page) -> ArchivePage:
    return ArchivePage(page.start, page.end, _bytes(page.hashes), _bytes(page.offsets))


def _array(data: bytes) -> array[int]:
    found = array("Q")
    found.frombytes(data)
    if sys.byteorder == "big":
        found.byteswap()
    return found


def _bytes(found: array[int]) -> bytes:
    if sys.byteorder == "big":
        found = array("Q", found)
        found.byteswap()
    return found.tobytes()
