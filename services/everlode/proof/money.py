"""The proof of rewards: by formula, from accepted validations, paid once, and booked. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from everlode.proof.findings import Proof
from everlode.proof.recount import LoggedEvent


def about_money(difference: str) -> bool:
    """True when a difference is one of rewards, payouts or the ledger (P4)."""
    return re.match(r"(\w+ )?(rewards?|payout|ledger) ", difference) is not None


def check_rewards(
    proof: Proof,
    validations: Iterable[LoggedEvent],
    rewards: Iterable[LoggedEvent],
    payouts: Iterable[dict[str, Any]],
) -> None:
    """Rewards follow from accepted validations by formula 1, are paid once, and sum to zero."""
    accepted = {
        e.envelope["aggregate_id"]: e.data
        for e in validations
        if e.kind == "ValidationDecided" and e.data["accepted"]
    }
    rewarded: set[str] = set()
    ledger: Counter[str] = Counter()
    paid: dict[str, int] = {}
    tasks: Counter[str] = Counter()
    for e in rewards:
        key = e.envelope["aggregate_id"]
        entries = e.data.get("entries", [])
        if sum(x["amount_micro"] for x in entries):
            proof.differ(f"reward {key}: the entries of {e.kind} do not sum to zero")
        for x in entries:
            ledger[x["account"]] += x["amount_micro"]
        if e.kind == "RewardCalculated":
            rewarded.add(e.data["validation_id"])
            _check_amount(proof, key, e.data, accepted)
        elif e.kind == "RewardPaid":
            if key in paid:
                proof.differ(f"reward {key}: paid twice")
            paid[key] = e.data["amount_micro"]
            tasks[e.data["task_id"]] += 1
    for task in sorted(t for t, n in tasks.items() if n > 1):
        proof.differ(f"reward of {task}: paid to {tasks[task]} miners")
    for validation in sorted(accepted.keys() - rewarded):
        proof.differ(f"reward of {validation}: accepted, but nothing was calculated")
    if sum(ledger.values()):
        proof.differ(f"the ledger sums to {sum(ledger.values())}, not to zero")
    proof.ledger = {account: amount for account, amount in ledger.items() if amount}
    _check_payouts(proof, paid, payouts)
    proof.rewards_paid, proof.paid_micro = len(paid), sum(paid.values())


def _check_amount(
    proof: Proof, key: str, data: dict[str, Any], accepted: dict[str, dict[str, Any]]
) -> None:
    decided = accepted.get(data["validation_id"])
    if decided is None:
        proof.differ(f"reward {key}: its validation {data['validation_id']} accepted nothing")
        return
    if key != f"{decided['task_id']}|{decided['miner_id']}":
        proof.differ(f"reward {key}: {decided['miner_id']} solved {decided['task_id']}")
    right = decided["base_reward_micro"] * decided["score_ppm"] // 1_000_000
    if data["amount_micro"] != right:
        proof.differ(f"reward {key}: {data['amount_micro']} calculated, {right} is right")


def _check_payouts(proof: Proof, paid: dict[str, int], payouts: Iterable[dict[str, Any]]) -> None:
    sent: dict[str, int] = {}
    for entry in payouts:
        if "key" not in entry:  # an epoch that was shown
            continue
        if entry["key"] in sent:
            proof.differ(f"payout {entry['key']}: left twice")
        sent[entry["key"]] = entry["amount_micro"]
    for key in sorted(sent.keys() | paid.keys()):
        if sent.get(key, 0) != paid.get(key, 0):  # nothing leaves of what repaid a debt
            proof.differ(f"payout {key}: left {sent.get(key)}, booked {paid.get(key)}")


def check_ledger(proof: Proof, region: str, accounts: Iterable[tuple[str, int]]) -> None:
    """Each account of a projected ledger holds what the postings in the log sum to."""
    stored = {account: amount for account, amount in accounts if amount}
    for account in sorted(stored.keys() | proof.ledger.keys()):
        have, right = stored.get(account, 0), proof.ledger.get(account, 0)
        if have != right:
            proof.differ(f"{region} ledger {account}: {have} in the projection, {right} is right")
