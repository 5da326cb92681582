"""The manifest: what a backup consists of, canonical, chained, signed, written last.

Canonical JSON: sorted keys, no spaces, UTF-8, integers only (RFC 8785 for this subset). The file
is {"manifest": …, "signature": …}; the signature is over the canonical manifest. Pure.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict

from everlode.errors import IntegrityError

FORMAT = 3
"""What is written. 2: a cut that was compared, with its age. 3: logs and fences too."""
READ = (1, 2, 3)
"""What is read: an older one has the defaults of what came later."""
MANIFEST = "manifest.json"
"""Its name below the backup's prefix."""
LIST = "everlode backup list"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ObjectEntry(_Part):
    """One encrypted object."""

    key: str
    component: str
    partition: int
    records: int
    plain_sha256: str
    cipher_sha256: str
    plain_bytes: int
    cipher_bytes: int
    key_id: str
    wrapped_key: str


class CutPosition(_Part):
    """Where an origin partition stands in the cut; `next_offset` is a hint for this cluster."""

    topic: str
    partition: int
    seq: int
    stamp: int
    next_offset: int
    status: str
    """live, stale (behind the rest: as far as it was) or empty."""


class TopicEntry(_Part):
    """A topic as it was."""

    name: str
    topic_id: str
    """The cluster's id of it: one that was deleted and made again has another."""
    partitions: int
    configs: dict[str, str]


class Problem(_Part):
    """A gap or conflict that was open when the cut was made."""

    kind: str
    topic: str
    partition: int
    key: str


class Compared(_Part):
    """What the cut was compared with."""

    rows: int
    """Rows of the moment that it was found to be, folded on to there."""
    from_rows: int
    """States of which a state topic should have had a record and had none: taken from the rows."""
    without_row: int
    """States that should have had a row, and had none or an older one: kept."""
    fences_lost: int = 0
    """Fences that the database had lost: taken from the parent, or from primaries' snapshots."""


class Age(_Part):
    """How old the cut was when it was made, in milliseconds; at least 0."""

    behind_logs_ms: int
    """Of the partition that is most behind its own log's end, which the region's cluster has."""
    behind_clock_ms: int
    """T before the clock of the machine that made it."""


class Manifest(_Part):
    """A whole backup of one region. Times are milliseconds since 1970."""

    format: int
    tool: str
    fold_version: int
    backup_id: str
    backup_type: str
    region: str
    generation: int
    partitions: int
    created_at_ms: int
    completed_at_ms: int
    timings_ms: dict[str, int]
    """What took how long: `read` (finding the cut and the states), `store` (sealing, sending)."""
    cut_stamp: int
    parent_id: str
    parent_sha256: str
    positions: tuple[CutPosition, ...]
    opened: tuple[tuple[str, int, str, int], ...]
    """(topic, partition, scope, epoch) of the fences in force."""
    objects: tuple[ObjectEntry, ...]
    schemas: dict[str, str]
    """State schema → CRC-64-AVRO fingerprint, hex."""
    topics: tuple[TopicEntry, ...]
    topology: dict[str, Any]
    problems: tuple[Problem, ...]
    task_backup_size: int
    miner_backup_size: int
    validation_backup_size: int
    reward_backup_size: int
    fraud_backup_size: int
    config_backup_size: int
    total_backup_size: int
    integrity_checksum: str
    encryption_key_id: str
    write_once: bool
    compared: Compared | None = None
    """None: by a build that did not."""
    age: Age | None = None
    fewer: tuple[tuple[str, int, int], ...] = ()
    """(component, records in the parent, records here) of which there are fewer than there."""
    short: tuple[tuple[str, int, int, int], ...] = ()
    """(topic, partition, `seq`, known `seq`) of logs that end before what is known of them."""


def canonical(value: Any) -> bytes:
    """Canonical JSON. Raises: TypeError: a value that the subset does not have."""
    _check(value)
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def _check(value: Any) -> None:
    if isinstance(value, float):
        raise TypeError("no floats in canonical JSON")
    if isinstance(value, dict):
        for item in value.values():
            _check(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check(item)


def body_of(manifest: Manifest) -> bytes:
    """The canonical bytes that are signed and hashed: of what its build wrote, no more."""
    return canonical(manifest.model_dump(mode="json", exclude_unset=True))


def sha256_of(manifest: Manifest) -> str:
    """The manifest's hash, by which the next one is chained to it."""
    return hashlib.sha256(body_of(manifest)).hexdigest()


def checksum(objects: tuple[ObjectEntry, ...]) -> str:
    """SHA-256 over the objects' cipher hashes, in order."""
    return hashlib.sha256("".join(o.cipher_sha256 for o in objects).encode()).hexdigest()


def dump(manifest: Manifest, signature: str) -> bytes:
    """The file."""
    return canonical({"manifest": json.loads(body_of(manifest)), "signature": signature})


def parse(data: bytes, name: str) -> tuple[Manifest, bytes, str]:
    """(manifest, its signed bytes, signature). The signature is not checked here.

    Raises: IntegrityError: it is no manifest, or not in canonical form; whatever the bytes are.
    """
    try:
        value = json.loads(data)
        body = canonical(value["manifest"])
        signature = str(value["signature"])
        if canonical(value) != data:
            raise ValueError("not canonical")
        made_as = value["manifest"]["format"]
        if not isinstance(made_as, int):
            raise TypeError("a format is a number")
        if made_as not in READ:
            raise IntegrityError(
                f"{name}: format {made_as}, expected {FORMAT}",
                code="unknown_format",
                hint=f"it says that {value['manifest'].get('tool', 'another build')!r:.60} made it:"
                f" use that, or another backup: {LIST}",
            )
        manifest = Manifest.model_validate_json(body)
    except (ValueError, KeyError, TypeError, RecursionError) as error:  # strangers write there too
        kind = type(error).__name__
        raise IntegrityError(
            f"{name}: not a manifest ({kind})",
            code="bad_manifest",
            hint=f"it was changed: use another backup: {LIST}",
        ) from None
    return manifest, body, signature
