"""The stages of a recovery, on all partition numbers of the new generation side by side.

Each partition number has a thread, a connection and a writer of its own (part.py), since most of a
recovery is waiting for a busy region's parts. What they do of a component is waited for before the
next step is noted; restoring runs ahead of that, since it depends on no replay:

    partition 0   restore miners, tasks, ...   replay miners    replay tasks      ...
    partition 1   restore miners, tasks, ...   replay miners    replay tasks
    here          ---------------------------  counted, noted   gate of miners    gate of tasks

Fraud's facts are on the validations' topics: their stage has the positions of both.

Invariants: the replay of a component begins once all of it is restored, in all partition numbers,
and noted; components are replayed one after the other. Shell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from functools import partial
from threading import Event
from typing import NamedTuple, TypeVar

from everlode.adapters.postgres_next import NextGeneration
from everlode.log.learn import learner
from everlode.projection.tables import FACTS_OF
from everlode.recovery.grounds import Grounds
from everlode.recovery.part import Part
from everlode.recovery.planner import Replayed
from everlode.recovery.replay import Reached, Replay
from everlode.telemetry.pace import Pace
from everlode.topics.place import TopicPartition

BATCH = 2000
SIDE_BY_SIDE = 4
"""Partition numbers that are worked on at the same time: more would only take Python's lock."""
_T = TypeVar("_T")


class Restored(NamedTuple):
    """How many states are in the table, and where the log is not the one that the cut was made of.

    A fork is known by a stamp that the cut has otherwise.
    """

    records: int
    forks: list[TopicPartition]
    dangling: int = 0
    """References that hold for nothing: so the backup has them."""


class Replaying(NamedTuple):
    """A replay that is under way."""

    replay: Replay
    parts: Sequence[Future[Reached]]


class Stages:
    """Works on one generation of one region, from the staged objects of one manifest."""

    def __init__(self, grounds: Grounds, generation: int) -> None:
        """Connections are made, and nothing is begun; the generation need not be there yet."""
        self.grounds = grounds
        target, numbers = grounds.target, range(grounds.manifest.partitions)
        self._learn = learner(target.bootstrap, target.topology.origins, "recovery")
        self._stop = Event()
        self._opened = ExitStack()
        self._parts = [Part(grounds, generation, n, self._stop) for n in numbers]
        for part in self._parts:
            self._opened.callback(part.close)
        self._threads = [ThreadPoolExecutor(1, f"recovery-{n}") for n in numbers[:SIDE_BY_SIDE]]
        self._restoring: dict[str, list[Future[int]]] = {}
        self._each(Part.open)

    def close(self) -> None:
        """Let no batch be begun any more, wait for those that are under way, and leave."""
        self._stop.set()
        for thread in self._threads:
            thread.shutdown(cancel_futures=True)
        self._opened.close()

    def restore(self, names: Iterable[str]) -> None:
        """Begin to restore these components, in this order; goes on where it was killed."""
        for states in names:
            records = self.grounds.staged.records(states)
            pace = Pace(self.grounds.report, f"restore {states}", records)
            work = partial(Part.restore, states=states, most=BATCH, pace=pace)
            self._restoring[states] = self._each(work)

    def restored(self, states: str) -> Restored:
        """Wait until it is, and what waits is back. Raises: IntegrityError; Unavailable."""
        records = sum(results(self._restoring[states]))
        if states in FACTS_OF:
            return Restored(records, [])
        results(self._each(partial(Part.park, facts=states)))
        forks = sorted(at for at in self.grounds.tail.forks if at[0].endswith(f".{states}"))
        return Restored(records, forks)

    def replay(self, states: str, forks: Iterable[TopicPartition]) -> Replaying:
        """Begin to fold the tail of a component's facts. Resumes where it was killed.

        `forks`: of `restored`.
        """
        replay = Replay(self.grounds, states, forks, self._learn)
        return Replaying(replay, self._each(replay.of))

    def replayed(self, begun: Replaying, db: NextGeneration) -> Replayed:
        """Wait until it is. Raises: Unavailable; FencedOut: another recovery has taken over."""
        return begun.replay.all(db, results(begun.parts))

    def _each(self, work: Callable[[Part], _T]) -> list[Future[_T]]:
        """Every partition number's, behind what it was given before."""
        threads = self._threads
        return [threads[p.partition % len(threads)].submit(work, p) for p in self._parts]


def results(begun: Sequence[Future[_T]]) -> list[_T]:
    """What they come to, in order. Raises: what the first of them raises that fails, at once."""
    for future in wait(begun, return_when=FIRST_EXCEPTION).done:
        future.result()
    return [future.result() for future in begun]
