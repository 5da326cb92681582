"""`everlode dlt keys`: at which keys a projection stands, and until when."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from everlode.topics.names import fact_topic
from everlode.views.keys import Noted, problems, wanted
from tests.support.world.projected import Lab, as_other, histories

pytestmark = pytest.mark.timeout(120)
FACTS = histories()["tasks"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("stopped")) as made:
        yield made


def noted(lab: Lab, case: str) -> list[Noted]:
    """What is noted of the keys of a case."""
    return [n for n in problems(lab.query) if n.key.endswith(f"~{case}")]


def test_key_behind_a_gap_stops_and_goes_on(lab: Lab) -> None:
    facts = as_other(FACTS, "gap")
    missing = lab.fact("tasks", facts[0])
    lab.append("tasks", lab.fact("tasks", facts[1]), lab.fact("tasks", facts[2]))
    lab.project()
    (found,) = noted(lab, "gap")
    assert (found.kind, found.stopped, found.version, found.waiting) == (
        "version_gap",
        True,
        None,
        2,
    )
    assert (found.topic, found.partition) == (fact_topic("eu.1", "tasks"), 0)
    assert (found.expected, found.found) == (1, 2)
    assert found in wanted(problems(lab.query), everything=False)
    lab.append("tasks", missing)
    lab.project()
    (found,) = noted(lab, "gap")
    assert (found.stopped, found.version, found.waiting) == (False, 3, 0)
    assert found not in wanted(problems(lab.query), everything=False)


def test_conflict_is_shown_and_holds_nothing(lab: Lab) -> None:
    facts = as_other(FACTS, "conflict")
    forged = lab.fact("tasks", facts[0], event_id="forged")
    lab.append("tasks", lab.fact("tasks", facts[0]), forged, lab.fact("tasks", facts[1]))
    lab.project()
    (found,) = noted(lab, "conflict")
    assert (found.kind, found.stopped, found.event_id) == ("conflict", False, "forged")
    assert found.version == 2
    assert found in wanted(problems(lab.query), everything=False)


def test_fact_that_is_unlawful_stops_its_key(lab: Lab) -> None:
    facts = as_other(FACTS, "unlawful")
    again = facts[0].envelope.model_copy(update={"version": 2, "event_id": "again"})
    lab.append(
        "tasks", lab.fact("tasks", facts[0]), lab.fact("tasks", facts[0]._replace(envelope=again))
    )
    lab.project()
    (found,) = noted(lab, "unlawful")
    assert (found.kind, found.stopped, found.version) == ("unlawful", True, 1)


def test_lost_facts_of_a_partition_stay_named(lab: Lab) -> None:
    lab.append("tasks", lab.fact("tasks", as_other(FACTS, "lost")[0], skip=4))
    lab.project()
    gaps = [n for n in problems(lab.query) if n.kind == "seq_gap" and n.found == n.expected + 4]
    assert [n.stopped for n in gaps] == [True]
    assert gaps[0].key == ""
