"""The fold of the control log as one record: the same state, and the same fold from there on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from everlode.control.fold import ControlState, apply
from everlode.control.roles import Roles
from everlode.control.snapshot import FOLD, from_bytes, to_bytes
from everlode.events import control as e
from everlode.events.base import Envelope, Event, Fact

NODES = ("a", "b")


def assigned(epoch: int, node: str, based_on: int) -> e.ScopeAssigned:
    return e.ScopeAssigned(
        scope_name="coordinator/eu", new_epoch=epoch, primary_node=node, region="eu",
        reason="forced", based_on=based_on, based_on_epoch=epoch - 1,
    )  # fmt: skip


def renewed(node: str, epoch: int) -> e.LeaseRenewed:
    return e.LeaseRenewed(
        scope_name="coordinator/eu", node_id=node, held_epoch=epoch, nonce="n", incarnation=node
    )


def joined(node: str, incarnation: str, replaces: str = "") -> e.NodeJoined:
    return e.NodeJoined(
        node_id=node, region="eu", component="coordinator", kind="", endpoint="", priority=0,
        incarnation=incarnation, replaces=replaces,
    )  # fmt: skip


def asked(operation: str, verb: str) -> e.OperatorAsked:
    return e.OperatorAsked.model_validate(
        {"operation_id": operation, "verb": verb, "scope_name": "task-manager/eu", "node_id": "a",
         "operator": "ann", "reason": "", "until_ms": 7, "expires_ms": 1, "based_on": 0,
         "based_on_epoch": 0}
    )  # fmt: skip


EVENTS = st.one_of(
    st.builds(assigned, st.integers(1, 5), st.sampled_from(NODES), st.integers(0, 30)),
    st.builds(asked, st.sampled_from("xyz"), st.sampled_from(["drain", "pause", "resume", "ack"])),
    st.builds(
        lambda o: e.OperatorAnswered(
            operation_id=o, scope_name="task-manager/eu", outcome="done", reason="r"
        ),
        st.sampled_from("xyz"),
    ),
    st.builds(renewed, st.sampled_from(NODES), st.integers(1, 5)),
    st.builds(joined, st.sampled_from(NODES), st.sampled_from(NODES)),
    st.just(e.IncarnationOpened(region="eu", new_origin="eu.2", accepted=())),
    st.builds(
        lambda g: e.GenerationSwitched(region="eu", generation=g, operation_id="o"),
        st.integers(0, 3),
    ),
    st.builds(
        lambda b: e.BackupMade(region="eu", backup_id=b, manifest_sha256="a" * 64, created_at_ms=1),
        st.sampled_from("abc"),
    ),
)


def fact(data: Event) -> Fact:
    envelope = Envelope.model_construct(scope="coordinator/eu", epoch=0, correlation_id="c")
    return Fact(envelope, data)


@given(st.lists(EVENTS, max_size=40), st.integers(0, 40))
def test_fold_from_a_snapshot_equals_the_fold_from_the_beginning(
    events: list[Event], at: int
) -> None:
    whole = begun = ControlState()
    for offset, data in enumerate(events):
        whole = apply(whole, offset, fact(data))
    for offset, data in enumerate(events[:at]):
        begun = apply(begun, offset, fact(data))
    kept = from_bytes(to_bytes(begun))
    assert kept == begun
    for offset, data in enumerate(events):
        kept = apply(kept, offset, fact(data))
    assert kept == whole


def test_damaged_snapshot_and_one_of_another_fold_count_for_nothing() -> None:
    data = to_bytes(ControlState(7, {}, {}, {"eu": "eu.1"}))
    assert from_bytes(data) is not None
    assert from_bytes(data[:-2]) is None
    assert from_bytes(None) is None
    assert from_bytes(b"[]") is None
    assert from_bytes(b'{"fold": %d, "state": {"position": "x"}}' % FOLD) is None
    other = data.replace(b'"fold": %d' % FOLD, b'"fold": %d' % (FOLD + 1))
    assert from_bytes(other) is None


def test_process_that_begins_with_a_snapshot_waits_for_the_lease_of_the_one_before_it() -> None:
    """Its last renewal may stand just before the snapshot, where nobody reads it."""
    state = ControlState()
    for offset, data in enumerate([joined("a", "old"), assigned(1, "a", 0), renewed("a", 1)]):
        state = apply(state, offset, fact(data))
    roles = Roles("a", ("coordinator/eu",), 1000, "new")
    begun = from_bytes(to_bytes(state))
    assert begun is not None
    now = apply(begun, 3, fact(joined("a", "new", "old")))
    roles.observe(joined("b", "b"), begun, 0)  # a record of others, say
    roles.caught_up(0)
    roles.observe(joined("a", "new"), now, 10)
    roles.sent("coordinator/eu", "n", 20)
    mine = renewed("a", 1).model_copy(update={"incarnation": "new"})
    roles.observe(mine, apply(now, 4, fact(mine)), 30)
    assert roles.leads("coordinator/eu", 500) is None
    assert roles.leads("coordinator/eu", 1010) == 1
    roles.gone("old", 1010)
    assert roles.leads("coordinator/eu", 1011) == 1
