"""Who may judge a solution: an automatic task is solved in eu, and votes come from all sides.

The primary of validations, its real rules and folds, and a control log that grows.
"""

from __future__ import annotations

from everlode.control.fold import ControlState, apply
from everlode.events import commands as c
from everlode.events.base import Command, CommandHeader, Fact
from everlode.events.control import NodeJoined
from everlode.events.tasks import TaskSolved
from everlode.primary.core import Core
from everlode.primary.inputs import CommandRead, FactRead, Tick, Turn
from everlode.primary.pending import HOME
from everlode.state.view import Where
from everlode.topics import Topology
from everlode.validations.component import ValidationComponent
from tests.support.facts.state_commands import NOW, fact_of, sha256_of
from tests.unit.test_primary_core import Log


class Region:
    """The primary of validations in eu, and the control log as it has read it."""

    def __init__(self) -> None:
        self.control = ControlState()
        self.component, self.log = ValidationComponent("eu", Topology()), Log()
        self.log.origin, self.log.topic = "eu.1", "eu.1.validations"
        self.core = Core(self.component, self.log, "eu", "eu-val-1")
        self.count = 0
        ready = self.core.open({"eu": 1}, self.tick())
        self.core.committed(list(range(len(ready.facts))))

    def tick(self) -> Tick:
        self.count += 1
        return Tick(NOW, 1_000_000, float(self.count))

    def turn(self, read: CommandRead | FactRead) -> list[str]:
        """Events of one turn."""
        events = []
        turn = Turn({"eu": 1}, [read], self.tick(), self.control)
        for ready in self.core.turn(turn):
            for partition, envelope, _ in ready.facts:
                self.log.seqs[partition] = envelope.seq
            self.core.committed(list(range(len(ready.facts))))
            events += [type(data).__name__ for _, _, data in ready.facts]
        return [name for name in events if name != "Barrier"]

    def joins(self, node_id: str, component: str, kind: str) -> None:
        """A node has joined, and the primary has read it."""
        joined = NodeJoined(
            node_id=node_id, region="eu", component=component, kind=kind, endpoint="e",
            priority=0, incarnation=node_id,
        )  # fmt: skip
        fact: Fact = fact_of(joined, node_id, scope="")
        self.control = apply(self.control, self.control.position + 1, fact)

    def solved(self, task: str) -> list[str]:
        """A solution comes; returns what the primary does."""
        data = TaskSolved(
            attempt=1, miner_id="m", solution_id=f"s-{task}", solution_uri="u",
            solution_sha256=sha256_of("s"), solution_bytes=1, work_ms=1000,
            task_type="inference", payload_sha256=sha256_of("p"), payload_bytes=1,
            base_reward_micro=1_000_000,
        )  # fmt: skip
        fact = fact_of(data, task, event_id=f"solved-{task}", scope="task-manager/eu")
        return self.turn(FactRead(Where("eu.1.tasks", 0, self.count), fact))

    def votes(self, who: str, kind: str, task: str = "t") -> str | list[str]:
        """The refusal's code, or the events of the vote."""
        vote: Command = c.CastVote.model_validate(
            {"voter_id": who, "voter_kind": kind, "accept": True, "score_ppm": 1_000_000}
        )
        header = CommandHeader(
            command_id=f"c{self.count}", aggregate_id=f"v-{task}-1", issued_by=who, reply_to="r",
            issued_at=NOW, correlation_id="s",
        )  # fmt: skip
        where = Where("eu.commands.validations", 0, self.count)
        events = self.turn(CommandRead(where, header, vote))
        (answer,) = self.core.held(HOME, NOW)
        return answer.code or events


def test_only_a_node_that_joined_as_a_validator_of_the_kind_decides() -> None:
    region = Region()
    assert region.solved("t") == ["ValidationRequested"]

    # somebody names itself: before, its first vote decided, and was paid for
    assert region.votes("invented", "automatic") == "not_a_validator"
    # the solver's friend runs a node, but of another service, or of another kind
    region.joins("eu-tm-9", "task-manager", "automatic")
    region.joins("eu-val-7", "validation", "expert")
    assert region.votes("eu-tm-9", "automatic") == "not_a_validator"
    assert region.votes("eu-val-7", "automatic") == "not_a_validator"
    # an expert is not asked here
    assert region.votes("eu-val-7", "expert") == "wrong_kind"

    # one that has not joined yet is refused, and is heard once it has
    assert region.votes("eu-val-8", "automatic") == "not_a_validator"
    region.joins("eu-val-8", "validation", "automatic")
    assert region.votes("eu-val-8", "automatic") == ["VoteCast", "ValidationDecided"]

    # another vote of the kind comes too late
    region.joins("eu-val-9", "validation", "automatic")
    assert region.votes("eu-val-9", "automatic") == "already_decided"
    # what is decided is audited by experts that have joined, and nobody else
    assert region.votes("invented", "expert") == "not_a_validator"
    assert region.votes("eu-val-7", "expert") == ["VoteCast", "ValidationAudited"]
