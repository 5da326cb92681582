"""What becomes of a lost node of each service, as transcripts.

A line that begins with `>` happens; below it stands what the coordinator then writes, until it
waits: on the control log (`log`), on the recovery stream (`step`, `event`, `end`, and from what its
time was estimated), and as commands to the primary (`moves`). The coordinator is the real one,
killed after each line that happens: it remembers nothing. See docs/handlers.md.
"""

from __future__ import annotations

from collections import Counter
from textwrap import dedent

import pytest

from everlode.events import tasks as t
from everlode.events.base import Event
from everlode.events.control import NodeJoined
from everlode.events.recovery import (
    OperationStarted,
    OperationStep,
    RegistryChanged,
    RewardRecoveryEnded,
    ValidationDelayMeasured,
)
from everlode.failover.planner import LEVEL_WAIT_MS, View, foresee
from tests.simulation.test_failover_simulation import (
    AUTOMATIC,
    LAST_AUTOMATIC,
    LAST_EXPERT,
    SAME,
    Process,
    Region,
    fact,
)

STAMP = 1 << 16
"""A millisecond."""
OF_INTEREST = (
    "recovery_action", "new_primary", "migrated_tasks", "backup_registry", "affected_miners",
    "validator_type", "redistributed_tasks", "deferred_tasks", "estimated_delay_ms",
    "pending_payouts",
)  # fmt: skip


class Scene:
    """A region, and what was shown of it."""

    def __init__(self, component: str, tasks: int, kinds: tuple[str, ...] = SAME) -> None:
        self.region = Region(component, tasks, kinds)
        self.shown = [0, len(self.region.tasks)]
        self.log = self.standing()

    def standing(self) -> dict[str, str]:
        control, scope = self.region.control, self.region.scope
        led = control.scopes[scope]
        return {n.node_id: n.status for n in control.nodes.values()} | {
            scope: f"epoch {led.epoch}: {led.primary}"
        }

    def happens(self, line: str) -> None:
        region = self.region
        match line.split():
            case [node, "is", "silent"]:
                region.lose(node)
            case [node, "has", "read", "to", ms]:
                region.read_stamp[node] = int(ms) * STAMP
                region.beat(node)
            case ["the", "successor", "opens", "its", "epoch"]:
                region.open()
            case [node, "is", "made", "to", "lead"]:
                region.decide(region.scope, node)
            case ["the", "primary", "does", "what", "it", "owes"]:
                region.defer()
            case [number, "earlier", "ones", "took", ms, "ms"]:
                self.took(int(number), int(ms))
            case [number, "decisions", "came,", "one", "each", "second"]:
                region.judged(int(number))
                self.shown[1] = len(region.tasks)
            case ["what", "waits", "is", "decided,", "the", "last", "after", ms, "ms"]:
                region.judge(int(ms))
                self.shown[1] = len(region.tasks)
            case ["five", "seconds", "pass"]:
                began = region.recovery[0]
                early = began.envelope.stamp - LEVEL_WAIT_MS * STAMP
                envelope = began.envelope.model_copy(update={"stamp": early})
                region.recovery[0] = began._replace(envelope=envelope)
            case _:
                raise AssertionError(line)

    def took(self, number: int, ms: int) -> None:
        """So many handlings of distributors."""
        for n in range(number):
            end = RewardRecoveryEnded(
                failed_distributor="rd-9", pending_payouts=0, success=True, actual_recovery_ms=ms
            )
            self.region.recovery.append(fact(f"earlier-{n}", end, event_id=f"earlier-{n}"))
        self.shown[0] = len(self.region.recovery)

    def follows(self) -> list[str]:
        """What the coordinator writes until it waits."""
        process, found, idle = Process(self.region), list[str](), 0
        while idle < 3:
            before = self.region.count
            process.turn()
            idle = idle + 1 if self.region.count == before else 0
            found += self.news()
        return found

    def news(self) -> list[str]:
        now, found = self.standing(), list[str]()
        found += [f"log   {k}: {new}" for k, new in now.items() if self.log.get(k) != new]
        self.log = now
        recovery = [f.data for f in self.region.recovery[self.shown[0] :]]
        facts = [f for _, f in self.region.tasks[self.shown[1] :]]
        self.shown = [len(self.region.recovery), len(self.region.tasks)]
        moves = Counter(f.data.to_node for f in facts if isinstance(f.data, t.TaskMigrated))
        found += [f"moves {count} tasks to {node}" for node, count in sorted(moves.items())]
        return [*found, *(line for data in recovery for line in line_of(data).splitlines())]


