"""No node of a kind works any more: what waits for it is deferred, or escalated, by the primary."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from everlode.control.fold import NodeState
from everlode.events import commands as c
from everlode.events.base import Fact
from everlode.events.health import WorkWaits
from everlode.events.states import ValidationState
from everlode.events.validations import ValidationRequested, VoteCast
from everlode.state.validation import TIME_ALLOWED
from everlode.topics import Topology
from everlode.validations.absent import DEFER_MOST
from everlode.validations.component import ValidationComponent
from everlode.validations.waits import LOOK_S
from tests.support.facts.state_commands import NOW, fact_of, sha256_of
from tests.support.world.bench import Bench

KEY = "eu/v-1"
ALLOWED = TIME_ALLOWED["expert"]


def requested(kind: str, quorum: int = 1, reviewers: tuple[str, ...] = ()) -> ValidationRequested:
    return ValidationRequested.model_validate(
        {
            "task_id": "eu/t", "task_type": "training", "payload_sha256": sha256_of("p"),
            "solution_id": "s", "solution_sha256": sha256_of("s"), "miner_id": "eu/m",
            "work_ms": 1, "base_reward_micro": 1, "kind": kind, "quorum": quorum,
            "reviewers": reviewers, "deadline_at": NOW + TIME_ALLOWED[kind],
        }
    )  # fmt: skip


class Region:
    """The primary of validations; one validation waits for a kind."""

    def __init__(self, waits: str | list[Fact], **nodes: str) -> None:
        """`waits`: for which kind, or its facts. `nodes`: kind, with `_` for `-` → status."""
        facts = waits
        if isinstance(facts, str):
            facts = [fact_of(requested(facts), KEY, scope="validation/eu")]
        self.bench = Bench(ValidationComponent("eu", Topology()), facts)
        self.are(**nodes)

    def are(self, **nodes: str) -> None:
        kinds = {kind.replace("_", "-"): status for kind, status in nodes.items()}
        found = {
            kind: NodeState(kind, "eu", "validation", kind, "", 0, status, 0)
            for kind, status in kinds.items()
        }
        self.bench.control = replace(self.bench.control, nodes=found)

    def turn(self) -> list[str]:
        return [type(f.data).__name__ for f in self.bench.turn()]

    @property
    def state(self) -> ValidationState:
        found = self.bench.component.folds.get("validations", KEY)
        assert isinstance(found, ValidationState)
        return found

    def late(self) -> None:
        self.bench.now = self.state.deadline_at


def test_experts_case_is_deferred_at_once_and_when_late_but_not_for_ever() -> None:
    region = Region("expert", expert="healthy", automatic="healthy")
    assert region.turn() == [], "an expert works"
    region.are(expert="lost", automatic="healthy")
    first = region.state.deadline_at
    assert region.turn() == ["ValidationDeferred"]
    assert region.turn() == [], "once, while it is not late"
    assert (region.state.deferrals, region.state.deadline_at) == (1, first + ALLOWED)
    for number in range(2, DEFER_MOST + 1):
        region.late()
        assert region.turn() == ["ValidationDeferred"]
        assert region.state.deferrals == number
    region.late()
    assert region.turn() == []
    assert (region.state.kind, region.state.quorum, region.state.accepted) == ("expert", 1, None)


def test_deferred_case_that_is_late_for_the_last_time_is_an_operators_at_once() -> None:
    region = Region("expert", expert="lost", automatic="healthy")
    for _ in range(DEFER_MOST):
        region.turn()
        region.late()
    region.bench.notices.clear()
    for _ in range(2 * int(LOOK_S)):
        region.turn()
    (notice,) = [
        n.data for n in region.bench.notices if isinstance(n.data, WorkWaits) and not n.data.over
    ]
    assert (notice.work, notice.able, notice.oldest_id) == ("validation/expert", 0, KEY)
    assert notice.oldest_ms < 60_000, "not after ten minutes"
    # an expert is back, and judges: it is over
    region.are(expert="healthy", automatic="healthy")
    vote = c.CastVote(voter_id="expert", voter_kind="expert", accept=True, score_ppm=1)
    region.bench.turn(region.bench.asked(KEY, vote, "expert"))
    assert region.bench.answers()[-1] == "done"
    assert region.state.accepted is True


def test_kind_that_no_node_ever_had_is_the_networks_choice() -> None:
    region = Region("expert", automatic="healthy")
    region.late()
    assert region.turn() == []


def test_last_automatic_validator_is_lost_an_expert_gets_what_is_late() -> None:
    region = Region("automatic", automatic="lost", expert="healthy")
    assert region.turn() == [], "it is not late"
    region.late()
    assert region.turn() == ["ValidationEscalated"]
    assert (region.state.kind, region.state.quorum) == ("expert", 1)
    assert region.turn() == []


def test_without_an_expert_nothing_is_escalated_into_nowhere() -> None:
    for nodes in ({"automatic": "lost"}, {"automatic": "lost", "expert": "lost"}):
        region = Region("automatic", **nodes)
        region.late()
        assert region.turn() == []
        assert region.state.kind == "automatic"


def test_votes_that_were_cast_survive_and_the_quorum_stays() -> None:
    facts = [
        fact_of(requested("peer-review", 3, ("eu/a", "eu/b", "eu/c")), KEY, scope="validation/eu"),
        fact_of(
            VoteCast(voter_id="eu/a", voter_kind="peer-review", accept=True, score_ppm=1),
            KEY, 2, version=2, scope="validation/eu",
        ),
    ]  # fmt: skip
    region = Region(facts, peer_review="lost", expert="healthy")
    assert region.turn() == []
    assert (region.state.quorum, len(region.state.votes)) == (3, 1)
    region.late()
    assert region.turn() == ["ValidationEscalated"]
    assert [v.voter_id for v in region.state.votes] == ["eu/a"]


def test_successor_owes_what_its_predecessor_owed_by_the_same_id() -> None:
    first, second = (Region("expert", expert="lost", automatic="healthy") for _ in range(2))
    second.bench.now = NOW + timedelta(minutes=1)
    ids = [[f.envelope.command_id for f in r.bench.turn()] for r in (first, second)]
    assert ids[0] == ids[1]
    assert len(ids[0]) == 1
