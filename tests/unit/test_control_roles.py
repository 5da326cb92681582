"""Roles by control log and lease: in order, each change once, a lapse is never passed over."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from everlode.adapters.clock import instant
from everlode.control.fold import ControlState, apply
from everlode.control.roles import Role, Roles
from everlode.events.base import Envelope, Event, Fact
from everlode.events.control import LeaseRenewed, ScopeAssigned

SCOPE = "task-manager/eu"
PRIMARY, SECONDARY, FENCED = Role.PRIMARY, Role.SECONDARY, Role.FENCED


class Desk:
    """One node, `me`, a log of its own and a clock."""

    def __init__(self) -> None:
        self.roles = Roles("me", (SCOPE,), 100)
        self.state = ControlState()
        self.now = 0
        self.told: list[tuple[Role, int]] = []

    def append(self, data: Event) -> list[str]:
        envelope = Envelope(
            event_id="e", aggregate_id="a", version=0, origin="control", scope="", epoch=0, seq=0,
            stamp=0, occurred_at=instant(0), correlation_id="c",
        )  # fmt: skip
        self.state = apply(self.state, self.state.position + 1, Fact(envelope, data))
        return self.roles.observe(data, self.state, self.now)

    def assign(self, node: str) -> list[str]:
        epoch = self.state.epoch(SCOPE)
        return self.append(
            ScopeAssigned(
                scope_name=SCOPE, new_epoch=epoch + 1, primary_node=node, region="eu",
                reason="forced", based_on=0, based_on_epoch=epoch,
            )
        )  # fmt: skip

    def send(self, nonce: str) -> LeaseRenewed:
        self.roles.sent(SCOPE, nonce, self.now)
        epoch = self.state.epoch(SCOPE)
        return LeaseRenewed(scope_name=SCOPE, node_id="me", held_epoch=epoch, nonce=nonce)

    def look(self) -> list[tuple[Role, int]]:
        found = [(c.role, c.epoch) for c in self.roles.changes(self.now)]
        self.told += found
        return found


def leading() -> Desk:
    desk = Desk()
    desk.roles.level(0)
    assert desk.assign("me") == [SCOPE]
    desk.append(desk.send("n"))
    assert desk.look() == [(SECONDARY, 0), (FENCED, 1), (PRIMARY, 1)]
    return desk


def test_new_node_tells_nothing_of_the_past_and_renews_nothing_before_it_is_level() -> None:
    desk = Desk()
    for node in ("a", "me", "b"):
        desk.assign(node)
    assert (desk.look(), desk.roles.renewable()) == ([], {})
    desk.roles.level(0)
    assert desk.look() == [(SECONDARY, 3)]
    assert desk.roles.changes(0) == []


def test_restarted_primary_is_fenced_until_a_lease_of_its_own_is_read_back() -> None:
    desk = Desk()
    desk.assign("me")
    desk.append(LeaseRenewed(scope_name=SCOPE, node_id="me", held_epoch=1, nonce="before"))
    desk.roles.level(0)
    assert (desk.look(), desk.roles.renewable()) == ([(FENCED, 1)], {SCOPE: 1})
    assert desk.roles.leads(SCOPE, 0) is None
    desk.append(desk.send("n"))
    assert (desk.look(), desk.roles.leads(SCOPE, 0)) == ([(PRIMARY, 1)], 1)


def test_lease_that_runs_out_fences_and_a_renewal_gives_the_same_epoch_back() -> None:
    desk = leading()
    assert desk.roles.next_ms(40) == 60
    desk.now = 100
    assert (desk.look(), desk.roles.next_ms(100)) == ([(FENCED, 1)], None)
    desk.append(desk.send("again"))
    assert desk.look() == [(PRIMARY, 1)]


def test_lapse_between_two_looks_is_told_though_the_lease_is_good_again() -> None:
    desk = leading()
    late = desk.send("late")
    desk.now = 100
    desk.roles.sent(SCOPE, "later", 100)
    desk.append(late.model_copy(update={"nonce": "later"}))
    assert desk.look() == [(FENCED, 1), (PRIMARY, 1)]


def test_scope_given_to_another_and_back_is_told_with_both_epochs() -> None:
    desk = leading()
    desk.assign("other")
    desk.assign("me")
    desk.append(desk.send("m"))
    assert desk.look() == [(SECONDARY, 2), (FENCED, 3), (PRIMARY, 3)]


def test_chosen_again_in_a_new_epoch_is_fenced_until_a_new_lease() -> None:
    desk = leading()
    late = desk.send("late")  # of epoch 1, still under way
    desk.assign("me")
    desk.append(late)
    assert desk.look() == [(FENCED, 2)]
    assert desk.roles.leads(SCOPE, 0) is None


def test_node_that_ended_is_fenced_for_good() -> None:
    desk = leading()
    desk.roles.end(0)
    desk.append(desk.send("m"))
    assert (desk.look(), desk.roles.renewable()) == ([(FENCED, 1)], {})
    assert desk.roles.leads(SCOPE, 0) is None


PLAYS = st.sampled_from(["me", "other", "send", "read", "wait", "look", "end"])


@given(st.lists(PLAYS, max_size=60))
def test_changes_never_repeat_and_primary_is_told_exactly_while_it_leads(plays: list[str]) -> None:
    desk = Desk()
    desk.roles.level(0)
    sent: list[LeaseRenewed] = []
    for number, play in enumerate(plays):
        match play:
            case "me" | "other":
                desk.assign(play)
            case "send" if desk.roles.renewable():
                sent.append(desk.send(str(number)))
            case "read" if sent:
                desk.append(sent.pop(0))
            case "wait":
                desk.now += 37
            case "look":
                desk.look()
                leads = desk.roles.leads(SCOPE, desk.now)
                last = desk.told[-1]
                assert (last == (PRIMARY, leads)) == (leads is not None)
            case "end":
                desk.roles.end(desk.now)
    desk.look()
    assert all(a != b for a, b in pairwise([(FENCED, 0), *desk.told]))
    epochs = [epoch for _, epoch in desk.told]
    assert epochs == sorted(epochs)
    assert all(
        before == (FENCED, now[1]) for before, now in pairwise(desk.told) if now[0] is PRIMARY
    )
