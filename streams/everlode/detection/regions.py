"""Which other regions a region hears: a pure function of what its mirrors bring, and its barriers.

Whatever comes of another region is a sign that it lives and that the link from it carries; its
writers leave barriers each second, so that there is always something to wait for. Silence is
measured in the observer's own barriers, read back from its own log: while that stands still no
silence grows, and other regions' clocks are never asked. A record counts from the barrier after it.

    link       nothing came for `stale_ms`      it is stale: something to look at
    region     nothing came for `suspected_ms`  suspected, by an observer that is not blind
    observer   hears no majority of the sites   blind: it suspects nobody

A region is lost when a majority of sites suspects it (see `control.sites`). After the observer's
own start, or a pause of its barriers, silence counts from GRACE_MS later. Pure, but for its own
memory (one entry a region).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from everlode.errors import ConfigError
from everlode.events.base import Evidence
from everlode.events.stamp import millis_of

GRACE_MS = 5_000
"""Also the distance of two barriers from which the observer itself was silent."""
BARRIER_MS = 1_000


class Patience(NamedTuple):
    """How long a silence of another region may last, in milliseconds."""

    stale_ms: int
    suspected_ms: int

    def check(self) -> Patience:
        """Itself. Raises: ConfigError: a region would be suspected before its link is stale."""
        if self.suspected_ms < self.stale_ms:
            raise ConfigError(
                f"region_suspected_ms is {self.suspected_ms}; it must be at least {self.stale_ms}",
                hint="link_stale_ms: a region is suspected over a link that is stale",
            )
        return self


class Silent(NamedTuple):
    """A link that is stale."""

    silence_ms: int
    evidence: tuple[Evidence, ...]
    """The barrier, and the last record that came."""
    suspected: bool


class Sight(NamedTuple):
    """What an observer sees at its last barrier."""

    sites: int
    heard: int
    """Itself included."""
    known: frozenset[str]
    """Regions about whose links anything can be said: not those of which nothing came yet."""
    stale: Mapping[str, Silent]
    barrier: Evidence

    @property
    def blind(self) -> bool:
        """It hears no majority: it may be the one that is cut off."""
        return 2 * self.heard <= self.sites

    @property
    def suspected(self) -> frozenset[str]:
        """Regions that it takes as failed."""
        return frozenset(region for region, silent in self.stale.items() if silent.suspected)


@dataclass(slots=True)
class _Link:
    """From one region; times are milliseconds of the observer's barriers."""

    at_ms: int = 0
    came: bool = False
    """Since the last barrier."""
    last: Evidence | None = None


class Links:
    """Of one observer. `others`: all other sites of the network; `topic`: that of its barriers."""

    def __init__(self, others: Iterable[str], topic: str, patience: Patience) -> None:
        self._links = {region: _Link() for region in others}
        self._topic = topic
        self._patience = patience
        self._now_ms = self._stamped_ms = self._offset = -1
        self._sight: Sight | None = None

    @property
    def sight(self) -> Sight | None:
        """As of the last barrier; None before the first."""
        return self._sight

    def arrived(self, region: str, at: Evidence) -> None:
        """A record of another region came, at this place of the observer's copy."""
        link = self._links.get(region)
        if link is not None:
            link.came, link.last = True, at

    def barrier(self, offset: int, stamp: int) -> bool:
        """The observer's own barrier at `offset`. False for one that was seen before."""
        if offset <= self._offset:
            return False
        self._offset = offset
        self._advance(millis_of(stamp))
        for link in self._links.values():
            if link.came:
                link.at_ms, link.came = max(link.at_ms, self._now_ms), False
        self._sight = self._look()
        return True

    def _advance(self, stamped_ms: int) -> None:
        """Time goes on with the barriers' stamps; by BARRIER_MS where their clock was set back."""
        passed = stamped_ms - self._stamped_ms
        if -GRACE_MS <= passed < 0:  # another writer's, a little out of turn
            passed, stamped_ms = 0, self._stamped_ms
        elif passed <= 0:
            passed = BARRIER_MS
        first = self._now_ms < 0
        self._now_ms = stamped_ms if first else self._now_ms + passed
        self._stamped_ms = stamped_ms
        if first or passed > GRACE_MS:
            for link in self._links.values():
                link.at_ms = self._now_ms + GRACE_MS

    def _look(self) -> Sight:
        silence = {region: self._now_ms - link.at_ms for region, link in self._links.items()}
        stale = {r: ms for r, ms in silence.items() if ms >= self._patience.stale_ms}
        sites, heard = len(self._links) + 1, len(self._links) + 1 - len(stale)
        blind = 2 * heard <= sites
        found = {
            region: Silent(ms, self._evidence(region), not blind and self._too_long(ms))
            for region, ms in stale.items()
        }
        known = frozenset(r for r, link in self._links.items() if link.last or r in stale)
        return Sight(sites, heard, known, MappingProxyType(found), self._barrier())

    def _too_long(self, silence_ms: int) -> bool:
        return silence_ms >= self._patience.suspected_ms

    def _evidence(self, region: str) -> tuple[Evidence, ...]:
        last = self._links[region].last
        return (self._barrier(), last) if last else (self._barrier(),)

    def _barrier(self) -> Evidence:
        return Evidence(topic=self._topic, partition=0, offset=self._offset, note="barrier")
