"""What a coordinator does about operators' wishes, as transcripts.

A line that begins with `>` happens; the lines below it are the steps that the coordinator takes
then, until it waits. The transcript is played and must come out as it is written here. Tasks are
led by `a` in epoch 1; `b` and `c` could follow, and all three beat.
"""

from __future__ import annotations

from datetime import timedelta
from textwrap import dedent
from typing import Any

import pytest

from everlode.control.wishes import Wish
from everlode.events.control import (
    FreezeAsked,
    OperatorAnswered,
    OperatorAsked,
    ScopeDrained,
)
from everlode.events.nodes import NodeStatus
from everlode.failover.decisions import Basis, Loss, decision
from everlode.failover.eligible import WishView
from everlode.failover.foreseen import foresee
from everlode.failover.planner import Beating
from everlode.failover.wishes import Answer, Await, Flip, Freeze, Move, WishStep, plan
from everlode.tasks.policy import TaskPolicy, TaskWork
from tests.unit.test_control_grounds import COORDINATOR, TASKS, Log

POLICY = TaskPolicy(1, 100, timedelta(hours=1))
EXPIRES_MS = 30_000


class Region:
    """The logs, and a coordinator that is killed between any two steps: it remembers nothing."""

    def __init__(self) -> None:
        self.log = Log()
        for node in ("a", "b", "c"):
            self.log.join(node)
        self.log.take(COORDINATOR, "co-1")
        self.log.take(TASKS, "a")
        self.beating = {"a", "b", "c"}
        self.opened, self.now_ms = 1, 0
        self.managed = {"a": ("t1", "t2"), "b": (), "c": ()}

    def view(self, wish: Wish) -> WishView:
        node = wish.asked.node_id
        loads = {n: len(tasks) for n, tasks in self.managed.items()}
        work = TaskWork(self.managed.get(node, ()), loads, 100, {})
        beats = dict.fromkeys(self.beating, Beating(0, 0))
        return WishView(
            self.log.state, wish, beats, self.opened, self.now_ms, POLICY, work
        )  # fmt: skip

    def asked(self, operation: str, verb: str, node: str = "") -> OperatorAsked:
        known = self.log.state.nodes.get(node)
        return OperatorAsked.model_validate(
            {"operation_id": operation, "verb": verb, "scope_name": TASKS, "node_id": node,
             "operator": "ann", "reason": "", "expires_ms": EXPIRES_MS,
             "based_on": self.log.state.position, "based_on_epoch": self.log.state.epoch(TASKS),
             "changed_at": known.changed_at if known and verb in ("drain", "rejoin") else None}
        )  # fmt: skip

    def happens(self, line: str) -> None:
        match line.split():
            case ["ask", verb, *node]:
                self.log.append(TASKS, self.asked(f"op-{len(self.log.records)}", verb, *node))
            case [node, "drains"]:
                (wish,) = self.log.state.wishes.open
                data = ScopeDrained(
                    operation_id=wish.id, scope_name=TASKS, node_id=node,
                    held_epoch=self.log.state.epoch(TASKS), positions=(),
                )  # fmt: skip
                self.log.append(TASKS, data, scope=TASKS)
            case ["epoch", "opens"]:
                self.opened = self.log.state.epoch(TASKS)
            case [node, "is", "silent"]:
                self.beating.discard(node)
            case [node, "is", status]:
                self.log.move(node, NodeStatus(status))
            case ["others", "decide", node]:
                self.log.take(TASKS, node)
            case ["30", "seconds", "pass"]:
                self.now_ms += EXPIRES_MS
            case _:
                raise AssertionError(line)

    def steps(self) -> list[str]:
        """What the coordinator does, until it waits or nothing is open."""
        found: list[str] = []
        for _ in range(20):
            if not self.log.state.wishes.open:
                return found
            step = plan(self.view(self.log.state.wishes.open[0]))
            found.append(shown(step))
            if isinstance(step, Await):
                return found
            self.do(step)
        raise AssertionError("it goes on for ever")

    def do(self, step: WishStep) -> None:
        state = self.log.state
        epoch, wish = state.epoch(COORDINATOR), state.wishes.open[0]
        match step:
            case Move():
                self.log.move(step.node_id, step.status)
            case Freeze():
                freeze = FreezeAsked(
                    operation_id=wish.id, scope_name=TASKS, held_epoch=step.epoch,
                    primary_node=step.primary, target_node=step.target, limit_ms=1,
                )  # fmt: skip
                self.log.append(TASKS, freeze, epoch=epoch)
            case Flip():
                lost = state.nodes[state.scopes[TASKS].primary] if step.reason == "forced" else None
                loss = Loss(lost, reason=step.reason, operation=wish.id)
                data = decision(Basis(state, epoch), "eu", TASKS, step.primary, loss)
                assert self.log.land(data) is None
            case Answer():
                over = OperatorAnswered(
                    operation_id=wish.id, scope_name=TASKS, outcome=step.outcome, reason=step.why
                )
                self.log.append(TASKS, over, epoch=epoch)
            case _:
                own: Any = step
                for task, node in own.moves:
                    self.managed[own.from_node] = tuple(
                        t for t in self.managed[own.from_node] if t != task
                    )
                    self.managed[node] += (task,)


