"""Facts for tests of the projection: lawful histories on each of the four fact topics."""

from __future__ import annotations

import json
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from io import BytesIO

import fastavro

from everlode.avro import schemas
from everlode.avro.codec import MARKER, encode_fact
from everlode.events.barriers import Barrier, EpochOpened
from everlode.events.base import Envelope, Event, Fact, LedgerEntry, ScopeEpoch
from everlode.events.miners import MinerRegistered, StakeDeposited
from everlode.events.rewards import RewardCalculated, RewardReleased, RewardWithheld
from everlode.events.schemas import SchemaPublished
from everlode.events.tasks import TaskAssigned, TaskProgressed, TaskSubmitted
from everlode.events.validations import ValidationRequested, VoteCast
from everlode.projection.fold import (
    UNKNOWN,
    Incoming,
    Key,
    Known,
    Outcome,
    PartitionFold,
    Prefix,
)

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
HASH = "a" * 64
ORIGIN = "eu.1"
REGIONS = ("eu", "us", "ap")
SCOPE = {
    "tasks": "task-manager/eu",
    "miners": "miner-registry/eu",
    "validations": "validation/eu",
    "rewards": "rewards/eu",
}
COMPONENTS = tuple(SCOPE)


def _task(version: int) -> Event:
    if version == 1:
        return TaskSubmitted(
            client_id="c", task_type="inference", payload_uri="s3://x", payload_sha256=HASH,
            payload_bytes=1, cpu_milli=0, memory_mib=0, gpus=0, gpu_milli=0,
            base_reward_micro=100, max_attempts=3, deadline_at=BEGAN + timedelta(days=9),
        )  # fmt: skip
    lease = BEGAN + timedelta(hours=1)
    if version == 2:
        return TaskAssigned(
            attempt=1, miner_id="m", manager_node="eu-tm-1", lease_until=lease,
            base_reward_micro=100,
        )  # fmt: skip
    return TaskProgressed(attempt=1, miner_id="m", progress_ppm=version, lease_until=lease)


def _miner(version: int) -> Event:
    if version == 1:
        return MinerRegistered(
            operator_id="o", endpoint="e:1", specialties=("inference",), gpus=1, gpu_model="T4",
            cpu_milli=1, memory_mib=1, max_concurrent=1,
        )  # fmt: skip
    return StakeDeposited(amount_micro=version)


def _validation(version: int) -> Event:
    if version == 1:
        return ValidationRequested(
            task_id="t", task_type="inference", payload_sha256=HASH, solution_id="s",
            solution_sha256=HASH, miner_id="m", work_ms=1, base_reward_micro=100,
            kind="peer-review", quorum=3, reviewers=("x", "y", "z"),
            deadline_at=BEGAN + timedelta(hours=1),
        )  # fmt: skip
    return VoteCast(
        voter_id=f"r{version}", voter_kind="peer-review", accept=True, score_ppm=version
    )


def _reward(version: int) -> Event:
    if version == 1:
        return RewardCalculated(
            task_id="t", miner_id="m", validation_id="v", base_micro=100, score_ppm=1_000_000,
            amount_micro=100, formula=1,
            entries=(
                LedgerEntry(account="pool", amount_micro=-100),
                LedgerEntry(account="miner/m", amount_micro=100),
            ),
        )  # fmt: skip
    kind = RewardWithheld if version % 2 == 0 else RewardReleased
    return kind(case_id=f"case-{version}", reason="r")


_MAKE = {"tasks": _task, "miners": _miner, "validations": _validation, "rewards": _reward}


def envelope(
    component: str, key: str, version: int, seq: int, epoch: int = 1, origin: str = ORIGIN
) -> Envelope:
    """The envelope of a fact of its scope's primary."""
    return Envelope(
        event_id=f"{key}/{version}", aggregate_id=key, version=version, origin=origin,
        scope=SCOPE[component], epoch=epoch, seq=seq, stamp=seq << 16,
        occurred_at=BEGAN + timedelta(seconds=seq), correlation_id="c",
    )  # fmt: skip


def fact(
    component: str,
    key: str,
    version: int,
    seq: int,
    *,
    epoch: int = 1,
    event_id: str = "",
    origin: str = ORIGIN,
) -> Fact:
    """Fact number `version` of an aggregate's lawful history; ids are derived, or `event_id`."""
    head = envelope(component, key, version, seq, epoch, origin)
    if event_id:
        head = head.model_copy(update={"event_id": event_id})
    return Fact(head, _MAKE[component](version))


def opened(component: str, seq: int, epoch: int, origin: str = ORIGIN) -> Fact:
    """The mark with which a new primary opens its epoch."""
    head = envelope(component, "p", 0, seq, epoch, origin)
    data = EpochOpened(node_id="n", scopes=(ScopeEpoch(scope=SCOPE[component], epoch=epoch),))
    return Fact(head, data)


def barrier(component: str, seq: int, epoch: int = 1) -> Fact:
    """The mark that a primary lives."""
    return Fact(envelope(component, "p", 0, seq, epoch), Barrier(writer_id="n"))


def topic_of(component: str) -> str:
    """The component's fact topic."""
    return f"{ORIGIN}.{component}"


def incoming(component: str, offset: int, item: Fact) -> Incoming:
    """A fact as it was read."""
    return Incoming(topic_of(component), offset, item, encode_fact(*item))


class Folding:
    """A fold with the states that PostgreSQL would keep."""

    def __init__(self) -> None:
        self.known: dict[Key, Known] = {}
        self.fold = PartitionFold(0, {}, {}, [], REGIONS)
        self.epochs: dict[str, int] | None = None
        """What the control log is said to have decided."""

    def take(self, *batch: Incoming) -> Outcome:
        """Fold one batch."""
        keys = PartitionFold.keys(list(batch)) | self.fold.releasable(self.epochs)
        known = {k: self.known.get(k, UNKNOWN) for k in keys}
        outcome = self.fold.fold(list(batch), known, self.epochs)
        self.known.update(known)
        return outcome

    def again(self, parked: list[Incoming]) -> Folding:
        """Another projector that takes over from what PostgreSQL keeps."""
        other = Folding()
        other.known = dict(self.known)
        other.epochs = self.epochs
        positions = {
            t: Prefix(p.seq, p.stamp, p.next_offset) for t, p in self.fold.positions.items()
        }
        other.fold = PartitionFold(0, positions, self.fold.opened, parked, REGIONS)
        return other


def newer(head: Envelope, amount: int) -> tuple[str, SchemaPublished, bytes]:
    """A StakeDeposited of a writer that knows one field more.

    Its schema's fingerprint in hex, the event that publishes it, and the record.
    """
    schema = deepcopy(schemas.raw("StakeDeposited"))
    schema["fields"].append({"name": "note", "type": "string", "default": ""})
    body = BytesIO()
    value = {"envelope": head.model_dump(), "amount_micro": amount, "note": "new"}
    fastavro.schemaless_writer(body, fastavro.parse_schema(deepcopy(schema)), value)
    mark = schemas.fingerprint_of(schema)
    published = SchemaPublished(
        fingerprint=mark.hex(), schema_name="everlode.StakeDeposited", document=json.dumps(schema)
    )
    return mark.hex(), published, MARKER + mark + body.getvalue()
