"""Who of several gets a piece of work, for whoever has many to choose from. Pure, but for itself.

    members ──► 1. home or elsewhere, by how well those at home are
                2. two of them drawn, ejected ones passed over (see `ejection`)
                3. the one with less to do for what it can, is trusted with, and how well it is

What is known of a member may be old: what was given out since counts beside it, so that many who
choose by one old view do not all choose alike. Choosing costs the same among few and many.

Invariants: a member of `members` is chosen whenever there is one that does the work, and room does
not matter; of the same seed, calls and times everybody gets the same. Times are milliseconds of the
caller's clock, never falling.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from hashlib import blake2b
from heapq import heappop, heappush
from typing import NamedTuple

from everlode.balancing.ejection import TRUSTED, Standing, after, most_out
from everlode.errors import ContractError

DRAWS = 12
ENOUGH = 1.4
"""With so many times its health a place has enough for all its work: of five in seven."""
PANIC = 0.5
"""Where more than this share of a place is ejected, nobody there is."""
TOGETHER_MS, MOST_TIMES = 100, 128
"""What is given within so short a time is counted together; so many of these are kept."""


class Member(NamedTuple):
    """One that can get work, as it was seen last."""

    key: str
    place: str = ""
    """Where it is, e.g. its region."""
    capacity: int = 1
    """What it can do at once, above 0."""
    load: int = 0
    """What it has to do, when it was seen."""
    health: float = 1.0
    """0 to 1; see docs/health.md."""
    specialties: frozenset[str] = frozenset()
    """What it can do; empty: everything."""


class _Given:
    """What was given to a member less what of it has ended, since it was seen last."""

    def __init__(self) -> None:
        self.count = 0
        self._by_time: deque[list[int]] = deque()
        """[time, change], each for `TOGETHER_MS`, the oldest first."""

    def change(self, now_ms: int, by: int) -> None:
        at = now_ms - now_ms % TOGETHER_MS
        self.count += by
        if self._by_time and self._by_time[-1][0] == at:
            self._by_time[-1][1] += by
        else:
            self._by_time.append([at, by])
        if len(self._by_time) > MOST_TIMES:
            oldest = self._by_time.popleft()
            self._by_time[0][1] += oldest[1]

    def seen(self, at_ms: int) -> None:
        """What was before is in the load that was seen then."""
        while self._by_time and self._by_time[0][0] + TOGETHER_MS <= at_ms:
            self.count -= self._by_time.popleft()[1]


class _Locality:
    """The members of a place, in no order, and how well they are together."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.at: dict[str, int] = {}
        self.well = 0.0
        self.out = 0


