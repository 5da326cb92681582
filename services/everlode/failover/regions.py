"""A coordinator's watch over the other regions: what it hears of them, and what it says of that.

    mirrored barriers, facts ─┐
                              ├─► Links (pure) ─► LinkStale ────► <origin>.health
    own barriers ─────────────┘         └───────► RegionSuspected ──► control log ─┐
                                             RegionLost ◄─ a majority of sites ┘ ─► <origin>.health

What is watched are the coordinators' barriers on <origin>.receipts, and one partition of each fact
topic, where a primary leaves a barrier each second: a region whose coordinator alone is gone lives.
Not the heartbeats: MirrorMaker takes every topic whose name ends so for its own, and copies it
under another name (IdentityReplicationPolicy, Kafka 4.3).

It follows its own barriers, so that it accuses nobody while its own region's Kafka stands still.
Every coordinator watches; the one that leads says what it sees, at each barrier, wherever that is
not yet what was said: so a successor begins by saying how things are, and what was lost on the way
is said again. Nothing here waits, because barriers must not. Shell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol
from uuid import UUID, uuid5

from everlode.adapters.kafka import Raw
from everlode.avro.codec import Codec
from everlode.control.fold import ControlState
from everlode.control.scopes import Scope
from everlode.control.sites import REPEAT_TICKS, losses, passed, sites
from everlode.detection.regions import Links, Patience, Sight
from everlode.errors import ContractError
from everlode.events.barriers import Barrier
from everlode.events.base import Event, Evidence
from everlode.events.catalogue import FACT_COMPONENTS
from everlode.events.control import RegionSuspected
from everlode.events.health import LinkStale, RegionLost
from everlode.failover.again import Again
from everlode.membership.agent import NodeAgent
from everlode.settings.endpoints import Endpoints
from everlode.telemetry.entries import RegionNoted
from everlode.telemetry.sink import Sink, silent
from everlode.topics.names import CONTROL_TOPIC, fact_topic

NAMESPACE = UUID("a1f3f0f2-2a6e-5c0b-9d8a-6d2f7a4c8e51")
CANARY = "receipts"
"""Signal topic on which each coordinator leaves a barrier each second, for other regions."""
AGAIN_S = 3.0
"""A word that has not landed is sent again after this time: one that lands twice does no harm."""
MOST = 5_000
"""Records that are looked at in one turn."""


class Records(Protocol):
    """What is read here: assigned partitions of one region's Kafka, see `adapters.kafka.Reader`."""

    def batch(self, most: int, timeout_s: float) -> list[Raw]:
        """Up to `most` records, in order within each partition."""

    def close(self) -> None:
        """Leave."""


def places(endpoints: Endpoints, region: str) -> dict[tuple[str, int], str]:
    """(topic, partition) of all that a region's watch reads, in its own Kafka → whose it is.

    Its own barriers, and of every other region, where it has a mirror, barriers and facts.
    """
    found = {(fact_topic(endpoints.parts(region).origin, CANARY), 0): region}
    mirrored = endpoints.region(region).mirror_rest is not None
    for other in endpoints.regions if mirrored else ():
        if other != region:
            origin = endpoints.parts(other).origin
            found |= {(fact_topic(origin, c), 0): other for c in (CANARY, *FACT_COMPONENTS)}
    return found


def words(
    control: ControlState, region: str, epoch: int, sight: Sight
) -> Iterator[tuple[RegionSuspected, int]]:
    """What a region's coordinator has to write on the control log, as it leads in `epoch`; with the
    control offset of the word that it replaces, -1 for none. Pure.

    Nothing about a region that it cannot say anything of yet, and none when all is said; a
    suspicion is said again before it is too old to count.
    """
    for other in sites(control):
        if other not in sight.known:
            continue
        last = control.suspicions.get(f"{region}/{other}")
        if last is not None and last.epoch != epoch:
            last = None
        wanted = other in sight.suspected
        old = last is not None and passed(control, region, last.based_on) >= REPEAT_TICKS
        if wanted is not (last is not None and not last.over) or (wanted and old):
            found = sight.stale.get(other)
            yield RegionSuspected(
                region=other, observer=region, over=not wanted,
                silence_ms=found.silence_ms if found and wanted else 0,
                based_on=max(0, control.position),
                evidence=found.evidence if found else (sight.barrier,),
            ), last.offset if last else -1  # fmt: skip


