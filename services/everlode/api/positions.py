"""Where a listener stands: the next offset of every partition of a stream, as one word.

`STREAM~CLUSTER~PLACES~1.0.42`: the offsets in the order of the stream's partitions, valid in one
cluster and for these partitions only (PLACES is a sum of their names). Any server of the region
reads it alike, in whatever order it got the records of different partitions. Pure.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from everlode.errors import Refusal
from everlode.topics.place import TopicPartition

_WORD = re.compile(
    r"(?P<stream>[a-z]{1,32})~(?P<cluster>[\w-]{1,64})~(?P<places>[0-9a-f]{8})"
    r"~(?P<offsets>\d{1,19}(?:\.\d{1,19})*)",
    re.ASCII,
)
LONGEST = 4096
"""Characters of a position."""


@dataclass(frozen=True)
class Stream:
    """What positions are of."""

    name: str
    cluster: str
    places: tuple[TopicPartition, ...]

    @cached_property
    def sum(self) -> str:
        """Stands for the names of its partitions, in order."""
        names = " ".join(f"{topic}/{partition}" for topic, partition in self.places)
        return f"{zlib.crc32(names.encode()):08x}"

    def word(self, offsets: Sequence[int]) -> str:
        """The position before these records."""
        return f"{self.name}~{self.cluster}~{self.sum}~{'.'.join(map(str, offsets))}"

    def offsets(self, word: str) -> list[int]:
        """The next offset of each partition.

        Raises: Refusal: `bad_position`: not one of ours; `other_position`: of another stream,
        cluster or of other partitions.
        """
        parts = _WORD.fullmatch(word) if len(word) <= LONGEST else None
        if parts is None:
            raise Refusal("not a position of ours", code="bad_position")
        mine = self.name, self.cluster, self.sum
        found = [int(offset) for offset in parts["offsets"].split(".")]
        theirs = parts["stream"], parts["cluster"], parts["places"]
        if theirs != mine or len(found) != len(self.places):
            raise Refusal("the position is of another stream or cluster", code="other_position")
        return found