def line_of(data: Event) -> str:
    match data:
        case OperationStarted():
            return ""
        case OperationStep():
            count = f" [{data.count}]" if data.count else ""
            return f"step  {data.step}{count}: {data.detail}"
        case RegistryChanged():
            return f"event RegistryChanged: {data.to_node}, epoch {data.scope_epoch}"
        case ValidationDelayMeasured():
            return f"later estimated {data.estimated_delay_ms} ms, was {data.actual_delay_ms} ms"
    assert type(data).__name__.endswith("Ended")
    said = data.model_dump()
    found = [f"{name} {said[name]}" for name in OF_INTEREST if said.get(name) not in (None, 0, "")]
    known = said["estimated_recovery_ms"]
    estimate = "unknown" if known is None else f"{known} ms"
    return f"end   {', '.join(found)}\nfrom  {said['estimate_cases']} earlier ones: {estimate}"


def played(scene: Scene, script: str) -> str:
    found = list[str]()
    for line in script.splitlines():
        if line.startswith("> "):
            scene.happens(line[2:])
            found += [line, *(f"  {step}" for step in scene.follows())]
    return "\n".join(found)


SCRIPTS = {
    "task manager: fence, promote, migrate what it managed": (
        ("task-manager", 7, SAME),
        """\
        > tm-1 is silent
          log   tm-1: lost
          log   task-manager/eu: epoch 2: tm-2
          step  decide: tm-2 epoch 2
        > the successor opens its epoch
          moves 2 tasks to tm-2
          moves 1 tasks to tm-3
          step  promote: tm-2 epoch 2
          step  migrate [3]: 3 tasks from t0
          end   recovery_action secondary-promoted, new_primary tm-2, migrated_tasks 3
          from  0 earlier ones: unknown
        """,
    ),
    "task manager: of a secondary only the work moves": (
        ("task-manager", 7, SAME),
        """\
        > tm-3 is silent
          log   tm-3: lost
          moves 1 tasks to tm-1
          moves 1 tasks to tm-2
          step  migrate [2]: 2 tasks from t2
          end   recovery_action secondary-removed, migrated_tasks 2
          from  0 earlier ones: unknown
        """,
    ),
    "miner registry: level, switched, and miners hear of it": (
        ("miner-registry", 0, SAME),
        """\
        > mr-1 has read to 9000
        > mr-2 has read to 9000
        > mr-1 is silent
          log   mr-1: lost
          step  level: mr-2 is 0 ms behind the lost primary's last beat
          log   miner-registry/eu: epoch 2: mr-2
          step  decide: mr-2 epoch 2
        > the successor opens its epoch
          step  promote: mr-2 epoch 2
          event RegistryChanged: mr-2, epoch 2
          step  notify: mr-2 serves miners in epoch 2
          end   backup_registry mr-2, affected_miners 7
          from  0 earlier ones: unknown
        """,
    ),
    "miner registry: who is behind is waited for, and nobody far behind is taken": (
        ("miner-registry", 0, SAME),
        """\
        > mr-1 has read to 9000
        > mr-2 has read to 3000
        > mr-3 has read to 8000
        > mr-1 is silent
          log   mr-1: lost
        > mr-3 has read to 9000
          step  level: mr-3 is 0 ms behind the lost primary's last beat
          log   miner-registry/eu: epoch 2: mr-3
          step  decide: mr-3 epoch 2
        > the successor opens its epoch
          step  promote: mr-3 epoch 2
          event RegistryChanged: mr-3, epoch 2
          step  notify: mr-3 serves miners in epoch 2
          end   backup_registry mr-3, affected_miners 7
          from  0 earlier ones: unknown
        """,
    ),
    "miner registry: one that has read nothing is not level": (
        ("miner-registry", 0, SAME),
        """\
        > mr-1 has read to 9000
        > mr-2 has read to 0
        > mr-1 is silent
          log   mr-1: lost
          step  level: mr-3 is an unknown time behind the lost primary's last beat
          log   miner-registry/eu: epoch 2: mr-3
          step  decide: mr-3 epoch 2
        > the successor opens its epoch
          step  promote: mr-3 epoch 2
          event RegistryChanged: mr-3, epoch 2
          step  notify: mr-3 serves miners in epoch 2
          end   backup_registry mr-3, affected_miners 7
          from  0 earlier ones: unknown
        """,
    ),
    "miner registry: the wait has an end, since it reads the rest before it leads": (
        ("miner-registry", 0, SAME),
        """\
        > mr-1 has read to 9000
        > mr-2 has read to 8000
        > mr-3 has read to 3000
        > mr-1 is silent
          log   mr-1: lost
        > five seconds pass
          step  level: mr-2 is 1000 ms behind the lost primary's last beat
          log   miner-registry/eu: epoch 2: mr-2
          step  decide: mr-2 epoch 2
        > the successor opens its epoch
          step  promote: mr-2 epoch 2
          event RegistryChanged: mr-2, epoch 2
          step  notify: mr-2 serves miners in epoch 2
          end   backup_registry mr-2, affected_miners 7
          from  0 earlier ones: unknown
        """,
    ),
    "automatic validator: others go on; four decisions say nothing about how long": (
        ("validation", 5, AUTOMATIC),
        """\
        > 4 decisions came, one each second
        > val-3 is silent
          log   val-3: lost
          step  redistribute [5]: what waits for automatic votes is for val-1, val-2
          end   validator_type automatic, redistributed_tasks 5
          from  0 earlier ones: unknown
        > what waits is decided, the last after 6000 ms
        """,
    ),
    "automatic validator: five are an estimate, by two thirds of the nodes": (
        ("validation", 5, AUTOMATIC),
        """\
        > 5 decisions came, one each second
        > val-3 is silent
          log   val-3: lost
          step  redistribute [5]: what waits for automatic votes is for val-1, val-2
          end   validator_type automatic, redistributed_tasks 5, estimated_delay_ms 7500
          from  0 earlier ones: unknown
        > what waits is decided, the last after 6000 ms
          later estimated 7500 ms, was 6000 ms
        """,
    ),
    "automatic validator: the last one; an expert gets what is late": (
        ("validation", 5, LAST_AUTOMATIC),
        """\
        > val-1 is silent
          log   val-1: lost
          log   validation/eu: epoch 2: val-2
          step  decide: val-2 epoch 2
        > the successor opens its epoch
          step  promote: val-2 epoch 2
          step  escalate [5]: no automatic validator works: an expert that works gets what is late
          end   validator_type automatic
          from  0 earlier ones: unknown
        """,
    ),
    "expert: the last one; the primary defers what waits": (
        ("validation", 5, LAST_EXPERT),
        """\
        > val-1 is silent
          log   val-1: lost
          log   validation/eu: epoch 2: val-2
          step  decide: val-2 epoch 2
        > the successor opens its epoch
        > the primary does what it owes
          step  promote: val-2 epoch 2
          step  defer [5]: no expert validator works: what waits has a later deadline
          end   validator_type expert, deferred_tasks 5
          from  0 earlier ones: unknown
        """,
    ),
    "reward distributor: promoted; four cases say nothing": (
        ("rewards", 0, SAME),
        """\
        > 4 earlier ones took 1200 ms
        > rd-1 is silent
          log   rd-1: lost
          log   rewards/eu: epoch 2: rd-2
          step  decide: rd-2 epoch 2
        > the successor opens its epoch
          step  promote: rd-2 epoch 2
          end   new_primary rd-2, pending_payouts 7
          from  4 earlier ones: unknown
        """,
    ),
    "reward distributor: a later change of primary is no step of a loss that was handled": (
        ("rewards", 0, SAME),
        """\
        > rd-1 is silent
          log   rd-1: lost
          log   rewards/eu: epoch 2: rd-2
          step  decide: rd-2 epoch 2
        > the successor opens its epoch
          step  promote: rd-2 epoch 2
          end   new_primary rd-2, pending_payouts 7
          from  0 earlier ones: unknown
        > rd-3 is made to lead
          log   rewards/eu: epoch 3: rd-3
        > the successor opens its epoch
        """,
    ),
    "reward distributor: five cases are an estimate": (
        ("rewards", 0, SAME),
        """\
        > 5 earlier ones took 1200 ms
        > rd-1 is silent
          log   rd-1: lost
          log   rewards/eu: epoch 2: rd-2
          step  decide: rd-2 epoch 2
        > the successor opens its epoch
          step  promote: rd-2 epoch 2
          end   new_primary rd-2, pending_payouts 7
          from  5 earlier ones: 1200 ms
        """,
    ),
}
"""Name → service, validations or tasks, kinds of its nodes; what happens, and what follows."""


