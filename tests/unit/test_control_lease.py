"""A lease is good from the sending of a renewal that was read back, and never longer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.control.lease import Lease, check_fence_after
from everlode.errors import ConfigError


def test_lease_of_a_new_process_is_not_good() -> None:
    lease = Lease(10_000)
    assert not lease.good(0)
    lease.sent("n", 0)
    assert not lease.good(1)  # sent is not read back


def test_lease_counts_from_sending_not_from_reading() -> None:
    lease = Lease(10_000)
    lease.sent("n", 1_000)
    lease.read_back("n")
    assert (lease.good(10_999), lease.good(11_000), lease.left_ms(2_000)) == (True, False, 9_000)


def test_lease_nonce_of_another_or_read_twice_changes_nothing() -> None:
    lease = Lease(10_000)
    lease.read_back("another's")
    assert not lease.good(0)
    lease.sent("n", 0)
    lease.read_back("n")
    lease.read_back("n")
    assert not lease.good(10_000)


def test_lease_that_is_lost_does_not_come_back_by_what_is_under_way() -> None:
    lease = Lease(10_000)
    lease.sent("late", 0)
    lease.lost()
    lease.read_back("late")
    assert not lease.good(1)


@given(
    st.lists(st.tuples(st.sampled_from(["send", "read", "lose"]), st.integers(0, 5)), max_size=40)
)
def test_lease_is_never_good_later_than_fence_after_its_last_sending(
    plays: list[tuple[str, int]],
) -> None:
    lease, now, last = Lease(100), 0, -(10**9)
    for what, nonce in plays:
        now += 17
        match what:
            case "send":
                lease.sent(str(nonce), now)
                last = now
            case "read":
                lease.read_back(str(nonce))
            case "lose":
                lease.lost()
        assert not lease.good(last + 100)


@pytest.mark.parametrize(
    ("fence", "election", "renew", "fits"),
    [(10_000, 5_000, 2_000, True), (9_999, 5_000, 2_000, False), (10_000, 0, 3_334, False)],
)
def test_fence_after_must_cover_two_elections_and_three_renewals(
    fence: int, election: int, renew: int, fits: bool
) -> None:
    if fits:
        check_fence_after(fence, election, renew)
    else:
        with pytest.raises(ConfigError, match="must be at least 10"):
            check_fence_after(fence, election, renew)
