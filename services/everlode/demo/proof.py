"""The proof: what was acknowledged against what is stored, by a code path of its own.

It reads the journal of acknowledged answers, each region's fact logs, each region's PostgreSQL, and
the payout journals; it folds the logs with rules of its own (`recount`), not the projector's. It
answers with differences by key; an empty list is the proof.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from everlode.adapters.kafka import Reader
from everlode.adapters.postgres import Projection, current_generation
from everlode.avro.codec import Codec
from everlode.demo.journal import read
from everlode.demo.recount import (
    FRAUD,
    MARKS,
    Fields,
    LoggedEvent,
    differing,
    epochs_decided,
    recount,
)
from everlode.stack.endpoints import Endpoints
from everlode.topics import Topology
from everlode.topics.names import CONTROL_TOPIC

Place = tuple[str, int]
"""Topic and partition."""
Log = dict[Place, list[LoggedEvent]]
COMPONENTS = ("tasks", "miners", "validations", "rewards")


@dataclass
class Proof:
    """What was compared and what differed."""

    events: int = 0
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    """Acknowledged events that are not in the log, by id."""
    differences: list[str] = field(default_factory=list)
    compared_keys: int = 0
    rewards_paid: int = 0
    paid_micro: int = 0
    tasks_by_status: dict[str, int] = field(default_factory=dict)
    fraud_confirmed: list[str] = field(default_factory=list)
    fraud_suspected: list[str] = field(default_factory=list)
    solved_by: set[str] = field(default_factory=set)
    """Miners that handed in a solution."""
    approvals: set[tuple[str, str]] = field(default_factory=set)
    """Reviewer and the miner whose solution it voted for."""
    cases: dict[str, int] = field(default_factory=dict)
    """Fraud cases by rule and status."""
    progress_acknowledged: int = 0
    progress_back: int = 0

    def differ(self, text: str) -> None:
        """Note a difference."""
        self.differences.append(text)


# -- reading -------------------------------------------------------------------------------------


def read_log(bootstrap: str, topology: Topology) -> dict[Place, list[bytes]]:
    """All facts (marks too) of all origins in one region's cluster, as bytes, by partition."""
    topics = [f"{o}.{c}" for o in topology.origins for c in COMPONENTS]
    found: dict[Place, list[bytes]] = {
        (t, p): [] for t in topics for p in range(topology.partitions)
    }
    reader = Reader(bootstrap, "proof", wait_ms=20)
    for batch in reader.to_ends(dict.fromkeys(found, 0), 180, 10_000):
        for raw in batch:
            found[raw.topic, raw.partition].append(raw.value or b"")
    reader.close()
    return found


def decoded(log: dict[Place, list[bytes]]) -> Log:
    """The facts as plain values. Raises: ContractError: bytes do not fit."""
    codec = Codec()
    found: Log = {}
    for place, values in log.items():
        events = found[place] = []
        for raw in values:
            name, value = codec.decode_dict(raw)
            envelope = value.pop("envelope")
            events.append(LoggedEvent(name, envelope, value, place[1]))
    return found


def read_decided(control_bootstrap: str) -> dict[str, int]:
    """Scope → epoch, out of the control log. Raises: Unavailable; ContractError."""
    reader = Reader(control_bootstrap, "proof", wait_ms=20)
    codec = Codec()
    batches = reader.to_ends({(CONTROL_TOPIC, 0): 0}, 60)
    read_back = [codec.decode_dict(raw.value) for batch in batches for raw in batch]
    reader.close()
    return epochs_decided(data for name, data in read_back if name == "ScopeAssigned")


# -- checks, pure --------------------------------------------------------------------------------


def check_copy(
    proof: Proof, regions: tuple[str, str], log: dict[Place, list[bytes]],
    copy: dict[Place, list[bytes]],
) -> None:  # fmt: skip
    """Both regions hold the same bytes in the same order, in every partition."""
    for place in sorted(log):
        have, other = log[place], copy[place]
        if have != other:
            at = next(
                (i for i, (a, b) in enumerate(zip(have, other, strict=False)) if a != b),
                min(len(have), len(other)),
            )
            proof.differ(
                f"{place[0]}/{place[1]}: {regions[0]} has {len(have)} records, {regions[1]} has "
                f"{len(other)}; they differ from number {at}"
            )


def check_dense(proof: Proof, log: Log) -> None:
    """`seq` goes from 1 without a gap, in every partition."""
    for (topic, partition), events in sorted(log.items()):
        seqs = [e.envelope["seq"] for e in events]
        if seqs != list(range(1, len(seqs) + 1)):
            proof.differ(f"{topic}/{partition}: seq is not dense")


