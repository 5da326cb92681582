"""Fences of regions on the control log: what is lawful, what is accepted, who may take a scope."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.control.fences import Fence, longest, short, why_not_returned
from everlode.control.fold import MAX_TICKS, apply
from everlode.control.snapshot import from_bytes, to_bytes
from everlode.events.base import Envelope, Event, Fact, Position
from everlode.events.control import (
    LeaseRenewed,
    PrefixReported,
    RegionFenced,
    RegionReturned,
    ScopeAssigned,
)
from tests.unit.test_control_sites import Log

SCOPE = "task-manager/us"


class Fenced(Log):
    """A network that has lost us, whose tasks had a primary in epoch 1."""

    def __init__(self, *names: str) -> None:
        super().__init__(*names)
        self.assign("us", SCOPE, "us/tm-1")
        self.suspect("eu", "us")
        self.suspect("ap", "us")

    def fence(self, by: str = "eu", **changes: object) -> int:
        fields = {
            "region": "us", "fenced_origin": "us.1", "observers": ("ap", "eu"), "sites": 3,
            "based_on": self.state.position, **changes,
        }  # fmt: skip
        data = RegionFenced.model_validate(fields)
        return self.append(data, f"coordinator/{by}", self.state.epoch(f"coordinator/{by}"))

    def report(self, by: str, *seqs: int, at: int | None = None) -> None:
        positions = tuple(
            Position(topic="us.1.tasks", partition=p, seq=seq) for p, seq in enumerate(seqs)
        )
        fence = self.state.fences.get("us")
        fenced_at = at if at is not None else fence.offset if fence else 0
        data = PrefixReported(region="us", observer=by, fenced_at=fenced_at, positions=positions)
        self.append(data, f"coordinator/{by}", 1)

    def come_back(self, *seqs: int, by: str = "us", at: int | None = None) -> bool:
        """us says where its log ended; whether it is a member by that."""
        if not self.state.scopes["coordinator/us"].primary:
            self.assign("us", "coordinator/us", "us-co")
        positions = tuple(
            Position(topic="us.1.tasks", partition=p, seq=seq) for p, seq in enumerate(seqs)
        )
        fenced_at = self.us.offset if at is None else at
        data = RegionReturned(region="us", fenced_at=fenced_at, positions=positions)
        self.append(data, f"coordinator/{by}", self.state.epoch(f"coordinator/{by}"))
        return not self.us.out

    def taken(self) -> None:
        """us is fenced, and eu has its tasks."""
        self.fence()
        self.report("eu", 3)
        self.report("ap", 3)
        assert self.assign("eu", SCOPE, "eu-tm-1")

    def assign(self, by: str, scope: str, primary: str) -> bool:
        epoch = self.state.epoch(scope)
        decided = ScopeAssigned(
            scope_name=scope, new_epoch=epoch + 1, primary_node=primary, region=by,
            reason="takeover", based_on=max(0, self.state.position), based_on_epoch=epoch,
            coordinator_epoch=self.state.epoch(f"coordinator/{by}"),
        )  # fmt: skip
        self.append(decided, f"coordinator/{by}", self.state.epoch(f"coordinator/{by}"))
        return self.state.epoch(scope) == epoch + 1

    @property
    def us(self) -> Fence:
        return self.state.fences["us"]


def test_region_that_is_fenced_leads_nothing_and_its_leases_are_void() -> None:
    log = Fenced()
    at = log.fence()
    led = log.state.scopes[SCOPE]
    assert (led.epoch, led.primary, led.region, led.decided_at) == (2, "", "us", at)
    assert log.state.scopes["coordinator/us"].primary == ""
    assert log.us.epochs == {SCOPE: 2, "coordinator/us": 2}
    assert log.us.members == ("ap", "eu")
    renewed = LeaseRenewed(scope_name=SCOPE, node_id="us/tm-1", held_epoch=1, nonce="n")
    log.append(renewed, SCOPE, 1)
    assert log.state.scopes[SCOPE].renewed_at == -1
    assert log.state.scopes["coordinator/eu"].epoch == 1, "others lead on"


@pytest.mark.parametrize(
    ("by", "changes"),
    [
        ("us", {}),
        ("eu", {"observers": ("eu",)}),
        ("eu", {"observers": ("eu", "us")}),
        ("eu", {"observers": ("eu", "eu")}),
        ("eu", {"observers": ("ap", "eu"), "sites": 4}),
    ],
)
def test_fence_without_a_majority_or_by_the_region_itself_is_void(
    by: str, changes: dict[str, object]
) -> None:
    log = Fenced()
    log.fence(by, **changes)
    assert log.state.fences == {}
    assert log.state.epoch(SCOPE) == 1


def test_fence_is_void_when_an_observer_has_taken_its_word_back_or_it_lands_late() -> None:
    log = Fenced()
    before = log.state.position
    log.suspect("ap", "us", over=True)
    at = log.fence(based_on=before)
    assert log.state.fences == {}
    assert "taken its suspicion back" in log.state.late[at], "compaction may leave the word out"
    late = Fenced()
    before = late.state.position
    late.renew("eu", MAX_TICKS + 1)
    at = late.fence(based_on=before)
    assert late.state.fences == {}
    assert at in late.state.late


def test_fence_of_a_deposed_coordinator_and_a_second_one_are_void() -> None:
    log = Fenced()
    log.lead("eu")
    data = RegionFenced(
        region="us", fenced_origin="us.1", observers=("ap", "eu"), sites=3,
        based_on=log.state.position,
    )  # fmt: skip
    log.append(data, "coordinator/eu", 1)
    assert log.state.fences == {}
    first = log.fence()
    log.fence("ap")
    assert log.us.offset == first
    assert log.state.epoch(SCOPE) == 2


def test_longest_prefix_of_each_partition_is_accepted_once_all_members_have_reported() -> None:
    log = Fenced()
    log.fence()
    log.report("eu", 41, 7)
    assert (log.us.accepted, log.us.lacks()) == (None, ("ap",))
    log.report("us", 99, 99)
    assert log.us.accepted is None, "the fenced one has no say"
    log.report("ap", 40, 9)
    accepted = {"us.1.tasks/0": 41, "us.1.tasks/1": 9}
    assert log.us.accepted == accepted
    assert not log.us.level("eu")
    log.report("eu", 50, 9)
    assert log.us.accepted == accepted, "it never changes"
    assert (log.us.level("eu"), log.us.level("ap")) == (True, False)
    log.report("eu", 1, 1)
    assert log.us.level("eu"), "a prefix never shrinks"


def test_report_about_another_fence_has_no_effect() -> None:
    log = Fenced()
    log.fence()
    log.report("eu", 1, at=log.us.offset - 1)
    assert log.us.reports == {}


def test_scope_is_taken_by_the_first_member_that_is_level_and_then_its_alone() -> None:
    log = Fenced()
    log.fence()
    assert not log.assign("eu", SCOPE, "eu/tm-1"), "what counts is not known yet"
    log.report("eu", 3)
    log.report("ap", 2)
    assert not log.assign("ap", SCOPE, "ap/tm-1"), "it is not level"
    assert not log.assign("us", SCOPE, "us/tm-1"), "it is fenced"
    assert log.assign("eu", SCOPE, "eu/tm-1")
    led = log.state.scopes[SCOPE]
    assert (led.epoch, led.region, led.primary) == (3, "eu", "eu/tm-1")
    log.report("ap", 3)
    assert not log.assign("ap", SCOPE, "ap/tm-1"), "eu owns it"
    log.lead("us")
    assert not log.assign("us", SCOPE, "us/tm-1"), "it is back, and fenced"
    assert log.assign("eu", SCOPE, "eu/tm-2"), "a failover of its owner"


def test_coordinator_of_a_fenced_region_may_lead_again_and_fences_nobody() -> None:
    log = Fenced()
    log.fence()
    log.lead("us")
    assert log.state.scopes["coordinator/us"].primary == "us-co"
    log.fence("us", region="eu", fenced_origin="eu.1", observers=("ap", "us"))
    assert log.state.fences.keys() == {"us"}


def test_vector_is_the_same_in_whatever_order_the_members_report() -> None:
    told = (("ap", 4, 9), ("eu", 6, 2), ("sa", 5, 5))
    found = []
    for order in permutations(told):
        log = Fenced("ap", "eu", "sa", "us")
        log.fence(observers=("ap", "eu", "sa"), sites=4)
        for by, *seqs in order:
            log.report(by, *seqs)
        found.append(log.us.accepted)
    assert found == [{"us.1.tasks/0": 6, "us.1.tasks/1": 9}] * 6


VECTORS = st.dictionaries(st.sampled_from("abc"), st.integers(0, 9))


@given(st.lists(VECTORS, min_size=1))
def test_longest_is_short_of_none_and_no_longer_than_needed(vectors: list[dict[str, int]]) -> None:
    found = longest(vectors)
    assert all(short(found, one) == {} for one in vectors)
    assert all(any(one.get(at, 0) == seq for one in vectors) for at, seq in found.items())


def test_snapshot_has_the_fences() -> None:
    log = Fenced()
    log.fence()
    log.report("eu", 3)
    log.report("ap", 2)
    assert from_bytes(to_bytes(log.state)) == log.state


@pytest.mark.parametrize("over", [True, False])
def test_compaction_that_leaves_out_a_word_changes_no_fence(over: bool) -> None:
    """A word is said again, and takes the place of the one that made a fence void."""
    log = Fenced()
    kept: list[tuple[int, Fact]] = []
    append, dropped = log.append, list[int]()

    def note(data: Event, scope: str, epoch: int) -> int:
        at = append(data, scope, epoch)
        kept.append((at, record(data, scope, epoch)))
        return at

    begun, log.append = log.state, note  # type: ignore[method-assign]
    before = log.state.position
    dropped.append(log.suspect("ap", "us", over=over))
    log.fence(based_on=before)
    log.suspect("ap", "us")
    again = replace(begun, late=log.state.late)
    for at, fact in kept:
        if at not in dropped:
            again = apply(again, at, fact)
    assert (again.fences, again.scopes) == (log.state.fences, log.state.scopes)
    assert bool(again.fences) is not over


def record(data: Event, scope: str, epoch: int) -> Fact:
    """The record as it was appended."""
    envelope = Envelope(
        event_id="e", aggregate_id="a", version=0, origin="control", scope=scope, epoch=epoch,
        seq=0, stamp=1, occurred_at=datetime(2026, 1, 1, tzinfo=UTC), correlation_id="c",
    )  # fmt: skip
    return Fact(envelope, data)


# -- a region that is back -------------------------------------------------------------------------


def test_region_is_a_member_again_once_its_scopes_are_taken_and_its_log_has_all_that_counts() -> (
    None
):
    log = Fenced()
    assert why_not_returned(log.state, log.state.fences.get("us")) == "it is not fenced"
    log.fence()
    assert not log.come_back(5), "what counts is not known"
    log.report("eu", 3)
    log.report("ap", 3)
    assert not log.come_back(5), "nobody has its scopes"
    assert log.assign("eu", SCOPE, "eu-tm-1")
    assert not log.come_back(2), "it has lost what counts"
    assert not log.come_back(5, by="eu"), "nobody else says so"
    assert not log.come_back(5, at=log.us.offset - 1), "of another fence"
    assert log.come_back(5)
    assert (log.us.ended, log.us.accepted) == ({"us.1.tasks/0": 5}, {"us.1.tasks/0": 3})


def test_region_that_is_back_owns_nothing_of_what_was_taken_and_counts_among_the_members() -> None:
    log = Fenced()
    log.taken()
    assert not log.assign("us", "rewards/us", "us-r-1"), "while it is fenced it takes nothing"
    assert log.come_back(5)
    assert not log.assign("us", SCOPE, "us/tm-1"), "eu owns it"
    assert log.assign("eu", SCOPE, "eu-tm-2"), "eu's own failover"
    assert log.assign("us", "rewards/us", "us-r-1"), "what nobody has had it may begin"
    log.suspect("us", "ap")
    log.suspect("eu", "ap")
    data = RegionFenced(
        region="ap", fenced_origin="ap.1", observers=("eu", "us"), sites=3,
        based_on=log.state.position,
    )  # fmt: skip
    log.append(data, "coordinator/us", log.state.epoch("coordinator/us"))
    assert log.state.fences["ap"].members == ("eu", "us")


def test_region_that_was_back_is_fenced_again_only_while_it_owns_no_service() -> None:
    log = Fenced()
    log.taken()
    assert log.come_back(5)
    first = log.us.offset
    log.suspect("eu", "us")
    log.suspect("ap", "us")
    log.fence()
    assert log.us.out
    assert log.us.offset > first
    assert (log.us.accepted, log.us.ended) == ({"us.1.tasks/0": 3}, {"us.1.tasks/0": 5})
    assert log.state.scopes["coordinator/us"].primary == ""
    assert log.us.level("eu")
    assert log.come_back(4), "what it had once it has, whatever it says now"
    assert log.us.ended == {"us.1.tasks/0": 5}
    assert log.assign("us", "rewards/us", "us-r-1")
    log.fence()
    assert not log.us.out


def test_snapshot_has_a_return() -> None:
    log = Fenced()
    log.taken()
    log.come_back(5)
    assert from_bytes(to_bytes(log.state)) == log.state
