"""The proof is checked: each planted bug turns it red, and an honest history leaves it green."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from everlode.avro.codec import Codec, encode_fact, encode_state
from everlode.errors import IntegrityError
from everlode.events import miners as m
from everlode.events import rewards as r
from everlode.events import tasks as t
from everlode.events import validations as v
from everlode.events.base import Envelope, Event, Fact, LedgerEntry
from everlode.events.catalogue import COMMANDS, EVENTS
from everlode.proof.findings import Proof
from everlode.proof.money import about_money, check_ledger, check_rewards
from everlode.proof.promises import OF_TASKS, availability, during, reconnected
from everlode.proof.prove import (
    check_copy,
    check_dense,
    check_journal,
    check_same,
    compare,
    decoded,
)
from everlode.proof.reading import read_record
from everlode.proof.recount import Fields, LoggedEvent, epochs_decided, recount
from everlode.state.dispatch import evolve
from tests.contract.test_avro_codec import one_event

AT = datetime(2026, 1, 1, tzinfo=UTC)
SHA = "ab" * 32
LATER = AT + timedelta(hours=1)
CODEC = Codec()


def posting(debit: str, credit: str, amount: int) -> tuple[LedgerEntry, ...]:
    return (
        LedgerEntry(account=debit, amount_micro=-amount),
        LedgerEntry(account=credit, amount_micro=amount),
    )


def task_story() -> list[Event]:
    return [
        t.TaskSubmitted(
            client_id="c", task_type="training", payload_uri="s3://x", payload_sha256=SHA,
            payload_bytes=10, cpu_milli=1, memory_mib=1, gpus=1, gpu_milli=1000,
            base_reward_micro=1_000_000, max_attempts=3, deadline_at=LATER,
        ),
        t.TaskAssigned(
            attempt=1, miner_id="m1", manager_node="n1", lease_until=LATER,
            base_reward_micro=1_000_000,
        ),
        t.TaskProgressed(attempt=1, miner_id="m1", progress_ppm=500_000, lease_until=LATER),
        t.TaskMigrated(
            attempt=2, miner_id="m1", from_node="n1", to_node="n2", lease_until=LATER
        ),
        t.TaskSolved(
            attempt=2, miner_id="m1", solution_id="s1", solution_uri="s3://s", solution_sha256=SHA,
            solution_bytes=1, work_ms=5, task_type="training", payload_sha256=SHA,
            payload_bytes=10, base_reward_micro=1_000_000,
        ),
        t.TaskValidated(validation_id="v-s1", solution_id="s1", miner_id="m1", score_ppm=900_000),
        t.TaskRewarded(miner_id="m1", reward_id="t1|m1", amount_micro=900_000),
    ]  # fmt: skip


def miner_story() -> list[Event]:
    return [
        m.MinerRegistered(
            operator_id="o", endpoint="e", specialties=("training",), gpus=1, gpu_model="T4",
            cpu_milli=1, memory_mib=1, max_concurrent=1,
        ),
        m.StakeDeposited(amount_micro=5_000_000),
        m.StakeLocked(task_id="t1", amount_micro=200_000),
        m.StakeReleased(task_id="t1", amount_micro=200_000),
        m.PerformanceRecorded(task_id="t1", outcome="accepted", work_ms=5, score_ppm=900_000),
        m.ReputationChanged(
            delta_ppm=9_000, reputation_ppm=509_000, reason="accepted", subject_id="v-s1"
        ),
        m.StakeLocked(task_id="t2", amount_micro=100_000),
        m.StakeSlashed(case_id="case-x", task_id="t2", amount_micro=300_000,
                       from_locked_micro=100_000),
        m.MinerSuspended(reason="fraud:copied-solution"),
    ]  # fmt: skip


def validation_story() -> list[Event]:
    return [
        v.ValidationRequested(
            task_id="t1", task_type="training", payload_sha256=SHA, solution_id="s1",
            solution_sha256=SHA, miner_id="m1", work_ms=5, base_reward_micro=1_000_000,
            kind="automatic", quorum=1, reviewers=(), deadline_at=LATER,
        ),
        v.ValidationEscalated(
            from_kind="automatic", to_kind="expert", reason="x", quorum=1, reviewers=(),
            deadline_at=LATER,
        ),
        v.VoteCast(voter_id="n9", voter_kind="expert", accept=True, score_ppm=900_000),
        v.ValidationDecided(
            task_id="t1", task_type="training", solution_id="s1", miner_id="m1", kind="expert",
            accepted=True, score_ppm=900_000, votes_for=1, votes_against=0, work_ms=5,
            base_reward_micro=1_000_000,
        ),
    ]  # fmt: skip


def reward_story() -> list[Event]:
    return [
        r.RewardCalculated(
            task_id="t1", miner_id="m1", validation_id="v-s1", base_micro=1_000_000,
            score_ppm=900_000, amount_micro=900_000, formula=1,
            entries=posting("treasury", "payable:m1", 900_000),
        ),
        r.RewardWithheld(case_id="case-x", reason="fraud_suspected"),
        r.RewardReleased(case_id="case-x", reason="fraud_cleared"),
        r.RewardPaid(
            task_id="t1", miner_id="m1", amount_micro=900_000, payout_key="t1|m1",
            payout_ref="p-1", entries=posting("payable:m1", "paid:m1", 900_000),
        ),
    ]  # fmt: skip


def case_story() -> list[Event]:
    return [
        v.FraudSuspected(
            rule="copied-solution", suspects=("m1",), task_id="t1", severity_ppm=900_000,
            evidence=(),
        ),
        v.FraudConfirmed(
            rule="copied-solution", suspects=("m1",), task_id="t1", decided_by="n9",
            penalty_micro=1, evidence=(),
        ),
    ]  # fmt: skip


STORIES: dict[str, tuple[str, Callable[[], list[Event]]]] = {
    "tasks": ("t1", task_story),
    "miners": ("m1", miner_story),
    "validations": ("v-s1", validation_story),
    "rewards": ("t1|m1", reward_story),
    "fraud": ("case-x", case_story),
}


def facts_of(component: str) -> list[Fact]:
    key, story = STORIES[component]
    return [
        Fact(
            Envelope(
                event_id=f"{component}-{n}", aggregate_id=key, version=n, origin="eu.1",
                scope="s/eu", epoch=1, seq=n, stamp=n, occurred_at=AT, correlation_id="c",
            ),
            event,
        )
        for n, event in enumerate(story(), 1)
    ]  # fmt: skip


def logged(component: str) -> list[LoggedEvent]:
    """A component's history, through the wire format, as the proof reads it."""
    found = []
    for fact in facts_of(component):
        kind, value = CODEC.decode_dict(encode_fact(fact.envelope, fact.data))
        envelope = value.pop("envelope")
        found.append(LoggedEvent(kind, envelope, value, 0))
    return found


