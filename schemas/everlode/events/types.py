"""Field types of the contract: strict, bounded, and no wider than Avro can hold.

Pure.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, AwareDatetime, Field, Strict, StringConstraints

T = TypeVar("T")

PPM = 1_000_000
"""One, in millionths."""
LONGEST_ID = 320
"""Characters of an `Id`: what is derived of the longest names, a slash, has 309 at most."""
LONGEST_TEXT = 4096
"""Characters of a `Text`."""


def whole_milliseconds(value: datetime) -> datetime:
    """Refuse a time that Avro cannot hold. Raises: ValueError."""
    if value.microsecond % 1000:
        raise ValueError("finer than a millisecond: Avro's timestamp-millis cannot hold it")
    return value


Long = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
"""Any 64-bit integer."""
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""A 64-bit integer, zero or more."""
Ppm = Annotated[int, Field(ge=0, le=PPM)]
"""A share in millionths."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
"""A double that is a number."""
Instant = Annotated[AwareDatetime, AfterValidator(whole_milliseconds)]
"""A time with a zone, whole milliseconds."""
Text = Annotated[str, StringConstraints(max_length=LONGEST_TEXT)]
"""Short text; may be empty."""
Document = Annotated[str, StringConstraints(max_length=262_144)]
"""A document, e.g. a schema."""
Id = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_ID)]
"""A name or key; never empty."""
SHA256 = r"^[0-9a-f]{64}$"
Sha256 = Annotated[str, StringConstraints(pattern=SHA256)]
"""A SHA-256 in lower-case hex; in upper case it would be another text wherever two are compared."""
Items = Annotated[tuple[T, ...], Strict(False), Field(max_length=10_000)]
"""A list; kept as a tuple."""

LONGEST_REMARK = 1_000
"""Characters of what we say about something, which may quote what a stranger sent."""


def fitting(text: str, most: int = LONGEST_REMARK) -> str:
    """What a bounded field holds of a text of ours that may be of any length, or no Unicode.

    Cut at `most` characters, the last one then `…`; a lone surrogate, which neither Avro nor Kafka
    can hold, is `?`. Twice is once.
    """
    whole = text if text.isascii() else text.encode("utf-8", "replace").decode()
    return whole if len(whole) <= most else whole[: most - 1] + "…"


ValidatorKind = Literal["automatic", "peer-review", "expert"]
WorkOutcome = Literal["accepted", "rejected", "failed", "expired"]
ReputationReason = Literal["accepted", "rejected", "failed", "expired", "fraud", "cleared"]
FraudRule = Literal[
    "copied-solution",
    "colluding-votes",
    "wrong-planted-answer",
    "impossible-speed",
    "repeated-bad-work",
]
AuditSource = Literal["peer-review", "expert", "planted"]
ProbeAnswer = Literal["alive", "refused", "no-answer"]
Role = Literal["primary", "secondary", "none"]
NodeStatusName = Literal[
    "healthy",
    "degraded",
    "lost",
    "fenced",
    "draining",
    "rejoining",
]
RecoveryAction = Literal["secondary-promoted", "secondary-removed", "region-failover"]
BackupType = Literal["full-system", "active-tasks"]
AIComponent = Literal[
    "miner-registry",
    "task-manager",
    "validation-system",
    "reward-distribution",
    "fraud-detection",
]
"""Components of a recovery, in the order of their stages: what others refer to comes first."""
OperationKind = Literal[
    "task-manager-failover",
    "registry-failover",
    "validation-failover",
    "reward-failover",
    "takeover",
    "backup",
    "recovery",
    "drill",
]
StepName = Literal[
    "decide",
    "promote",
    "migrate",
    "level",
    "notify",
    "redistribute",
    "escalate",
    "defer",
    "cut",
    "seal",
    "manifest",
    "verify",
    "fetch",
    "generation",
    "restore",
    "replay",
    "gate",
    "switch",
    "other",
]
"""Steps of operations: failover (decide to defer), backup (cut to verify), recovery (fetch to
switch). `other`: one that this build does not know, of a newer or an older writer. The schema's doc
lists them, and a doc does not change under one fingerprint: a step is added together with a field,
so that builds without it see another schema and read it as `other`, as avro/upcasts.py says."""
StepOutcome = Literal["done", "skipped", "failed", "held"]
AssignReason = Literal[
    "bootstrap", "node-lost", "node-unsteady", "switchover", "forced", "takeover"
]
OperatorVerb = Literal[
    "switchover", "failover", "failback", "pause", "resume", "ack", "drain", "rejoin"
]
WishOutcome = Literal["done", "refused", "timed-out", "overtaken"]
