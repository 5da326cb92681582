"""Makes a backup of a region: gather → cut → seal, one partition number after the other. Shell.

The order of the protocol in cut.py, and its timings; what each step does stands in its module.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass

from everlode.adapters.kafka_admin import topic_ids
from everlode.adapters.object_store import ObjectStore
from everlode.adapters.postgres_read import current_generation
from everlode.adapters.processor import uncollected
from everlode.backup.age import age_of
from everlode.backup.asked import Source
from everlode.backup.chain import behind, parent_of
from everlode.backup.differences import require_alike
from everlode.backup.gather import Gatherer
from everlode.backup.keys import DEFAULT_KEY, KeyRing
from everlode.backup.manifest import Manifest
from everlode.backup.partition import PartitionCut
from everlode.backup.seal import Begun, Sealer
from everlode.backup.verify import Passed, from_end
from everlode.errors import IntegrityError
from everlode.log.learn import taught
from everlode.telemetry.entries import Note
from everlode.telemetry.pace import Pace
from everlode.telemetry.sink import Sink, silent


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
    newer folds. IntegrityError: a state topic or the generation went back. Unavailable.
    """
    with ThreadPoolExecutor(3) as beside:  # each waits for another part of the region
        able = beside.submit(store.capabilities)
        before = beside.submit(_parent, source, store, keys, report)
        learnt = beside.submit(taught, source.bootstrap, source.topology.origins)
        generation = current_generation(source.conninfo)
    write_once, codec = able.result().conditional_put, learnt.result()
    parent, passed, ids = before.result()
    if parent is not None:
        require_alike(parent, source.topology, report, ids)
        _require_not_back(parent, generation)
    after = parent_of(parent, source.noted)
    if reason := behind(parent, source.noted, passed):
        report(Note("chain", f"{reason}; this backup is chained to what was made"))
    at_ms = max(_now_ms(), after.created_at_ms + 1)  # ids in order, always
    parts = source.topology.partitions
    pace = Pace(report, "backup", parts, "partitions")
    with closing(Gatherer(source, generation, codec, parent)) as gatherer:
        moment = gatherer.moment
        written_ms, stood = gatherer.written_ms, moment.applied.values()
        age = age_of(moment.chosen.stamp, stood, written_ms, _now_ms())
        begun = Begun(
            source, generation, _id_of(at_ms), at_ms, parent, key_id, moment, write_once, after,
            age, gatherer.witnessed.short, gatherer.witnessed.fences_lost,
        )  # fmt: skip
        with closing(Sealer(begun, store, keys, report)) as sealer:
            timings = Timings()
            for partition in range(parts):
                _part(gatherer, sealer, partition, timings)
                pace.more()
            sealer.config()
            return sealer.manifest(timings.ms())


def _parent(
    source: Source, store: ObjectStore, keys: KeyRing, report: Sink
) -> tuple[Manifest | None, Passed, dict[str, str]]:
    """The newest backup, what was passed over, and the ids that the cluster's topics have now."""
    found, passed = from_end(store, keys, source.region, report=report)
    ids = topic_ids(source.bootstrap, [t.name for t in found.topics]) if found else {}
    return found, passed, ids


def _require_not_back(parent: Manifest, generation: int) -> None:
    """Raises: IntegrityError: an earlier generation is current than the parent is of.

    Facts are folded into the current one only: an earlier one has stopped long ago.
    """
    if generation < parent.generation:
        raise IntegrityError(
            f"generation {generation} is current, and backup {parent.backup_id} is of generation"
            f" {parent.generation}: the database has lost which one is",
            code="generation_back",
            hint="build a new generation with everlode recover",
        )


@dataclass
class Timings:
    """Seconds: finding the cut and the states; sealing and sending them."""

    read: float = 0.0
    store: float = 0.0

    def ms(self) -> dict[str, int]:
        """In milliseconds, by name."""
        return {name: round(value * 1000) for name, value in asdict(self).items()}


def _part(gatherer: Gatherer, sealer: Sealer, partition: int, timings: Timings) -> None:
    """One partition number: its states are sealed as they are cut."""
    began = time.monotonic()
    with uncollected(), closing(gatherer.partition(partition)) as gathered:
        gathered_s = time.monotonic() - began
        found = PartitionCut(gatherer, gathered, sealer.report)
        sealer.part(found)
    read_s = gathered_s + found.read_s
    timings.read += read_s
    timings.store += time.monotonic() - began - read_s


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _id_of(began_ms: int) -> str:
    """Ids sort by when their backups began."""
    seconds = time.strftime("%Y%m%dT%H%M%S", time.gmtime(began_ms / 1000))
    return f"{seconds}{began_ms % 1000:03d}-{os.urandom(3).hex()}"
