"""What a process has in hand, written beside it so that it outlives the process.

    take ──► work ──► drop         ended in between: the mark stays, and its lock is free
                                   ──► whoever finds it says so on the control log (see
                                       `control.blame`), and removes it

    take ──► work that does not come back        its own process says so itself, and goes on

A mark is a small mapped file: writing it costs a microsecond, and what was written is there however
the process ends. It is locked while its process lives; one that ends in good order removes it. A
machine that is gone takes its marks with it. Shell.
"""

from __future__ import annotations

import fcntl
import json
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from everlode.control.blame import kept_off
from everlode.events.control import InputBlamed
from everlode.membership.agent import NodeAgent

HEAD, SLOT = 512, 768
"""Bytes of who it is, and of each thing that is in hand; the first two of these are its length."""
DECIDING, JUDGING = 0, 1
"""What is in hand: of a primary's turn, of a validator's judge."""


class InHand(Protocol):
    """What is in hand, and what is to be kept off."""

    def take(self, slot: int, what: str) -> None:
        """It is worked on from now on, until the next one, or `drop`."""

    def drop(self, slot: int) -> None:
        """Nothing is in hand any more."""

    def kept_off(self, what: str) -> tuple[str, ...]:
        """The processes that it has ended, when it is to be kept off; else none."""

    def stands(self, what: str) -> None:
        """This process, which lives, does not come back from it. Said at the next `blame`."""

    def blame(self) -> None:
        """Publish what ended others, or stands. Raises: Unavailable."""

    def close(self) -> None:
        """The process ends in good order."""


class Nothing:
    """For tests, and wherever nobody looks."""

    def take(self, slot: int, what: str) -> None:
        """See InHand."""

    def drop(self, slot: int) -> None:
        """See InHand."""

    def kept_off(self, what: str) -> tuple[str, ...]:
        """See InHand."""
        return ()

    def stands(self, what: str) -> None:
        """See InHand."""

    def blame(self) -> None:
        """See InHand."""

    def close(self) -> None:
        """See InHand."""


NOTHING = Nothing()


class Left(NamedTuple):
    """A mark whose process has ended."""

    path: Path
    node_id: str
    incarnation: str
    inputs: tuple[str, ...]


class Mark:
    """Of one process. Each slot is used by one thread."""

    def __init__(self, folder: Path, node_id: str, incarnation: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = folder / incarnation
        self._file = self._path.open("w+b")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._file.truncate(HEAD + 2 * SLOT)
        self._map = mmap.mmap(self._file.fileno(), HEAD + 2 * SLOT)
        head = json.dumps({"node": node_id, "incarnation": incarnation}).encode()
        self._map[: len(head)] = head

    def take(self, slot: int, what: str) -> None:
        """See InHand."""
        text, at = what.encode()[: SLOT - 2], HEAD + slot * SLOT
        self._map[at : at + 2] = b"\0\0"
        self._map[at + 2 : at + 2 + len(text)] = text
        self._map[at : at + 2] = len(text).to_bytes(2, "big")  # last: never half a text

    def drop(self, slot: int) -> None:
        """See InHand."""
        at = HEAD + slot * SLOT
        self._map[at : at + 2] = b"\0\0"

    def close(self) -> None:
        """It ends in good order."""
        self._path.unlink(missing_ok=True)
        self._map.close()
        self._file.close()


def left(folder: Path) -> Iterator[Left]:
    """The marks of processes that have ended; one that is not whole says nothing."""
    for path in sorted(folder.glob("*")) if folder.is_dir() else ():
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                data = file.read()
            head = json.loads(data[:HEAD].rstrip(b"\0"))
            slots = [data[at : at + SLOT] for at in (HEAD, HEAD + SLOT)]
            texts = [
                s[2 : 2 + int.from_bytes(s[:2], "big")].decode(errors="replace") for s in slots
            ]
            yield Left(path, head["node"], head["incarnation"], tuple(t for t in texts if t))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # it lives, was removed, or was being made when its process ended


class Hands:
    """Of one node's process: its own mark, and those that others have left on this machine."""

    def __init__(self, folder: Path, agent: NodeAgent) -> None:
        """Raises: OSError: nothing can be written there."""
        self._folder = folder
        self._agent = agent
        self._mark = Mark(folder, agent.identity.node_id, agent.incarnation.id)
        self._stands: list[str] = []
        """What this process does not come back from, and has not said yet."""
        self.take, self.drop, self.close = self._mark.take, self._mark.drop, self._mark.close

    def kept_off(self, what: str) -> tuple[str, ...]:
        """See InHand."""
        return kept_off(self._agent.control.blamed, what)

    def stands(self, what: str) -> None:
        """See InHand."""
        self._stands.append(what)

    def blame(self) -> None:
        """Say on the control log what ended others or stands, and wait until it is read back.

        Raises: Unavailable: the control log does not answer; it is said again.
        """
        at, me, own = -1, self._agent.identity.node_id, self._agent.incarnation.id
        while self._stands:
            what = self._stands[0]
            data = InputBlamed(node_id=me, incarnation=own, input=what, lives=True)
            at = self._agent.log.append(me, data, node_id=me)
            self._stands.pop(0)
        for found in left(self._folder):
            for what in found.inputs:
                data = InputBlamed(node_id=found.node_id, incarnation=found.incarnation, input=what)
                at = self._agent.log.append(found.node_id, data, node_id=me)
            found.path.unlink(missing_ok=True)
        if at >= 0:
            self._agent.control_at(at)