def stored(component: str) -> dict[str, Fields]:
    """What the product's own fold makes of the same history."""
    state = None
    for fact in facts_of(component):
        state = evolve(component, state, fact, 0)
    assert state is not None
    return {state.key: CODEC.decode_dict(encode_state(state))[1]}


PAYOUTS = [{"key": "t1|m1", "amount_micro": 900_000}]


def rewards_of(
    rewards: list[LoggedEvent],
    validations: list[LoggedEvent] | None = None,
    payouts: list[dict[str, Any]] | None = None,
) -> list[str]:
    proof = Proof()
    check_rewards(
        proof,
        logged("validations") if validations is None else validations,
        rewards,
        PAYOUTS if payouts is None else payouts,
    )
    return proof.differences


# -- the proof's fold ----------------------------------------------------------------------------


@pytest.mark.parametrize("component", STORIES)
def test_recount_and_the_products_fold_agree(component: str) -> None:
    counted = recount(component, logged(component))
    assert counted.wrong == []
    proof = Proof()
    compare(proof, component, counted.found, stored(component))
    assert proof.differences == []
    assert proof.compared_keys == 1
    assert len(next(iter(counted.found.values()))) >= 3


@pytest.mark.parametrize("component", STORIES)
def test_every_field_that_is_altered_in_a_projection_is_found(component: str) -> None:
    expected = recount(component, logged(component)).found
    for name in next(iter(expected.values())):
        changed = copy.deepcopy(stored(component))
        next(iter(changed.values()))[name] = "altered"
        proof = Proof()
        compare(proof, component, expected, changed)
        assert len(proof.differences) == 1
        assert f"{name} is 'altered'" in proof.differences[0]


