"""Asks every region what its stores hold, and compares it: see contents.py.

Order (must): databases, marks and copies before the logs' ends that they are witnesses of: these
only grow. A store that does not answer is named; what can be compared is. Shell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from everlode.adapters.kafka_admin import topic_ids
from everlode.adapters.kafka_follower import ControlFollower
from everlode.adapters.object_store import ObjectStore
from everlode.adapters.postgres_gate import Published
from everlode.adapters.postgres_read import Generation
from everlode.avro.codec import Codec
from everlode.backup.manifest import Manifest, sha256_of
from everlode.backup.stored import load_manifest
from everlode.control.fold import ControlState
from everlode.errors import IntegrityError, NotFound, Unavailable
from everlode.events.catalogue import STATE_COMPONENTS
from everlode.events.control import BackupMade
from everlode.log.ends import ends_of
from everlode.log.learn import taught
from everlode.settings.endpoints import Endpoints, RegionEndpoints
from everlode.snapshots.read import marks_of
from everlode.topics import Topology, fact_topics
from everlode.topics.names import state_topic
from everlode.topics.place import End, TopicPartition
from everlode.views.contents import ANEW, Finding, Known, Stores, compare
from everlode.views.pairs import compare_pairs

CONTROL_S = 15.0


class Examined(NamedTuple):
    """What was found, and what could not be asked."""

    findings: tuple[Finding, ...]
    unreachable: dict[str, str]
    """Region, `<region>/postgres`, control or s3 → why."""


class _Network:
    """One look at all regions."""

    def __init__(
        self, topology: Topology, endpoints: Endpoints, store: ObjectStore | None,
        down: Collection[str],
    ) -> None:  # fmt: skip
        self._topology, self._endpoints, self._store = topology, endpoints, store
        self._down = down
        self._places = [(t, p) for t in fact_topics(topology) for p in range(topology.partitions)]
        self.unreachable: dict[str, str] = {}
        self.findings: list[Finding] = []

    def look(self) -> None:
        """Ask all, then compare."""
        regions = [r for r in self._endpoints.regions if not {r, f"{r}/postgres"} & {*self._down}]
        control = self._control()
        with ThreadPoolExecutor(len(regions) or 1) as pool:
            held = dict(zip(regions, pool.map(self._held, regions), strict=True))
            ends = dict(zip(regions, pool.map(self._ends, regions), strict=True))
        for region, mine in held.items():
            known = Known(
                self._cut(control.newest.get(region)), control.generations.get(region, 0),
                self._topology.retention_ms, time.time_ns() // 1_000_000,
            )  # fmt: skip
            if f"{region}/postgres" not in self.unreachable and region not in self.unreachable:
                others = [other for name, other in held.items() if name != region]
                self.findings += compare(mine, ends[region], others, known)

    def _asked(self, what: str, ask: Callable[[], object]) -> None:
        try:
            ask()
        except Unavailable as error:
            self.unreachable[what] = error.message

    def _control(self) -> ControlState:
        bootstrap = self._endpoints.control_bootstrap
        if bootstrap is None or "control" in self._down:
            return ControlState()
        follower = ControlFollower(bootstrap)
        with closing(follower):
            self._asked("control", partial(follower.start, CONTROL_S))
            return follower.state

    def _cut(self, noted: BackupMade | None) -> Manifest | None:
        """The newest backup, when it is the one that was noted; whether it is signed is not asked.

        What the control log notes of it is its hash.
        """
        if noted is None or self._store is None or "s3" in self.unreachable:
            return None
        why = "has another manifest than the control log notes"
        try:
            found, _, _ = load_manifest(self._store, noted.region, noted.backup_id)
            if sha256_of(found) == noted.manifest_sha256:
                return found
        except Unavailable as error:
            self.unreachable["s3"] = error.message
            return None
        except (NotFound, IntegrityError) as error:
            why = error.message
        hint = "find out where it went: everlode backup list"
        where = f"backup {noted.backup_id}"
        self.findings.append(Finding(noted.region, "newest_missing", where, why, hint))
        return None

    def _held(self, region: str) -> Stores:
        """What one region has; of what does not answer nothing."""
        place, found = self._endpoints.regions[region], Stores(region)
        try:
            found = self._of_database(region, place, found)
        except Unavailable as error:
            self.unreachable[f"{region}/postgres"] = error.message
        try:
            codec = taught(place.kafka_bootstrap, self._topology.origins)
            return self._of_cluster(place, found, codec)
        except Unavailable as error:
            self.unreachable[region] = error.message
        return found

    def _of_database(self, region: str, place: RegionEndpoints, found: Stores) -> Stores:
        with closing(Generation.current(place.postgres_conninfo())) as db:
            found = replace(found, generation=db.generation)
            try:
                found = replace(found, is_made=True, **_tables(db))
                codec = taught(place.kafka_bootstrap, self._topology.origins)
                with closing(Published(place.postgres_conninfo(), db.generation)) as pairs:
                    self.findings += compare_pairs(
                        region, pairs, place.kafka_bootstrap, self._topology, codec
                    )
            except NotFound:
                found = replace(found, is_made=False)
            except IntegrityError as error:
                self.findings.append(
                    Finding(region, error.code, f"generation {db.generation}", error.message, ANEW)
                )
            return found

    def _of_cluster(self, place: RegionEndpoints, found: Stores, codec: Codec) -> Stores:
        bootstrap = place.kafka_bootstrap
        marks = marks_of(bootstrap, codec, place.origin, self._topology.partitions)
        ends = ends_of(bootstrap, codec, self._places)
        names = {topic for topic, _ in self._places}
        names |= {state_topic(found.generation, c) for c in STATE_COMPONENTS}
        return replace(found, marks=marks, ends=ends, ids=topic_ids(bootstrap, sorted(names)))

    def _ends(self, region: str) -> Mapping[TopicPartition, End]:
        if region in self.unreachable:
            return {}
        bootstrap = self._endpoints.regions[region].kafka_bootstrap
        try:
            return ends_of(bootstrap, taught(bootstrap, self._topology.origins), self._places)
        except Unavailable as error:
            self.unreachable[region] = error.message
            return {}


def _tables(db: Generation) -> dict[str, Any]:
    """Fields of `Stores`. Raises: NotFound: the generation has no tables. Unavailable."""
    positions = db.query("select topic, part, seq, stamp from {g}.positions")
    fences = db.query("select topic, part, scope, epoch from {g}.opened")
    openings = db.query("select topic, part, scope, epoch, seq from {g}.openings")
    ahead: dict[TopicPartition, int] = {}
    for component in STATE_COMPONENTS:
        for topic, partition, seq in db.query(
            f"select r.topic, r.part, max(r.seq) from {{g}}.{component} r"
            " left join {g}.positions p on (p.topic, p.part) = (r.topic, r.part)"
            " where r.doc is not null and r.seq > coalesce(p.seq, 0) group by 1, 2"
        ):
            ahead[topic, partition] = max(seq, ahead.get((topic, partition), 0))
    fences += [row[:4] for row in openings]
    highest: dict[tuple[str, int, str], int] = {}
    for topic, partition, scope, epoch in fences:
        at = (topic, partition, scope)
        highest[at] = max(epoch, highest.get(at, 0))
    return {
        "positions": {(t, p): End(seq, stamp) for t, p, seq, stamp in positions},
        "fences": highest,
        "openings": {(t, p, scope, epoch): seq for t, p, scope, epoch, seq in openings},
        "rows_ahead": ahead,
    }


def contents_of(
    topology: Topology,
    endpoints: Endpoints,
    store: ObjectStore | None,
    down: Collection[str] = (),
) -> Examined:
    """All findings about the contents of a network's stores; `store`: where its backups are.

    `down`: what is known not to answer (a region, `<region>/postgres`, control) is not asked.
    """
    network = _Network(topology, endpoints, store, down)
    network.look()
    found = sorted(network.findings)
    return Examined(tuple(found), network.unreachable)
