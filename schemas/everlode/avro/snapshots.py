"""Records of snapshots as bytes: see `events.snapshots`. Pure."""

from __future__ import annotations

from typing import Any

from everlode.avro.codec import Codec, encode_record
from everlode.errors import ContractError
from everlode.events.base import ScopeEpoch
from everlode.events.snapshots import (
    AnsweredFact,
    ArchivedSolution,
    ArchivePage,
    AssignedTask,
    HandedIn,
    ReadPosition,
    SnapshotAnswers,
    SnapshotEntry,
    SnapshotMark,
    SnapshotRecord,
    SnapshotTally,
)


def encode_snapshot(record: SnapshotRecord) -> bytes:
    """Bytes of a record of a snapshot. Deterministic."""
    value = record._asdict()
    match record:
        case SnapshotMark():
            value["epochs"] = [{"scope": e.scope, "epoch": e.epoch} for e in record.epochs]
            value["reads"] = [read._asdict() for read in record.reads]
        case SnapshotAnswers():
            value["facts"] = [fact._asdict() for fact in record.facts]
        case ArchivedSolution():
            value["first"] = [one._asdict() for one in record.first]
    return encode_record(type(record).__name__, value)


def _mark(value: dict[str, Any]) -> SnapshotMark:
    epochs = tuple(ScopeEpoch.model_validate(e) for e in value.pop("epochs"))
    reads = tuple(ReadPosition(**read) for read in value.pop("reads"))
    return SnapshotMark(**value, epochs=epochs, reads=reads)


_MAKE: dict[str, Any] = {
    "SnapshotEntry": lambda value: SnapshotEntry(**value),
    "SnapshotMark": _mark,
    "SnapshotAnswers": lambda value: SnapshotAnswers(
        value["number"], tuple(AnsweredFact(**fact) for fact in value["facts"])
    ),
    "ArchivePage": lambda value: ArchivePage(**value),
    "ArchivedSolution": lambda value: ArchivedSolution(
        value["home"], value["solution_sha256"], tuple(HandedIn(**one) for one in value["first"])
    ),
    "SnapshotTally": lambda value: SnapshotTally(**value),
    "AssignedTask": lambda value: AssignedTask(**value),
}


def decode_snapshot(codec: Codec, data: bytes | None) -> SnapshotRecord:
    """A record of a snapshot. Raises: UnknownSchema, ContractError."""
    name, value = codec.decode_dict(data)
    make = _MAKE.get(name)
    if make is None:
        raise ContractError(f"{name} does not belong into a snapshot", code="wrong_topic")
    record: SnapshotRecord = make(value)
    return record
