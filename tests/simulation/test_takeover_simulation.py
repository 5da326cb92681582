"""A lost region's scopes change hands, seeded: whatever comes in whatever order, folds are equal.

`tests.support.world.taking` has the world and its laws: `not_taken`, `mirrored_lost`, `two_heirs`,
`folds_differ`, `waits_for_ever`, `loss_not_listed`, `conflict`, `hasty`. Of each HOMECOMING seeds
one goes on: the region comes back, and its scope goes home (`tests.support.world.homecoming`:
`not_home`, `away_lost`, `two_owners`). A failing seed is named; `history(seed).run()` replays it
exactly.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest

from everlode.control import fences
from everlode.control.fences import Fence, Vector
from everlode.errors import EverlodeError
from everlode.primary.adopted import Adoption
from everlode.projection.bounds import Bounds, bounds
from everlode.projection.fold import Incoming, Outcome, PartitionFold
from tests.simulation.test_regions_simulation import LONG, everything
from tests.support.world.homecoming import Homecoming
from tests.support.world.taking import Primary, Takeover, adapters

SEEDS = 20_000 if LONG else 2_000
PARTS = 4
"""The seeds are played in so many tests: each is to see all that may happen."""
HOMECOMING = 4
PLANTED_SEEDS = 60
"""Within so many a planted bug is found."""
pytestmark = pytest.mark.timeout(3600 if LONG else 280)
HAPPENED = (
    "appends that landed late, or twice", "coordinators killed", "cut off", "decisions",
    "facts of the heir", "facts of the lost", "failovers", "fences", "killed", "levelled",
    "links cut", "links that came back", "lost by name", "projections asleep",
    "projections killed", "projections to be built anew", "takeovers", "void decisions",
    "coordinators of the home killed", "went home", "wishes done", "wishes overtaken",
    "wishes timed-out",
)  # fmt: skip
REPLACED = {
    "everlode.failover.again": {"time"},
    "everlode.failover.carrier": {"WallClock"},
    "everlode.failover.taker": {
        "time",
        "ThreadPoolExecutor",
        "Codec",
        "reach",
        "fetch",
        "end_writer",
    },
    "everlode.log.copied": {"Codec", "Reader", "placed"},
    "everlode.primary.freeze": {"time"},
}
"""Module → what is replaced in it: the clock, the thread, and what reads and writes copies."""


def history(seed: int) -> Takeover:
    """The history of a seed."""
    goes_home = seed // PARTS % HOMECOMING == 0
    return Homecoming(seed) if goes_home else Takeover(seed)


@pytest.mark.parametrize("part", range(PARTS))
def test_laws_hold_in_whatever_order_things_come(part: int) -> None:
    began, totals, seeds = time.monotonic(), Counter[str](), range(part, SEEDS, PARTS)
    for seed in seeds:
        world = history(seed)
        found = world.run()
        assert found == [], f"seed {seed}: history({seed}).run() replays {found}"
        totals.update(world.counts)
    rate = len(seeds) / (time.monotonic() - began)
    print(f"{rate:.1f} seeds a second: {dict(sorted(totals.items()))}")
    assert [what for what in HAPPENED if not totals[what]] == [], f"vacuous: {totals}"


@pytest.mark.parametrize("seed", [1, 7], ids=["goes home", "is taken"])
def test_seed_replays_exactly(seed: int) -> None:
    one, other = history(seed), history(seed)
    assert one.run() == other.run()
    assert one.log == other.log
    assert one.copies == other.copies
    assert one.draw.random() == other.draw.random()
    assert isinstance(one, Homecoming) is (seed == 1)


def test_only_what_talks_to_the_outside_is_replaced() -> None:
    before = everything()
    with adapters(Takeover(0)):
        within = everything()
    changed = {key for key, value in within.items() if before.get(key) is not value}
    assert changed == {(module, name) for module, names in REPLACED.items() for name in names}


# -- planted bugs ---------------------------------------------------------------------------------


def _shortest(patch: pytest.MonkeyPatch) -> None:
    """The vector is what all copies hold, not what any does."""

    def shortest(vectors: list[Vector]) -> dict[str, int]:
        known = list(vectors)
        return {at: min(v.get(at, 0) for v in known) for at in {at for v in known for at in v}}

    patch.setattr(fences, "longest", shortest)


def _first(patch: pytest.MonkeyPatch) -> None:
    """The vector is known before all members have reported."""
    before = fences.reported

    def hasty(known: fences.Fences, data: object, by: object) -> object:
        alone = {r: f._replace(members=(data.observer,)) for r, f in known.items()}  # type: ignore[attr-defined]
        after = before(alone, data, by)  # type: ignore[arg-type]
        if isinstance(after, str):
            return after
        return {
            r: f._replace(
                members=known[r].members,
                reports={m: f.reports.get(m, {}) for m in known[r].members},
            )
            for r, f in after.items()
        }

    patch.setattr(fences, "reported", hasty)


def _not_level(patch: pytest.MonkeyPatch) -> None:
    """Whoever likes takes, however short its copy is."""
    patch.setattr("everlode.failover.takeover.short", lambda *_: {})
    patch.setattr(Fence, "level", lambda *_: True)
    patch.setattr(Primary, "reaches", lambda *_: True)


def _all_counts(patch: pytest.MonkeyPatch) -> None:
    """Facts above the vector are folded."""
    patch.setattr(PartitionFold, "_above", lambda *_: False)


def _nobody_waits(patch: pytest.MonkeyPatch) -> None:
    """The new owner's facts are folded when they come, and so is what comes before the vector."""
    before = PartitionFold.bound

    def only_upto(self: PartitionFold, now: Bounds) -> None:
        before(self, now._replace(after={}))

    patch.setattr(PartitionFold, "bound", only_upto)


