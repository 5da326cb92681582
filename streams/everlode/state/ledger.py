"""The double-entry ledger: entries of one posting sum to zero. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from everlode.events.base import LedgerEntry


def posting(source: str, target: str, amount_micro: int) -> tuple[LedgerEntry, LedgerEntry]:
    """Amount from one account to another; sums to zero."""
    return (
        LedgerEntry(account=source, amount_micro=-amount_micro),
        LedgerEntry(account=target, amount_micro=amount_micro),
    )


def summed(entries: Iterable[LedgerEntry]) -> tuple[LedgerEntry, ...]:
    """Entries summed by account, sorted; accounts at zero stay, for what was booked on them."""
    totals: dict[str, LedgerEntry] = {}
    for entry in entries:
        account, amount_micro = entry.account, entry.amount_micro
        if account in totals:
            amount_micro += totals[account].amount_micro
            entry = LedgerEntry(account=account, amount_micro=amount_micro)
        totals[account] = entry
    return tuple([totals[account] for account in sorted(totals)])
