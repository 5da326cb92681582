"""What waits for validators or for a member, and what others hear of it: once when the oldest of a
kind has waited for too long, and once when none has any more.

      validation/expert   v-1 waits ──► 600 s: WorkWaits, nobody able, 3 wait ──► … ──► over
      case/<rule>         suspected ──► 600 s: WorkWaits, for its member or an expert ──► … ──► over

What a predecessor has published nobody knows: of each kind a successor publishes that it is over,
once nothing waits, or what waits has not done so for too long. Waiting is counted on the wall since
this primary has known of it: event time may be a replay's, and an outage is nobody's wait. Looking
costs as much as there are kinds, however much waits. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from everlode.events.health import WorkWaits
from everlode.events.ids import derived
from everlode.primary.component import Notice

TOO_LONG_S = 600.0
LOOK_S = 5.0


class Waits:
    """Of one component's primary, by kind of work. Not thread-safe."""

    def __init__(
        self, component: str, kinds: Sequence[str], waits_for: Callable[[str], str]
    ) -> None:
        """`kinds`: of work, all that there are; `waits_for`: kind → who moves it on."""
        self._component, self._kinds, self._waits_for = component, kinds, waits_for
        self._new: dict[str, str] = {}
        """Aggregate → kind, of what has come since the last look."""
        self._since: dict[str, dict[str, float]] = {}
        """Kind → aggregate → since when, the oldest first."""
        self._kind: dict[str, str] = {}
        self._published: dict[str, str] = {}
        """Kind of which others have heard → the oldest then."""
        self._unsure: dict[str, None] = {}
        """Kinds of which a predecessor may have published that they wait."""
        self._begun_s: float | None = None
        """When this primary looked first."""
        self._escalated = frozenset[str]()
        """Kinds of which others are to hear at once."""
        self._by = ""
        self._look_at = 0.0

    def led(self, by: str) -> None:
        """A primary begins; `by` names its epochs. The same ones again: nobody has led between."""
        if by != self._by:
            self._by, self._begun_s = by, None
            self._published.clear()
            self._unsure = dict.fromkeys(self._kinds)

    def begins(self, key: str, kind: str) -> None:
        """An aggregate waits; as another kind than before, it waits anew."""
        if self._kind.get(key) != kind:
            self.ends(key)
            self._kind[key] = self._new[key] = kind

    def escalate(self, kinds: Iterable[str]) -> None:
        """Of these kinds, and no others, something waits that nobody but an operator moves on."""
        self._escalated = frozenset(kinds)

    def ends(self, key: str) -> None:
        """It waits no more."""
        kind = self._kind.pop(key, None)
        if kind is not None:
            self._new.pop(key, None)
            self._since.get(kind, {}).pop(key, None)

    def notices(self, now_s: float, able: Callable[[str], int]) -> Iterator[Notice]:
        """What others must hear of now. `able`: kind → how many could do it; -1: not known."""
        if now_s < self._look_at:
            return
        self._look_at = now_s + LOOK_S
        if self._begun_s is None:
            self._begun_s = now_s
        for key, kind in self._new.items():
            self._since.setdefault(kind, {})[key] = now_s
        self._new.clear()
        for kind, waiting in list(self._since.items()):
            oldest, since = next(iter(waiting.items()), ("", now_s))
            late = now_s - since >= TOO_LONG_S or bool(waiting and kind in self._escalated)
            if late != (kind in self._published):
                first = self._published.pop(kind, oldest)
                if late:
                    self._published[kind] = oldest
                    self._unsure.pop(kind, None)
                yield self._notice(kind, first, (oldest, now_s - since), able(kind))
            if not waiting and kind not in self._published:
                del self._since[kind]
        for kind in list(self._unsure):
            if kind not in self._since or now_s - self._begun_s >= TOO_LONG_S:
                del self._unsure[kind]
                yield self._notice(kind, self._by, ("", 0.0), able(kind))

    def _notice(self, kind: str, first: str, oldest: tuple[str, float], able: int) -> Notice:
        over = kind not in self._published
        data = WorkWaits(
            component=self._component,
            work=kind,
            waits_for=self._waits_for(kind),
            able=able,
            waiting=len(self._since.get(kind, ())),
            oldest_id="" if over else oldest[0],
            oldest_ms=int(oldest[1] * 1000),
            over=over,
        )
        about = f"{self._component}/{kind}"
        return Notice(about, derived("waits", about, first, str(over)), data)
