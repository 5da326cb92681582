"""TaskWatch: what happens to one task, from a place in the log to the task's end.

A task's facts are on one partition, of its home region, in the order of their versions. So only
that partition is read, and only from where the task stands: from the fact that the answer to its
submission names, or from a token. Where no place is known in the cluster that is asked, the task's
last facts are looked for backwards from the end (see `lookback`). Nothing but Kafka is needed.

Invariants: versions rise by one, each change is handed out once, the one with the end is the last.
At least once over restarts: what came after the last token that was kept comes again. Shell.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from everlode.adapters.kafka import Reader
from everlode.adapters.kafka_offsets import is_place
from everlode.avro.codec import Codec
from everlode.errors import NotFound, Refusal
from everlode.events.base import CommandAnswered, Event, Fact
from everlode.sdk.lookback import decoded, last_facts
from everlode.settings.endpoints import Endpoints
from everlode.state.task import ENDED, TRANSITIONS
from everlode.topics.names import fact_topic, region_of, split_fact_topic
from everlode.topics.partition import partition_of
from everlode.topics.place import TopicPartition


class Change(NamedTuple):
    """A fact about the task, and what the task is since then."""

    fact: Fact
    status: str
    """submitted, assigned, solved, validated, rewarded, failed, cancelled or deleted."""
    topic: str
    partition: int
    offset: int
    """In the cluster that is read."""
    token: str
    """Where to go on after it: `client.watch(task_id, token)`."""

    @property
    def kind(self) -> str:
        """The event's type, e.g. TaskAssigned."""
        return type(self.fact.data).__name__

    @property
    def version(self) -> int:
        """How many facts there are about the task, with this one."""
        return self.fact.envelope.version

    @property
    def ended(self) -> bool:
        """True when no other can follow, but for the removal of an ended task's record."""
        return self.status in LAST


LAST = ENDED | {"deleted"}


def status_after(data: Event) -> str:
    """A task's status after an event, by the task's transition table. Pure."""
    rows = {variant: row for (kind, variant), row in TRANSITIONS.items() if kind is type(data)}
    row = rows.get("final" if getattr(data, "final", False) else "again") or next(
        iter(rows.values())
    )
    (status,) = {row.target} - {None} or row.sources
    assert status is not None  # noqa: S101 - the table has no event that comes from nothing
    return status


class _Token(NamedTuple):
    cluster: str
    topic: str
    task_id: str
    offset: int
    """Of the next record to read, in `cluster`."""
    version: int
    """Of the last change that was handed out; it is valid in every cluster."""
    ended: bool
    """It was the task's last."""

    def text(self) -> str:
        return base64.urlsafe_b64encode(json.dumps(self).encode()).decode()

    @classmethod
    def parse(cls, text: str) -> _Token:
        """Raises: Refusal: it is none."""
        try:
            cluster, topic, task_id, offset, version, ended = json.loads(
                base64.urlsafe_b64decode(text.encode())
            )
            numbers = int(offset), int(version), bool(ended)
            if not is_place(0, numbers[0]):
                raise ValueError("no place in a log")
            return cls(str(cluster), str(topic), str(task_id), *numbers)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise Refusal(f"not a token of a watch: {error}", code="bad_token") from None


class ReadFrom(NamedTuple):
    """Where a task's facts are read."""

    bootstrap: str
    topic: str
    partitions: int
    home: bool
    """True in the task's home region, where the offsets of an answer are valid."""


