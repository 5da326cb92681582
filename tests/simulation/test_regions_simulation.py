"""Three regions, seeded: whatever happens, the laws hold, and once it is over everything is done.

`tests.support.world.network` has the world and its laws: `two_primaries`, `stale_write`,
`acknowledged_lost`, `done_twice`, `folds_differ`, `lost_though_heard`, `not_live`. A failing seed
is named; `play(seed)` replays it exactly.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from everlode.adapters.kafka import Raw
from everlode.projection.fold import PartitionFold
from tests.support.world.network import Found, Network, NodeProcess, Region, Rules, adapters

LONG = bool(os.environ.get("LONG_TESTS"))
SEEDS = 2_000 if LONG else 20
pytestmark = pytest.mark.timeout(7200 if LONG else 280)
PLANTED_SEEDS = 20
"""Within so many a planted bug is found."""
QUIET_S, CHAOS_S, CHAOS = 10, 60, 0.06
HAPPENED = (
    "acknowledged", "appends that landed late", "cut off from the control log", "decisions",
    "failovers", "fenced at the broker", "handled losses", "kills", "links cut", "pauses",
    "primaries killed before a commit", "primaries that slept before a commit", "regions killed",
    "regions lost", "starts", "suspicions", "void decisions",
)  # fmt: skip
REPLACED = {
    "everlode.failover.again": {"time"},
    "everlode.failover.coordinator": {"time", "Probes"},
    "everlode.failover.heartbeats": {"time"},
    "everlode.failover.inbox": {
        "time", "Codec", "MixedReader", "Sender", "DeadLetters", "read_snapshot",
    },
    "everlode.failover.regions": {"Codec"},
    "everlode.failover.operations": {"time"},
    "everlode.failover.statuses": {"time"},
    "everlode.tasks.policy": {"uuid4"},
}  # fmt: skip
"""Module → what is replaced in it: the clock, chance, and what talks to Kafka or to sockets.

The codec is the shipped one, which here remembers what it has decoded for others.
"""


def play(seed: int, rules: Rules | None = None) -> tuple[Network, list[Found]]:
    """One history: bootstrap, faults, healing; and the laws that it broke."""
    with adapters(seed):
        world = Network(seed, rules)
        world.run(QUIET_S, 0.0)
        world.run(CHAOS_S, CHAOS)
        world.heal()
        found = world.check()
    world.counts["acknowledged"] = sum(len(r.acknowledged) for r in world.regions.values())
    return world, found


def test_laws_hold_whatever_happens_and_all_is_done_once_it_is_over() -> None:
    began, totals = time.monotonic(), Counter[str]()
    for seed in range(SEEDS):
        world, found = play(seed)
        assert found == [], f"seed {seed}: {found}"
        totals.update(world.counts)
    print(
        f"{SEEDS / (time.monotonic() - began):.2f} seeds a second: {dict(sorted(totals.items()))}"
    )
    assert [what for what in HAPPENED if not totals[what]] == [], f"vacuous: {totals}"


def test_seed_replays_exactly() -> None:
    one, other = (play(7)[0] for _ in range(2))
    assert one.control == other.control
    assert one.counts == other.counts
    for name, region in one.regions.items():
        again = other.regions[name]
        assert region.facts == again.facts
        assert region.kafka.topics == again.kafka.topics
    assert play(8)[0].control != one.control


def everything() -> dict[tuple[str, str], Any]:
    modules = {n: m for n, m in sys.modules.items() if n.startswith("everlode.")}
    return {(name, key): value for name, module in modules.items()
            for key, value in vars(module).items()}  # fmt: skip


def test_only_what_talks_to_the_outside_is_replaced() -> None:
    before = everything()
    with adapters(0):
        within = everything()
    changed = {key for key, value in within.items() if before.get(key) is not value}
    assert changed == {(module, name) for module, names in REPLACED.items() for name in names}


# -- planted bugs ---------------------------------------------------------------------------------


class WithoutFence(Rules):
    """A deposed primary's transaction is taken."""

    def commits(self, node: NodeProcess, region: Region) -> bool:
        """See Rules."""
        return True


class LosingMirror(Rules):
    """A mirror leaves a record out, now and then."""

    def __init__(self) -> None:
        self._draws = Random(1)

    def copies(self, raw: Raw) -> bool:
        """See Rules."""
        return not raw.topic.endswith("tasks") or self._draws.random() > 0.01


class HastyAnswers(Rules):
    """A primary answers what it has not committed."""

    def answers_before_the_commit(self) -> bool:
        """See Rules."""
        return True


def _held_for_ever(patch: pytest.MonkeyPatch) -> None:
    """A projection never goes on with facts that came before the decision on their epoch."""
    patch.setattr(PartitionFold, "releasable", lambda *_: set())


def _nothing(_patch: pytest.MonkeyPatch) -> None:
    """The bug is in the rules of the world."""


@pytest.mark.parametrize(
    ("rules", "plant", "laws"),
    [
        (WithoutFence, _nothing, {"stale_write", "two_primaries"}),
        (LosingMirror, _nothing, {"folds_differ", "not_live"}),
        (HastyAnswers, _nothing, {"acknowledged_lost"}),
        (Rules, _held_for_ever, {"folds_differ", "not_live"}),
    ],
    ids=["no fence", "losing mirror", "hasty answers", "held for ever"],
)
def test_planted_bug_is_found(
    rules: type[Rules],
    plant: Callable[[pytest.MonkeyPatch], None],
    laws: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch)
    broken: set[str] = set()
    for seed in range(PLANTED_SEEDS):
        try:
            broken |= {found.law for found in play(seed, rules())[1]}
        except Exception as error:  # noqa: BLE001 - the shipped code may notice itself
            broken.add(type(error).__name__)
        if broken & laws:
            print(f"found with seed {seed}: {sorted(broken)}")
            return
    raise AssertionError(f"not found in {PLANTED_SEEDS} seeds; only {sorted(broken)}")
