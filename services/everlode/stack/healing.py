"""What is done about a process that has ended: start it, wait, or give up. Pure.

The first loss is healed at once, the next ones after a wait that doubles. A process that keeps
ending is given up, so that it hides no fault and takes no other's processor; so is one of ours that
says that its settings are wrong: no start will mend those.

Invariants: what follows depends on the losses and the time alone, so a supervisor that takes over
goes on where the other one was; a clock that was set back delays nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from everlode.errors import ConfigError

PARTS = frozenset({"kafka", "control", "mirror", "postgres", "s3"})
"""Kinds of what others have written, whose exit statuses are their own."""


class Exit(NamedTuple):
    """A process has ended, when nobody had asked it to."""

    at_s: float
    """Since 1970."""
    status: int | None
    """Negative: the signal. None: not known, somebody else had started it."""


@dataclass(frozen=True)
class Limits:
    """How patient healing is."""

    first_wait_s: float = 1.0
    """Before the second start; it doubles from there on."""
    longest_wait_s: float = 60.0
    cap: int = 10
    """Starts within `window_s` after which a process is given up."""
    window_s: float = 1800.0
    """What is longer ago than this, before the last loss, does not count."""
    steady_s: float = 5.0
    """A process that has served this long is healed."""


class Lost(NamedTuple):
    """A process that does not run and should."""

    kind: str
    exits: Sequence[Exit]
    """In their order, at least one."""
    lacking: str = ""
    """What it needs and that does not serve now; its start would fail."""


class Wait(NamedTuple):
    """Nothing yet."""

    why: str


class Start(NamedTuple):
    """Start it now."""

    attempt: int
    """From 1, within the window."""


class GiveUp(NamedTuple):
    """Never start it again."""

    attempts: int
    why: str


Step = Wait | Start | GiveUp


def plan(lost: Lost, now_s: float, limits: Limits = Limits()) -> Step:
    """The next step about a lost process; asked again and again, until it starts or is given up."""
    last = lost.exits[-1]
    if last.status == ConfigError.exit_code and lost.kind not in PARTS:
        return GiveUp(len(recent(lost.exits, limits)) - 1, "its settings are wrong")
    attempt = len(recent(lost.exits, limits))
    if attempt > limits.cap:
        within = f"{limits.cap} starts within {limits.window_s / 60:.0f} min"
        return GiveUp(limits.cap, f"it ended after each of {within}, {ended(last)}")
    if lost.lacking:
        return Wait(f"{lost.lacking} does not serve")
    since = now_s - last.at_s
    if 0 <= since < wait_s(attempt, limits):
        return Wait(f"attempt {attempt} follows {wait_s(attempt, limits):.0f} s after its end")
    return Start(attempt)


def recent(exits: Sequence[Exit], limits: Limits = Limits()) -> tuple[Exit, ...]:
    """The losses that count."""
    return tuple(x for x in exits if exits[-1].at_s - x.at_s <= limits.window_s)


def wait_s(attempt: int, limits: Limits = Limits()) -> float:
    """Seconds from a loss to this attempt to heal it."""
    if attempt == 1:
        return 0.0
    return min(limits.longest_wait_s, limits.first_wait_s * 2.0 ** min(attempt - 2, 30))


def ended(last: Exit) -> str:
    """A loss, for people."""
    match last.status:
        case None:
            return "and how it ended is not known"
        case status if status < 0:
            return f"the last time by signal {-status}"
        case status:
            return f"the last time with status {status}"
