"""What a snapshot gives back is equal to what was written, and its common values are there once."""

from __future__ import annotations

from everlode.avro.codec import Codec, encode_state
from everlode.avro.snapshots import encode_snapshot
from everlode.events.catalogue import STATES
from everlode.events.snapshots import ANSWERS, ENTRY, AnsweredFact, SnapshotAnswers, SnapshotEntry
from everlode.events.states import MinerState
from everlode.snapshots.read import COMMON, Shared, Snapshot
from everlode.state.dispatch import evolve_fact
from tests.support.world.projecting import fact

CODEC = Codec()


def miner(key: str) -> MinerState:
    state = evolve_fact(None, fact("miners", key, 1, 1), 0)
    assert isinstance(state, MinerState)
    return state


def test_states_are_equal_and_share_what_many_have() -> None:
    first, second = miner("eu/m1"), miner("eu/m2")
    shared = Shared()
    one, two = (shared.of(CODEC.decode_state(encode_state(s))) for s in (first, second))
    assert (one, two) == (first, second)
    common = [name for name in one._fields if name in COMMON]
    assert len(common) >= 5
    assert all(getattr(one, name) is getattr(two, name) for name in common)


def test_each_common_field_is_one_of_a_state() -> None:
    assert {name for state in STATES.values() for name in state._fields} >= COMMON


def test_answers_come_in_their_order_whatever_their_slots() -> None:
    def ring(number: int) -> bytes:
        fact = AnsweredFact("eu/m1", f"c{number}", f"e{number}", "MinerUpdated", 0, 9, 9, number)
        return encode_snapshot(SnapshotAnswers(number, (fact,)))

    state = miner("eu/m1")
    entry = SnapshotEntry("miners", state.key, state.version, "e9", encode_state(state))
    records = {
        0: {ANSWERS + b"%d" % (n % 3): ring(n) for n in (4, 2, 3)}
        | {ENTRY + b"miners/eu/m1": encode_snapshot(entry)},
        1: {},
    }
    found = Snapshot(CODEC, records)
    assert [fact.command_id for fact in found.answers()] == ["c2", "c3", "c4"]
    assert found.keys() == {ENTRY + b"miners/eu/m1"}
    assert [(a.component, a.event_id, a.state) for a in found.entries()] == [
        ("miners", "e9", state)
    ]
    assert found.entries() == []
