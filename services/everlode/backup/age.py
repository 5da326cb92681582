"""How old a cut is, how it compares with its parent, and what its operator should know. Pure.

A backup of what a projector had done is whole, and yet of no use when that was three days ago. So
the cut is compared with two things that the projector has no part in: where the logs of the
region's cluster end, and the clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from everlode.backup.container import DELETED, PARKED
from everlode.backup.manifest import Age, Manifest, ObjectEntry
from everlode.backup.standing import Applied
from everlode.events.stamp import millis_of


def age_of(
    stamp: int, applied: Iterable[Applied], ends_ms: Mapping[tuple[str, int], int], now_ms: int
) -> Age:
    """Of a cut at `stamp`; `ends_ms`: (topic, partition) → when its last record was written.

    What is behind T at the moment counts from where it stands. A time in the future is now.
    """
    behind = [
        min(now_ms, ends_ms[at.topic, at.partition]) - millis_of(min(stamp, at.stamp))
        for at in applied
        if at.seq and (at.topic, at.partition) in ends_ms
    ]
    return Age(
        behind_logs_ms=max(0, *behind) if behind else 0,
        behind_clock_ms=max(0, now_ms - millis_of(stamp)),
    )


def fewer(
    parent: Iterable[ObjectEntry], objects: Iterable[ObjectEntry]
) -> tuple[tuple[str, int, int], ...]:
    """(component, records in the parent, records here) of which there are fewer here.

    Nothing is ever forgotten: what is deleted is listed as such, so as many may be missing as
    were deleted since. Facts that wait come and go.
    """
    then, now = (_records(found) for found in (parent, objects))
    deleted = max(0, now[DELETED] - then[DELETED])
    return tuple(
        (name, then[name], now[name])
        for name in sorted(then)
        if then[name] - now[name] > (deleted if name != DELETED else 0)
    )


def _records(objects: Iterable[ObjectEntry]) -> Counter[str]:
    found: Counter[str] = Counter()
    for entry in objects:
        if entry.component != PARKED:
            found[entry.component] += entry.records
    return found


def concerns(manifest: Manifest, max_age_s: int) -> list[str]:
    """Why a whole backup is not what its operator wants, a sentence each; empty: it is."""
    found = []
    if manifest.age is not None:
        for what, ms in (
            ("the ends of the logs", manifest.age.behind_logs_ms),
            ("the clock", manifest.age.behind_clock_ms),
        ):
            if ms > max_age_s * 1000:
                found.append(
                    f"the cut is {ms // 1000} s behind {what}, at most {max_age_s} s are wanted:"
                    " is the projector running? everlode status"
                )
    if manifest.compared is not None and manifest.compared.from_rows:
        found.append(
            f"{manifest.compared.from_rows} states were in no state topic and were taken from the"
            " rows: the topics have lost records; build a new generation with everlode recover"
        )
    if manifest.compared is not None and manifest.compared.without_row:
        found.append(
            f"{manifest.compared.without_row} states have no row in PostgreSQL, or an older one: it"
            " has lost them; build a new generation with everlode recover"
        )
    if manifest.compared is not None and manifest.compared.fences_lost:
        found.append(
            f"{manifest.compared.fences_lost} fences were not in PostgreSQL and were taken from the"
            " backup before or from snapshots: build a new generation with everlode recover"
        )
    found += [
        f"{topic}/{partition} ends at seq {end} in the region's cluster, and was known up to"
        f" {known}: bring the broker's data back, or everlode recover fetches what other regions"
        " have"
        for topic, partition, end, known in manifest.short
    ]
    found += [
        f"{component}: {now} records, {then} in backup {manifest.parent_id}"
        for component, then, now in manifest.fewer
    ]
    return found