@pytest.mark.parametrize("name", SCRIPTS)
def test_lost_node_is_handled_as_written(name: str) -> None:
    (component, tasks, kinds), script = SCRIPTS[name]
    assert played(Scene(component, tasks, kinds), dedent(script)) == dedent(script).rstrip()


def test_loss_that_was_handled_is_not_handled_again_when_its_node_is_back_and_has_not_beaten() -> (
    None
):
    """A coordinator that begins between a node's join and its first beat reads the old verdict."""
    scene = Scene("rewards", 0)
    played(scene, "> rd-1 is silent\n> the successor opens its epoch")
    rejoined = NodeJoined(
        node_id="rd-1", region="eu", component="rewards", kind="", endpoint="127.0.0.1:2",
        priority=8,
    )  # fmt: skip
    scene.region.write(rejoined)
    assert scene.standing()["rd-1"] == "rejoining"
    scene.log = scene.standing()
    assert scene.follows() == []
    scene.happens("rd-1 is silent")  # a second loss is another one
    assert "log   rd-1: lost" in scene.follows()


def test_node_that_never_joined_beats_and_falls_silent_and_nothing_follows() -> None:
    """Nobody knows what it is: it is no candidate, and its loss is nobody's work."""
    scene = Scene("task-manager", 7)
    scene.region.beat("stranger")
    scene.happens("stranger is silent")
    assert scene.follows() == []
    scene.happens("tm-1 is silent")
    assert "log   task-manager/eu: epoch 2: tm-2" in scene.follows()


@pytest.mark.parametrize("name", SCRIPTS)
def test_dry_run_foresees_the_steps_of_a_lost_node(name: str) -> None:
    """`everlode scope plan`: all of them, if each succeeds at once."""
    (component, tasks, kinds), script = SCRIPTS[name]
    region, lost = Region(component, tasks, kinds), script.split(" is silent")[0].split()[-1]
    process = Process(region)
    process.turn()
    control = region.control
    node = control.nodes[lost]._replace(status="lost")
    epoch = control.epoch(region.scope)
    beats = {n: b for n, b in process.beats.fresh().items() if n != lost}
    work = process.policy.work(lost)
    view = View(control, node, beats, epoch, False, work)
    names = [getattr(step, "name", "") for step in foresee(view, process.policy)]
    written = [line.split()[1].rstrip(":") for line in script.splitlines() if " step " in line]
    own = [name.strip("[]") for name in written if name not in ("decide", "promote")]
    assert [name for name in names if name] == own
