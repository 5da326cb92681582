"""Who hears whom, as transcripts: what happens to the sites, and all that their coordinators say.

`second: fault names`, from the list in `tests.support.world.sites`; then what must follow, a line
each: `second: who says it: what about whom`. Whatever else is said fails. Barriers come each
second; a link is stale after 5 s of silence, a region suspected after 10. What is said at the
start, of links that carry, is left out.
"""

from __future__ import annotations

import pytest

from everlode.control.sites import losses, suspicions
from tests.support.world.sites import PATIENCE, Sites

BEGIN_S = 8
"""Seconds until everybody has heard everybody."""


def play(sites: str, transcript: str, until_s: int = 60) -> tuple[Sites, list[str]]:
    """Runs the faults of a transcript; the world at its end, and all that was said."""
    world = Sites(*sites.split())
    faults: dict[int, list[str]] = {}
    for line in transcript.strip().splitlines():
        second, _, what = line.strip().partition(": ")
        if ":" not in what:
            faults.setdefault(int(second), []).append(what)
    while world.now < until_s:
        world.second()
        for what in faults.get(world.now, ()):
            world.do(what)
    started = [s for s in world.said if s.second <= BEGIN_S]
    assert all(s.data.over for s in started), [s.text for s in started]
    return world, [s.text for s in world.said if s.second > BEGIN_S]


def expected(transcript: str) -> list[str]:
    lines = (line.strip() for line in transcript.strip().splitlines())
    return [line for line in lines if ":" in line.partition(": ")[2]]


SCENARIOS = {
    "a region that dies is lost by the two others; it comes back, and is not": (
        "eu us ap",
        """
        10: dies us
        15: eu: LinkStale us
        15: ap: LinkStale us
        20: eu: RegionSuspected us
        20: ap: RegionSuspected us
        21: eu: RegionLost us by ap eu
        21: ap: RegionLost us by ap eu
        40: starts us
        41: eu: LinkStale us over
        41: eu: RegionSuspected us over
        41: us: LinkStale ap over
        41: us: LinkStale eu over
        41: ap: LinkStale us over
        41: ap: RegionSuspected us over
        42: eu: RegionLost us over
        42: ap: RegionLost us over
        """,
    ),
    "a link that is cut one way is stale; whoever reads it accuses alone, so nobody is lost": (
        "eu us ap",
        """
        10: cut us->eu
        15: eu: LinkStale us
        20: eu: RegionSuspected us
        40: mend us->eu
        41: eu: LinkStale us over
        41: eu: RegionSuspected us over
        """,
    ),
    "a link that is cut both ways has each accuse the other; the third decides it: nobody": (
        "eu us ap",
        """
        10: cut us--eu
        15: eu: LinkStale us
        15: us: LinkStale eu
        20: eu: RegionSuspected us
        20: us: RegionSuspected eu
        """,
    ),
    "whoever hears nobody is blind: it accuses nobody, and the others lose it": (
        "eu us ap",
        """
        10: cut us--eu ap--eu
        15: eu: LinkStale ap blind
        15: eu: LinkStale us blind
        15: us: LinkStale eu
        15: ap: LinkStale eu
        20: us: RegionSuspected eu
        20: ap: RegionSuspected eu
        21: us: RegionLost eu by ap us
        21: ap: RegionLost eu by ap us
        """,
    ),
    "a region whose mirrors stand is heard by the others: its links are stale, nobody is lost": (
        "eu us ap",
        """
        10: cut us->eu ap->eu
        15: eu: LinkStale ap blind
        15: eu: LinkStale us blind
        """,
    ),
    "of two regions none is ever lost": (
        "eu us",
        """
        10: dies us
        15: eu: LinkStale us blind
        """,
    ),
    "of five regions two cut off are lost by three; the two are blind": (
        "eu us ap sa af",
        """
        10: cut eu--ap eu--sa eu--af us--ap us--sa us--af
        15: eu: LinkStale af blind
        15: eu: LinkStale ap blind
        15: eu: LinkStale sa blind
        15: us: LinkStale af blind
        15: us: LinkStale ap blind
        15: us: LinkStale sa blind
        15: ap: LinkStale eu
        15: ap: LinkStale us
        15: sa: LinkStale eu
        15: sa: LinkStale us
        15: af: LinkStale eu
        15: af: LinkStale us
        20: ap: RegionSuspected eu
        20: ap: RegionSuspected us
        20: sa: RegionSuspected eu
        20: sa: RegionSuspected us
        20: af: RegionSuspected eu
        20: af: RegionSuspected us
        21: eu: RegionLost us by af ap sa
        21: us: RegionLost eu by af ap sa
        21: ap: RegionLost eu by af ap sa
        21: ap: RegionLost us by af ap sa
        21: sa: RegionLost eu by af ap sa
        21: sa: RegionLost us by af ap sa
        21: af: RegionLost eu by af ap sa
        21: af: RegionLost us by af ap sa
        """,
    ),
    "whose own Kafka stands still sees no time pass, and begins anew": (
        "eu us ap",
        """
        10: kafka-stands eu
        15: us: LinkStale eu
        15: ap: LinkStale eu
        18: kafka-goes-on eu
        19: us: LinkStale eu over
        19: ap: LinkStale eu over
        """,
    ),
    "an observer that starts while another is dead waits for its grace, and accuses it": (
        "eu us ap",
        """
        10: dies us
        15: eu: LinkStale us
        15: ap: LinkStale us
        17: dies ap
        17: starts ap
        18: ap: LinkStale eu over
        20: eu: RegionSuspected us
        28: ap: LinkStale us
        33: ap: RegionSuspected us
        34: eu: RegionLost us by ap eu
        34: ap: RegionLost us by ap eu
        """,
    ),
    "whoever reaches no control log accuses nobody": (
        "eu us ap",
        """
        9: off-control ap
        20: dies us
        25: eu: LinkStale us
        30: eu: RegionSuspected us
        45: on-control ap
        46: ap: LinkStale eu over
        46: ap: LinkStale us
        46: ap: RegionSuspected us
        47: eu: RegionLost us by ap eu
        47: ap: RegionLost us by ap eu
        """,
    ),
    "an accuser that falls silent itself is worth nothing any more": (
        "eu us ap",
        """
        10: dies us
        15: eu: LinkStale us
        15: ap: LinkStale us
        20: eu: RegionSuspected us
        20: ap: RegionSuspected us
        21: eu: RegionLost us by ap eu
        21: ap: RegionLost us by ap eu
        24: off-control eu
        31: ap: RegionLost us over
        """,
    ),
    "a clock that is an hour wrong says nothing of who lives": (
        "eu us ap",
        """
        10: hour-ahead us
        12: hour-behind ap
        """,
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_transcript(name: str) -> None:
    sites, transcript = SCENARIOS[name]
    world, said = play(sites, transcript)
    assert said == expected(transcript)
    for site in world.sites.values():  # whoever folds the log counts the same
        assert losses(world.folded(site.control)) == losses(world.folded())


def test_accused_knows_from_the_control_log_who_does_not_hear_it() -> None:
    """An asymmetric cut, seen from both sides."""
    world, _ = play("eu us ap", "10: cut us->eu")
    seen = suspicions(world.sites["us"].control, "us")
    assert [(s.observer, s.region) for s in seen] == [("eu", "us")]
    assert seen[0].silence_ms >= PATIENCE.suspected_ms
