"""The settings of a detector, as one value: what it runs with, and what else could be asked of it.

Every detector of a network runs with these values; others are for `scope explain --with`. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from everlode.detection.phi import CONVICTED, FLOOR_MS, PAUSE_MS
from everlode.errors import ConfigError


class Tuning(NamedTuple):
    """Times in ms of the barriers; counts and shares as they are."""

    missed: float = 1.7
    """A silence of this many intervals is a missed heartbeat."""
    grace_ms: int = 4_000
    """No verdicts for this long after the first barrier seen, or after barriers were silent."""
    ask_again_ms: int = 2_500
    """A node that stays silent is probed again after this time."""
    alive_ms: int = 10_000
    """A node that answered its probe is taken as lost only after this much more silence."""
    unanswered_ms: int = 1_000
    """One that accepts its probe and says nothing is taken as lost after this much less."""
    convicted: float = CONVICTED
    """Phi at which a silent node is lost."""
    pause_ms: float = PAUSE_MS
    """A pause that is always forgiven."""
    floor_ms: float = FLOOR_MS
    """Smallest standard deviation of the distances between beats."""
    blind_share: float = 0.55
    """More than this share of the nodes silent at once: the observer is blind."""
    blind_least: int = 3
    """Fewer silent nodes than this never blind it."""
    idle_beats: int = 10
    """Heartbeats without any work done while work waits, until a node is told as idle."""
    degraded_ms: int = 5_000
    """A node that says so long that it cannot do its work is degraded."""
    flaps: int = 4
    """A node that went silent and came back this often within `flap_window_ms` is flapping."""
    flap_window_ms: int = 60_000
    flap_silence: float = 3.0
    """Shorter silences, in intervals, are hiccups and do not count as flaps."""


DEFAULT = Tuning()


def tuned(changes: Mapping[object, object], where: str) -> Tuning:
    """The default settings with these changed; `where` names their file in errors.

    Raises: ConfigError: a key that is no setting, or a value that is no number above 0.
    """
    values: dict[str, Any] = {}
    for key, value in changes.items():
        if key not in Tuning._fields:
            raise ConfigError(
                f"{where}: {key!r} is no setting of a detector",
                hint=f"there are: {', '.join(Tuning._fields)}",
            )
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
            raise ConfigError(f"{where}: {key}: {value!r}", hint="a number above 0")
        whole = isinstance(getattr(DEFAULT, str(key)), int)
        if whole and value != int(value):
            raise ConfigError(f"{where}: {key}: {value!r}", hint="a whole number above 0")
        values[str(key)] = int(value) if whole else float(value)
    return DEFAULT._replace(**values)
