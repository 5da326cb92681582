"""Where payouts leave: a port whose idempotency key is the reward's natural key.

`JournalSink` stands for the payment system: an append-only file, shared by the nodes of a region.
Shell.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import Protocol

from everlode.errors import IntegrityError, Unavailable


class PayoutSink(Protocol):
    """Pays. Must pay a key once however often it is asked, and give the same reference again."""

    def pay(self, payout_key: str, miner_id: str, amount_micro: int) -> str:
        """Pay and return the reference.

        Raises: Unavailable: it may or may not have been paid; ask again with the same key.
        """

    def find(self, payout_key: str) -> str | None:
        """Reference of a key that was paid, or None. Raises: Unavailable."""


class JournalSink:
    """A journal of payouts, one JSON line each, on disk before `pay` returns."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+", encoding="utf-8")
        self._paid: dict[str, tuple[str, int]] = {}
        self._at = 0

    def _catch_up(self) -> None:
        """Read what another node has appended meanwhile; an unfinished last line is no payout."""
        self._file.seek(self._at)
        while (line := self._file.readline()).endswith("\n"):
            self._at = self._file.tell()
            if line.strip():
                entry = json.loads(line)
                self._paid[entry["key"]] = (entry["ref"], entry["amount_micro"])

    def pay(self, payout_key: str, miner_id: str, amount_micro: int) -> str:
        """See PayoutSink. Raises: IntegrityError: the key was paid with another amount."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)  # a fenced node may not have noticed yet
            self._catch_up()
            if payout_key in self._paid:
                ref, amount = self._paid[payout_key]
                if amount != amount_micro:
                    raise IntegrityError(
                        f"payout {payout_key}: paid {amount}, now asked for {amount_micro}"
                    )
                return ref
            ref = "pay-" + hashlib.sha256(payout_key.encode()).hexdigest()[:24]
            entry = {"key": payout_key, "miner": miner_id, "amount_micro": amount_micro, "ref": ref}
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
        except OSError as error:
            raise Unavailable(f"payout journal: {error.strerror}") from None
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        self._paid[payout_key] = (ref, amount_micro)
        return ref

    def find(self, payout_key: str) -> str | None:
        """See PayoutSink."""
        try:
            self._catch_up()
        except OSError as error:
            raise Unavailable(f"payout journal: {error.strerror}") from None
        paid = self._paid.get(payout_key)
        return paid[0] if paid else None

    def sync(self) -> None:
        """Put what was written on disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let the file go."""
        self._file.close()
