"""What a run must have shown: each promise has a floor, and a case that could have broken it.

    report ──► for each floor: was there a case? ──no──► "vacuous: …"
                                     │ yes
                                     └── does it hold? ──no──► "P1: …, but …"
    nothing in the list ──► proved

A promise that nothing could have broken is not kept but untried: it fails like a broken one, and so
does one whose figure is missing. The table stands in docs/demo.md; a test compares the two, and
breaks each floor. Pure: over the plain values of a report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

Report = dict[str, Any]

IN_TIME = 0.95
"""Least share of all answers within the deadline."""
IN_TIME_IN_A_FAULT = 0.5
"""More than this share within a fault's window."""
SIGKILL, DISASTER = "30 s after the SIGKILL", "from the disaster to the recovery"
WINDOWS = (SIGKILL, DISASTER)
"""Names of the faults' windows; a run has both."""
AGAIN_MS = 30_000
"""By then 95 % of those whose node was lost have another's answer."""
RTO_S = 300
FOUND = 1 / 3
"""Least share of the cheats that acted by their own work."""
BY_RECORD = "colluder"
"""Found by the weight of many votes: a short run has too few, so there is no floor."""
UNTOUCHED = "before-first-assignment"
"""A node that is killed then manages nothing, and has written nothing."""
KINDS = ("task-manager", "miner-registry", "validator", "reward-distributor")
"""Of each the primary is killed."""


class Floor(NamedTuple):
    """One promise's floor: `floor` says it, `kept` asks the report, `case` what it was tried on."""

    promise: str
    floor: str
    case: str
    """What there must have been."""
    tried: Callable[[Report], object]
    kept: Callable[[Report], object]
    figure: Callable[[Report], object]
    """What the report says instead, for people."""


def _promise(name: str) -> Callable[[Report], dict[str, Any]]:
    def of(report: Report) -> dict[str, Any]:
        found: dict[str, Any] = report["promises"][name]
        return found

    return of


_p1 = _promise("P1_mining_does_not_stop")
_p2 = _promise("P2_miners_do_not_notice")
_p3 = _promise("P3_no_progress_lost")
_p4 = _promise("P4_rewards_right_and_once")


def _felt(report: Report, name: str) -> list[Any]:
    """A figure of each fault's window."""
    return [window[name] for window in _p1(report)["during"].values()]


def _asked(report: Report) -> bool:
    """Raises: KeyError: a window is missing."""
    during = _p1(report)["during"]
    return all(during[name]["asked"] for name in WINDOWS)


def _in_time(report: Report) -> bool:
    return all(share > IN_TIME_IN_A_FAULT for share in _felt(report, "share_within_deadline"))


def _errors(report: Report) -> dict[str, int]:
    """Errors as the actors counted them, as their journals hold them, and within the faults."""
    return {
        "counted by clients": _p2(report)["exceptions_seen"],
        "in their journals": _p1(report)["error_count"],
        "within a fault": sum(_felt(report, "exceptions")),
    }


def _lost(report: Report) -> list[Any]:
    return [*report["proof"]["lost_events"], *report["recovery"]["lost_event_ids"]]


def _nothing_lost(report: Report) -> bool:
    parts = report["recovery"]["components"]
    return (
        not _lost(report)
        and not _p2(report)["submissions_lost"]
        and not sum(part["data_loss_events"] for part in parts)
        and report["recovery"]["rpo_met"] is True
    )


def _restored(report: Report) -> int:
    parts = report["recovery"]["components"]
    return sum(part["records_restored"] + part["events_replayed"] for part in parts)


def _recovered(report: Report) -> bool:
    whole = report["recovery"]
    parts = [part["success"] is True for part in whole["components"]]
    return whole["overall_success"] is True and whole["held"] is False and all(parts)


def _back_in_time(report: Report) -> bool:
    """As the run has measured it, and as the product says."""
    return report["times_s"]["recovery_s"] <= RTO_S and report["recovery"]["rto_met"] is True


def _promoted(report: Report) -> bool:
    switch = report["failover"]
    return bool(
        switch["ended"]
        and switch["success"] is True
        and switch["recovery_action"] == "secondary-promoted"
    )


