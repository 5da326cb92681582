"""The proof: what was acknowledged against what is stored, by a code path of its own.

It reads the journal of acknowledged answers, each region's fact logs, each region's PostgreSQL, and
the payout journals; it folds the logs with rules of its own (`recount`), not the projector's. It
answers with differences by key; an empty list is the proof.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

from everlode.adapters.kafka import Reader
from everlode.adapters.postgres_read import Generation
from everlode.proof.epochs import epochs
from everlode.proof.findings import Proof
from everlode.proof.money import check_ledger, check_rewards
from everlode.proof.reading import read_record
from everlode.proof.recount import (
    FRAUD,
    MARKS,
    Fields,
    LoggedEvent,
    differing,
    epochs_decided,
    recount,
)
from everlode.settings.endpoints import Endpoints
from everlode.telemetry.entries import Note
from everlode.telemetry.sink import Sink, silent
from everlode.topics import Topology
from everlode.topics.names import CONTROL_TOPIC
from everlode.workload.journal import read

TopicPartition = tuple[str, int]
"""Topic and partition."""
Log = dict[TopicPartition, list[LoggedEvent]]
Docs = dict[tuple[str, str], bytes]
"""(component, key) → SHA-256 of the stored state."""
COMPONENTS = ("tasks", "miners", "validations", "rewards")


# -- reading -------------------------------------------------------------------------------------


def read_log(bootstrap: str, topology: Topology) -> dict[TopicPartition, list[bytes]]:
    """All facts (marks too) of all origins in one region's cluster, as bytes, by partition."""
    topics = [f"{o}.{c}" for o in topology.origins for c in COMPONENTS]
    found: dict[TopicPartition, list[bytes]] = {
        (t, p): [] for t in topics for p in range(topology.partitions)
    }
    reader = Reader(bootstrap, "proof", wait_ms=20)
    for batch in reader.to_ends(dict.fromkeys(found, 0), 180, 10_000):
        for raw in batch:
            found[raw.topic, raw.partition].append(raw.value or b"")
    reader.close()
    return found


def decoded(log: dict[TopicPartition, list[bytes]]) -> Log:
    """The facts as plain values. Raises: IntegrityError: bytes do not fit."""
    found: Log = {}
    for place, values in log.items():
        events = found[place] = []
        for raw in values:
            name, value = read_record(raw)
            envelope = value.pop("envelope")
            events.append(LoggedEvent(name, envelope, value, place[1]))
    return found


def read_decided(control_bootstrap: str) -> dict[str, int]:
    """Scope → epoch, out of the control log. Raises: Unavailable; IntegrityError."""
    reader = Reader(control_bootstrap, "proof", wait_ms=20)
    batches = reader.to_ends({(CONTROL_TOPIC, 0): 0}, 60)
    read_back = [read_record(raw.value or b"") for batch in batches for raw in batch]
    reader.close()
    return epochs_decided(data for name, data in read_back if name == "ScopeAssigned")


# -- checks, pure --------------------------------------------------------------------------------


def check_copy(
    proof: Proof, regions: tuple[str, str], log: dict[TopicPartition, list[bytes]],
    copy: dict[TopicPartition, list[bytes]],
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
    report: Sink = silent,
) -> Proof:
    """Compare everything. Raises: Unavailable: a part does not answer."""
    proof = Proof()
    first, *others = endpoints.regions
    raw = read_log(endpoints.regions[first].kafka_bootstrap, topology)
    for region in others:
        copy = read_log(endpoints.regions[region].kafka_bootstrap, topology)
        check_copy(proof, (first, region), raw, copy)
        report(Note("proof", f"compared the log of {region} with that of {first}"))
    log = decoded(raw)
    del raw
    proof.events = sum(len(events) for events in log.values())
    for topic in sorted({topic for topic, _ in log}):
        proof.epochs[topic] = epochs(
            e for (of, _), part in log.items() if of == topic for e in part
        )
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
        counted = recount(component, events, decided, topology.regions)
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
    docs: dict[str, Docs] = {}
    for region, place in endpoints.regions.items():
        docs[region] = _check_region(proof, region, place.postgres_conninfo(), expected)
        report(Note("proof", f"compared {region}"))
    for region in others:
        check_same(proof, (first, region), docs[first], docs[region])
    return proof


def check_same(proof: Proof, regions: tuple[str, str], docs: Docs, others: Docs) -> None:
    """Both regions store the same state of each key, byte for byte: one may have been restored."""
    for component, key in sorted(docs.keys() & others.keys()):
        if docs[component, key] != others[component, key]:
            proof.differ(f"{component} {key}: {regions[0]} and {regions[1]} store other states")


def _check_region(
    proof: Proof, region: str, conninfo: str, expected: dict[str, dict[str, Fields]]
) -> Docs:
    """Compare a region's projection: its columns, and the stored states that recovery restores.

    Returns a digest of each stored state.
    """
    docs = Docs()
    db = Generation.current(conninfo)
    try:
        for component, wanted in expected.items():
            stored: dict[str, Fields] = {}
            for key, version, status, doc in db.query(
                f"select key, version, status, doc from {{g}}.{component}"
            ):
                fields = read_record(bytes(doc))[1] if doc is not None else {}
                if doc is not None and (fields["version"], fields["status"]) != (version, status):
                    proof.differ(f"{region} {component} {key}: columns and state differ")
                stored[key] = {**fields, "version": version, "status": status}
                docs[component, key] = sha256(bytes(doc or b"")).digest()
            compare(proof, f"{region} {component}", wanted, stored)
        for kind, count in db.query("select kind, count(*) from {g}.problems group by 1"):
            proof.differ(f"{region}: {count} problems of kind {kind} in the projection")
        accounts = db.query("select account, amount_micro from {g}.ledger")
        check_ledger(proof, region, [(name, int(amount)) for name, amount in accounts])
    finally:
        db.close()
    return docs


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
