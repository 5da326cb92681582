"""The projection's PostgreSQL: guarded rows and positions, generations, and errors by name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from typing import Any

import pytest

from everlode.adapters.postgres import Taken
from everlode.adapters.postgres_next import NextGeneration
from everlode.adapters.postgres_read import current_generation
from everlode.avro.codec import encode_state
from everlode.backup.snapshot import Snapshot
from everlode.backup.standing import Row
from everlode.errors import FencedOut, NotFound, Precondition, Unavailable
from everlode.events.catalogue import STATE_COMPONENTS
from everlode.projection.fold import UNKNOWN, Incoming, Known, Outcome, PartitionFold, Prefix
from everlode.projection.tables import row
from everlode.stack import NativeStack
from everlode.state.dispatch import evolve_fact
from tests.support.world.projecting import (
    COMPONENTS,
    REGIONS,
    SCOPE,
    fact,
    incoming,
    opened,
    topic_of,
)

pytestmark = pytest.mark.timeout(120)
TOPICS = [topic_of(c) for c in COMPONENTS]
_numbers = count(901)


class Base:
    """One generation of one database."""

    def __init__(self, conninfo: str) -> None:
        self.conninfo = conninfo
        self.number = next(_numbers)
        self.open: list[NextGeneration] = []

    def projection(self, owner: str) -> NextGeneration:
        made = NextGeneration(self.conninfo, self.number, owner)
        self.open.append(made)
        return made


@pytest.fixture
def base(everlode_small_stack: NativeStack) -> Iterator[Base]:
    assert everlode_small_stack.endpoints is not None
    made = Base(everlode_small_stack.endpoints.regions["eu"].postgres_conninfo())
    made.projection("maker").create()
    yield made
    made.open[0].drop()
    for db in made.open:
        db.close()


class Owner:
    """A projector of partition 0, without Kafka."""

    def __init__(self, base: Base, name: str) -> None:
        self.db = base.projection(name)
        self.taken: Taken = self.db.take(0, TOPICS)
        self.fold = PartitionFold(
            0, self.taken.positions, self.taken.opened, self.taken.parked, REGIONS
        )

    def take(self, *batch: Incoming) -> Outcome:
        """Fold a batch and write what came of it."""
        before = {t: Prefix(p.seq, p.stamp, p.next_offset) for t, p in self.fold.positions.items()}
        known = self.db.known(PartitionFold.keys(list(batch)))
        outcome = self.fold.fold(list(batch), known)
        rows: dict[str, list[tuple[Any, ...]]] = {}
        for (component, key), value in outcome.changed.items():
            rows.setdefault(component, []).append(row(component, key, value))
        self.db.apply(self.fold, before, outcome, rows, {}, "live")
        return outcome


def test_rows_of_every_component_are_read_back_as_they_were_folded(base: Base) -> None:
    owner = Owner(base, "one")
    batch = [incoming(c, n - 1, fact(c, f"{c}-a", n, n)) for c in COMPONENTS for n in range(1, 4)]
    outcome = owner.take(*batch)
    again = Owner(base, "two")
    assert again.db.known(outcome.changed) == outcome.changed
    assert {t: p.seq for t, p in again.taken.positions.items()} == dict.fromkeys(TOPICS, 3)
    assert again.db.known([("tasks", "nobody")]) == {("tasks", "nobody"): UNKNOWN}
    left = {(c, k): v for c, k, v, _ in again.db.unpublished(0)}
    assert left == {key: known.version for key, known in outcome.changed.items()}


def test_owner_that_was_replaced_changes_neither_rows_nor_positions(base: Base) -> None:
    old = Owner(base, "old")
    old.take(incoming("miners", 0, fact("miners", "a", 1, 1)))
    new = Owner(base, "new")
    with pytest.raises(FencedOut, match="another projector"):
        old.take(incoming("miners", 1, fact("miners", "a", 2, 2)))
    assert new.db.known([("miners", "a")])["miners", "a"].version == 1
    new.take(incoming("miners", 1, fact("miners", "a", 2, 2)))
    assert new.db.known([("miners", "a")])["miners", "a"].version == 2


def test_owner_of_the_same_name_that_slept_is_fenced_by_the_position(base: Base) -> None:
    old, new = Owner(base, "same"), Owner(base, "same")
    new.take(incoming("miners", 0, fact("miners", "a", 1, 1)))
    with pytest.raises(FencedOut):
        old.take(incoming("miners", 0, fact("miners", "a", 1, 1)))


def test_who_sleeps_within_a_transaction_holds_nobody_up(base: Base) -> None:
    """The server ends it, and with it the locks that its successor waits for."""
    asleep, heir = base.projection("asleep"), base.projection("heir")
    asleep.take(0, TOPICS)
    asleep._db.execute("set idle_in_transaction_session_timeout = '200ms'")

    def stalled() -> None:
        with asleep._db.transaction():
            asleep.query("update {g}.positions set seq = seq returning seq")
            assert set(heir.take(0, TOPICS).positions) == set(TOPICS)
            asleep.query("select 1")

    with pytest.raises(Unavailable, match="idle-in-transaction"):
        stalled()


def test_row_never_goes_back_to_an_older_version(base: Base) -> None:
    owner = Owner(base, "one")
    first = owner.take(incoming("miners", 0, fact("miners", "a", 1, 1))).changed["miners", "a"]
    owner.take(incoming("miners", 1, fact("miners", "a", 2, 2)))
    stale = {"miners": [row("miners", "a", first)]}
    owner.db.apply(owner.fold, owner.fold.positions, Outcome(), stale, {}, "live")
    assert owner.db.known([("miners", "a")])["miners", "a"].version == 2


def test_every_opening_is_noted_with_where_it_stands(base: Base) -> None:
    """With the one before them that a recovery restored, or a build without a history noted."""
    one, scope = Owner(base, "one"), SCOPE["miners"]
    one.db.reopen([(topic_of("miners"), 0, scope, 2)])
    one.take(
        incoming("miners", 0, opened("miners", 1, 4)), incoming("miners", 1, opened("miners", 2, 5))
    )
    one.take(incoming("miners", 2, opened("miners", 3, 7)))
    noted = "select epoch, seq from {g}.openings order by epoch"
    assert one.db.query(noted) == [(2, 0), (4, 1), (5, 2), (7, 3)]
    with closing(Snapshot(base.projection("backup"), TOPICS)) as snapshot:
        openings = snapshot.moment.openings[0][topic_of("miners"), scope]
    assert openings == ((2, 0), (4, 1), (5, 2), (7, 3))
    one.db._db.execute(f"drop table g{base.number}.openings".encode())
    with closing(Snapshot(base.projection("backup"), TOPICS)) as snapshot:
        assert snapshot.moment.openings[0][topic_of("miners"), scope] == ((7, 0),)
    one.db.create()


def test_snapshot_is_of_one_moment_whatever_is_written_meanwhile(base: Base) -> None:
    owner = Owner(base, "one")
    first = owner.take(incoming("miners", 0, fact("miners", "a", 1, 1))).changed["miners", "a"]
    assert first.state is not None
    with closing(Snapshot(base.projection("backup"), TOPICS)) as snapshot:
        owner.take(
            incoming("miners", 1, fact("miners", "a", 2, 2)),
            incoming("miners", 2, fact("miners", "b", 1, 3)),
        )
        digest = hashlib.sha256(encode_state(first.state)).digest()
        assert dict(snapshot.rows(0)) == {("miners", "a"): Row(1, 1 << 16, digest, True)}
        assert snapshot.counts(0) == {c: int(c == "miners") for c in STATE_COMPONENTS}
        assert snapshot.states([("miners", "a")]) == {("miners", "a"): first}
        assert snapshot.moment.applied[topic_of("miners"), 0].next_offset == 1
    with closing(Snapshot(base.projection("backup"), TOPICS)) as snapshot:
        assert {key: found.version for (_, key), found in snapshot.rows(0)} == {"a": 2, "b": 1}


def test_what_waits_and_what_was_opened_survive_their_owner(base: Base) -> None:
    one = Owner(base, "one")
    one.take(
        incoming("miners", 0, opened("miners", 1, 4)),
        incoming("miners", 1, fact("miners", "a", 1, 2, epoch=4)),
        incoming("miners", 3, fact("miners", "a", 3, 4, epoch=4)),
    )
    two = Owner(base, "two")
    assert list(two.taken.opened.values()) == [4]
    assert [i.fact.envelope.version for i in two.taken.parked] == [3]
    two.take(incoming("miners", 2, fact("miners", "a", 2, 3, epoch=4)))
    assert two.db.known([("miners", "a")])["miners", "a"].version == 3
    assert Owner(base, "three").taken.parked == []


def test_batch_that_fails_leaves_nothing_of_itself(base: Base) -> None:
    owner = Owner(base, "one")
    known = owner.take(incoming("miners", 0, fact("miners", "a", 1, 1))).changed["miners", "a"]
    good, position = row("miners", "a", known._replace(version=2)), Prefix(9, 9, 9)
    owner.fold.positions[topic_of("miners")] = position
    before = {topic_of("miners"): Prefix(1, 1 << 16, 1)}
    with pytest.raises(Exception, match="null value"):
        owner.db.apply(
            owner.fold, before, Outcome(), {"miners": [good, (None, *good[1:])]}, {}, "live"
        )
    other = Owner(base, "two")
    assert other.taken.positions[topic_of("miners")].seq == 1
    assert other.db.known([("miners", "a")])["miners", "a"].version == 1


def test_tables_made_by_many_at_once_are_made_once(base: Base) -> None:
    many = [base.projection(f"p{n}") for n in range(6)]
    base.open[0].drop()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(NextGeneration.create, many))
    assert many[0].query("select count(*) from {g}.miners") == [(0,)]


def test_restored_states_are_counted_as_far_as_they_are_there_and_deletions_stay(
    base: Base,
) -> None:
    donor = Owner(base, "donor")
    first = fact("miners", "a", 1, 1)
    state = evolve_fact(None, first, 0)
    assert donor.db.loaded("miners", 0) == 0
    assert donor.db.load("miners", [("a", Known(state, 1, ""))]) == 1
    assert (donor.db.loaded("miners", 0), donor.db.loaded("miners", 1)) == (1, 0)
    donor.db.count("published miners/0", 1)
    donor.db.count("published miners/0", 2)
    assert (donor.db.counted("published miners/0"), donor.db.counted("other")) == (2, 0)
    donor.db.bury("miners", 0, [("gone", 7, "e"), ("a", 9, "e")])
    donor.db.reopen([("eu.1.miners", 0, "miner-registry/eu", 3)])
    donor.db.reopen([("eu.1.miners", 0, "miner-registry/eu", 2)])
    donor.db.place(0, {"eu.1.miners": Prefix(50, 60, 70)})
    heir = Owner(base, "heir")
    known = heir.db.known([("miners", "gone"), ("miners", "a")])
    assert known["miners", "gone"] == Known(None, 7, "e")
    assert known["miners", "a"].version == 1  # a state that is there is not buried
    assert heir.taken.opened == {("eu.1.miners", "miner-registry/eu"): 3}
    assert heir.taken.positions["eu.1.miners"] == Prefix(50, 60, 70)
    assert list(heir.db.unpublished(0)) == []
    late = heir.take(incoming("miners", 70, fact("miners", "gone", 7, 51, epoch=3)))
    assert (late.changed, late.folded) == ({}, 0)


def test_generation_is_switched_forwards_only(base: Base) -> None:
    conninfo, db = base.conninfo, base.open[0]
    before = current_generation(conninfo)
    try:
        db.switch()
        assert current_generation(conninfo) == db.generation
        old = NextGeneration(conninfo, 1, "old")
        base.open.append(old)
        with pytest.raises(Precondition, match="a later one is current"):
            old.switch()
        assert current_generation(conninfo) == db.generation
    finally:
        db.query("update everlode.current set generation = %s returning generation", (before,))


def test_missing_generation_and_missing_server_are_named(base: Base) -> None:
    nowhere = NextGeneration(base.conninfo, 99_999, "x")
    base.open.append(nowhere)
    with pytest.raises(NotFound) as missing:
        nowhere.query("select * from {g}.tasks")
    assert (missing.value.code, "g99999" in missing.value.message) == ("no_projection", True)
    with pytest.raises(Unavailable) as gone:
        NextGeneration("postgresql://nobody:s3cret@127.0.0.1:1/none", 1, "x")
    assert gone.value.code == "postgres"
    assert "s3cret" not in gone.value.message