class RegionWatch:
    """Of one coordinator. `records` reads the `watched` places, from their ends on; it is closed
    here, `agent` is not.
    """

    def __init__(
        self,
        agent: NodeAgent,
        records: Records,
        watched: Mapping[tuple[str, int], str],
        patience: Patience,
        *,
        report: Sink = silent,
    ) -> None:
        self.region = agent.identity.region
        self._scope = str(Scope("coordinator", self.region))
        self._agent = agent
        self._records = records
        self._report = report
        self._of = {topic: region for (topic, _), region in watched.items()}
        topic = fact_topic(agent.identity.origin, CANARY)
        self._links = Links({*self._of.values()} - {self.region}, topic, patience)
        self._codec = Codec()
        self._stale: dict[str, bool] = {}
        """Region → what was said last of the link from it, by this process, since it leads."""
        self._suspects: dict[str, bool] = {}
        """Region → whether it was last said to be suspected; that it still is, is not reported."""
        self._lost: set[str] = set()
        self._again = Again(AGAIN_S)

    def turn(self) -> None:
        """Read what there is; at a barrier of its own region, say what has changed."""
        if not self._read():
            return
        epoch, sight = self._agent.leads(self._scope), self._links.sight
        if epoch is None or sight is None:
            self._stale.clear()
            self._lost.clear()
            return
        self._publish_links(sight)
        self._write_words(sight, epoch)
        self._publish_losses(sight)

    def close(self) -> None:
        """Leave."""
        self._records.close()

    def _read(self) -> bool:
        """True when a barrier of its own region was among what came."""
        barriers: list[tuple[int, int]] = []
        for raw in self._records.batch(MOST, 0.0):
            region = self._of[raw.topic]
            if region == self.region:
                barriers += self._barriers(raw)
            else:
                at = Evidence(
                    topic=raw.topic, partition=raw.partition, offset=raw.offset, note="last record"
                )
                self._links.arrived(region, at)
        # what came with a barrier may have come before it
        fresh = [self._links.barrier(*barrier) for barrier in barriers]
        return True in fresh

    def _barriers(self, raw: Raw) -> list[tuple[int, int]]:
        try:
            fact = self._codec.decode_fact(raw.value)
        except ContractError:
            return []  # it is no barrier
        return [(raw.offset, fact.envelope.stamp)] if isinstance(fact.data, Barrier) else []

    def _publish_links(self, sight: Sight) -> None:
        for region in sorted(sight.known):
            silence = sight.stale.get(region)
            if self._stale.get(region) is (silence is not None):
                continue
            self._stale[region] = silence is not None
            found = LinkStale(
                silence_ms=silence.silence_ms if silence else 0, heard=sight.heard,
                sites=sight.sites, over=silence is None,
                evidence=silence.evidence if silence else (sight.barrier,),
            )  # fmt: skip
            self._publish(region, found, sight, found.over)

    def _write_words(self, sight: Sight, epoch: int) -> None:
        """Not waited for: whether it landed is read from the log, and else it is sent again."""
        for word, instead in words(self._agent.control, self.region, epoch, sight):
            if not self._again.due((word.region, word.over, epoch, instead)):
                continue
            self._agent.log.append_async(
                word.region, word, node_id=self._agent.identity.node_id, scope=self._scope,
                epoch=epoch,
            )  # fmt: skip
            if self._suspects.get(word.region, False) is not word.over:
                continue
            self._suspects[word.region] = not word.over
            self._report(RegionNoted(word.region, "RegionSuspected", word.over, word.silence_ms))

    def _publish_losses(self, sight: Sight) -> None:
        control = self._agent.control
        found = losses(control)
        for region in sorted((found.keys() ^ self._lost) - {self.region}):
            loss = found.get(region)
            suspicions = loss.suspicions if loss else ()
            data = RegionLost(
                observers=tuple(sorted(s.observer for s in suspicions)),
                sites=len(sites(control)), over=loss is None, actionable=False,
                evidence=tuple(
                    Evidence(topic=CONTROL_TOPIC, partition=0, offset=s.offset, note=s.observer)
                    for s in suspicions
                ),
            )  # fmt: skip
            self._publish(region, data, sight, data.over)
        self._lost = set(found) - {self.region}

    def _publish(self, region: str, data: Event, sight: Sight, over: bool) -> None:
        kind, at = type(data).__name__, sight.barrier
        event_id = str(uuid5(NAMESPACE, f"{at.topic}/{at.offset}/{kind}/{region}"))
        self._agent.signal(data, topic="health", key=region, partition=0, event_id=event_id)
        silence = sight.stale.get(region)
        self._report(RegionNoted(region, kind, over, silence.silence_ms if silence else 0))
