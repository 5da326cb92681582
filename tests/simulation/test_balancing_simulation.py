"""Many choosers with views that are two seconds old: who herds, and how long the queues get.

Each arrival is given to one of `SERVERS` by one of `CHOOSERS`, which sees the queues as they were
`LAG_S` ago and knows what it gave out itself. Seeded; nothing waits. The figures are in
docs/health.md.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from heapq import heappop, heappush
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from everlode.balancing.pool import Member, Pool

DOCUMENT = Path(__file__).parents[2] / "docs" / "health.md"
SERVERS, CHOOSERS = 40, 10
LAG_S, LOOK_S = 2.0, 0.5
SERVICE_S, BUSY = 1.0, 0.85
LONG_S = 300.0
WARM_S = 30.0
"""Not counted: the queues fill."""


class Chooser:
    """Gives work by its own rule; told what it sees, and when."""

    def __init__(self, seed: int) -> None:
        self.draws = Random(seed)

    def see(self, loads: Mapping[int, int], at_s: float) -> None: ...

    def choose(self, now_s: float) -> int:
        return self.draws.randrange(SERVERS)

    def ended(self, server: int, now_s: float) -> None: ...


class LeastLoaded(Chooser):
    """The least loaded of all, by what it sees and what it gave out since: what ours knows."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.loads: Mapping[int, int] = dict.fromkeys(range(SERVERS), 0)
        self.since: list[tuple[float, int, int]] = []

    def see(self, loads: Mapping[int, int], at_s: float) -> None:
        self.loads = loads
        self.since = [change for change in self.since if change[0] > at_s]

    def choose(self, now_s: float) -> int:
        known = dict(self.loads)
        for _, server, by in self.since:
            known[server] += by
        least = min(known.values())
        found = self.draws.choice([s for s, load in known.items() if load == least])
        self.since.append((now_s, found, 1))
        return found

    def ended(self, server: int, now_s: float) -> None:
        self.since.append((now_s, server, -1))


class Ours(Chooser):
    """The pool."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.pool = Pool((Member(str(n)) for n in range(SERVERS)), seed=seed)

    def see(self, loads: Mapping[int, int], at_s: float) -> None:
        for server, load in loads.items():
            self.pool.put(Member(str(server), load=load), int(at_s * 1000))

    def choose(self, now_s: float) -> int:
        return int(self.pool.choose(int(now_s * 1000)) or 0)

    def ended(self, server: int, now_s: float) -> None:
        self.pool.ended(str(server), int(now_s * 1000), success=True)


class Queues(NamedTuple):
    """Queues, in front of which an arrival found itself."""

    p50: int
    p99: int
    longest: int


def simulated(make: Callable[[int], Chooser], seed: int) -> Queues:
    """Runs one rule over arrivals that are the same for every rule of a seed."""
    world = Random(seed)
    choosers = [make(seed * 1000 + n) for n in range(CHOOSERS)]
    queues: list[list[tuple[int, float]]] = [[] for _ in range(SERVERS)]
    """Server → (chooser, work in s) of what it has, the first under way."""
    seen: list[tuple[float, dict[int, int]]] = [(0.0, dict.fromkeys(range(SERVERS), 0))]
    events: list[tuple[float, int, str, int]] = []
    count = 0

    def at(when: float, what: str, which: int = 0) -> None:
        nonlocal count
        count += 1
        heappush(events, (when, count, what, which))

    at(0.0, "arrive")
    at(LOOK_S, "look")
    found: list[int] = []
    while events[0][0] < LONG_S:
        now, _, what, which = heappop(events)
        match what:
            case "arrive":
                at(now + world.expovariate(BUSY * SERVERS / SERVICE_S), "arrive")
                by, work = world.randrange(CHOOSERS), world.expovariate(1 / SERVICE_S)
                server = choosers[by].choose(now)
                queue = queues[server]
                if now >= WARM_S:
                    found.append(len(queue))
                queue.append((by, work))
                if len(queue) == 1:
                    at(now + work, "end", server)
            case "end":
                by, _ = queues[which].pop(0)
                choosers[by].ended(which, now)
                if queues[which]:
                    at(now + queues[which][0][1], "end", which)
            case "look":
                at(now + LOOK_S, "look")
                seen.append((now, {s: len(queue) for s, queue in enumerate(queues)}))
                old = bisect_right(seen, now - LAG_S, key=lambda each: each[0]) - 1
                for chooser in choosers:
                    chooser.see(seen[max(0, old)][1], seen[max(0, old)][0])
    found.sort()
    return Queues(found[len(found) // 2], found[len(found) * 99 // 100], found[-1])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_two_choices_by_old_views_queue_less_than_the_least_loaded_and_than_chance(
    seed: int,
) -> None:
    ours, least, chance = (simulated(rule, seed) for rule in (Ours, LeastLoaded, Chooser))
    assert ours.p99 < least.p99 < chance.p99
    assert ours.longest < least.longest
    row = f"| {seed} | {ours.p99} | {least.p99} | {chance.p99} |"
    assert row in DOCUMENT.read_text().splitlines(), f"docs/health.md lacks {row}"
