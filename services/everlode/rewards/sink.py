"""Where payouts leave: a port whose idempotency key is the reward's natural key.

Whoever asks shows its fence: the scope that it leads, and in which epoch. A node that was stopped
after its last look at the lease, and is woken after its failover, still believes that it leads; the
payment system does not pay it once a successor has asked anything, be it only whether a payout has
left: on that answer the successor holds rewards back.

`JournalSink` stands for the payment system: an append-only file, shared by the nodes of a region.
A line is a payout, or an epoch that was shown, once it is whole; what a killed node left of one is
cut off by the next that writes. Shell.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from everlode.errors import FencedOut, IntegrityError, Unavailable

LOCK_S = 1.0
"""The journal's lock is held for one line."""


class PayoutConflict(IntegrityError):
    """A key that was paid is asked for with another amount: that payout stops, and no other."""

    default_code = "payout_conflict"


class Fence(NamedTuple):
    """In whose name a primary asks."""

    scope: str
    epoch: int


class PayoutSink(Protocol):
    """Pays. Must pay a key once however often it is asked, and give the same reference again.

    Both calls must refuse an epoch below the highest that a call has shown for the scope, and must
    have kept a higher one before they answer: it outlives the sink's own process.
    """

    def pay(self, payout_key: str, miner_id: str, amount_micro: int, fence: Fence) -> str:
        """Pay and return the reference.

        Raises: Unavailable: it may or may not have been paid; ask again with the same key.
        PayoutConflict: it was paid with another amount. FencedOut: another one leads; not paid.
        """

    def find(self, payout_key: str, fence: Fence) -> str | None:
        """Reference of a key that was paid, or None; then no lower epoch will pay it.

        Raises: Unavailable. FencedOut: another one leads.
        """


def refused(fence: Fence, highest: int) -> FencedOut:
    """The error of who asks in an epoch that is over."""
    return FencedOut(
        f"payouts of {fence.scope}: epoch {fence.epoch} is over, {highest} has asked already",
        code="payout_fenced",
        hint="nothing was paid; whoever leads the scope pays what is owed",
    )


class JournalSink:
    """A journal of payouts, one JSON line each, on disk before `pay` returns."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = path.open("a+b")
        self._paid: dict[str, tuple[str, int]] = {}
        self._epochs: dict[str, int] = {}
        """Scope → the highest epoch that was shown."""
        self._at = 0
        self._lines = 0
        """What was read whole and right: bytes, and lines."""

    def _catch_up(self) -> None:
        """Read what another node has appended meanwhile; an unfinished last line is no payout.

        Raises: IntegrityError: a whole line is no payout; names it, at every look until it is
        mended.
        """
        with open(self._file.fileno(), "rb", closefd=False) as lines:
            lines.seek(self._at)  # in a buffer of its own: a line may have been mended since
            while (line := lines.readline()).endswith(b"\n"):
                self._read(line)

    def _read(self, line: bytes) -> None:
        try:
            self._take_over(json.loads(line))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise IntegrityError(
                f"{self._path}, line {self._lines + 1}: not a payout",
                code="payout_journal_damaged",
                hint="mend the line from the payment system's own books, then start the node",
            ) from None
        self._at, self._lines = self._at + len(line), self._lines + 1

    def _take_over(self, entry: dict[str, Any]) -> None:
        if "key" in entry:
            self._paid[str(entry["key"])] = (str(entry["ref"]), int(entry["amount_micro"]))
        if "scope" in entry or "key" not in entry:  # lines of older builds have none
            scope, epoch = str(entry["scope"]), int(entry["epoch"])
            self._epochs[scope] = max(epoch, self._epochs.get(scope, 0))

    def _cut_off_torn(self) -> None:
        """Remove what a killed node left of a line; under the lock nobody else is writing one."""
        if self._file.seek(0, os.SEEK_END) > self._at:
            self._file.truncate(self._at)

    def pay(self, payout_key: str, miner_id: str, amount_micro: int, fence: Fence) -> str:
        """See PayoutSink. Raises: IntegrityError: the journal is damaged."""
        with self._locked():
            self._check(fence)
            if payout_key in self._paid:
                ref, amount = self._paid[payout_key]
                if amount != amount_micro:
                    raise PayoutConflict(
                        f"payout {payout_key}: paid {amount}, now asked for {amount_micro}",
                        hint=f"compare the reward's events with {self._path}",
                    )
                self._keep(fence)
                return ref
            ref = "pay-" + hashlib.sha256(payout_key.encode()).hexdigest()[:24]
            entry = {"key": payout_key, "miner": miner_id, "amount_micro": amount_micro, "ref": ref}
            self._append(entry | fence._asdict())
        return ref

    def find(self, payout_key: str, fence: Fence) -> str | None:
        """See PayoutSink. Raises: IntegrityError: the journal is damaged."""
        if self._epochs.get(fence.scope, 0) != fence.epoch:
            with self._locked():
                self._check(fence)
                self._keep(fence)
        try:
            self._catch_up()
        except OSError as error:
            raise Unavailable(f"payout journal: {error.strerror}") from None
        self._check(fence)  # from here on no lower epoch pays, so what was read is true
        paid = self._paid.get(payout_key)
        return paid[0] if paid else None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """All that was written is read, and nobody else writes: a fenced node may not know yet."""
        self._lock()
        try:
            self._catch_up()
            yield
        except OSError as error:
            raise Unavailable(f"payout journal: {error.strerror}") from None
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _lock(self) -> None:
        """Raises: Unavailable: another process has it, and may have been stopped with it."""
        deadline = time.monotonic() + LOCK_S
        while True:
            try:
                return fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Unavailable(f"{self._path} is locked by another process") from None
                time.sleep(LOCK_S / 100)

    def _check(self, fence: Fence) -> None:
        highest = self._epochs.get(fence.scope, 0)
        if fence.epoch < highest:
            raise refused(fence, highest)

    def _keep(self, fence: Fence) -> None:
        if fence.epoch > self._epochs.get(fence.scope, 0):
            self._append(fence._asdict())

    def _append(self, entry: dict[str, Any]) -> None:
        self._cut_off_torn()
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())  # must: what is booked has left
        self._catch_up()

    def close(self) -> None:
        """Let the file go."""
        self._file.close()
