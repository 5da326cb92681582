"""A projector's own look at the ends of its logs: what nobody hands out to it is read all the same.

Theory of operation. Whether Faust hands records out shows nowhere but in the positions. So every
LOOK_S each place (topic and partition number) that this process holds is compared with the end of
its log:

    look    position    end     end at the look before    this place
      1        40        60              -                 is new
      2        40        75             60                 stands: 40 .. 59 were there all the time
      3        75        75             75                 has been read back

  1. a place stands that has not moved since the look before, when its log was ahead already;
  2. its number is read on in bulk, which takes the number's lock as any batch does (must: one
     batch of a number at a time); what Faust hands out later is passed over by its offset;
  3. a place that still stands after so many looks ends the process with its name and with what
     every thread of it was at: a thread hangs, and a new process has none of it.

A look counts, not the clock: a process that was stopped and wakes has not looked. What is behind
the position for good (markers of transactions, records that retention has removed) is passed by
`read_to`: an end that a reading has reached is no reason to read again.

`Standstill` is pure, `Watch` its shell.
"""

from __future__ import annotations

import queue
import sys
import threading
import traceback
from collections.abc import Mapping
from typing import NamedTuple

from everlode.adapters.kafka import Reader
from everlode.errors import Unavailable
from everlode.projector.assignment import Assignment
from everlode.telemetry.entries import ReadBack, ThreadStands
from everlode.telemetry.sink import Sink

LOOK_S = 5.0
"""How often a projector looks at the ends of its logs."""
FRAMES = 4
"""Innermost calls of a thread that are reported."""

Place = tuple[str, int]
"""Topic and partition number."""


class Standing(NamedTuple):
    """The place of a partition number that has stood longest."""

    topic: str
    partition: int
    position: int
    """Offset of the next record to be applied."""
    end: int
    """Offset after the log's last committed record, at the look before."""
    looks: int
    """Looks in a row at which it stood, from 1."""


class Standstill:
    """Which partition numbers stand while their logs go on. Pure."""

    def __init__(self) -> None:
        self._seen: dict[Place, tuple[int, int]] = {}
        """Place → position and end at the last look."""
        self._looks: dict[Place, int] = {}
        self._read_to: dict[Place, int] = {}

    def look(self, positions: Mapping[Place, int], ends: Mapping[Place, int]) -> list[Standing]:
        """One look; returns a `Standing` a number that stands, in the numbers' order.

        Places that are not in `positions` any more are forgotten.
        """
        found: dict[int, Standing] = {}
        for at, position in positions.items():
            before, end = self._seen.get(at, (-1, 0))
            stands = position == before and end > max(position, self._read_to.get(at, 0))
            self._looks[at] = self._looks.get(at, 0) + 1 if stands else 0
            known = found.get(at[1])
            if stands and (known is None or known.looks < self._looks[at]):
                found[at[1]] = Standing(*at, position, end, self._looks[at])
        self._seen = {at: (positions[at], ends[at]) for at in positions}
        for kept in (self._looks, self._read_to):
            for at in kept.keys() - positions.keys():
                del kept[at]
        return [found[number] for number in sorted(found)]

    def read(self, partition: int, ends: Mapping[Place, int]) -> None:
        """The number was read to at least these ends."""
        for at, end in ends.items():
            if at[1] == partition:
                self._read_to[at] = end


class _Read(NamedTuple):
    """How a reading ended."""

    of: Standing
    ends: Mapping[Place, int]
    """Of the look that asked for it; it has read at least to these."""
    outcome: int | Exception | None
    """Records; None: the number had moved meanwhile, or is another's."""


class Watch:
    """Looks and readings of one projector. `look` is one thread's; readings have their own."""

    def __init__(self, bootstrap: str, assignment: Assignment, most: int, report: Sink) -> None:
        """`most`: looks in a row at which a place may stand. `report` gets what is read back."""
        self._assignment = assignment
        self._most = most
        self._report = report
        self._ends = Reader(bootstrap, "projector-look")
        self._standstill = Standstill()
        self._reading: dict[int, threading.Thread] = {}
        self._done: queue.SimpleQueue[_Read] = queue.SimpleQueue()

    def look(self) -> Standing | None:
        """One look; returns a place that nothing helps, for the process to end with.

        A broker that does not answer is no look. Raises: what a reading raised, but Unavailable.
        """
        self._finish()
        positions = self._assignment.positions()
        try:
            ends = self._ends.ends(positions)
        except Unavailable:
            return None
        standing = self._standstill.look(positions, ends)  # 1. what stands
        for one in standing:
            self._read_back(one, ends)  # 2. is read on
        return next((one for one in standing if one.looks >= self._most), None)  # 3. or ends

    def _read_back(self, one: Standing, ends: Mapping[Place, int]) -> None:
        def read() -> None:
            outcome: int | Exception | None
            try:
                outcome = self._assignment.read_back(one.partition, one.topic, one.position)
            except Exception as error:  # noqa: BLE001 - `look` raises it
                outcome = error
            self._done.put(_Read(one, ends, outcome))

        if one.partition not in self._reading:
            thread = threading.Thread(target=read, name=f"read-back-{one.partition}", daemon=True)
            self._reading[one.partition] = thread
            thread.start()

    def _finish(self) -> None:
        while not self._done.empty():
            of, ends, outcome = self._done.get()
            del self._reading[of.partition]
            if isinstance(outcome, int):
                self._standstill.read(of.partition, ends)
                if outcome:
                    self._report(ReadBack(of.topic, of.partition, of.position, of.end, outcome))
            elif outcome is not None and not isinstance(outcome, Unavailable):
                raise outcome


def report_threads(report: Sink) -> None:
    """Report what every thread of this process is at, the innermost calls last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        calls = traceback.extract_stack(frame)[-FRAMES:]
        where = " > ".join(f"{call.name} ({call.filename}:{call.lineno})" for call in calls)
        report(ThreadStands(names.get(ident, str(ident)), where))
