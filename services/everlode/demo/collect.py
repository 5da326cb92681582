"""Gathers the report from what was measured; no figure comes from anywhere else. Shell."""

from __future__ import annotations

import platform
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from everlode.adapters.postgres_read import Generation
from everlode.backup.manifest import Manifest
from everlode.demo.kills import Kill, Seen, ended, outcome
from everlode.demo.options import Options
from everlode.demo.signals import Signal, signals
from everlode.events.services import BY_FACTS
from everlode.fleet.lag import Lag
from everlode.fleet.meter import Meter
from everlode.proof.findings import Proof
from everlode.proof.floors import SIGKILL, broken
from everlode.proof.money import about_money
from everlode.proof.promises import availability, during, reconnected
from everlode.recovery.planner import RecoveryResult
from everlode.settings.endpoints import Endpoints
from everlode.workload.journal import read
from everlode.workload.plan import Workload

DEADLINE_MS = 15_000
"""A command answered later than this is late (P1)."""
VERDICTS = ("NodeSuspected", "NodeLost", "NodeDegraded", "NodeRecovered", "NodeFlapping",
            "DetectorBlind")  # fmt: skip


class Ran(NamedTuple):
    """What a run of the demo was, and what was seen and measured of it."""

    options: Options
    endpoints: Endpoints
    workload: Workload
    journals: list[Path]
    """Of what was acknowledged, a region each."""
    statuses: list[dict[str, Any]]
    """The actors' last words, a region each."""
    kills: list[Kill]
    """The nodes that were killed, one of each kind."""
    lasting: int
    """Tasks that the task manager managed then, and that went on for long enough to migrate."""
    windows: dict[str, tuple[int, int]]
    """Faults: begin and end, milliseconds on the wall."""
    meter: Meter
    lag: Lag
    times: dict[str, float]
    timeline: list[dict[str, Any]]
    manifest: Manifest
    recovery: RecoveryResult
    proof: Proof


def _folded(endpoints: Endpoints) -> dict[str, dict[str, int]]:
    found = {}
    for region, place in endpoints.regions.items():
        db = Generation.current(place.postgres_conninfo())
        counters = db.query("select * from {g}.counters where name not like 'published %%'")
        found[region] = {name: int(v) for name, v in counters}
        db.close()
    return found


def failover(stream: list[Signal], victim: str) -> dict[str, Any]:
    """What the recovery stream says of the failover of `victim`, its last operation."""
    last = ended(stream, BY_FACTS["tasks"], victim)
    if last is None:
        return {"ended": False}
    operation = last["envelope"]["aggregate_id"]
    promote = [
        v["duration_ms"]
        for n, v in stream
        if n == "OperationStep" and v["step"] == "promote"
        if v["envelope"]["aggregate_id"] == operation
    ]
    keys = ("failed_node", "recovery_action", "new_primary", "migrated_tasks",
            "estimated_recovery_ms", "actual_recovery_ms", "success")  # fmt: skip
    return {
        "ended": True,
        "time_to_detect_ms": last["detect_ms"],
        "time_to_promote_ms": promote[-1] if promote else None,
        **{k: last[k] for k in keys},
    }


def _promises(ran: Ran, entries: list[Any], manager: str) -> dict[str, Any]:
    """What the network promises its users, as figures."""
    return {
        "P1_mining_does_not_stop": {
            **availability(entries, DEADLINE_MS),
            "during": {
                name: during(entries, "eu", window, DEADLINE_MS)
                for name, window in ran.windows.items()
            },
        },
        "P2_miners_do_not_notice": {
            "exceptions_seen": sum(s.get("error_count", 0) for s in ran.statuses),
            "submissions_lost": len(ran.proof.lost),
            "reconnected": reconnected(entries, "eu", manager, ran.windows[SIGKILL]),
        },
        "P3_no_progress_lost": {
            "acknowledged": ran.proof.progress_acknowledged, "went_back": ran.proof.progress_back,
        },
        "P4_rewards_right_and_once": {
            "paid": ran.proof.rewards_paid,
            "wrong_or_twice": sum(map(about_money, ran.proof.differences)),
        },
    }  # fmt: skip


