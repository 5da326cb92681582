"""state_regression: a projector that slept over a takeover takes nothing back, to the last copy.

SIGSTOP, rebalance, SIGCONT, forced compaction, backup, restore: what comes back is the fold of
every fact by the proof's own rules, which share nothing with the projector.
"""

from __future__ import annotations

import signal
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource

from everlode.adapters.postgres_read import current_generation
from everlode.backup.operation import back_up
from everlode.projection.tables import COMPONENTS
from everlode.recovery.operation import recover
from everlode.recovery.request import RecoveryRequest
from everlode.state.dispatch import component_of_state
from everlode.topics.names import state_topic
from tests.support.facts.recounted import differences
from tests.support.facts.whole_topic import records
from tests.support.processes.forked import CLI
from tests.support.world.backed import TOPOLOGY, Backed, story
from tests.support.world.region import Node, until

pytestmark = pytest.mark.timeout(280)
PLAN = RecoveryRequest(plan_name="test", disaster_type="database-corruption", target_region="eu")


class Watched(Backed):
    """A region with projectors as processes."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.nodes: list[Node] = []

    def start(self, node_id: str) -> Node:
        arguments = [
            "projector", "run", "--region", "eu", "--node-id", node_id,
            "--dir", str(self.folder / "stack"),
        ]  # fmt: skip
        log = self.folder / f"{node_id}-{len(self.nodes)}.log"
        self.nodes.append(Node(CLI, arguments, log, {}))
        self.nodes[-1].ready(60)
        return self.nodes[-1]

    def kill_all(self) -> None:
        for node in self.nodes:
            if node.process.poll() is None:
                node.signal(signal.SIGCONT)
                node.kill()

    def counted(self) -> dict[tuple[str, str], int]:
        """(state component, key) → version that the facts written so far lead to."""
        return {self.state_key(f): f.envelope.version for _, f, _ in self.written}

    def done(self) -> bool:
        return {key: version for key, (version, _) in self.rows().items()} == self.counted()

    def state_versions(self) -> dict[tuple[str, str], list[int]]:
        """(component, key) → versions on the state topic, in log order."""
        generation = current_generation(self.conninfo)
        found: dict[tuple[str, str], list[int]] = defaultdict(list)
        for component in COMPONENTS:
            for raw in records(self.bootstrap, state_topic(generation, component), 2):
                assert raw.key is not None
                state = self.codec.decode_state(raw.value)
                found[component, raw.key.decode()].append(state.version)
        return found

    def check_states(self) -> None:
        """No state topic went back, and each key ends at its row, which comes first."""
        found: dict[tuple[str, str], list[int]] = {}

        def published() -> bool:
            found.update(self.state_versions())
            ends = {key: versions[-1] for key, versions in found.items()}
            return ends == {key: version for key, (version, _) in self.rows().items()}

        until(published, 30, "the state of every row is published")
        for key, versions in found.items():
            assert versions == sorted(versions), ("state_regression", key, versions)

    def differences(self) -> list[str]:
        """Where the rows are not what the proof's own rules make of the facts written."""
        states = {
            key: self.codec.decode_dict(doc)[1] if doc else {}
            for key, (_, doc) in self.rows().items()
        }
        return differences(self.written, states)


@pytest.fixture
def region(tmp_path: Path) -> Iterator[Watched]:
    with Watched(tmp_path) as found:
        yield found
        found.kill_all()


def compact(region: Watched) -> None:
    """Make the broker compact the state topics now, and wait until it has compacted each.

    New facts roll the segments that are being written.
    """
    generation = current_generation(region.conninfo)
    admin = AdminClient({"bootstrap.servers": region.bootstrap})
    changes = {
        "segment.ms": "500", "min.compaction.lag.ms": "0", "min.cleanable.dirty.ratio": "0.001",
    }  # fmt: skip
    resources = [
        ConfigResource(
            ConfigResource.Type.TOPIC,
            state_topic(generation, component),
            incremental_configs=[
                ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
                for name, value in changes.items()
            ],
        )
        for component in COMPONENTS
    ]
    for future in admin.incremental_alter_configs(resources).values():
        future.result(20)
    before = region.state_versions()
    wanted = {key[0] for key, versions in before.items() if len(versions) > 1}
    assert {"tasks", "miners", "validations"} <= wanted
    turn, rolling = 0, story(10, 2)
    assert wanted <= {component_of_state(type(f.data)) for _, f in rolling}

    def compacted() -> bool:
        nonlocal turn
        turn += 1
        more = [(c, region.renamed(f, f"roll{turn}")) for c, f in rolling]
        region.write(more)
        until(region.done, 60, "the rolling facts are in")
        now = region.state_versions()
        shorter = {key[0] for key, old in before.items() if len(now[key]) < len(old)}
        return wanted <= shorter

    until(compacted, 90, "every state topic is compacted")


def test_projector_stopped_over_a_rebalance_and_woken_takes_no_state_back(
    region: Watched, tmp_path: Path
) -> None:
    facts = story(4, 12)
    quarter = len(facts) // 4
    first = region.start("eu-proj-1")
    region.write(facts[:quarter])
    until(region.done, 60, "the first projector works")
    first.signal(signal.SIGSTOP)
    region.write(facts[quarter : 2 * quarter])
    region.start("eu-proj-2")
    until(region.done, 90, "the second one has taken over")
    first.signal(signal.SIGCONT)
    region.write(facts[2 * quarter : 3 * quarter])
    until(region.done, 90, "work goes on")
    region.check_states()
    compact(region)
    region.check_states()
    manifest = back_up("eu", region.endpoints, TOPOLOGY, region.store, region.keys)
    region.write(facts[3 * quarter :])  # the tail, which the recovery replays
    until(region.done, 60, "the tail is in")
    assert region.differences() == []
    region.kill_all()
    region.disaster()
    result = recover(PLAN, region.endpoints, TOPOLOGY, region.store, region.keys, tmp_path / "w")
    assert (result.held, result.lost_event_ids) == (False, ())
    assert current_generation(region.conninfo) == result.generation > manifest.generation
    assert sum(c.events_replayed for c in result.components) > 0
    region.project()
    assert region.differences() == []
    region.check_states()
    # the checker sees what it is for: one fact less, and the rows are not its fold
    region.written.pop(next(n for n, (c, _, _) in enumerate(region.written) if c == "tasks"))
    assert region.differences() != []
