"""What an entry is; all of them are listed in `entries`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

Level = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Entry:
    """Base of all entries; `level` says who should care."""

    level: ClassVar[Level] = "info"

    @property
    def text(self) -> str:
        """One line for people."""
        raise NotImplementedError
