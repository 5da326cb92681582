"""What a coordinator does next about a lost region, by the control log alone."""

from __future__ import annotations

from collections.abc import Collection

from everlode.events.control import ScopeAssigned
from everlode.failover.takeover import (
    FenceRegion,
    Level,
    Report,
    Return,
    Step,
    Take,
    heir,
    steps,
    wanted,
)
from tests.unit.test_control_fences import SCOPE, Fenced

OWN = "task-manager/eu"


class Planned(Fenced):
    """A network that has lost us, where eu's and ap's tasks are led, too."""

    def __init__(self) -> None:
        super().__init__()
        self.assign("eu", OWN, "eu-tm-1")
        self.assign("ap", "task-manager/ap", "ap-tm-1")

    def steps(self, region: str, quiet: Collection[str] = ("us",)) -> list[Step]:
        return list(steps(self.state, region, quiet))

    def gathered(self) -> None:
        self.fence()
        self.report("eu", 3)
        self.report("ap", 2)


def test_lost_region_is_fenced_by_whoever_reads_it_and_not_by_itself() -> None:
    log = Planned()
    for region in ("ap", "eu"):
        assert log.steps(region) == [FenceRegion("us", ("ap", "eu"), 3)]
    assert log.steps("us") == []
    log.suspect("ap", "us", over=True)
    assert log.steps("eu") == []


def test_each_member_reports_once_its_leases_have_run_out() -> None:
    log = Planned()
    log.fence()
    assert log.steps("eu", quiet=()) == []
    assert log.steps("eu") == [Report(log.us)]
    log.report("eu", 3)
    assert log.steps("eu") == []
    assert log.steps("us") == [], "the fenced one has no part in it"


def test_short_copy_is_levelled_from_the_longest_before_anything_is_taken() -> None:
    log = Planned()
    log.fence()
    log.report("eu", 3, 5)
    log.report("ap", 4, 5)
    (step,) = log.steps("eu")
    assert isinstance(step, Level)
    assert (step.missing, wanted(step)) == ({"us.1.tasks/0": 4}, {"us.1.tasks/0": 4})
    assert step.donor("us.1.tasks/0") == "ap"


def test_one_member_takes_all_scopes_whoever_asks() -> None:
    log = Planned()
    log.gathered()
    assert heir(log.state, log.us) == "ap"
    assert [type(step) for step in log.steps("ap")] == [Level]
    log.report("ap", 3)
    assert log.steps("ap") == [Take(SCOPE, "ap-tm-1")]
    assert log.steps("eu") == []
    assert log.assign("ap", SCOPE, "ap-tm-1")
    assert log.steps("ap") == []


def test_who_leads_more_services_takes_and_who_serves_others_already_does_not() -> None:
    log = Planned()
    log.gathered()
    log.assign("eu", "validation/eu", "eu-val-1")
    assert heir(log.state, log.us) == "eu"
    log.report("ap", 3)
    log.assign("ap", SCOPE, "ap-tm-1")
    assert heir(log.state, log.us) == "ap", "it has taken one already"


def test_taken_scope_follows_the_failovers_of_its_owner() -> None:
    log = Planned()
    log.gathered()
    log.report("ap", 3)
    log.assign("ap", SCOPE, "ap-tm-1")
    log.assign("ap", "task-manager/ap", "ap-tm-2")
    assert log.steps("ap") == [Take(SCOPE, "ap-tm-2")]
    assert log.steps("eu") == []


def test_scope_without_a_primary_of_the_heirs_own_waits() -> None:
    log = Fenced()
    log.fence()
    log.report("eu", 1)
    log.report("ap", 1)
    assert all(list(steps(log.state, region, ("us",))) == [] for region in ("ap", "eu"))
    assert isinstance(log.state.scopes[SCOPE].decision, ScopeAssigned)


def test_region_that_is_heard_returns_once_others_have_what_was_its_own() -> None:
    log = Planned()
    log.gathered()
    assert log.steps("us") == [], "its scopes are nobody's yet"
    log.report("ap", 3)
    assert log.assign("eu", SCOPE, "eu-tm-1")
    assert log.steps("us") == [], "it is not heard yet, and would be fenced again at once"
    log.suspect("ap", "us", over=True)
    assert log.steps("us") == [Return(log.us)]
    assert log.come_back(5)
    assert [log.steps(region) for region in ("ap", "eu", "us")] == [[], [], []]