def _nothing_held(patch: pytest.MonkeyPatch) -> None:
    """What comes between the fence and the vector is folded at once."""
    before = PartitionFold.bound

    def decided(self: PartitionFold, now: Bounds) -> None:
        known = {topic: seq for topic, seq in now.upto.items() if seq is not None}
        before(self, Bounds(known, {s: a for s, a in now.after.items() if known}))

    patch.setattr(PartitionFold, "bound", decided)


@pytest.mark.parametrize(
    ("plant", "laws"),
    [
        (_shortest, {"mirrored_lost"}),
        (_first, {"mirrored_lost", "folds_differ"}),
        (_not_level, {"not_taken", "folds_differ", "conflict", "waits_for_ever"}),
        (_all_counts, {"folds_differ", "loss_not_listed"}),
        (_nobody_waits, {"conflict", "folds_differ"}),
        (_nothing_held, {"hasty"}),
    ],
    ids=["shortest", "hasty", "not level", "all counts", "nobody waits", "nothing held"],
)
def test_planted_bug_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], laws: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    broken: set[str] = set()
    for seed in range(PLANTED_SEEDS):
        broken |= {found.law for found in Takeover(seed).run()}
        if broken & laws:
            print(f"found with seed {seed}: {sorted(broken)}")
            return
    raise AssertionError(f"not found in {PLANTED_SEEDS} seeds; only {sorted(broken)}")


def _nobody_waits_at_home(patch: pytest.MonkeyPatch) -> None:
    """Facts at home are folded when they come."""

    def without(known: fences.Fences, partition: int) -> Bounds:
        return bounds({r: f._replace(home={}) for r, f in known.items()}, partition)

    patch.setattr("tests.support.world.taking.bounds", without)


def _goes_on(patch: pytest.MonkeyPatch) -> None:
    """A frozen owner goes on by its own clock."""
    patch.setattr("everlode.primary.freeze.FAILBACK", "")


def _brings_nothing(patch: pytest.MonkeyPatch) -> None:
    """Who is at home again knows nothing of what was made elsewhere."""
    patch.setattr(Adoption, "_bring", lambda *_: None)


def _remembers(patch: pytest.MonkeyPatch) -> None:
    """Who is at home again folds all of its log."""
    patch.setattr(Adoption, "counts", lambda *_: True)


def _drops(patch: pytest.MonkeyPatch) -> None:
    """What comes before the return is read is taken for lost."""
    before = PartitionFold._above

    def above(self: PartitionFold, item: Incoming, _: object, out: Outcome) -> bool:
        return before(self, item, None, out)

    patch.setattr(PartitionFold, "_above", above)


@pytest.mark.parametrize(
    ("plant", "laws"),
    [
        (_nobody_waits_at_home, {"conflict", "folds_differ"}),
        (_goes_on, {"away_lost"}),
        (_brings_nothing, {"conflict", "folds_differ"}),
        (_remembers, {"conflict", "folds_differ", "raised"}),
        (_drops, {"loss_not_listed", "folds_differ"}),
    ],
    ids=["nobody waits", "goes on", "brings nothing", "remembers", "drops"],
)
def test_planted_bug_on_the_way_home_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], laws: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    broken: set[str] = set()
    for seed in range(PLANTED_SEEDS):
        try:
            broken |= {found.law for found in Homecoming(seed).run()}
        except EverlodeError:
            broken.add("raised")
        if broken & laws:
            print(f"found with seed {seed}: {sorted(broken)}")
            return
    raise AssertionError(f"not found in {PLANTED_SEEDS} seeds; only {sorted(broken)}")
