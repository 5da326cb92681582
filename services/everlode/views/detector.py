"""A region's detector, from its recorded log: its verdicts computed again, and how good it was.

Shell: reads the heartbeats and then `<origin>.health`, each to its end as of now; all else follows
from what was read (see `detection.replay`, `detection.measured`).
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from everlode.adapters.kafka import Reader
from everlode.avro.codec import Codec
from everlode.detection.measured import Measured, measured, times
from everlode.detection.replay import (
    Beat,
    Published,
    Replayed,
    differences,
    of_partition,
    replayed,
)
from everlode.detection.tuning import Tuning, tuned
from everlode.errors import ConfigError, ContractError, IntegrityError
from everlode.events.heartbeats import NodeBeat
from everlode.settings.endpoints import Endpoints
from everlode.settings.plain import from_yaml
from everlode.topics.names import fact_topic
from everlode.topics.place import placed
from everlode.views.scopes import region_of_scope

STILL_S = 60.0
MOST_BYTES = 100_000


class Recorded(NamedTuple):
    """What the logs of a region hold."""

    topic: str
    beats: dict[int, list[Beat]]
    """Partition → its records, but for those that no detector can read."""
    health: list[Published]


def recorded(endpoints: Endpoints, region: str) -> Recorded:
    """Read a region's heartbeats and verdicts. Raises: ConfigError: no region. Unavailable."""
    endpoints.region(region)
    parts = endpoints.parts(region)
    topic, health = fact_topic(parts.origin, "heartbeats"), fact_topic(parts.origin, "health")
    beats: defaultdict[int, list[Beat]] = defaultdict(list)
    found: list[Published] = []
    codec = Codec()
    with closing(Reader(parts.bootstrap, f"replay-{uuid.uuid4()}", wait_ms=20)) as reader:
        for places in ([(topic, p) for p in range(parts.partitions)], [(health, 0)]):
            for batch in reader.to_ends(reader.beginnings(places), STILL_S):
                for raw in batch:
                    try:
                        fact = placed(codec, raw.topic, raw.key, raw.value)
                    except ContractError:
                        continue  # the detector has quarantined it
                    if raw.topic == topic:
                        beats[raw.partition].append(Beat(raw.offset, fact))
                    else:
                        found.append(Published(fact, raw.value or b""))
    return Recorded(topic, {p: beats[p] for p in range(parts.partitions)}, found)


class Checked(NamedTuple):
    """All of a region's verdicts, held against its heartbeats."""

    partitions: list[Replayed]

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "agreed": sum(p.agreed for p in self.partitions),
            "pending": sum(p.pending for p in self.partitions),
            "gone": sum(p.gone for p in self.partitions),
            "disagreements": [
                {"partition": p.partition, **d._asdict()}
                for p in self.partitions
                for d in p.disagreements
            ],
        }

    def require_agreed(self) -> None:
        """Raises: IntegrityError: the log and its fold differ; names the first verdict."""
        for one in self.partitions:
            for wrong in one.disagreements[:1]:
                raise IntegrityError(
                    f"{wrong.event} of {wrong.node_id} (partition {one.partition},"
                    f" {wrong.event_id}) {wrong.what}",
                    code="verdicts_disagree",
                    hint="another build gave it, or somebody wrote or removed it: look at"
                    " everlode events tail --type DetectorStarted",
                )


def checked(found: Recorded) -> Checked:
    """Compute the verdicts of every partition again."""
    return Checked([
        replayed(found.topic, p, beats, _about(found, p)) for p, beats in found.beats.items()
    ])  # fmt: skip


def _about(found: Recorded, partition: int) -> list[Published]:
    return [p for p in found.health if of_partition(found.topic, partition, p.fact)]


def tuning_of(path: Path) -> Tuning:
    """The settings in a YAML file: those that are named, else the network's.

    Raises: ConfigError: the file is not there, is no YAML mapping, or names no setting.
    """
    try:
        text = path.read_text(encoding="utf-8")[:MOST_BYTES]
        data = from_yaml(text)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ConfigError(f"{path}: {why}", hint="--with FILE.yaml") from None
    except ValueError as error:
        raise ConfigError(f"{path}: no YAML: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: no settings", hint="lines like `pause_ms: 1000`")
    return tuned(data, str(path))


def otherwise(found: Recorded, tuning: Tuning, component: str) -> list[dict[str, Any]]:
    """What these settings would have found otherwise of a component's nodes, in order of time."""
    nodes = {
        beat.fact.envelope.aggregate_id
        for beats in found.beats.values()
        for beat in beats
        if isinstance(beat.fact.data, NodeBeat) and beat.fact.data.component == component
    }
    rows = [
        {
            "node_id": d.node_id, "event": d.event, "at": _time(d.at_ms), "with": _time(d.with_ms),
            "sooner_s": _sooner_s(d.at_ms, d.with_ms), "actionable": d.actionable,
        }
        for p, beats in found.beats.items()
        for d in differences(found.topic, p, beats, tuning)
        if d.node_id in nodes or d.node_id == found.topic
    ]  # fmt: skip
    return sorted(rows, key=lambda row: str(row["at"] or row["with"]))


def _sooner_s(at: int | None, with_: int | None) -> float | None:
    return None if at is None or with_ is None else round((at - with_) / 1000, 1)


def _time(millis: int | None) -> str | None:
    if millis is None:
        return None
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="milliseconds")


def of_scope(endpoints: Endpoints, scope: str) -> tuple[Recorded, str]:
    """What is recorded in a scope's region, and its component.

    Raises: Refusal: it is no scope. NotFound: no such region. Unavailable.
    """
    return recorded(endpoints, region_of_scope(endpoints, scope)), scope.partition("/")[0]


def figures(endpoints: Endpoints, region: str) -> dict[str, Any]:
    """How good the detector of a region was, as far as its log goes back. Raises: Unavailable."""
    found = recorded(endpoints, region)
    each = [
        measured(found.topic, p, beats, [r.fact for r in _about(found, p)])
        for p, beats in found.beats.items()
    ]
    kinds: defaultdict[str, int] = defaultdict(int)
    for verdict in {r.fact.envelope.event_id: r.fact.data for r in found.health}.values():
        kinds[type(verdict).__name__] += 1
    return {
        "region": region,
        "from": _time(min((m.from_ms for m in each if m.from_ms), default=None)),
        "to": _time(max((m.to_ms for m in each if m.to_ms), default=None)),
        "nodes": sum(m.nodes for m in each),
        "lost": sum(m.lost for m in each),
        "ended": sum(m.ended for m in each),
        "stood_still": sum(m.stood_still for m in each),
        "false_positives": _wrong(each, "false_positives"),
        "misses": _wrong(each, "misses"),
        "blind": sum(m.blind for m in each),
        "time_to_detect": [t._asdict() for t in times(each)],
        "findings": dict(sorted(kinds.items())),
    }


def _wrong(each: list[Measured], name: str) -> list[dict[str, Any]]:
    return [
        {"node_id": w.node_id, "at": _time(w.at_ms), "silence_ms": w.silence_ms, "rule": w.rule}
        for m in each
        for w in getattr(m, name)
    ]
