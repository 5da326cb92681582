"""Published formulas, in integers: reputation, reward, stake, penalty.

Amounts are millionths of a credit, `_ppm` millionths; every division rounds down (towards
minus infinity). docs/format.md, "Formulas", is their specification. Pure.
"""

from __future__ import annotations

from everlode.events.types import PPM

REWARD_FORMULA = 1
"""Number of the reward formula; 0 is a booked slash."""
REPUTATION_START = 500_000
GAIN = 20_000
"""Share of the way to full reputation that a perfect solution moves a miner."""
CLEARED = 10_000
"""Share of the way to full reputation that a miner moves when a suspicion proves false."""
LOSS = {"rejected": 50_000, "failed": 20_000, "expired": 30_000, "fraud": 500_000}
"""Share of its reputation that a miner loses."""
STAKE_SHARE = 200_000
"""Stake locked for a task, as a share of its base reward."""
PENALTY_FACTOR = 5
"""Stake taken for a fraud of full severity, in stakes of the task concerned."""


def reputation_after(reputation_ppm: int, outcome: str, score_ppm: int = 0) -> int:
    """Reputation after an outcome; stays in 0 to 1000000, never moves the wrong way.

    accepted: + (PPM − r) · GAIN · score / PPM²; cleared: + (PPM − r) · CLEARED / PPM; otherwise:
    − ⌈r · LOSS / PPM⌉.
    """
    if outcome == "cleared":
        return reputation_ppm + (PPM - reputation_ppm) * CLEARED // PPM
    if outcome == "accepted":
        return reputation_ppm + (PPM - reputation_ppm) * GAIN * score_ppm // (PPM * PPM)
    return reputation_ppm * (PPM - LOSS[outcome]) // PPM


def reward_of(base_micro: int, score_ppm: int) -> int:
    """Formula 1: base · score / PPM."""
    return base_micro * score_ppm // PPM


def stake_of(base_reward_micro: int) -> int:
    """Stake that is locked for a task with this base reward."""
    return base_reward_micro * STAKE_SHARE // PPM


def penalty_of(base_reward_micro: int, severity_ppm: int) -> int:
    """Stake taken from each who is guilty of fraud around a task with this base reward."""
    return stake_of(base_reward_micro) * PENALTY_FACTOR * severity_ppm // PPM