def collect(ran: Ran) -> dict[str, Any]:
    """The report as plain values."""
    endpoints, manifest, recovery, proof = ran.endpoints, ran.manifest, ran.recovery, ran.proof
    entries = list(read(ran.journals))
    folded = _folded(endpoints)
    health, stream = signals(endpoints, "health"), signals(endpoints, "recovery")
    lost = {v["envelope"]["aggregate_id"] for n, v in health if n == "NodeLost"}
    seen = Seen(stream, lost, proof.epochs, entries)
    kills = {k.service.node: outcome(k, endpoints.regions["eu"].origin, seen) for k in ran.kills}
    manager = next((k.node for k in ran.kills if k.service.facts == "tasks"), "")
    planned = Counter(t.fate for t in ran.workload.tasks)
    report = {
        "workload": ran.workload.source,
        "seed": ran.options.seed,
        "speed": ran.options.speed,
        "share": ran.options.share,
        "kill_at": ran.options.kill_at,
        "machine": {
            "cores": psutil.cpu_count(), "memory_bytes": psutil.virtual_memory().total,
            "python": platform.python_version(),
        },
        "object_store": endpoints.s3.server if endpoints.s3 else None,
        "events": proof.events,
        "acknowledged_events": proof.acknowledged,
        "tasks": {
            "planned": {"solve": planned["solve"], "fail": planned["fail"],
                        "cancel": planned["cancel"]},
            "ended": proof.tasks_by_status,
        },
        "rewards": {"paid": proof.rewards_paid, "paid_micro": proof.paid_micro},
        "fraud": fraud(ran.workload, proof),
        "promises": _promises(ran, entries, manager),
        "folded": folded,
        "folded_live": sum(v.get("live", 0) for v in folded.values()),
        "folded_bulk": sum(n for v in folded.values() for name, n in v.items()
                           if name == "bulk" or name.startswith("replay ")),
        "verdicts": dict(Counter(n for n, _ in health if n in VERDICTS)),
        "kills": kills,
        "failover": {**failover(stream, manager), "lasting_tasks_at_kill": ran.lasting},
        "backup": {
            "backup_id": manifest.backup_id, "records": sum(o.records for o in manifest.objects),
            "bytes": manifest.total_backup_size, "write_once": manifest.write_once,
        },
        "recovery": {
            **{k: v for k, v in recovery._asdict().items() if k != "components"},
            "components": [c._asdict() for c in recovery.components],
            "rto_ms_by_stage": {c.component: c.recovery_time_ms for c in recovery.components},
        },
        "proof": {
            "compared_keys": proof.compared_keys,
            "lost_events": proof.lost,
            "differences": len(proof.differences),
            "first_differences": proof.differences[:20],
        },
        "resources": {
            "peak_resident_bytes": dict(ran.meter.peak_bytes),
            "processor_s": {k: round(v, 1) for k, v in ran.meter.cpu_s.items()},
        },
        "times_s": {k: round(v, 2) for k, v in ran.times.items() if k.endswith("_s")},
        "timeline": ran.timeline,
        "windows": ran.windows,
        "lag_s": ran.lag.samples,
    }  # fmt: skip
    report["failures"] = failures(report)
    return report


def fraud(workload: Workload, proof: Proof) -> dict[str, Any]:
    """Fraud found and falsely accused, against the planted truth, by vice.

    `acted` are those that had an occasion: a solver that handed something in; a colluder that voted
    for a dishonest miner's solution.
    """
    dishonest, confirmed = workload.dishonest(), set(proof.fraud_confirmed)
    planted: dict[str, set[str]] = {}
    for miner in workload.miners:
        if miner.vice != "honest":
            planted.setdefault(miner.vice, set()).add(miner.miner_id)
        if miner.colludes:
            planted.setdefault("colluder", set()).add(miner.miner_id)
    acted = proof.solved_by & dishonest
    acted |= {voter for voter, solver in proof.approvals if solver in dishonest}
    cheats = set().union(*planted.values())
    return {
        "planted_cheats": len(cheats),
        "acted": len(cheats & acted),
        "found": len(confirmed & cheats),
        "falsely_accused": sorted(confirmed - cheats),
        "suspected": len(proof.fraud_suspected),
        "falsely_suspected": len(set(proof.fraud_suspected) - cheats),
        "by_vice": {
            vice: {"planted": len(who), "acted": len(who & acted), "found": len(who & confirmed)}
            for vice, who in sorted(planted.items())
        },
        "cases": proof.cases,
    }


def failures(report: dict[str, Any]) -> list[str]:
    """What the report shows to be wrong; empty when the demo has proved its promises."""
    return [why for _, why in broken(report)]
