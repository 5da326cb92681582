"""Five of those who handed a solution in are all that the rule about copies can ask."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from everlode.events.snapshots import HandedIn
from everlode.state.fraudrules import copied_solution, firsts


def handed(stamp: int, number: int, miner: str, payload: str, *, planted: bool = False) -> HandedIn:
    name = f"s{number}"
    return HandedIn(stamp, name, "s", payload, "s" if planted else None, miner, name, f"v-{name}")


ALL = st.lists(
    st.builds(
        handed, st.integers(0, 9), st.integers(0, 99), st.sampled_from("abcd"),
        st.sampled_from("wxyz"), planted=st.booleans(),
    ),
    max_size=12, unique_by=lambda one: one.solution_id,
)  # fmt: skip


@given(ALL, st.integers(0, 12))
def test_copies_are_found_by_the_first_five_as_by_all(found: list[HandedIn], half: int) -> None:
    few = firsts((*firsts(found[:half]), *found[half:]))
    assert len(few) <= 5
    assert few == firsts(found)
    for miner in "abcde":
        for payload in "vwxyz":
            for stamp in (0, 4, 10):
                one = handed(stamp, 100, miner, payload)
                assert copied_solution(one, few) == copied_solution(one, found)