def shown(step: WishStep) -> str:
    said = (v for v in step._asdict().values() if v != TASKS)
    return f"{type(step).__name__}: " + ", ".join(map(str, said))


def played(script: str) -> str:
    region, found = Region(), list[str]()
    for line in script.splitlines():
        if line.startswith("> "):
            region.happens(line[2:])
            found += [line, *(f"  {step}" for step in region.steps())]
    return "\n".join(found)


SWITCHOVERS = {
    "to the best, and each step waits for the log": """\
        > ask switchover
          Freeze: 1, a, b
          Await: a commits what it has
        > a drains
          Flip: 2, b, switchover
          Await: b opens epoch 2
        > epoch opens
          Answer: done, b leads in epoch 2""",
    "to the node that was named": """\
        > ask switchover c
          Freeze: 1, a, c
          Await: a commits what it has
        > a drains
          Flip: 2, c, switchover
          Await: c opens epoch 2
        > epoch opens
          Answer: done, c leads in epoch 2""",
    "whose primary does not drain in time goes on as before": """\
        > ask switchover
          Freeze: 1, a, b
          Await: a commits what it has
        > 30 seconds pass
          Answer: timed-out, a goes on as before""",
    "whose target falls silent in the freeze is given up": """\
        > ask switchover c
          Freeze: 1, a, c
          Await: a commits what it has
        > c is silent
          Answer: refused, c: it does not beat; a goes on as before""",
    "is overtaken by a failover when its primary dies in the freeze": """\
        > ask switchover
          Freeze: 1, a, b
          Await: a commits what it has
        > a is lost
          Await: a commits what it has
        > others decide c
          Answer: overtaken, c leads since epoch 2, by another decision (node-lost)""",
    "after the flip nothing goes back, also when time is over": """\
        > ask switchover
          Freeze: 1, a, b
          Await: a commits what it has
        > a drains
          Flip: 2, b, switchover
          Await: b opens epoch 2
        > 30 seconds pass
          Await: b opens epoch 2
        > epoch opens
          Answer: done, b leads in epoch 2""",
    "to a node that cannot lead is refused": """\
        > c is draining
        > ask switchover c
          Answer: refused, c cannot lead task-manager/eu: it is draining (b: can be \
promoted; c: it is draining)""",
}
OTHERS = {
    "failover of a primary that is well treats it as lost": """\
        > ask failover c
          Move: a, lost, failover asked for by ann
          Flip: 2, c, forced
          Await: c opens epoch 2
        > epoch opens
          Answer: done, c leads in epoch 2""",
    "failover of a lost primary only chooses": """\
        > a is lost
        > ask failover
          Flip: 2, b, forced
          Await: b opens epoch 2
        > epoch opens
          Answer: done, b leads in epoch 2""",
    "drain of a secondary gives its work to others": """\
        > b is draining
        > ask rejoin b
          Move: b, healthy, rejoin asked for by ann
          Answer: done, b is healthy
        > ask drain b
          Move: b, draining, drain asked for by ann
          Answer: done, b manages nothing and takes no new work""",
    "drain of the primary switches over first, then its tasks migrate": """\
        > ask drain a
          Move: a, draining, drain asked for by ann
          Freeze: 1, a, b
          Await: a commits what it has
        > a drains
          Flip: 2, b, switchover
          Await: b opens epoch 2
        > epoch opens
          Migrate: a, (('t1', 'b'), ('t2', 'c'))
          Answer: done, a manages nothing and takes no new work""",
    "drain of the primary that nobody can follow is refused": """\
        > b is silent
        > c is silent
        > ask drain a
          Answer: refused, no other node can lead task-manager/eu (b: it \
does not beat; c: it does not beat)""",
    "rejoin of a lost node that beats": """\
        > c is lost
        > ask rejoin c
          Move: c, rejoining, rejoin asked for by ann
          Await: c beats steadily
        > c is healthy
          Answer: done, c is healthy""",
    "rejoin of a node that does not beat is refused": """\
        > c is lost
        > c is silent
        > ask rejoin c
          Answer: refused, c does not beat (start its process first: everlode node run)""",
    "rejoin of a node that is not away is refused": """\
        > ask rejoin c
          Answer: refused, c is healthy: there is nothing to take back""",
}
ALL = {**{f"switchover {name}": text for name, text in SWITCHOVERS.items()}, **OTHERS}


@pytest.mark.parametrize("script", ALL.values(), ids=ALL.keys())
def test_transcript_comes_out_as_it_is_written(script: str) -> None:
    assert played(dedent(script)) == dedent(script)


@pytest.mark.parametrize("verb", ["switchover", "failover", "drain"])
def test_dry_run_shows_the_steps_that_are_then_taken(verb: str) -> None:
    region = Region()
    asked = region.asked("op", verb, "a" if verb == "drain" else "")
    foreseen = [shown(step) for step in foresee(region.view(Wish(asked, 0)))]
    region.log.append(TASKS, asked)
    taken = region.steps()
    for line in ("a drains", "epoch opens"):
        if any(step.startswith("Await: ") for step in taken[-1:]):
            region.happens(line if "commits" in taken[-1] else "epoch opens")
            taken += region.steps()
    assert foreseen == taken
    assert foreseen[-1].startswith("Answer: done")