def test_state_that_one_region_stores_otherwise_is_named() -> None:
    proof = Proof()
    docs = {("tasks", "a"): b"1", ("miners", "m"): b"2"}
    check_same(proof, ("eu", "us"), docs, docs | {("miners", "m"): b"3", ("tasks", "b"): b"4"})
    assert proof.differences == ["miners m: eu and us store other states"]


def test_account_that_the_postings_do_not_explain_is_named() -> None:
    proof = Proof(ledger={"treasury": -5, "paid:m": 5})
    check_ledger(proof, "eu", [("treasury", -5), ("paid:m", 5), ("payable:m", 0)])
    assert proof.differences == []
    check_ledger(proof, "us", [("treasury", -5), ("paid:n", 5)])
    assert proof.differences == [
        "us ledger paid:m: 0 in the projection, 5 is right",
        "us ledger paid:n: 5 in the projection, 0 is right",
    ]


@pytest.mark.parametrize(
    ("difference", "money"),
    [
        ("reward t|m: paid twice", True),
        ("reward of t: paid to 2 miners", True),
        ("rewards t|m: RewardPaid after paid", True),
        ("eu rewards t|m: missing", True),
        ("payout t|m: left twice", True),
        ("the ledger sums to 3, not to zero", True),
        ("us ledger paid:m: 0 in the projection, 5 is right", True),
        ("eu tasks t: status is 'rewarded', 'validated' is right", False),
        ("eu.1.rewards/0: seq is not dense", False),
    ],
)
def test_difference_of_money_is_told_from_others(difference: str, money: bool) -> None:
    assert about_money(difference) is money


def test_task_that_is_assigned_again_while_it_runs_went_back() -> None:
    story = logged("tasks")
    again = story[1]._replace(envelope={**story[1].envelope, "version": 4})
    wrong = recount("tasks", [*story[:3], again]).wrong
    assert wrong == ["tasks t1: assigned while assigned: its progress went back"]


def test_key_that_a_projection_lacks_or_invents_is_named() -> None:
    proof = Proof()
    compare(proof, "eu tasks", {"a": {"version": 1}}, {"b": {"version": 1}})
    assert proof.differences == ["eu tasks a: missing", "eu tasks b: not in the log"]


@pytest.mark.parametrize("component", STORIES)
def test_lost_event_in_the_middle_is_a_version_out_of_turn(component: str) -> None:
    events = logged(component)
    wrong = recount(component, [events[0], *events[2:]]).wrong
    assert not wrong if len(events) == 2 else "version 3 follows 1" in wrong[0]


@pytest.mark.parametrize("component", STORIES)
def test_lost_first_event_is_found(component: str) -> None:
    assert recount(component, logged(component)[1:]).wrong


def changed(events: list[LoggedEvent], number: int, **data: Any) -> list[LoggedEvent]:
    event = events[number]
    return [*events[:number], event._replace(data={**event.data, **data}), *events[number + 1 :]]


def again(events: list[LoggedEvent], number: int) -> list[LoggedEvent]:
    """The same event once more, as a new version."""
    version = events[-1].envelope["version"] + 1
    return [*events, events[number]._replace(envelope={**events[number].envelope,
                                                       "version": version})]  # fmt: skip


PLANTED = {
    "progress goes back": (
        "tasks", lambda e: [*e[:3], *_renumber(changed(e, 2, progress_ppm=1)[2:])],
    ),
    "rewarded twice": ("tasks", lambda e: again(e, 6)),
    "paid twice": ("rewards", lambda e: again(e, 3)),
    "paid more than calculated": ("rewards", lambda e: changed(e, 3, amount_micro=900_001)),
    "paid while withheld": ("rewards", lambda e: [*e[:2], *_renumber(e[3:], 3)]),
    "calculated twice": ("rewards", lambda e: again(e, 0)),
    "decided twice": ("validations", lambda e: again(e, 3)),
    "own solution": ("validations", lambda e: changed(e, 2, voter_id="m1")),
    "reputation from nowhere": ("miners", lambda e: changed(e, 5, delta_ppm=1)),
    "stake below zero": ("miners", lambda e: changed(e, 2, amount_micro=6_000_000)),
}  # fmt: skip


