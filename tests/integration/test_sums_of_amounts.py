"""Amounts that are lawful one by one, and together more than 64 bits hold. On a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from everlode.adapters.kafka_topics import ensure_topics
from everlode.adapters.postgres_heartbeats import Heartbeats
from everlode.adapters.postgres_next import NextGeneration
from everlode.avro.codec import Codec
from everlode.events.base import LedgerEntry
from everlode.events.stamp import stamp_at
from everlode.events.states import RewardState
from everlode.projection.fold import Known
from everlode.recovery.gates import AtTheCut, Built, gate_component
from everlode.stack import NativeStack
from everlode.topics import Topology, state_topics
from everlode.views.clusters import Asked, cluster

pytestmark = pytest.mark.timeout(120)
TOPOLOGY = Topology(regions=("eu",), control_replication=1, control_min_insync=1)
NOW = datetime(2026, 1, 2, tzinfo=UTC)
MOST = 2**63 - 1
_numbers = count(961)


@pytest.fixture
def db(everlode_small_stack: NativeStack) -> Iterator[NextGeneration]:
    assert everlode_small_stack.endpoints is not None
    place = everlode_small_stack.endpoints.regions["eu"]
    made = NextGeneration(place.postgres_conninfo(), next(_numbers), "test")
    made.create()
    yield made
    made.drop()
    made.close()


def reward(number: int, status: str, credit: int = MOST) -> tuple[str, Known]:
    key = f"t{number}|m"
    state = RewardState(
        key=key, epoch=1, version=1, stamp=stamp_at(1), fold_version=1, origin="eu.1",
        partition=0, seq=1, status=status, home="eu", task_id=f"t{number}", miner_id="m",
        validation_id="", case_id=None, base_micro=MOST, score_ppm=1_000_000, amount_micro=MOST,
        formula=1, payout_ref=None,
        entries=(
            LedgerEntry(account="treasury", amount_micro=-MOST),
            LedgerEntry(account="payable:m", amount_micro=credit),
        ),
        calculated_at=NOW, paid_at=NOW if status == "paid" else None,
    )  # fmt: skip
    return key, Known(state, 1, "")


def test_figures_of_amounts_beyond_64_bits_are_exact(db: NextGeneration) -> None:
    states = [reward(n, status) for n, status in enumerate(["calculated"] * 3 + ["paid"] * 2)]
    assert db.load("rewards", states) == 5
    found = cluster("rewards", Asked(db.query, "eu", "eu.1", 1))
    assert found["pending_payouts_micro"] == 3 * MOST
    assert found["paid_24h_micro"] == 2 * MOST
    assert found["ledger_balance_micro"] == 0
    for figure in ("pending_payouts_micro", "paid_24h_micro", "ledger_balance_micro"):
        assert type(found[figure]) is int
    accounts = dict(db.query("select account, amount_micro from {g}.ledger"))
    assert accounts == {"treasury": -5 * MOST, "payable:m": 5 * MOST}


@pytest.mark.parametrize(
    ("short", "reasons"), [(0, ()), (1, ("the ledger sums to -3, not to zero",))]
)
def test_gate_of_amounts_beyond_64_bits_holds_only_for_a_difference(
    db: NextGeneration, everlode_small_stack: NativeStack, short: int, reasons: tuple[str, ...]
) -> None:
    assert everlode_small_stack.endpoints is not None
    place = everlode_small_stack.endpoints.regions["eu"]
    ensure_topics(place.kafka_bootstrap, state_topics(TOPOLOGY, "eu", db.generation))
    db.load("rewards", [reward(n, "calculated", MOST - short) for n in range(3)])
    built = Built(place.postgres_conninfo(), place.kafka_bootstrap, db.generation, 2)
    differ, *others = gate_component(built, "rewards", Codec(), AtTheCut()).findings
    assert "3 keys differ" in differ.text  # the rows were put there by hand, and no states
    assert tuple(finding.text for finding in others) == reasons


def test_ledger_that_an_older_build_made_is_made_anew(db: NextGeneration) -> None:
    db.query("select 1")
    g = f"g{db.generation}"
    for text in (
        f"drop view {g}.ledger",
        f"create view {g}.ledger as select e.key as account, sum(e.value::bigint)::bigint as"
        f" amount_micro from {g}.rewards r, jsonb_each_text(r.entries) e group by e.key",
    ):
        db._db.execute(text.encode())
    db.create()
    db.load("rewards", [reward(n, "calculated") for n in range(2)])
    assert len(db.query("select * from {g}.ledger")) == 2


def test_miner_whose_beats_are_years_apart_in_a_moment_hides_nobody(
    db: NextGeneration, everlode_small_stack: NativeStack
) -> None:
    """Its pace and its interval are lawful, and no interval of PostgreSQL holds their product."""
    assert everlode_small_stack.endpoints is not None
    place = everlode_small_stack.endpoints.regions["eu"]
    beats = Heartbeats(place.postgres_conninfo(), db.generation, "test")
    try:
        year, long = timedelta(days=365), 10 * 366 * 86_400_000
        beats.miners([("m", "eu", long, 0, stamp_at(1000), NOW - 9 * year)])
        beats.miners([("m", "eu", long, 0, stamp_at(1001), NOW)])
    finally:
        beats.close()
    ((pace,),) = db.query("select pace from {g}.miner_beats")
    assert pace > 10**11
    found = cluster("miner-registry", Asked(db.query, "eu", "eu.1", 1))
    assert found["active_miners"] == 0
