"""Who of several gets a piece of work, for programs that call many: services, miners, regions.

The rules are those of the task managers (`balancing.pool`): two choices by load and health, who
fails in a row is ejected for a while and warms up, those of the home region come first. It calls
nobody and keeps nothing beyond its own life. Shell: a lock, and the monotonic clock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from everlode.balancing.pool import Member, Pool
from everlode.errors import NotFound

AGE_MOST_S = 60.0
"""What was seen longer ago counts as seen so long ago."""


class Balancer:
    """Any threads may use it, and tasks of asyncio: it never waits.

        balancer = Balancer([Member("a", "eu"), Member("b", "us")], home="eu")
        with balancer.work() as name:
            ask(name)  # an exception out of here is a failure of its

    Of the same `seed`, calls and times it chooses alike; choosers side by side want different ones.
    """

    def __init__(self, members: Iterable[Member] = (), *, home: str = "", seed: int = 0) -> None:
        self._pool = Pool(members, home=home, seed=seed)
        self._guard = threading.Lock()

    def put(self, member: Member, *, age_s: float | None = None) -> None:
        """A member as it is seen now, a new one or in place of what it was.

        `age_s`: how old its `load` is; what this balancer gave it since counts beside it. Without,
        the load is what others give it, and all that this one gave counts beside that.
        Raises: ContractError: its capacity, load or health cannot be.
        """
        with self._guard:
            seen = None if age_s is None else self._now() - int(1000 * min(age_s, AGE_MOST_S))
            self._pool.put(member, seen)

    def drop(self, key: str) -> None:
        """A member is there no more. Idempotent."""
        with self._guard:
            self._pool.drop(key)

    def choose(self, specialty: str = "") -> str:
        """The key of the member that gets the next piece of work, to be given back by `ended`.

        Raises: NotFound: no member does such work.
        """
        with self._guard:
            found = self._pool.choose(self._now(), specialty)
        if found is None:
            what = f"of {specialty!r} " if specialty else ""
            raise NotFound(f"no member for work {what}is known", hint="put one that does it")
        return found

    def ended(self, key: str, *, success: bool = True) -> None:
        """Work that was given to a member has ended."""
        with self._guard:
            self._pool.ended(key, self._now(), success)

    @contextmanager
    def work(self, specialty: str = "") -> Iterator[str]:
        """A member for the length of a block; an `Exception` out of it counts as its failure.

        Raises: as `choose`.
        """
        key = self.choose(specialty)
        success = True
        try:
            yield key
        except Exception:
            success = False
            raise
        finally:
            self.ended(key, success=success)

    @property
    def ejected(self) -> frozenset[str]:
        """Those that get nothing now, because they failed."""
        with self._guard:
            return self._pool.ejected

    def _now(self) -> int:
        return int(time.monotonic() * 1000)