def _renumber(events: list[LoggedEvent], first: int = 4) -> list[LoggedEvent]:
    return [e._replace(envelope={**e.envelope, "version": first + n}) for n, e in enumerate(events)]


@pytest.mark.parametrize(("component", "plant"), PLANTED.values(), ids=PLANTED.keys())
def test_unlawful_history_is_named(
    component: str, plant: Callable[[list[LoggedEvent]], list[LoggedEvent]]
) -> None:
    assert recount(component, plant(logged(component))).wrong


# -- rewards -------------------------------------------------------------------------------------


def test_rewards_that_are_right_leave_no_difference() -> None:
    assert rewards_of(logged("rewards")) == []


def test_reward_paid_twice_is_found() -> None:
    assert any("paid twice" in d for d in rewards_of(again(logged("rewards"), 3)))


def test_reward_paid_to_two_miners_is_found() -> None:
    events = logged("rewards")
    other = [
        e._replace(envelope={**e.envelope, "aggregate_id": "t1|m2"}, data={**e.data})
        for e in events
    ]
    found = rewards_of([*events, *other], payouts=[*PAYOUTS, {**PAYOUTS[0], "key": "t1|m2"}])
    assert any("paid to 2 miners" in d for d in found)
    assert any("t1|m2: m1 solved t1" in d for d in found)


def test_reward_with_another_amount_than_the_formula_is_found() -> None:
    events = changed(changed(logged("rewards"), 0, amount_micro=900_001), 3, amount_micro=900_001)
    found = rewards_of(events, payouts=[{"key": "t1|m1", "amount_micro": 900_001}])
    assert found == ["reward t1|m1: 900001 calculated, 900000 is right"]


def test_reward_without_an_accepted_validation_is_found() -> None:
    refused = changed(logged("validations"), 3, accepted=False, score_ppm=0)
    assert any("accepted nothing" in d for d in rewards_of(logged("rewards"), refused))


def test_accepted_validation_without_a_reward_is_found() -> None:
    assert rewards_of([], payouts=[]) == ["reward of v-s1: accepted, but nothing was calculated"]


def test_posting_that_does_not_sum_to_zero_is_found() -> None:
    entries = [{"account": "treasury", "amount_micro": -1}]
    found = rewards_of(changed(logged("rewards"), 0, entries=entries))
    assert any("do not sum to zero" in d for d in found)
    assert any("the ledger sums to" in d for d in found)


@pytest.mark.parametrize(
    ("payouts", "text"),
    [
        ([], "left None, booked 900000"),
        ([*PAYOUTS, *PAYOUTS], "left twice"),
        ([{"key": "t1|m1", "amount_micro": 1}], "left 1, booked 900000"),
        ([*PAYOUTS, {"key": "t9|m1", "amount_micro": 1}], "left 1, booked None"),
    ],
)
def test_payout_that_differs_from_the_books_is_found(
    payouts: list[dict[str, Any]], text: str
) -> None:
    assert any(text in d for d in rewards_of(logged("rewards"), payouts=payouts))


# -- the journal ---------------------------------------------------------------------------------


def log_of(component: str) -> dict[tuple[str, int], list[LoggedEvent]]:
    return {(f"eu.1.{component}", 0): logged(component)}


def entry(component: str, number: int, kind: str, **command: Any) -> dict[str, Any]:
    event = logged(component)[number]
    body = {**event.data, **command}
    return {
        "type": kind, "key": event.envelope["aggregate_id"], "outcome": "done",
        "command": json.loads(json.dumps(body, default=str)),
        "facts": [[event.envelope["event_id"], event.kind, f"eu.1.{component}", 0,
                   event.envelope["seq"], event.envelope["version"]]],
    }  # fmt: skip


def journal_of(entries: list[dict[str, Any]], drop: int | None = None) -> Proof:
    proof = Proof()
    log = log_of("tasks")
    if drop is not None:
        del log["eu.1.tasks", 0][drop]
    check_journal(proof, log, entries)
    return proof