class Pool:
    """Not thread-safe."""

    def __init__(self, members: Iterable[Member] = (), *, seed: int = 0, home: str = "") -> None:
        self._members: dict[str, Member] = {}
        self._places: dict[str, _Locality] = {}
        self._given: dict[str, _Given] = {}
        self._standings: dict[str, Standing] = {}
        self._out: set[str] = set()
        self._ends: list[tuple[int, str]] = []
        """When ejections end, the first first."""
        self._seed, self._turn, self._home = seed, 0, home
        for member in members:
            self.put(member)

    def __len__(self) -> int:
        return len(self._members)

    @property
    def ejected(self) -> frozenset[str]:
        """Those that are ejected, as of the last choice or outcome."""
        return frozenset(self._out)

    def put(self, member: Member, seen_ms: int | None = None) -> None:
        """A member, a new one or in place of what it was, with the load that it had at `seen_ms`.

        Without that time the load is what others give it: all that this pool gave counts beside it.
        Raises: ContractError: its capacity, load or health cannot be.
        """
        if member.capacity < 1 or member.load < 0 or not 0.0 <= member.health <= 1.0:
            raise ContractError(
                f"member {member.key!r} cannot be: {member}", code="bad_member",
                hint="capacity from 1, load from 0, health 0 to 1",
            )  # fmt: skip
        old = self._members.get(member.key)
        if old is not None and old.place != member.place:
            self.drop(member.key)
            old = None
        place = self._places.setdefault(member.place, _Locality())
        if old is None:
            place.at[member.key] = len(place.keys)
            place.keys.append(member.key)
        elif member.key not in self._out:
            place.well -= old.health
        if member.key not in self._out:
            place.well += member.health
        self._members[member.key] = member
        given = self._given.setdefault(member.key, _Given())
        if seen_ms is not None:
            given.seen(seen_ms)

    def drop(self, key: str) -> None:
        """A member is there no more; what is known of its work goes with it."""
        member = self._members.pop(key, None)
        if member is None:
            return
        self._in(key, member)
        place = self._places[member.place]
        place.well -= member.health
        last, at = place.keys.pop(), place.at.pop(key)
        if last != key:
            place.keys[at] = last
            place.at[last] = at
        self._given.pop(key, None)
        self._standings.pop(key, None)

    def _in(self, key: str, member: Member) -> None:
        if key in self._out:
            self._out.discard(key)
            place = self._places[member.place]
            place.out -= 1
            place.well += member.health

    # -- what became of work ------------------------------------------------------------------

    def ended(self, key: str, now_ms: int, success: bool) -> None:
        """Work that was given to a member has ended."""
        member = self._members.get(key)
        if member is None:
            return
        self._given[key].change(now_ms, -1)
        standing = after(self._standings.get(key, TRUSTED), now_ms, success)
        if standing == TRUSTED:
            self._standings.pop(key, None)
            return
        self._standings[key] = standing
        self._return(now_ms)
        if not standing.is_out(now_ms) or key in self._out:
            return
        if len(self._out) < most_out(len(self._members)):
            self._out.add(key)
            heappush(self._ends, (standing.until_ms or 0, key))
            place = self._places[member.place]
            place.out += 1
            place.well -= member.health

    def _return(self, now_ms: int) -> None:
        """Whose ejection is over comes back."""
        while self._ends and self._ends[0][0] <= now_ms:
            _, key = heappop(self._ends)
            standing, member = self._standings.get(key), self._members.get(key)
            if member is not None and not (standing and standing.is_out(now_ms)):
                self._in(key, member)

    # -- choosing -----------------------------------------------------------------------------

    def choose(self, now_ms: int, specialty: str = "") -> str | None:
        """A member for a piece of work, which counts as given; None: nobody does such work."""
        self._return(now_ms)
        home = self._places.get(self._home)
        found = None
        if home is not None and self._stays(home):
            found = self._of(home.keys, self._open(home), now_ms, specialty)
        if found is None:
            found = self._elsewhere(now_ms, specialty)
        if found is None and home is not None:
            found = self._of(home.keys, self._open(home), now_ms, specialty)
        if found is not None:
            self._given[found].change(now_ms, 1)
        return found

    def _stays(self, home: _Locality) -> bool:
        """Whether this piece stays at home: more often, the better those there are."""
        if not home.keys:
            return False
        enough = ENOUGH * home.well / len(home.keys)
        return enough >= 1 or self._draw(1_000_000) < enough * 1_000_000

    def _elsewhere(self, now_ms: int, specialty: str) -> str | None:
        """From another place, each as often as it has members that are well."""
        places = [p for name, p in sorted(self._places.items()) if name != self._home and p.keys]
        while places:
            shares = [1 + int(1_000_000 * max(0.0, p.well)) for p in places]
            left = self._draw(sum(shares))
            at = 0
            while left >= shares[at]:
                left -= shares[at]
                at += 1
            place = places.pop(at)
            found = self._of(place.keys, self._open(place), now_ms, specialty)
            if found is not None:
                return found
        return None

    def _open(self, place: _Locality) -> bool:
        return place.out > PANIC * len(place.keys)

    def _of(self, keys: list[str], open_to_all: bool, now_ms: int, specialty: str) -> str | None:
        """The better of two that are drawn; who is ejected only when nobody else is there."""

        def fits(key: str) -> bool:
            can = self._members[key].specialties
            return not specialty or not can or specialty in can

        def unused(key: str) -> bool:
            return fits(key) and (open_to_all or key not in self._out)

        drawn: list[str] = []
        for _ in range(DRAWS if keys else 0):
            key = keys[self._draw(len(keys))]
            if key not in drawn and unused(key):
                drawn.append(key)
                if len(drawn) == 2:
                    return min(drawn, key=lambda k: (self._cost(k, now_ms), k))
        if drawn:
            return drawn[0]
        start = self._draw(max(1, len(keys)))
        others = [keys[start - n] for n in range(len(keys))]
        return next(filter(unused, others), None) or next(filter(fits, others), None)

    def _cost(self, key: str, now_ms: int) -> float:
        """What it would have to do, for what it can and how far it is trusted."""
        member = self._members[key]
        able = member.capacity * max(member.health, 1e-6)
        able *= self._standings.get(key, TRUSTED).warm_ppm(now_ms)
        return (max(0, member.load + self._given[key].count) + 1) / able

    def _draw(self, size: int) -> int:
        self._turn += 1
        seed = f"{self._seed}/{self._turn}".encode()
        return int.from_bytes(blake2b(seed, digest_size=8).digest(), "big") % size
