"""Suspicions on the control log: which count, and when they are a majority."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.control.fold import ControlState, apply
from everlode.control.sites import STANDS_TICKS, losses, sites, suspicions
from everlode.control.snapshot import from_bytes, to_bytes
from everlode.events.base import Envelope, Event, Fact
from everlode.events.control import LeaseRenewed, RegionSuspected, ScopeAssigned

SITES = ("ap", "eu", "us")


class Log:
    """The control log of a network whose coordinators all lead in epoch 1."""

    def __init__(self, *names: str) -> None:
        self.state = ControlState()
        for name in names or SITES:
            self.lead(name)

    def append(self, data: Event, scope: str, epoch: int) -> int:
        envelope = Envelope(
            event_id="e", aggregate_id="a", version=0, origin="control", scope=scope, epoch=epoch,
            seq=0, stamp=1, occurred_at=datetime(2026, 1, 1, tzinfo=UTC), correlation_id="c",
        )  # fmt: skip
        at = self.state.position + 1
        self.state = apply(self.state, at, Fact(envelope, data))
        return at

    def lead(self, name: str) -> None:
        scope, epoch = f"coordinator/{name}", self.state.epoch(f"coordinator/{name}")
        decided = ScopeAssigned(
            scope_name=scope, new_epoch=epoch + 1, primary_node=f"{name}-co", region=name,
            reason="bootstrap", based_on=max(0, self.state.position), based_on_epoch=epoch,
        )  # fmt: skip
        self.append(decided, scope, epoch)

    def suspect(
        self, observer: str, region: str, *, over: bool = False, epoch: int = 1,
        based_on: int | None = None,
    ) -> int:  # fmt: skip
        said = RegionSuspected(
            region=region, observer=observer, silence_ms=0 if over else 10_000, over=over,
            based_on=self.state.position if based_on is None else based_on, evidence=(),
        )  # fmt: skip
        return self.append(said, f"coordinator/{observer}", epoch)

    def renew(self, name: str, times: int = 1) -> None:
        scope = f"coordinator/{name}"
        renewed = LeaseRenewed(
            scope_name=scope, node_id=f"{name}-co", held_epoch=self.state.epoch(scope), nonce="n"
        )
        for _ in range(times):
            self.append(renewed, scope, renewed.held_epoch)


def test_region_that_a_majority_suspects_is_lost_until_one_of_them_takes_it_back() -> None:
    log = Log()
    log.suspect("eu", "us")
    assert losses(log.state) == {}
    log.suspect("ap", "us")
    loss = losses(log.state)["us"]
    assert (loss.sites, [s.observer for s in loss.suspicions]) == (3, ["ap", "eu"])
    log.suspect("eu", "us", over=True)
    assert losses(log.state) == {}


@pytest.mark.parametrize(("count", "needed"), [(2, 0), (3, 2), (4, 3), (5, 3)])
def test_as_many_sites_as_are_more_than_half_of_all_make_a_loss(count: int, needed: int) -> None:
    """Of two there is one other, which is no majority."""
    names = [f"r{n}" for n in range(count)]
    log = Log(*names)
    for done, observer in enumerate(names[1:], start=1):
        log.suspect(observer, "r0")
        assert ("r0" in losses(log.state)) is (0 < needed <= done)


def test_word_counts_in_the_epoch_of_its_coordinator_alone() -> None:
    log = Log()
    log.suspect("eu", "us")
    log.suspect("ap", "us")
    log.lead("ap")
    assert losses(log.state) == {}
    log.suspect("ap", "us", epoch=1)
    assert losses(log.state) == {}, "the deposed one speaks on"
    log.suspect("ap", "us", epoch=2)
    assert losses(log.state).keys() == {"us"}


def test_word_under_anothers_scope_has_no_effect() -> None:
    log = Log()
    log.suspect("eu", "us")
    forged = RegionSuspected(
        region="us", observer="ap", silence_ms=1, over=False, based_on=9, evidence=()
    )
    log.append(forged, "coordinator/eu", 1)
    assert [s.observer for s in suspicions(log.state, "us")] == ["eu"]


def test_suspicion_that_lands_after_its_end_has_no_effect() -> None:
    """An append that timed out."""
    log = Log()
    before = log.state.position
    log.suspect("eu", "us", based_on=before)
    log.suspect("eu", "us", over=True)
    log.suspect("eu", "us", based_on=before)
    assert suspicions(log.state, "us") == ()


@pytest.mark.parametrize(("ticks", "counts"), [(STANDS_TICKS, True), (STANDS_TICKS + 1, False)])
@pytest.mark.parametrize("who", SITES)
def test_suspicion_is_over_when_it_is_not_said_again(who: str, ticks: int, counts: bool) -> None:
    """Whoever renews meanwhile; nor is it worth anything again when its maker wakes."""
    log = Log()
    log.suspect("eu", "us")
    log.suspect("ap", "us")
    log.renew(who, ticks)
    assert ("us" in losses(log.state)) is counts
    log.suspect("ap", "us")
    log.renew("eu")
    assert ("us" in losses(log.state)) is (counts and who != "eu")
    log.suspect("eu", "us")
    assert "us" in losses(log.state)


@pytest.mark.parametrize(("ticks", "counts"), [(STANDS_TICKS, True), (STANDS_TICKS + 1, False)])
def test_suspicion_that_lands_late_is_as_old_as_when_it_was_sent(ticks: int, counts: bool) -> None:
    log = Log()
    before = log.state.position
    log.renew("ap", ticks)
    log.suspect("eu", "us", based_on=before)
    assert bool(suspicions(log.state, "us")) is counts


def test_site_is_none_of_its_own_accusers_and_unknown_regions_are_no_sites() -> None:
    log = Log()
    log.suspect("us", "us")
    log.suspect("eu", "us")
    log.suspect("eu", "nowhere")
    assert losses(log.state) == {}
    assert sites(log.state) == SITES


@given(
    st.lists(
        st.tuples(
            st.sampled_from(SITES),
            st.sampled_from(SITES),
            st.booleans(),
            st.integers(1, 2),
            st.integers(0, 9),
        ),
        max_size=20,
    )
)
def test_snapshot_has_what_the_log_says(told: list[tuple[str, str, bool, int, int]]) -> None:
    log = Log()
    for observer, region, over, epoch, back in told:
        at = max(0, log.state.position - back)
        log.suspect(observer, region, over=over, epoch=epoch, based_on=at)
        if back == 9:
            log.lead(observer)
    again = from_bytes(to_bytes(log.state))
    assert again == log.state
    assert losses(again) == losses(log.state)
