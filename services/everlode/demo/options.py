"""What a user asks of the demo. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from everlode.errors import ConfigError

MOMENTS = ("before-first-assignment", "mid-run", "during-backup", "during-recovery")
"""When the primary of each kind is killed."""


class Options(NamedTuple):
    """What the user asked for."""

    trace: Path | None
    seed: int
    speed: float
    share: float
    kill_at: str
    keep: bool
    root: Path | None = None

    def check(self) -> None:
        """Raises: ConfigError: there is no such moment."""
        if self.kill_at not in MOMENTS:
            raise ConfigError(f"--kill-at {self.kill_at!r}", hint=f"one of: {', '.join(MOMENTS)}")
