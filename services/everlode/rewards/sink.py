"""Where payouts leave: a port whose idempotency key is the reward's natural key.

`JournalSink` stands for the payment system: an append-only file, shared by the nodes of a region.
A line is a payout once it is whole; what a killed node left of one is cut off by the next that
pays. Shell.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import Protocol

from everlode.errors import IntegrityError, Unavailable


class PayoutConflict(IntegrityError):
    """A key that was paid is asked for with another amount: that payout stops, and no other."""

    default_code = "payout_conflict"


class PayoutSink(Protocol):
    """Pays. Must pay a key once however often it is asked, and give the same reference again."""

    def pay(self, payout_key: str, miner_id: str, amount_micro: int) -> str:
        """Pay and return the reference.

        Raises: Unavailable: it may or may not have been paid; ask again with the same key.
        PayoutConflict: it was paid with another amount.
        """

    def find(self, payout_key: str) -> str | None:
        """Reference of a key that was paid, or None. Raises: Unavailable."""


class JournalSink:
    """A journal of payouts, one JSON line each, on disk before `pay` returns."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = path.open("a+b")
        self._paid: dict[str, tuple[str, int]] = {}
        self._at = 0
        self._lines = 0

    def _catch_up(self) -> None:
        """Read what another node has appended meanwhile; an unfinished last line is no payout.

        Raises: IntegrityError: a whole line is no payout; names it.
        """
        self._file.seek(self._at)
        while (line := self._file.readline()).endswith(b"\n"):
            self._lines += 1
            try:
                entry = json.loads(line)
                self._paid[str(entry["key"])] = (str(entry["ref"]), int(entry["amount_micro"]))
            except (ValueError, KeyError, TypeError):
                raise IntegrityError(
                    f"{self._path}, line {self._lines}: not a payout",
                    code="payout_journal_damaged",
                    hint="mend the line from the payment system's own books, then start the node",
                ) from None
            self._at = self._file.tell()

    def _cut_off_torn(self) -> None:
        """Remove what a killed node left of a line; under the lock nobody else is writing one."""
        if self._file.seek(0, os.SEEK_END) > self._at:
            self._file.truncate(self._at)

    def pay(self, payout_key: str, miner_id: str, amount_micro: int) -> str:
        """See PayoutSink. Raises: IntegrityError: the journal is damaged."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)  # a fenced node may not have noticed yet
            self._catch_up()
            if payout_key in self._paid:
                ref, amount = self._paid[payout_key]
                if amount != amount_micro:
                    raise PayoutConflict(
                        f"payout {payout_key}: paid {amount}, now asked for {amount_micro}",
                        hint=f"compare the reward's events with {self._path}",
                    )
                return ref
            self._cut_off_torn()
            ref = "pay-" + hashlib.sha256(payout_key.encode()).hexdigest()[:24]
            entry = {"key": payout_key, "miner": miner_id, "amount_micro": amount_micro, "ref": ref}
            self._file.write(json.dumps(entry).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())  # must: what is booked has left
            self._catch_up()
        except OSError as error:
            raise Unavailable(f"payout journal: {error.strerror}") from None
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        return ref

    def find(self, payout_key: str) -> str | None:
        """See PayoutSink. Raises: IntegrityError: the journal is damaged."""
        try:
            self._catch_up()
        except OSError as error:
            raise Unavailable(f"payout journal: {error.strerror}") from None
        paid = self._paid.get(payout_key)
        return paid[0] if paid else None

    def close(self) -> None:
        """Let the file go."""
        self._file.close()