def check_journal(
    proof: Proof,
    log: Log,
    entries: Iterable[dict[str, Any]],
) -> None:
    """Every acknowledged fact is in the log, at its place."""
    places = {
        e.envelope["event_id"]: (topic, partition, e)
        for (topic, partition), events in log.items()
        for e in events
    }
    seen: set[str] = set()
    for entry in entries:
        for number, (event_id, kind, topic, partition, seq, _) in enumerate(entry["facts"]):
            if event_id in seen:
                continue
            seen.add(event_id)
            at = places.get(event_id)
            if at is None:
                proof.lost.append(event_id)
                continue
            found = (at[0], at[1], at[2].envelope["seq"])
            if found != (topic, partition, seq) or at[2].kind != kind:
                proof.differ(f"{kind} {event_id}: acknowledged at {topic}/{partition}:{seq}, "
                             f"found {at[2].kind} at {found}")  # fmt: skip
            if number == 0:
                _check_content(proof, entry, at[2])
            proof.progress_acknowledged += kind == "TaskProgressed"
    proof.acknowledged = len(seen)


def _check_content(proof: Proof, entry: dict[str, Any], event: LoggedEvent) -> None:
    """What was asked for is what the command's first fact says, field by field."""
    if event.envelope["aggregate_id"] != entry["key"]:
        proof.differ(f"{entry['type']} {entry['key']}: its fact is about another key")
    for name in entry["command"].keys() & event.data.keys():
        if entry["command"][name] != json.loads(json.dumps(event.data[name], default=str)):
            proof.differ(f"{entry['type']} {entry['key']}: {name} is {event.data[name]!r} in the "
                         f"log, {entry['command'][name]!r} was asked for")  # fmt: skip


def check_rewards(
    proof: Proof,
    validations: Iterable[LoggedEvent],
    rewards: Iterable[LoggedEvent],
    payouts: Iterable[dict[str, Any]],
) -> None:
    """Rewards follow from accepted validations by formula 1, are paid once, and sum to zero."""
    accepted = {
        e.envelope["aggregate_id"]: e.data
        for e in validations
        if e.kind == "ValidationDecided" and e.data["accepted"]
    }
    rewarded: set[str] = set()
    ledger: Counter[str] = Counter()
    paid: dict[str, int] = {}
    tasks: Counter[str] = Counter()
    for e in rewards:
        key = e.envelope["aggregate_id"]
        entries = e.data.get("entries", [])
        if sum(x["amount_micro"] for x in entries):
            proof.differ(f"reward {key}: the entries of {e.kind} do not sum to zero")
        for x in entries:
            ledger[x["account"]] += x["amount_micro"]
        if e.kind == "RewardCalculated":
            rewarded.add(e.data["validation_id"])
            _check_amount(proof, key, e.data, accepted)
        elif e.kind == "RewardPaid":
            if key in paid:
                proof.differ(f"reward {key}: paid twice")
            paid[key] = e.data["amount_micro"]
            tasks[e.data["task_id"]] += 1
    for task in sorted(t for t, n in tasks.items() if n > 1):
        proof.differ(f"reward of {task}: paid to {tasks[task]} miners")
    for validation in sorted(accepted.keys() - rewarded):
        proof.differ(f"reward of {validation}: accepted, but nothing was calculated")
    if sum(ledger.values()):
        proof.differ(f"the ledger sums to {sum(ledger.values())}, not to zero")
    _check_payouts(proof, paid, payouts)
    proof.rewards_paid, proof.paid_micro = len(paid), sum(paid.values())


def _check_amount(
    proof: Proof, key: str, data: dict[str, Any], accepted: dict[str, dict[str, Any]]
) -> None:
    decided = accepted.get(data["validation_id"])
    if decided is None:
        proof.differ(f"reward {key}: its validation {data['validation_id']} accepted nothing")
        return
    if key != f"{decided['task_id']}|{decided['miner_id']}":
        proof.differ(f"reward {key}: {decided['miner_id']} solved {decided['task_id']}")
    right = decided["base_reward_micro"] * decided["score_ppm"] // 1_000_000
    if data["amount_micro"] != right:
        proof.differ(f"reward {key}: {data['amount_micro']} calculated, {right} is right")


def _check_payouts(proof: Proof, paid: dict[str, int], payouts: Iterable[dict[str, Any]]) -> None:
    sent: dict[str, int] = {}
    for entry in payouts:
        if entry["key"] in sent:
            proof.differ(f"payout {entry['key']}: left twice")
        sent[entry["key"]] = entry["amount_micro"]
    for key in sorted(sent.keys() | paid.keys()):
        if sent.get(key) != paid.get(key):
            proof.differ(f"payout {key}: left {sent.get(key)}, booked {paid.get(key)}")


def compare(
    proof: Proof, what: str, expected: dict[str, Fields], stored: dict[str, Fields]
) -> None:
    """Key by key, field by field; a difference names the first field that differs."""
    proof.compared_keys += len(expected.keys() | stored.keys())
    for key in sorted(expected.keys() | stored.keys()):
        if key not in stored or key not in expected:
            proof.differ(f"{what} {key}: {'missing' if key in expected else 'not in the log'}")
        elif problem := differing(expected[key], stored[key]):
            proof.differ(f"{what} {key}: {problem}")


