"""Damage to the folder of a recovery that was interrupted: its journal, and what it has fetched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from everlode.backup.verify import fetch
from everlode.errors import Unavailable
from everlode.recovery.journal import RecoveryJournal
from everlode.recovery.operation import recover
from everlode.telemetry.entries import StepEnded
from tests.support.damage.world import GENERATION, PLAN, World
from tests.support.world.backed import TOPOLOGY

Harm = Callable[[World], None]
REACHED = ("replay", "tasks")
"""Step at which the recovery is interrupted: half of the components are still to come."""


def interrupt(world: World) -> None:
    """Begin a recovery of the latest backup, and end it in its midst."""

    def report(entry: Any) -> None:
        if isinstance(entry, StepEnded) and (entry.step, entry.subject) == REACHED:
            raise Unavailable("interrupted")

    region = world.region
    with pytest.raises(Unavailable, match="interrupted"):
        recover(PLAN, region.endpoints, TOPOLOGY, region.store, region.keys, world.work,
                report=report)  # fmt: skip


def _journal(world: World) -> Path:
    return world.work / "run" / "journal.jsonl"


def _lines(world: World, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    entries = [json.loads(line) for line in _journal(world).read_text().splitlines()]
    _journal(world).write_text("".join(json.dumps(e) + "\n" for e in change(entries)))


def _emptied(world: World) -> None:
    _journal(world).write_bytes(b"")


def _torn(world: World) -> None:
    """Without the end of its last line."""
    path = _journal(world)
    path.write_bytes(path.read_bytes()[:-5])


def _as_fetched(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As it was when the objects had been fetched, and nothing was made yet."""
    steps = [e["step"] for e in entries]
    return entries[: steps.index("fetched") + 1]


def _generation_lowered(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The generation that is filled is said to be the one that is current."""
    return [{**e, "generation": GENERATION} if "generation" in e else e for e in entries]


def _plan_of_another(world: World) -> None:
    """As a recovery of the other region would have written it."""
    entries = [json.loads(line) for line in _journal(world).read_text().splitlines()]
    _journal(world).unlink()
    journal = RecoveryJournal(_journal(world))
    for entry in entries:
        if "plan" in entry:
            entry["plan"] |= {"target_region": "us", "plan_name": "recover-us"}
        left_out = ("step", "at_ms", "sha256")
        journal.note(entry["step"], **{k: v for k, v in entry.items() if k not in left_out})
    journal.close()


JOURNAL: dict[str, Harm] = {
    "emptied": _emptied,
    "truncated": _torn,
    "older copy put back": lambda w: _lines(w, _as_fetched),
    "made again": lambda w: _journal(w).unlink(),
    "one record changed": lambda w: _lines(w, _generation_lowered),
    "another region's": _plan_of_another,
}


# -- what it has fetched -----------------------------------------------------------------------


def _staged(world: World, component: str = "rewards") -> Path:
    """One that is still to be restored."""
    return world.work / "run" / f"{component}-0.plain"


def _stage(change: Callable[[bytes], bytes]) -> Harm:
    def harm(world: World) -> None:
        path = _staged(world)
        path.write_bytes(change(path.read_bytes()))

    return harm


def _older_one(world: World) -> None:
    region = world.region
    entry = next(o for o in world.older.objects if (o.component, o.partition) == ("rewards", 0))
    fetch(region.store, region.keys, entry, world.work / "run")


def _another_file(world: World) -> None:
    """What another object holds."""
    shutil.copy(_staged(world, "miners"), _staged(world))


def _gone(world: World) -> None:
    """The folder with all that is in it."""
    shutil.rmtree(world.work)


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


STAGING: dict[str, Harm] = {
    "emptied": _stage(lambda _: b""),
    "truncated": _stage(lambda data: data[: len(data) // 2]),
    "older copy put back": _older_one,
    "made again": _gone,
    "one record changed": _stage(_flipped),
    "another region's": _another_file,
}
