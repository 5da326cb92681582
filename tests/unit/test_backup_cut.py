"""The cut's stamp, and the newest state up to it."""

from __future__ import annotations

import copy
import io
import json

import fastavro
import pytest

from everlode.avro import schemas
from everlode.avro.codec import MARKER, Codec, encode_state
from everlode.avro.plain import state_dict
from everlode.backup.heads import Heads, newest
from everlode.backup.standing import Applied, choose
from everlode.errors import ContractError, IntegrityError, Precondition
from everlode.events.stamp import stamp_at
from everlode.events.states import RewardState
from everlode.projection.fold import Known
from tests.support.world.state_play import START

CODEC = Codec()


def reward(key: str, version: int, stamp: int, epoch: int = 1) -> RewardState:
    return RewardState(
        key=key, epoch=epoch, version=version, stamp=stamp, fold_version=1, origin="eu.1",
        partition=0, seq=version, status="paid", home="eu", task_id="t", miner_id="m",
        validation_id="v", case_id=None, base_micro=1, score_ppm=1, amount_micro=1, formula=1,
        payout_ref=None, entries=(), calculated_at=START, paid_at=None,
    )  # fmt: skip


def kept(stamp: int, *records: RewardState | str) -> Heads:
    """`records`: states in the topic's order; a key alone is a tombstone."""
    read = [
        (n, r, None)
        if isinstance(r, str)
        else (n, r.key, CODEC.state_head("rewards", encode_state(r)))
        for n, r in enumerate(records)
    ]
    return newest("rewards", read, stamp, "state.g1.rewards/0", CODEC.decode_state)


def test_stamp_is_the_smallest_of_the_live_partitions() -> None:
    now = 1_000_000
    chosen = choose(
        [
            Applied("eu.1.tasks", 0, 5, stamp_at(now)),
            Applied("eu.1.tasks", 1, 5, stamp_at(now - 2_000)),
            Applied("us.1.tasks", 0, 5, stamp_at(now - 60_000)),
            Applied("us.1.tasks", 1, 0, 0),
        ]
    )
    assert chosen.stamp == stamp_at(now - 2_000)
    assert chosen.status["us.1.tasks", 0] == "stale"
    assert chosen.status["us.1.tasks", 1] == "empty"
    assert chosen.status["eu.1.tasks", 1] == "live"


def test_nothing_applied_is_refused() -> None:
    with pytest.raises(Precondition, match="nothing"):
        choose([Applied("eu.1.tasks", 0, 0, 0)])
    with pytest.raises(Precondition):
        choose([])


def test_newest_state_up_to_the_stamp_is_kept() -> None:
    found = kept(20, reward("a", 1, 5), reward("a", 2, 20), reward("b", 1, 21), reward("a", 3, 22))
    assert found.states == {("rewards", "a"): Known(reward("a", 2, 20), 2, "")}
    assert found.jumps == {}


def test_state_written_again_is_no_regression() -> None:
    found = kept(20, reward("a", 2, 9), reward("a", 2, 9))
    assert found.states["rewards", "a"].version == 2


@pytest.mark.parametrize("back", [reward("a", 1, 5), reward("a", 3, 12, epoch=0)])
def test_state_topic_that_goes_back_is_an_integrity_error(back: RewardState) -> None:
    with pytest.raises(IntegrityError, match=r"state\.g1\.rewards/0: a goes back") as caught:
        kept(20, reward("a", 2, 9), back)
    assert caught.value.code == "state_regression"


def test_regression_after_the_stamp_is_found_too() -> None:
    with pytest.raises(IntegrityError):
        kept(3, reward("a", 2, 9), reward("a", 1, 5))


def test_deleted_key_stays_deleted() -> None:
    found = kept(20, reward("a", 3, 9), "a")
    assert found.states == {("rewards", "a"): Known(None, 4, "")}


def test_state_between_that_was_never_published_is_looked_for() -> None:
    """The projector publishes the newest of a batch: version 2, at or before T, may be missing."""
    found = kept(20, reward("a", 1, 5), reward("a", 3, 25), reward("b", 2, 30))
    assert found.states["rewards", "a"].version == 1
    assert found.jumps == {("rewards", "a"): 2, ("rewards", "b"): 1}


def test_head_of_a_state_is_read_without_the_rest_and_what_is_kept_is_decoded() -> None:
    data = encode_state(reward("a", 3, 9, epoch=2))
    assert CODEC.state_head("rewards", data)[:4] == ("a", 2, 3, 9)
    cut = data[:20]
    assert CODEC.state_head("rewards", cut) == ("a", 2, 3, 9, cut)
    passed = [
        (n, "a", CODEC.state_head("rewards", d))
        for n, d in enumerate((cut, encode_state(reward("a", 4, 9, 2))))
    ]
    with pytest.raises(IntegrityError, match="x/0@0: RewardState") as caught:
        newest("rewards", passed[:1], 9, "x/0", CODEC.decode_state)
    assert caught.value.code == "foreign_record"
    found = newest("rewards", passed, 9, "x/0", CODEC.decode_state)
    assert found.states["rewards", "a"].version == 4


@pytest.mark.parametrize("cut", [0, 5, 10, 11])
def test_state_whose_beginning_does_not_fit_is_refused(cut: int) -> None:
    with pytest.raises(ContractError):
        CODEC.state_head("rewards", encode_state(reward("a", 1, 5))[:cut])


def test_state_of_another_component_is_refused() -> None:
    with pytest.raises(ContractError) as caught:
        CODEC.state_head("tasks", encode_state(reward("a", 1, 5)))
    assert caught.value.code == "wrong_topic"


def test_head_of_another_writers_state_is_found_wherever_it_stands() -> None:
    other = copy.deepcopy(schemas.raw("RewardState"))
    other["fields"].append(other["fields"].pop(0))  # the key comes last
    codec, state = Codec(), reward("a", 3, 9)
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(other), state_dict(state))
    data = MARKER + codec.learn(json.dumps(other)) + body.getvalue()
    assert codec.state_head("rewards", data) == ("a", 1, 3, 9, data)
