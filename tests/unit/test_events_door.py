"""The door: every field of every command and heartbeat has its bounds, and they are named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import AwareDatetime

from everlode.avro.codec import Codec, encode_fact
from everlode.errors import ContractError, Refusal
from everlode.events import commands as c
from everlode.events import door
from everlode.events.base import CommandHeader, Envelope, Evidence, OwnCommand, Record
from everlode.events.catalogue import COMMANDS
from everlode.events.heartbeats import MinerBeat, NodeBeat
from everlode.topics.place import placed

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DEPOSIT = c.DepositStake(amount_micro=1)
UPDATE = c.UpdateMiner(endpoint="10.0.0.7:1", specialties=("a", "b"), max_concurrent=1)
MODELS = [*COMMANDS.values(), CommandHeader, NodeBeat, MinerBeat]


def refusal(record: Record, now: datetime = NOW) -> Refusal:
    with pytest.raises(Refusal) as caught:
        door.check(record, now)
    assert caught.value.code == "bad_field"
    return caught.value


def changed(record: Record, **values: Any) -> Record:
    return record.model_copy(update=values)


@pytest.mark.parametrize("character", ["\0", "\n", "\x1b", "\x7f", "\x85"])
def test_control_character_is_refused_with_its_place(character: str) -> None:
    error = refusal(changed(UPDATE, endpoint=f"10.{character}"))
    assert error.message == f"endpoint has the control character U+{ord(character):04X} at 3"
    assert error.hint == "expected for endpoint: no control characters"


@pytest.mark.parametrize("text", ["", "Ω€𝄞 naïve", "a/b?c#d", "‮", "x" * 4096])
def test_other_text_is_let_in(text: str) -> None:
    door.check(changed(UPDATE, endpoint=text), NOW)


def test_items_are_checked_one_by_one_and_repeats_are_named() -> None:
    repeated = refusal(changed(UPDATE, specialties=("a", "b", "a")))
    assert repeated.message == "specialties[2] repeats specialties[0]"
    assert refusal(changed(UPDATE, specialties=("a", "b\0"))).message.startswith("specialties[1] ")


def test_records_in_lists_are_checked_with_their_place() -> None:
    evidence = (Evidence(topic="t", partition=-1, offset=-1, note="a\tb"),)
    case = c.ResolveFraudCase(
        confirmed=True, decided_by="x", penalty_micro=0, reason="r", evidence=evidence
    )
    assert refusal(case).message.startswith("evidence[0].note has the control character U+0009")


@pytest.mark.parametrize("days", [-door.PAST.days - 1, door.FUTURE.days + 1])
def test_time_outside_the_window_is_refused(days: int) -> None:
    deferred = c.DeferValidation(reason="r", deadline_at=NOW + timedelta(days=days))
    assert "in milliseconds since 1970" in refusal(deferred).hint
    door.check(changed(deferred, deadline_at=NOW + timedelta(days=days * 0.99)), NOW)


def test_time_in_seconds_for_milliseconds_is_refused() -> None:
    seconds_as_ms = datetime.fromtimestamp(NOW.timestamp() / 1000, UTC)
    assert refusal(c.DeferValidation(reason="r", deadline_at=seconds_as_ms))


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_every_integer_of_every_model_is_bounded_so_that_sums_hold(model: type[Record]) -> None:
    """9,000 of any one field together stay within 64 bits."""
    for name, field in model.model_fields.items():
        if field.annotation is not int or name.endswith(door.FREE):
            continue
        (rule,) = (r for r in door._rules(model) if r.field == name)
        assert 0 < rule.most < 2**63 // 9000
        for value in (rule.most + 1, rule.least - 1, -1):
            with pytest.raises(Refusal, match=name):
                rule.check(name, value, NOW)
        for value in (rule.least, 1, rule.most):  # as what is let in without being asked
            rule.check(name, value, NOW)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_every_text_time_and_list_of_every_model_has_its_rule(model: type[Record]) -> None:
    ruled = {rule.field for rule in door._rules(model)}
    for name, field in model.model_fields.items():
        kinds = set(door._plain(field.annotation))
        if kinds & {str, datetime, AwareDatetime} or any(
            getattr(k, "__origin__", None) is tuple for k in kinds
        ):
            assert name in ruled


OF_STRANGERS = {
    "SubmitTask.base_reward_micro": 0,  # a free task
    "DepositStake.amount_micro": 1,
    "ResolveFraudCase.penalty_micro": 0,  # none, e.g. of who is cleared
    "ResolveFraudCase.record_worth_micro": 0,
}
"""Amounts that may be asked for from outside → the least."""
OF_PRIMARIES = {
    "RecordReward.amount_micro", "LockStake.amount_micro", "SlashStake.amount_micro",
    "CalculateReward.base_micro", "CollectSlash.amount_micro", "RepayDebt.amount_micro",
    "RepayDebt.owed_micro", "ReduceReward.amount_micro", "ReduceReward.due_micro",
    "RequestValidation.base_reward_micro",
}  # fmt: skip
"""Amounts that follow from those: 0 of a free task."""
AMOUNTS = {
    f"{name}.{field}": (model, field)
    for name, model in COMMANDS.items()
    for field in model.model_fields
    if field.endswith("_micro")
}


def test_of_every_amount_it_is_decided_whether_it_may_be_0() -> None:
    own = {name for name, (model, _) in AMOUNTS.items() if issubclass(model, OwnCommand)}
    assert own == OF_PRIMARIES
    assert AMOUNTS.keys() - own == OF_STRANGERS.keys()


@pytest.mark.parametrize("amount", AMOUNTS)
def test_amount_that_is_0_or_negative_is_named_or_lawful(amount: str) -> None:
    model, field = AMOUNTS[amount]
    least = OF_STRANGERS.get(amount, 0)
    asked = model.model_construct(**dict.fromkeys(model.model_fields))
    for value in {-1, 0, least - 1} - set(range(least, 1)):
        error = refusal(changed(asked, **{field: value}))
        assert error.message == f"{field} is {value}"
        assert error.hint == (
            f"expected for {field}: an amount in millionths, {least} to {door.MOST_MICRO}"
        )
    door.check(changed(asked, **{field: least}), NOW)


def heartbeat(**changes: Any) -> tuple[bytes, bytes]:
    """Key and value of a miner's heartbeat."""
    envelope = Envelope(
        event_id="e", aggregate_id=changes.pop("aggregate_id", "m"), version=0, origin="eu.1",
        scope="", epoch=0, seq=1, stamp=1, occurred_at=changes.pop("occurred_at", NOW),
        correlation_id="c",
    )  # fmt: skip
    beat = MinerBeat(running=(), work_done=0, interval_ms=15_000).model_copy(update=changes)
    return envelope.aggregate_id.encode(), encode_fact(envelope, beat)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"running": ("t", "t")}, r"running\[1\]"),
        ({"interval_ms": 2**40}, "interval_ms"),
        ({"aggregate_id": "m\0"}, "aggregate_id"),
        ({"occurred_at": datetime.fromtimestamp(NOW.timestamp() / 1000, UTC)}, "occurred_at"),
    ],
)
def test_heartbeat_of_a_stranger_is_left_out_by_every_reader(
    changes: dict[str, Any], field: str
) -> None:
    key, value = heartbeat()
    assert placed(Codec(), "eu.1.heartbeats", key, value).data.__class__ is MinerBeat
    key, value = heartbeat(**changes)
    with pytest.raises(ContractError, match=field) as caught:
        placed(Codec(), "eu.1.heartbeats", key, value)
    assert caught.value.code == "bad_field"


def test_beat_of_a_node_that_has_read_its_log_is_let_in_with_its_stamp() -> None:
    """A stamp is larger than any amount: a coordinator that refused it would see nobody beat."""
    read = int(NOW.timestamp() * 1000) << 16
    beat = NodeBeat.model_validate(
        {
            "component": "miner-registry", "kind": "", "role": "secondary", "held_epoch": 1,
            "endpoint": "h:1", "status": "healthy", "load_ppm": 0, "current_tasks": 1,
            "max_concurrent": 1, "work_done": 1, "queue_size": 0, "specialties": (),
            "interval_ms": 1000, "read_stamp": read,
        }
    )  # fmt: skip
    door.check(beat, NOW)