def _moved(report: Report) -> bool:
    switch = report["failover"]
    untouched = report["kill_at"] == UNTOUCHED and not switch["lasting_tasks_at_kill"]
    return bool(switch["ended"] and (switch["migrated_tasks"] or untouched))


def _had_tasks(report: Report) -> bool:
    return report["kill_at"] == UNTOUCHED or bool(report["failover"]["lasting_tasks_at_kill"])


def _kills(report: Report) -> list[dict[str, Any]]:
    """What came of the primary of each kind. Raises: KeyError: one was not killed."""
    return [report["kills"][kind] for kind in KINDS]


def _hit(kill: dict[str, Any], kill_at: str) -> bool:
    """It led, had written something, and was missed: a kill without effect proves nothing."""
    worked = kill["facts_before"] > 0 or kill_at == UNTOUCHED
    return kill["led"] is True and kill["found_lost"] is True and worked


def _succeeded(kill: dict[str, Any]) -> bool:
    return bool(
        kill["success"] is True
        and kill["successor"] not in (None, kill["killed"])
        and kill["epoch_after"] > kill["epoch_before"]
        and kill["facts_after"] > 0
    )


def _as_planned(report: Report) -> bool:
    """Tasks to cancel are cancelled, those to fail fail; those to solve may fail too."""
    planned, ended = report["tasks"]["planned"], report["tasks"]["ended"]
    return bool(
        ended.keys() <= {"rewarded", "validated", "failed", "cancelled"}
        and sum(ended.values()) == sum(planned.values())
        and ended.get("cancelled", 0) == planned["cancel"]
        and ended.get("failed", 0) >= planned["fail"]
    )


def _same(report: Report) -> bool:
    return report["proof"]["differences"] == 0 and not report["proof"]["first_differences"]


def _by_work(report: Report, what: str) -> int:
    """How many cheats acted, or were found, by what they handed in."""
    vices = report["fraud"]["by_vice"].items()
    return sum(int(count[what]) for vice, count in vices if vice != BY_RECORD)


def _paid_right(report: Report) -> bool:
    rewarded = report["tasks"]["ended"].get("rewarded", 0)
    return not _p4(report)["wrong_or_twice"] and _p4(report)["paid"] == rewarded


