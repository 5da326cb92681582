"""What a process that starts now knows: from the snapshot, or by a fold from the log's beginning.

`same` compares the two, key by key. Nothing here takes part in the region.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta

from everlode.adapters.kafka import Reader
from everlode.events.states import State
from everlode.log.facts import FactLog
from everlode.log.folds import AtHand, Folds
from everlode.log.memory import Memory
from everlode.miners.component import MinerComponent
from everlode.primary.component import Component
from everlode.rewards.component import RewardComponent
from everlode.rewards.sink import Fence
from everlode.settings.endpoints import RegionParts
from everlode.tasks.component import TaskComponent
from everlode.topics import Topology
from everlode.validations.component import ValidationComponent
from tests.support.world.region import PARTITIONS, Region, until

TOPOLOGY = Topology(regions=("eu",), partitions=PARTITIONS)


class NoSink:
    """Nobody is paid by a node that only looks."""

    def pay(self, key: str, miner_id: str, amount_micro: int, fence: Fence) -> str:
        raise AssertionError(key)

    def find(self, key: str, fence: Fence) -> str | None:
        raise AssertionError(key)


def component_of(name: str) -> Component:
    """What a node of eu decides with; it has read nothing yet."""
    match name:
        case "tasks":
            return TaskComponent("eu", TOPOLOGY, "n", timedelta(hours=1), 100)
        case "miners":
            return MinerComponent("eu", TOPOLOGY)
        case "validations":
            return ValidationComponent("eu", TOPOLOGY)
        case _:
            return RewardComponent("eu", TOPOLOGY, NoSink())


def parts_of(region: Region) -> RegionParts:
    """Where the region's facts are."""
    return RegionParts("eu", "eu.1", region.bootstrap, PARTITIONS)


class Known:
    """What a writer that starts now knows."""

    def __init__(self, region: Region, name: str, folds: Folds, *, snapshot: bool) -> None:
        self.folds = folds
        with closing(
            FactLog(region.bootstrap, "eu.1", name, PARTITIONS, self.folds.fold, wait_ms=10)
        ) as log:
            self.memory = Memory(self.folds, log, parts_of(region))
            self.memory.arrived = self.arrived
            if snapshot:
                self.memory.start()
                self.memory.catch_up()
            at = {(log.topic, p): 0 for p in range(PARTITIONS)}
            with closing(Reader(region.bootstrap, "ends")) as reader:
                ends = reader.unread(at)
            until(lambda: self._at_end(log, ends), 60, "it has read all facts")
            if snapshot:
                self.memory.catch_up()
            self.seqs, self.epochs, self.stamp = log.seqs, log.epochs, log.clock.last

    def arrived(self, state: State) -> None:
        """A validation was found in the archive."""

    def _at_end(self, log: FactLog, ends: dict[tuple[str, int], int]) -> bool:
        log.follow(0.1)
        position = log._reader.positions(ends)
        return all(position[at] >= end for at, end in ends.items())


class Node(Known):
    """What a node that starts now knows of its own facts."""

    def __init__(
        self, region: Region, name: str, *, snapshot: bool, at_hand: AtHand | None = None
    ) -> None:
        self.component = component_of(name)
        if at_hand is not None:
            self.component.folds.keep(at_hand)
        super().__init__(region, name, self.component.folds, snapshot=snapshot)

    def arrived(self, state: State) -> None:
        """See Known."""
        self.component.arrived(state)


def both(region: Region, *names: str) -> dict[str, tuple[Node, Node]]:
    """Component → a node from the snapshot and one from the beginning, all of them side by side."""
    with ThreadPoolExecutor() as pool:
        made = {
            name: [pool.submit(Node, region, name, snapshot=way) for way in (True, False)]
            for name in names
        }
        return {name: (fresh.result(), full.result()) for name, (fresh, full) in made.items()}


def same(fresh: Known, full: Known) -> None:
    """All that is known is the same, key by key."""
    assert (fresh.seqs, fresh.epochs) == (full.seqs, full.epochs)
    assert fresh.stamp >= full.stamp
    for component, states in full.folds.states.items():
        keys = {*states, *(key for name, key in full.folds.versions if name == component)}
        found: dict[str, State | None] = {key: fresh.folds.get(component, key) for key in keys}
        assert found == {key: dict.get(states, key) for key in keys}
        for key in keys:
            assert fresh.folds.version(component, key) == full.folds.version(component, key)
    assert dict(fresh.folds.answers) == dict(full.folds.answers)


def kept(region: Region, name: str) -> Folds:
    """What is in the memory of a node that starts from the snapshot."""
    return Node(region, name, snapshot=True).folds
