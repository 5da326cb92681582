"""Makes a backup of a region: gather → cut → seal, one partition number after the other. Shell.

The order of the protocol in cut.py, and its timings; what each step does stands in its module.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

from everlode.adapters.kafka_admin import topic_ids
from everlode.adapters.object_store import ObjectStore
from everlode.adapters.postgres import Projection
from everlode.adapters.postgres_read import current_generation
from everlode.backup.chain import behind, parent_of
from everlode.backup.cut import PartitionCut, TooShort, cut, further
from everlode.backup.differences import require_alike
from everlode.backup.gather import Gatherer, Source
from everlode.backup.keys import DEFAULT_KEY, KeyRing
from everlode.backup.manifest import Manifest
from everlode.backup.seal import Begun, Sealer
from everlode.backup.verify import newest_signed
from everlode.log.learn import taught
from everlode.telemetry.entries import Note, StepEnded
from everlode.telemetry.pace import Pace
from everlode.telemetry.sink import Sink, silent
from everlode.topics import fact_topics


def create_backup(
    source: Source,
    store: ObjectStore,
    keys: KeyRing,
    *,
    key_id: str = DEFAULT_KEY,
    report: Sink = silent,
) -> Manifest:
    """Make a full backup and return its manifest. Safe to interrupt: then there is none.

    Raises: Precondition: nothing to back up, or the backup before it is of another topology or of
    newer folds. IntegrityError: a state topic went back. Unavailable.
    """
    with ThreadPoolExecutor(3) as beside:  # each waits for another part of the region
        able = beside.submit(store.capabilities)
        before = beside.submit(newest_signed, store, keys, source.region)
        learnt = beside.submit(taught, source.bootstrap, source.topology.origins)
        generation = current_generation(source.conninfo)
    write_once, parent, codec = able.result().conditional_put, before.result(), learnt.result()
    if parent is not None:
        ids = topic_ids(source.bootstrap, [t.name for t in parent.topics])
        require_alike(parent, source.topology, report, ids)
    after = parent_of(parent, source.noted)
    if reason := behind(parent, source.noted):
        report(Note("chain", f"{reason}; this backup is chained to what was made"))
    at_ms = max(_now_ms(), after.created_at_ms + 1)  # ids in order, always
    timings = dict.fromkeys(("read", "store"), 0)
    parts = source.topology.partitions
    pace = Pace(report, "backup", parts, "partitions")
    with (
        closing(Projection(source.conninfo, generation, "backup")) as db,
        closing(Gatherer(source.bootstrap, db, fact_topics(source.topology), codec)) as gatherer,
    ):
        begun = Begun(
            source, generation, _id_of(at_ms), at_ms, parent, key_id, gatherer.moment, write_once,
            after,
        )  # fmt: skip
        with closing(Sealer(begun, store, keys, report)) as sealer:
            for partition in range(parts):
                with _timed(timings, "read"):
                    found = _cut(gatherer, partition, report)
                with _timed(timings, "store"):
                    sealer.part(found)
                pace.more()
            sealer.config()
            return sealer.manifest(timings)


def _cut(gatherer: Gatherer, partition: int, report: Sink) -> PartitionCut:
    """The exact cut of one partition number. Raises: IntegrityError; Unavailable."""
    gathered = gatherer.partition(partition)
    stamp = gatherer.moment.chosen.stamp
    found: PartitionCut | TooShort = further(partition)
    while isinstance(found, TooShort):
        back_ms = found.back_ms
        found = cut(stamp, gathered, gatherer.facts(gathered, back_ms))
        if isinstance(found, TooShort):
            report(Note("cut", f"partition {partition}: {back_ms} ms before it do not reach"))
    report(StepEnded("cut", f"partition {partition}", f"{len(found.states)} keys"))
    return found


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@contextmanager
def _timed(timings: dict[str, int], what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    timings[what] += round((time.monotonic() - began) * 1000)


def _id_of(began_ms: int) -> str:
    """Ids sort by when their backups began."""
    seconds = time.strftime("%Y%m%dT%H%M%S", time.gmtime(began_ms / 1000))
    return f"{seconds}{began_ms % 1000:03d}-{os.urandom(3).hex()}"
