"""What archived validations say of miners, summed up, so that the fraud rules need them no more.

The sums of a partition are a fold of its archive, in order: a record adds what its validation says,
and takes away what the record before it of the same validation said.

      archive   10: v-1 (a, work wrong)   11: v-2 (a, work right)   12: v-1 audited (a, work right)
      sums of a      0 right, 1 wrong          1 right, 1 wrong           2 right, 0 wrong

They are kept in the snapshot with each page of the archive's index, each with the offset up to
which it counts; a start reads on from there. A validation that was archived and is in memory again
(an expert has looked at it) speaks for itself: what its record said is `overlap` meanwhile.
Invariant: sums, less what overlaps, and what validations in memory say are together what all of
them say. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from everlode.events.snapshots import TALLY, HandedIn, SnapshotTally
from everlode.events.states import State, ValidationState
from everlode.state.testimony import Tallies, Testimony, testimony

Firsts = Callable[[str, str], Sequence[HandedIn]]
"""Home and SHA-256 of a solution → who of the archived ones handed it in first."""


def _said(state: State | None) -> Testimony:
    """By home and miner, as one name."""
    if not isinstance(state, ValidationState):
        return ()
    said = testimony(state)
    return tuple((_subject(state.home, miner), column, count) for miner, column, count in said)


def _subject(home: str, miner: str) -> str:
    return f"{home}/{miner}"  # a home has no slash


class Past:
    """Of one fact topic. It has nothing to say where nothing is a validation."""

    def __init__(self) -> None:
        self.firsts: Firsts = lambda *_: ()
        """Where archived solutions are found."""
        self._saved: dict[int, Tallies] = {}
        """Partition → sums over its archive."""
        self._ends: dict[int, dict[str, int]] = {}
        """Partition → who → offset up to which the sums count already."""
        self._changed: dict[int, set[str]] = {}
        """Partition → those whose sums in the snapshot are not these."""
        self._overlap: dict[str, Testimony] = {}
        """Validation in memory → what its archived record says."""
        self._total = Tallies()
        """All sums, less the overlap."""

    def start(self, tallies: Mapping[int, Sequence[SnapshotTally]], *, anew: bool = False) -> None:
        """Go on with what stands in the snapshot; `anew`: all is archived, and said, again."""
        self._saved, self._ends, self._changed = {}, {}, {}
        self._overlap, self._total = {}, Tallies()
        for partition, found in tallies.items():
            for tally in found:
                who = _subject(tally.home, tally.miner_id)
                if anew:
                    self._changed.setdefault(partition, set()).add(who)
                    continue
                sums = tally[3:]
                self._saved.setdefault(partition, Tallies()).put(who, sums)
                self._ends.setdefault(partition, {})[who] = tally.end
                both = zip(self._total.of(who), sums, strict=True)
                self._total.put(who, (a + b for a, b in both))

    def archived(
        self, place: tuple[int, int], new: State | None, before: State | None, *, held: bool
    ) -> None:
        """A record of the archive, at partition and offset, each once and in order.

        `before`: the one before it of the same aggregate; `held`: it is still in memory.
        """
        partition, offset = place
        ends = self._ends.get(partition, {})
        for said, times in ((_said(before), -1), (_said(new), 1)):
            fresh = tuple(one for one in said if offset >= ends.get(one[0], 0))
            if fresh:
                self._saved.setdefault(partition, Tallies()).add(fresh, times)
                self._changed.setdefault(partition, set()).update(who for who, *_ in fresh)
                self._total.add(fresh, times)
        if held and new is not None:
            self.returned(new)

    def returned(self, state: State) -> None:
        """A validation is in memory whose archived state is this one."""
        if isinstance(state, ValidationState):
            self.left(state.key)
            said = self._overlap[state.key] = _said(state)
            self._total.add(said, -1)

    def left(self, key: str) -> None:
        """It is in the archive alone."""
        self._total.add(self._overlap.pop(key, ()))

    def of(self, home: str) -> HomePast:
        """What concerns a home."""
        return HomePast(self, home)

    def sums(self, home: str, miner: str) -> tuple[int, ...]:
        """By column."""
        return self._total.of(_subject(home, miner))

    # -- the snapshot ------------------------------------------------------------------------

    def due(self, partition: int, end: int) -> list[tuple[bytes, SnapshotTally]]:
        """Key and record of each sum that the snapshot has not; all before `end` is in them."""
        saved = self._saved.get(partition, Tallies())
        found = []
        for who in sorted(self._changed.get(partition, ())):
            home, _, miner = who.partition("/")
            found.append((TALLY + who.encode(), SnapshotTally(home, miner, end, *saved.of(who))))
        return found

    def written(self, partition: int, tally: SnapshotTally) -> None:
        """It stands in the snapshot, as it is here."""
        self._changed[partition].discard(_subject(tally.home, tally.miner_id))


class HomePast:
    """`Past` of one home, for its view."""

    def __init__(self, past: Past, home: str) -> None:
        self._past, self._home = past, home

    def sums(self, miner_id: str) -> tuple[int, ...]:
        """See everlode.state.view.Past."""
        return self._past.sums(self._home, miner_id)

    def firsts(self, solution_sha256: str) -> Sequence[HandedIn]:
        """See everlode.state.view.Past."""
        return self._past.firsts(self._home, solution_sha256)