# -- the whole -----------------------------------------------------------------------------------


def _of(log: Log, component: str) -> list[LoggedEvent]:
    return [
        e
        for (topic, _), events in sorted(log.items())
        if topic.endswith(f".{component}")
        for e in events
        if e.kind not in MARKS
    ]


def prove(
    endpoints: Endpoints,
    topology: Topology,
    journals: list[Path],
    payouts: list[Path],
    progress: Callable[[str], None] = lambda _: None,
) -> Proof:
    """Compare everything. Raises: Unavailable: a part does not answer."""
    proof = Proof()
    first, *others = endpoints.regions
    raw = read_log(endpoints.regions[first].kafka_bootstrap, topology)
    for region in others:
        copy = read_log(endpoints.regions[region].kafka_bootstrap, topology)
        check_copy(proof, (first, region), raw, copy)
        progress(f"compared the log of {region} with that of {first}")
    log = decoded(raw)
    del raw
    proof.events = sum(len(events) for events in log.values())
    check_dense(proof, log)
    check_journal(proof, log, read(journals))
    judged = _of(log, "validations")
    cases = [e for e in judged if e.kind in FRAUD]
    facts = {
        "tasks": _of(log, "tasks"),
        "miners": _of(log, "miners"),
        "validations": [e for e in judged if e.kind not in FRAUD],
        "rewards": _of(log, "rewards"),
        "fraud": cases,
    }
    control = endpoints.control_bootstrap
    decided = None if control is None else read_decided(control)
    expected = {}
    for component, events in facts.items():
        counted = recount(component, events, decided)
        expected[component] = counted.found
        for problem in counted.wrong:
            proof.differ(problem)
        proof.progress_back += sum("progress went back" in x for x in counted.wrong)
    proof.tasks_by_status = dict(Counter(t["status"] for t in expected["tasks"].values()))
    lines = [json.loads(x) for p in payouts if p.exists() for x in p.read_text().splitlines()]
    check_rewards(proof, facts["validations"], facts["rewards"], lines)
    _note_fraud(proof, cases)
    _note_acts(proof, facts["tasks"], facts["validations"])
    proof.cases = dict(Counter(f"{c['rule']}, {c['status']}" for c in expected["fraud"].values()))
    for region, place in endpoints.regions.items():
        _check_region(proof, region, place.postgres_conninfo(), expected)
        progress(f"compared {region}")
    return proof


def _check_region(
    proof: Proof, region: str, conninfo: str, expected: dict[str, dict[str, Fields]]
) -> None:
    """Compare a region's projection: its columns, and the stored states that recovery restores."""
    codec = Codec()
    db = Projection(conninfo, current_generation(conninfo), "proof")
    try:
        for component, wanted in expected.items():
            stored: dict[str, Fields] = {}
            for key, version, status, doc in db.query(
                f"select key, version, status, doc from {{g}}.{component}"
            ):
                fields = codec.decode_dict(bytes(doc))[1] if doc is not None else {}
                if doc is not None and (fields["version"], fields["status"]) != (version, status):
                    proof.differ(f"{region} {component} {key}: columns and state differ")
                stored[key] = {**fields, "version": version, "status": status}
            compare(proof, f"{region} {component}", wanted, stored)
        for kind, count in db.query("select kind, count(*) from {g}.problems group by 1"):
            proof.differ(f"{region}: {count} problems of kind {kind} in the projection")
        total = db.query("select coalesce(sum(amount_micro), 0) from {g}.ledger")[0][0]
        if total:
            proof.differ(f"{region}: the projected ledger sums to {total}, not to zero")
    finally:
        db.close()


def _note_fraud(proof: Proof, cases: list[LoggedEvent]) -> None:
    suspected: set[str] = set()
    confirmed: set[str] = set()
    for e in cases:
        if e.kind == "FraudConfirmed":
            confirmed.update(e.data["suspects"])
        elif e.kind == "FraudSuspected":
            suspected.update(e.data["suspects"])
    proof.fraud_confirmed, proof.fraud_suspected = sorted(confirmed), sorted(suspected)


def _note_acts(proof: Proof, tasks: list[LoggedEvent], judged: list[LoggedEvent]) -> None:
    """Who had the occasion to cheat, and took it or not: solutions and votes."""
    proof.solved_by = {e.data["miner_id"] for e in tasks if e.kind == "TaskSolved"}
    solver = {
        e.envelope["aggregate_id"]: e.data["miner_id"]
        for e in judged
        if e.kind == "ValidationRequested"
    }
    proof.approvals = {
        (e.data["voter_id"], solver.get(e.envelope["aggregate_id"], ""))
        for e in judged
        if e.kind == "VoteCast" and e.data["accept"]
    }
