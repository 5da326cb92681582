"""A report of a demo that proved its promises, with hostile text in it."""

from __future__ import annotations

from typing import Any

from everlode.proof.floors import WINDOWS

P1 = {"answered": 10, "deadline_ms": 15_000, "share_within_deadline": 1.0, "longest_gap_ms": 5,
      "slowest_answer_ms": 7, "errors_seen_by_clients": [], "error_count": 0, "refused": {},
      "by_second": {"1": [4, 4, 20], "2": [6, 3, 16_000]},
      "during": {name: {"asked": 4, "share_within_deadline": 1.0, "exceptions": 0}
                 for name in WINDOWS}}  # fmt: skip
GOOD: dict[str, Any] = {
    "workload": "generated <script>alert(1)</script>", "seed": 1, "speed": 1.0, "share": 0.1,
    "kill_at": "mid-run", "events": 100, "acknowledged_events": 50, "failures": [],
    "tasks": {"planned": {"solve": 2, "fail": 1, "cancel": 1},
              "ended": {"rewarded": 2, "failed": 1, "cancelled": 1}},
    "rewards": {"paid": 2, "paid_micro": 5},
    "fraud": {"planted_cheats": 3, "acted": 2, "found": 1, "falsely_accused": [], "suspected": 1,
              "by_vice": {"hasty": {"planted": 1, "acted": 1, "found": 1},
                          "colluder": {"planted": 2, "acted": 1, "found": 0}}},
    "promises": {
        "P1_mining_does_not_stop": P1,
        "P2_miners_do_not_notice": {"exceptions_seen": 0, "submissions_lost": 0,
                                    "reconnected": {"who": 3, "p95_ms": 5000}},
        "P3_no_progress_lost": {"acknowledged": 3, "went_back": 0},
        "P4_rewards_right_and_once": {"paid": 2, "wrong_or_twice": 0},
    },
    "folded": {"eu": {"live": 1}}, "folded_live": 1, "folded_bulk": 1,
    "verdicts": {"NodeLost": 1},
    "kills": {
        kind: {"killed": f"eu-{short}-1", "led": True, "found_lost": True, "success": True,
               "successor": f"eu-{short}-2", "epoch_before": 1, "epoch_after": 2,
               "recovery_ms": 3000, "facts_before": 5, "facts_after": 7, "without_facts_ms": 3100,
               "without_answers_ms": None}
        for kind, short in (("task-manager", "tm"), ("miner-registry", "mr"),
                            ("validator", "val"), ("reward-distributor", "rd"))
    },
    "failover": {"ended": True, "success": True, "time_to_detect_ms": 2000,
                 "time_to_promote_ms": 100, "migrated_tasks": 4, "lasting_tasks_at_kill": 3,
                 "recovery_action": "secondary-promoted", "actual_recovery_ms": 6000},
    "object_store": "minio", "machine": {"cores": 2},
    "backup": {"backup_id": "b", "records": 3},
    "recovery": {"held": False, "lost_event_ids": [], "overall_success": True, "rpo_met": True,
                 "rto_met": True,
                 "components": [{"component": "miner-registry", "recovery_time_ms": 30,
                                 "records_restored": 5, "events_replayed": 2, "success": True,
                                 "data_loss_events": 0}],
                 "rto_ms_by_stage": {"m": 1}},
    "proof": {"compared_keys": 9, "lost_events": [], "differences": 0, "first_differences": []},
    "resources": {"peak_resident_bytes": {"all together": 5_000_000_000}, "processor_s": {}},
    "times_s": {"total_s": 10.0, "recovery_s": 40.0},
    "windows": {"<i>the fault</i>": [1500, 2500]},
    "lag_s": {"eu": [[1.0, 1.1], [2.5, 3.0], [30.0, 1.0]], "us": []},
    "timeline": [{"at_s": 0.0, "step": "up", "text": "a & b"},
                 {"at_s": 9.0, "step": "failure", "text": "<b>"}],
}  # fmt: skip
