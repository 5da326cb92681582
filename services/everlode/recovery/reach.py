"""How far a log reached, by what others know of it: what is missing, what is lost, what is unknown.

A log that has lost its end shows nothing of it: what is left is a log. So its end is compared with
what does not come from it: the cut, other regions' copies, the generation that was filled before,
and the answers that clients were given. The origin's own log is never behind any of these; a copy
may be behind its source for a moment, but not behind what was once read from it:

    eu.1.tasks/0 in eu   1 … 5               the cut 7: the log is short
    its copy in us       1 … 5 6 7 8 9       8 and 9 are fetched, 6 and 7 are in the backup
    an answer            10                  10 is lost, by name
    after 10                                 unknown: what nobody has seen nobody can count

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from everlode.events.stamp import millis_of
from everlode.topics.names import region_of, split_fact_topic
from everlode.topics.place import End, TopicPartition

CUT, ANSWERS = "the cut", "the answers"
LAG_MS = 30_000
"""A copy that is this far behind its source by the stamps of their ends is not on its way."""


Ends = Mapping[str, End]
"""Source → how far it knows the partition to reach."""


class Reach(NamedTuple):
    """What the end of one partition's log comes to, once what could be fetched is there."""

    short: bool = False
    """It ends before what is known of it."""
    lost: int = 0
    """How many records behind its end are known of, and nowhere."""
    span_ms: int = 0
    """From the last record that is there to the last that is known of."""
    unknown_after: int | None = None
    """`seq` behind which nobody can say what there was; None: nothing hints at any."""


def of_region(name: str) -> str:
    """The source that a region's copy is."""
    return f"region {name}"


def of_generation(number: int) -> str:
    """The source that a generation of the projection is."""
    return f"generation {number}"


def furthest(ends: Ends) -> End:
    """The furthest end."""
    return max(ends.values(), default=End())


def is_short(place: TopicPartition, region: str, local: End, ends: Ends) -> bool:
    """Whether the log of a region ends before what is known of it."""
    own = _home(place) == region
    lag = LAG_MS << 16
    return any(
        end.seq > local.seq and (own or not _is_region(source) or end.stamp - local.stamp > lag)
        for source, end in ends.items()
    )


def reach(place: TopicPartition, region: str, local: End, reached: End, ends: Ends) -> Reach:
    """The verdict on one partition. `reached`: as far as it was folded, whatever that came from."""
    if not is_short(place, region, local, ends):
        return Reach()
    known = furthest(ends)
    lost = max(0, known.seq - reached.seq)
    span_ms = millis_of(known.stamp) - millis_of(reached.stamp) if lost else 0
    after = None if _is_complete(place, region, local, ends) else max(known.seq, reached.seq)
    return Reach(True, lost, max(0, span_ms), after)


def _is_complete(place: TopicPartition, region: str, local: End, ends: Ends) -> bool:
    """Whether what is behind the log's end is all known: its source has it, or it is on its way."""
    home = _home(place)
    if home == region:
        return False
    if of_region(home) in ends:
        return True
    return not any(e.seq > local.seq for source, e in ends.items() if not _is_region(source))


def _home(place: TopicPartition) -> str:
    return region_of(split_fact_topic(place[0])[0])


def _is_region(source: str) -> bool:
    return source.startswith(of_region(""))
