"""A payment system that does not say whether a payout has left holds up nothing but that payout."""

from __future__ import annotations

import pytest

from everlode.control.fold import ControlState
from everlode.errors import Unavailable
from everlode.events import commands as c
from everlode.events.base import Fact
from everlode.rewards.payouts import LONGEST_S, PAY_AGAIN_S
from everlode.rewards.sink import Fence
from tests.unit.test_payouts import CONFIRMED, NOW, Node, Sink, a_node, cleared, suspected


class Mute(Sink):
    """It does not say whether a key was paid, while `mute`."""

    def __init__(self) -> None:
        super().__init__()
        self.mute, self.looks = True, 0

    def find(self, payout_key: str, fence: Fence) -> str | None:
        self.looks += 1
        if self.mute:
            raise Unavailable("no answer")
        return super().find(payout_key, fence)


def waiting(fraud: Fact) -> tuple[Node, Mute, Fact]:
    """A node whose sink was mute when a case about its reward came, and the reward's fact."""
    sink = Mute()
    node, calculated = a_node(sink)
    node.read(fraud)
    assert node.commit() == []
    return node, sink, calculated


@pytest.mark.parametrize(("fraud", "status"), [(suspected(), "withheld"), (CONFIRMED, "reversed")])
def test_reward_is_held_back_once_the_sink_answers_and_does_not_leave_before(
    fraud: Fact, status: str
) -> None:
    node, sink, calculated = waiting(fraud)
    for _ in range(3):
        node.now_s += LONGEST_S
        node.read(calculated)
        node.pay_what_waits()
        assert node.commit() == []
    assert (node.reward.status, sink.asked) == ("calculated", 0)
    sink.mute = False
    node.now_s += LONGEST_S
    node.pay_what_waits()
    (fact, *_) = node.commit()
    assert (node.reward.status, sink.asked) == (status, 0)
    assert fact[0].stamp > fraud.envelope.stamp
    node.read(fraud)  # its fact is read again after all
    assert node.commit() == []


def test_successor_holds_back_what_its_predecessor_could_not() -> None:
    """It reads the case's fact no more: its position was passed."""
    _, sink, calculated = waiting(suspected())
    node = Node(sink)
    node.component.observe(suspected())
    node.command(c.CalculateReward(
        task_id="eu/t", miner_id="m", validation_id="v", base_micro=1000, score_ppm=1_000_000,
    ))  # fmt: skip
    node.commit()
    node.read(calculated)
    assert node.commit() == []
    sink.mute = False
    node.now_s += PAY_AGAIN_S
    node.pay_what_waits()
    node.commit()
    assert (node.reward.status, sink.asked) == ("withheld", 0)


def test_case_that_is_cleared_meanwhile_lets_the_reward_leave() -> None:
    node, sink, calculated = waiting(suspected())
    node.read(cleared())
    node.now_s += LONGEST_S
    node.read(calculated)
    node.pay_what_waits()
    node.commit()
    assert (node.reward.status, sink.asked) == ("paid", 1)


def test_payout_that_had_left_is_booked_once_the_sink_says_so() -> None:
    sink = Mute()
    node, calculated = a_node(sink)
    node.read(calculated)
    node.begin()  # it crashed before the commit
    node.component.payouts.over("eu/t|m")
    node.read(suspected())
    assert node.commit() == []
    sink.mute = False
    node.component.payouts.owe("eu/t|m")
    node.now_s += LONGEST_S
    node.pay_what_waits()
    node.commit()
    assert (node.reward.status, list(sink.paid), sink.asked) == ("paid", ["eu/t|m"], 1)


def test_sink_that_stays_mute_is_asked_less_and_less_often() -> None:
    node, sink, _ = waiting(suspected())
    looks = []
    for _ in range(6):
        before = sink.looks
        for _ in range(100):
            node.now_s += 1
            list(node.component.due(NOW, ControlState()))
        looks.append(sink.looks - before)
    assert looks[0] > looks[-1]
    assert sum(looks) < 12
    assert "no answer" in node.component.load().waits_for


@pytest.mark.parametrize(
    "command", [c.WithholdReward(case_id="x", reason="r"), c.ReverseReward(reason="r")]
)
def test_who_takes_a_reward_back_is_refused_while_nobody_knows_whether_it_has_left(
    command: c.WithholdReward | c.ReverseReward,
) -> None:
    sink = Mute()
    node, _ = a_node(sink)
    node.command(command)
    (answer,) = node.batch.answers[-1:]
    assert answer.error is not None
    assert (answer.error.code, node.commit()) == ("payout_unknown", [])
    sink.mute = False
    node.now_s += PAY_AGAIN_S
    node.command(command)
    node.commit()
    assert node.reward.status in ("withheld", "reversed")
