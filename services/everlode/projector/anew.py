"""A projection that folded more of a fenced region than counts: built anew from the logs.

    g3   folded_above is noted             stays as it is, and is read until the switch
    g4   empty ──► all facts, in bulk, by what counts now ──► built ──► current

Nothing is patched in place: what was folded too early is in states, in what follows from them and
in the state topics. One process of a region does it, whichever has the database's lock; one that is
killed leaves a generation that says from which one it is built, and the next goes on with it. What
retention has taken from a fact topic is in no log any more: then an operator recovers from a
backup. Shell.
"""

from __future__ import annotations

from contextlib import ExitStack, closing

from everlode.adapters.kafka import Reader
from everlode.adapters.kafka_admin import state_generations
from everlode.adapters.kafka_topics import ensure_topics
from everlode.adapters.postgres_next import NextGeneration
from everlode.adapters.postgres_read import Generation
from everlode.errors import Precondition
from everlode.projector.bulk import catch_up
from everlode.projector.worker import NOTHING_OUTSIDE, Home, Outside, PartitionWorker
from everlode.telemetry.sink import Sink, silent
from everlode.topics import Topology, fact_topics
from everlode.topics.catalogue import state_topics

FROM = "built_anew_from"
"""Counter of a generation: the one in whose place it is built."""
BUILT = "built_anew"
"""Counter of a generation: it has been built, and may be made the current one."""
SHORT = 1_000
"""Records that a projector reads at its start at once: no more need to be caught up before."""
_DUE = "select count(*) from {g}.problems where kind = 'folded_above'"


def due(conninfo: str) -> bool:
    """Whether the current generation says that it is to be built anew.

    Raises: NotFound: it has no tables yet. Unavailable.
    """
    with closing(Generation.current(conninfo)) as db:
        ((count,),) = db.query(_DUE)
    return bool(count)


def built(home: Home, generation: int) -> bool:
    """Make a generation that was built here the current one, if it is not; False: it was not.

    For whoever finds that it was decided, and who decided it is gone. Raises: Unavailable.
    """
    with closing(NextGeneration(home.conninfo, generation, home.node_id)) as db:
        if not db.exists() or not db.counted(BUILT):
            return False
        if db.newest() < generation:
            db.switch()
        return True


class Anew:
    """One rebuilding; `close` it. Not thread-safe."""

    def __init__(
        self,
        home: Home,
        topology: Topology,
        outside: Outside = NOTHING_OUTSIDE,
        report: Sink = silent,
    ) -> None:
        """`home` names the generation that is to be replaced. Raises: Unavailable."""
        self._home, self._topology = home, topology
        self._outside, self._report = outside, report
        self._topics = fact_topics(topology)
        self._opened = ExitStack()
        lock = NextGeneration(home.conninfo, home.generation, home.node_id)
        self._lock = self._opened.enter_context(closing(lock))

    def close(self) -> None:
        """Leave; another process may go on."""
        self._opened.close()

    def build(self) -> int | None:
        """Build the next generation; returns its number, or None while another process does.

        Raises: Precondition: a fact topic has lost its beginning, or there is a later generation.
        Unavailable; FencedOut: call it again, it goes on.
        """
        if not self._lock.alone():
            return None
        self._require_whole()
        generation = self._begun() or self._begin()
        home = self._home._replace(generation=generation)
        with ExitStack() as opened:
            workers = {}
            for number in range(self._topology.partitions):
                workers[number] = PartitionWorker(home, number, self._topics, self._outside)
                opened.callback(workers[number].close)
            while catch_up(home.bootstrap, workers, self._topics, self._report) > SHORT:
                pass  # what came meanwhile
            for worker in workers.values():
                worker.apply([], "bulk")  # what waited for the last of these
        with closing(NextGeneration(home.conninfo, generation, home.node_id)) as db:
            if db.newest() != self._home.generation:
                raise self._overtaken(db.newest())
            db.count(BUILT, 1)
        return generation

    def _require_whole(self) -> None:
        places = [(t, p) for t in self._topics for p in range(self._topology.partitions)]
        with closing(Reader(self._home.bootstrap, "projector-anew", wait_ms=50)) as reader:
            cut = sorted(at for at, (first, _) in reader.bounds(places).items() if first)
        if cut:
            (topic, number), more = cut[0], len(cut) - 1
            raise Precondition(
                f"{topic}/{number} has lost its beginning{f', and {more} more' * bool(more)}",
                code="logs_not_whole",
                hint="everlode recover run builds the next generation from a backup",
            )

    def _begun(self) -> int | None:
        """A generation that was begun in this one's place, and is not current."""
        for generation in state_generations(self._home.bootstrap):
            if generation <= self._home.generation:
                continue
            with closing(NextGeneration(self._home.conninfo, generation, "anew")) as db:
                if db.exists() and db.counted(FROM) == self._home.generation:
                    return generation
        return None

    def _begin(self) -> int:
        known = state_generations(self._home.bootstrap)
        generation = max(self._home.generation, *known, 0) + 1
        region = self._home.region
        ensure_topics(self._home.bootstrap, state_topics(self._topology, region, generation))
        with closing(NextGeneration(self._home.conninfo, generation, "anew")) as db:
            db.drop()
            db.create()
            db.count(FROM, self._home.generation)
        return generation

    def _overtaken(self, current: int) -> Precondition:
        return Precondition(
            f"{self._home.region}: generation {current} is current by now",
            code="overtaken",
            hint="everlode recover list shows what there is",
        )