FLOORS = (
    Floor(
        "P1 mining does not stop", "95 % of all commands are answered within 15 s",
        "commands were answered", lambda r: _p1(r)["answered"],
        lambda r: _p1(r)["share_within_deadline"] >= IN_TIME,
        lambda r: f"{_p1(r)['share_within_deadline']:.2%} were",
    ),
    Floor(
        "P1 mining does not stop",
        "in each fault's window more than half of what `eu` asks is answered within 15 s",
        "both faults, and somebody who asked in the window of each", _asked, _in_time,
        lambda r: f"shares are {_felt(r, 'share_within_deadline')}",
    ),
    Floor(
        "P1 mining does not stop", "no client or miner is refused", "commands were answered",
        lambda r: _p1(r)["answered"], lambda r: not _p1(r)["refused"],
        lambda r: f"refused: {_p1(r)['refused']}",
    ),
    Floor(
        "P2 miners do not notice", "no client or miner sees an error", "commands were answered",
        lambda r: _p1(r)["answered"], lambda r: not any(_errors(r).values()),
        lambda r: f"errors: {_errors(r)}",
    ),
    Floor(
        "P2 miners do not notice",
        "95 % of those whose node was lost have another node's answer within 30 s",
        "somebody had to go on with another node", lambda r: _p2(r)["reconnected"]["who"],
        lambda r: _p2(r)["reconnected"]["p95_ms"] <= AGAIN_MS,
        lambda r: f"95 % had it within {_p2(r)['reconnected']['p95_ms']} ms",
    ),
    Floor(
        "P3 no progress is lost", "no acknowledged progress goes back",
        "progress was acknowledged", lambda r: _p3(r)["acknowledged"],
        lambda r: not _p3(r)["went_back"], lambda r: f"{_p3(r)['went_back']} went back",
    ),
    Floor(
        "P4 rewards are right, and paid once",
        "every rewarded task is paid once, by formula 1, and booked so",
        "rewards were paid", lambda r: _p4(r)["paid"], _paid_right,
        lambda r: f"{_p4(r)}, {r['tasks']['ended'].get('rewarded', 0)} tasks are rewarded",
    ),
    Floor(
        "honest members are safe", "nobody honest is convicted of fraud", "cheats that acted",
        lambda r: r["fraud"]["acted"], lambda r: not r["fraud"]["falsely_accused"],
        lambda r: f"{len(r['fraud']['falsely_accused'])} were: {r['fraud']['falsely_accused'][:3]}",
    ),
    Floor(
        "cheats are found",
        "a third of the cheats that acted, colluding reviewers apart, are convicted",
        "such cheats that acted", lambda r: _by_work(r, "acted"),
        lambda r: _by_work(r, "found") >= FOUND * _by_work(r, "acted"),
        lambda r: f"{_by_work(r, 'found')} of {_by_work(r, 'acted')} were",
    ),
    Floor(
        "failover", "the killed task manager's successor is promoted",
        "a verdict that a node is lost",
        lambda r: r["verdicts"].get("NodeLost"), _promoted, lambda r: r["failover"],
    ),
    Floor(
        "failover", "the successor of the primary of each kind writes on in a later epoch",
        "primary of each kind that had written, was killed, and was found lost",
        lambda r: all(_hit(kill, r["kill_at"]) for kill in _kills(r)),
        lambda r: all(map(_succeeded, _kills(r))),
        lambda r: [kill for kill in _kills(r) if not _succeeded(kill)],
    ),
    Floor(
        "failover", "tasks that it managed and that outlive the failover migrate",
        "it managed such tasks (but at `before-first-assignment`)", _had_tasks, _moved,
        lambda r: r["failover"],
    ),
    Floor(
        "RPO", "no acknowledged event is lost", "events were acknowledged",
        lambda r: r["acknowledged_events"], _nothing_lost, lambda r: f"lost: {_lost(r)[:5]}",
    ),
    Floor(
        "RTO", "`eu`'s projection is back within 300 s", "states were restored or replayed",
        _restored, _back_in_time, lambda r: f"it took {r['times_s'].get('recovery_s')} s",
    ),
    Floor(
        "recovery", "it passes every gate and is switched to", "the backup has records",
        lambda r: r["backup"]["records"], _recovered, lambda r: r["recovery"]["components"],
    ),
    Floor(
        "proof", "every region's projection is what the log says, field by field",
        "keys were compared", lambda r: r["proof"]["compared_keys"], _same,
        lambda r: f"{r['proof']['differences']} differ: {r['proof']['first_differences'][:3]}",
    ),
    Floor(
        "proof", "events are folded live and in bulk", "events are in the log",
        lambda r: r["events"], lambda r: r["folded_live"] and r["folded_bulk"],
        lambda r: f"{r['folded_live']} live, {r['folded_bulk']} in bulk",
    ),
    Floor(
        "work", "every task ends as planned", "tasks were planned",
        lambda r: sum(r["tasks"]["planned"].values()), _as_planned, lambda r: r["tasks"],
    ),
)  # fmt: skip


def broken(report: Report, floors: Iterable[Floor] = FLOORS) -> list[tuple[Floor, str]]:
    """The floors that a report does not reach, each with why; none when all is proved."""
    found = []
    for floor in floors:
        if not _true(floor.tried, report):
            found.append((floor, f"vacuous: {floor.promise}: {floor.floor}: no {floor.case}"))
        elif not _true(floor.kept, report):
            found.append((floor, f"{floor.promise}: {floor.floor}, but {_figure(floor, report)}"))
    return found


def _true(asked: Callable[[Report], object], report: Report) -> bool:
    """A figure that is missing, or is none, has not been reached."""
    try:
        return bool(asked(report))
    except (KeyError, TypeError, AttributeError):
        return False


def _figure(floor: Floor, report: Report) -> object:
    try:
        return floor.figure(report)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        return f"the figure is missing: {error!r}"
