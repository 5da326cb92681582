"""Waits: for primaries, for projections that begin, for those that hold all of every log. Shell."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from everlode.adapters.kafka import Reader
from everlode.adapters.kafka_follower import ControlFollower
from everlode.adapters.postgres_read import Generation
from everlode.avro.codec import Codec
from everlode.control.scopes import SCOPE_OF, Scope
from everlode.errors import NotFound, Unavailable
from everlode.settings.endpoints import Endpoints
from everlode.topics import Topology, fact_topics
from everlode.topics.names import region_of, split_fact_topic

WATCHERS = ("co-1", "det-1")
WRITERS = ("tm-1", "tm-2", "tm-3", "mr-1", "mr-2", "val-1", "val-2", "val-3", "val-4", "rd-1",
           "rd-2")  # fmt: skip


def _positions(endpoints: Endpoints, region: str) -> dict[tuple[str, int], int]:
    db = Generation.current(endpoints.regions[region].postgres_conninfo())
    try:
        rows = db.query("select topic, part, seq from {g}.positions")
    finally:
        db.close()
    return {(topic, part): seq for topic, part, seq in rows}


def _last_seqs(endpoints: Endpoints, topology: Topology) -> dict[tuple[str, int], int]:
    """The last `seq` of every partition, read in its home region."""
    codec = Codec()
    found: dict[tuple[str, int], int] = {}
    for topic in fact_topics(topology):
        home = region_of(split_fact_topic(topic)[0])
        reader = Reader(endpoints.regions[home].kafka_bootstrap, "level", wait_ms=20)
        places = [(topic, p) for p in range(topology.partitions)]
        ends = reader.ends(places)
        reader.assign({place: max(0, end - 50) for place, end in ends.items()})
        for batch in reader.until(ends, 30):
            for raw in batch:
                seq = codec.decode_fact(raw.value).envelope.seq
                place = (raw.topic, raw.partition)
                found[place] = max(found.get(place, 0), seq)
        reader.close()
    return found


def await_leaders(
    follower: ControlFollower, topology: Topology, timeout_s: float, check: Callable[[], None]
) -> None:
    """Wait until every scope has a primary that has renewed its lease.

    `check` raises when a process has died. Raises: Unavailable: a scope has none in time.
    """
    scopes = [str(Scope(name, region)) for name in SCOPE_OF for region in topology.regions]
    deadline = time.monotonic() + timeout_s
    while True:
        found = follower.state.scopes
        missing = [x for x in scopes if x not in found or found[x].renewed_at < 0]
        if not missing:
            return
        check()
        if time.monotonic() > deadline:
            raise Unavailable(f"no primary leads {missing[0]} after {timeout_s:.0f} s")
        time.sleep(0.2)


def await_projectors(endpoints: Endpoints, timeout_s: float, check: Callable[[], None]) -> None:
    """Wait until every region's projector has applied something of every component.

    `check` raises when a process has died. Raises: Unavailable: a projector does not begin.
    """
    deadline = time.monotonic() + timeout_s
    waiting = list(endpoints.regions)
    while waiting:
        check()
        waiting = [r for r in waiting if not _begun(endpoints, r)]
        if waiting and time.monotonic() > deadline:
            raise Unavailable(f"the projector of {waiting[0]} applies nothing")
        time.sleep(0.3 if waiting else 0)


def _begun(endpoints: Endpoints, region: str) -> bool:
    try:
        return any(seq > 0 for seq in _positions(endpoints, region).values())
    except (Unavailable, NotFound):
        return False


def await_level(
    endpoints: Endpoints,
    topology: Topology,
    timeout_s: float,
    stop: Callable[[Sequence[str]], None],
) -> None:
    """Stop the primaries (their barriers would go on for ever), then wait for all projections.

    Raises: Unavailable: a projection is not level in time; names where it stands.
    """
    for names in (WATCHERS, WRITERS):
        stop([f"{region}-{name}" for region in topology.regions for name in names])
    wanted = _last_seqs(endpoints, topology)
    deadline = time.monotonic() + timeout_s
    behind: dict[str, str] = {"": "not asked yet"}
    while behind and time.monotonic() < deadline:
        behind = {}
        for region in topology.regions:
            have = _positions(endpoints, region)
            late = {k: v for k, v in wanted.items() if have.get(k, 0) < v}
            if late:
                behind[region] = ", ".join(
                    f"{topic}/{part} at {have.get((topic, part), 0)} of {seq}"
                    for (topic, part), seq in late.items()
                )
        if behind:
            time.sleep(0.3)
    if behind:
        raise Unavailable(f"projections are not level after {timeout_s:.0f} s: {behind}")