class TaskWatch:
    """Iterate over a task's changes; ends with the task. Not thread-safe.

    It can be used as a context manager, and is closed when the iteration ends.
    """

    def __init__(self, source: ReadFrom, task_id: str, since: str | CommandAnswered | None) -> None:
        """Raises: see `MiningClient.watch`."""
        self.task_id = task_id
        self._key = task_id.encode()
        self._at: TopicPartition = (source.topic, partition_of(task_id, source.partitions))
        self._codec = Codec()
        self._read: deque[Change] = deque()
        self._ended = self._closed = False
        self._reader = Reader(source.bootstrap, f"watch-{uuid.uuid4()}")
        try:
            self._cluster = self._reader.cluster_id()
            offset, self._version = self._start(since, source.home)
        except BaseException:
            self.close()
            raise
        self._reader.assign({self._at: offset})

    @staticmethod
    def about(since: str | CommandAnswered | None) -> str | None:
        """The task that `since` names. Raises: Refusal: it is no token."""
        if since is None:
            return None
        return _Token.parse(since).task_id if isinstance(since, str) else since.aggregate_id

    @staticmethod
    def read_from(
        endpoints: Endpoints,
        region: str,
        since: str | CommandAnswered | None,
        seen_from: str | None,
    ) -> ReadFrom:
        """Where to read: what `since` names is at home there, else a task of `region`."""
        topic = fact_topic(endpoints.region(region).origin, "tasks")
        if isinstance(since, str):
            topic = _Token.parse(since).topic
        elif since is not None and since.facts:
            topic = since.facts[0].topic
        home = region_of(split_fact_topic(topic)[0])
        parts = endpoints.parts(seen_from or home)
        return ReadFrom(parts.bootstrap, topic, parts.partitions, parts.region == home)

    def _start(self, since: str | CommandAnswered | None, at_home: bool) -> tuple[int, int]:
        """The offset to read from, and the version after which changes are handed out."""
        if isinstance(since, str):
            token = _Token.parse(since)
            self._require(token.task_id)
            self._ended = token.ended
            begin = self._reader.beginnings([self._at])[self._at]
            if token.cluster == self._cluster and token.offset >= begin:
                return token.offset, token.version
            return self._looked_for(token.version)
        if since is not None:
            self._require(since.aggregate_id)
            if since.facts and at_home:
                return since.facts[0].offset, since.facts[0].version - 1
            return self._looked_for(since.facts[0].version - 1 if since.facts else 0)
        return self._looked_for(None)

    def _require(self, task_id: str) -> None:
        if task_id != self.task_id:
            raise Refusal(
                f"since: it is about {task_id}, not about {self.task_id}", code="other_task"
            )

    def _looked_for(self, version: int | None) -> tuple[int, int]:
        """Where the facts after `version` begin; None: the last one."""
        end = self._reader.ends([self._at])[self._at]
        found = last_facts(
            self._reader, self._at, self.task_id,
            lambda fact: version is None or fact.envelope.version <= version, end,
        )  # fmt: skip
        if not found:
            raise NotFound(
                f"no fact about task {self.task_id} is kept on {self._at[0]}",
                code="unknown_task",
                hint="submit it, or watch it at its home region",
            )
        offset, fact = found[0]
        first = fact.envelope.version
        if version is None:
            return offset, first - 1
        if first > version + 1:
            raise Refusal(
                f"task {self.task_id}: what is kept begins with version {first}, after {version}",
                code="position_expired",
                hint="watch it without `since`: from its last change on",
            )
        return offset, version

    def fill(self, timeout_s: float = 0.2) -> None:
        """Read ahead, when nothing that was read waits to be taken."""
        if self._read or self._ended:
            return
        for raw in self._reader.batch(2000, timeout_s, 0.0):
            fact = decoded(self._codec, raw) if raw.key == self._key else None
            if fact is None or fact.envelope.version <= self._version:
                continue
            self._version, status = fact.envelope.version, status_after(fact.data)
            token = _Token(
                self._cluster, raw.topic, self.task_id, raw.offset + 1, self._version,
                status in LAST,
            )  # fmt: skip
            place = raw.topic, raw.partition, raw.offset
            self._read.append(Change(fact, status, *place, token.text()))

    def taken(self) -> Change | None:
        """The next change of what was read ahead, or None; never waits."""
        if not self._read or self._ended:
            return None
        change = self._read.popleft()
        self._ended = change.ended
        return change

    @property
    def ended(self) -> bool:
        """True once the change that ends the task was handed out."""
        return self._ended

    def __iter__(self) -> Iterator[Change]:
        """The changes, as they come, to the task's end."""
        try:
            while not self._ended:
                self.fill()
                while (change := self.taken()) is not None:
                    yield change
        finally:
            self.close()

    def close(self) -> None:
        """Leave."""
        if not self._closed:
            self._closed = True
            self._reader.close()

    def __enter__(self) -> TaskWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