def test_acknowledged_events_that_are_in_the_log_are_counted() -> None:
    entries = [entry("tasks", 0, "SubmitTask"), entry("tasks", 2, "ReportProgress")]
    proof = journal_of([*entries, entries[0]])
    assert (proof.acknowledged, proof.lost, proof.differences) == (2, [], [])
    assert proof.progress_acknowledged == 1


def test_acknowledged_event_that_is_not_in_the_log_is_lost_by_name() -> None:
    assert journal_of([entry("tasks", 2, "ReportProgress")], drop=2).lost == ["tasks-3"]


def test_acknowledged_event_with_another_content_is_found() -> None:
    proof = journal_of([entry("tasks", 2, "ReportProgress", progress_ppm=900_000)])
    assert "progress_ppm is 500000 in the log, 900000 was asked for" in proof.differences[0]


def test_acknowledged_event_at_another_place_is_found() -> None:
    asked = entry("tasks", 2, "ReportProgress")
    asked["facts"][0][4] = 17
    assert "acknowledged at eu.1.tasks/0:17" in journal_of([asked]).differences[0]


# -- copies and promises -------------------------------------------------------------------------


def bytes_of(component: str) -> dict[tuple[str, int], list[bytes]]:
    found = [encode_fact(fact.envelope, fact.data) for fact in facts_of(component)]
    return {(f"eu.1.{component}", 0): found}


def copies(log: dict[tuple[str, int], list[bytes]]) -> list[str]:
    proof = Proof()
    check_copy(proof, ("eu", "us"), bytes_of("tasks"), log)
    return proof.differences


def test_regions_with_the_same_records_do_not_differ() -> None:
    assert copies(bytes_of("tasks")) == []


def test_log_is_decoded_as_it_was_written() -> None:
    assert decoded(bytes_of("tasks")) == log_of("tasks")


@pytest.mark.parametrize("number", [0, 3, 6])
def test_record_that_a_region_lacks_is_found_at_its_place(number: int) -> None:
    less = bytes_of("tasks")
    del less["eu.1.tasks", 0][number]
    assert f"they differ from number {number}" in copies(less)[0]


def test_record_with_one_byte_changed_is_found() -> None:
    other = bytes_of("tasks")
    other["eu.1.tasks", 0][2] = other["eu.1.tasks", 0][2][:-1] + b"\x00"
    assert "they differ from number 2" in copies(other)[0]


def test_hole_in_seq_is_found_though_all_regions_share_it() -> None:
    less = log_of("tasks")
    del less["eu.1.tasks", 0][2]
    proof = Proof()
    check_dense(proof, less)
    assert proof.differences == ["eu.1.tasks/0: seq is not dense"]


def test_availability_counts_late_answers_gaps_and_errors() -> None:
    def answer(at_ms: int, took_ms: int, outcome: str = "done") -> dict[str, Any]:
        return {"at_ms": at_ms, "took_ms": took_ms, "outcome": outcome, "type": "SubmitTask",
                "key": "k", "code": "full"}  # fmt: skip

    found = availability(
        [answer(1000, 10), answer(1500, 2000), answer(4500, 10, "refused"), answer(9, 9, "error")],
        1000,
    )
    assert (found["answered"], found["share_within_deadline"]) == (3, 2 / 3)
    assert (found["longest_gap_ms"], found["slowest_answer_ms"]) == (3000, 2000)
    assert found["error_count"] == 1
    assert found["refused"] == {"SubmitTask: full": 1}
    assert found["by_second"] == {"1": [2, 1, 2000], "4": [1, 1, 10]}


def test_fault_is_felt_by_what_was_asked_in_its_window() -> None:
    def answer(asked_ms: int, took_ms: int, region: str = "eu") -> dict[str, Any]:
        return {"at_ms": asked_ms + took_ms, "took_ms": took_ms, "outcome": "done",
                "region": region}  # fmt: skip

    entries = [answer(900, 50), answer(1000, 4000), answer(1100, 100), answer(5500, 10),
               answer(2000, 1, "us"), {**answer(1500, 9), "outcome": "error"}]  # fmt: skip
    felt = during(entries, "eu", (1000, 6000), 1000)
    assert (felt["asked"], felt["share_within_deadline"]) == (3, 2 / 3)
    assert felt["longest_gap_ms"] == 5000 - 1200
    assert (felt["took_p95_ms"], felt["exceptions"]) == (4000, 1)


def test_who_asked_the_lost_node_is_back_with_the_first_answer_of_another() -> None:
    def answer(at_ms: int, took_ms: int, node: str, miner: str = "", **more: Any) -> dict[str, Any]:
        command = {"miner_id": miner} if miner else {}
        return {"at_ms": at_ms, "took_ms": took_ms, "outcome": "done", "region": "eu",
                "type": "ReportProgress", "node": node, "command": command, **more}  # fmt: skip

    entries = [
        answer(1500, 2000, "tm-1", "m1"),  # still of the lost node
        answer(9000, 8500, "tm-2", "m1"),  # waited since before the loss
        answer(7000, 1000, "tm-2"),
        answer(8000, 10, "tm-2"),  # only the first counts
        answer(6000, 10, "tm-2", "m2", region="us"),
        answer(6000, 10, "mr-1", "m3", type="RegisterMiner"),
        answer(90_000, 10, "tm-2", "m4"),  # asked long after
    ]
    assert reconnected(entries, "eu", "tm-1", (1000, 31_000)) == {"who": 2, "p95_ms": 8000}
    assert reconnected([], "eu", "tm-1", (0, 1)) == {"who": 0, "p95_ms": None}


def test_fault_without_any_question_has_no_share() -> None:
    felt = during([], "eu", (0, 10), 1)
    assert (felt["share_within_deadline"], felt["took_p95_ms"], felt["longest_gap_ms"]) == (
        None, None, 10,
    )  # fmt: skip


# -- epochs ----------------------------------------------------------------------------------


def decision(based_on: int, epoch: int) -> dict[str, Any]:
    return {"scope_name": "s", "based_on_epoch": based_on, "new_epoch": epoch}


def test_only_a_decision_that_follows_the_last_makes_an_epoch() -> None:
    late = [decision(0, 1), decision(0, 1), decision(1, 3), decision(1, 2), decision(1, 2)]
    assert epochs_decided(late) == {"s": 2}


def test_event_of_an_epoch_that_nobody_decided_stops_its_aggregate_and_is_named() -> None:
    def event(version: int, epoch: int) -> LoggedEvent:
        data = {"amount_micro": 1, "gpus": 1, "case_id": "c"}
        kind = "MinerRegistered" if version == 1 else "StakeDeposited"
        head = {"aggregate_id": "m", "version": version, "scope": "s", "epoch": epoch}
        return LoggedEvent(kind, head, data, 0)

    events = [event(1, 1), event(2, 1), event(3, 2), event(4, 1)]
    counted = recount("miners", events, {"s": 1})
    assert counted.found["m"]["version"] == 2
    assert counted.wrong == ["miners m: epoch 2 of s was never decided"]
    assert recount("miners", events, {"s": 2}).found["m"]["version"] == 4


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_own_reading_of_every_event_is_what_was_written(name: str) -> None:
    written = encode_fact(*one_event(name))
    assert read_record(written) == (name, CODEC.decode_dict(written)[1])


def test_own_reading_refuses_what_no_schema_of_today_reads_whole() -> None:
    written = encode_fact(*one_event("TaskCancelled"))
    for damaged in (written + b"\0", b"", written[:2] + bytes(8) + written[10:], b"x" + written):
        with pytest.raises(IntegrityError):
            read_record(damaged)


def test_commands_of_task_managers_are_those_of_the_catalogue() -> None:
    assert {n for n, model in COMMANDS.items() if model.component == "tasks"} == OF_TASKS


def test_decision_of_a_deposed_coordinator_makes_no_epoch() -> None:
    def made(scope: str, based: int, coordinator: int) -> dict[str, Any]:
        return {"scope_name": scope, "based_on_epoch": based, "new_epoch": based + 1,
                "region": "eu", "coordinator_epoch": coordinator}  # fmt: skip

    log = [made("coordinator/eu", 0, 0), made("s/eu", 0, 1), made("coordinator/eu", 1, 1)]
    assert epochs_decided([*log, made("s/eu", 1, 1)]) == {"coordinator/eu": 2, "s/eu": 1}
    assert epochs_decided([*log, made("s/eu", 1, 2)]) == {"coordinator/eu": 2, "s/eu": 2}
