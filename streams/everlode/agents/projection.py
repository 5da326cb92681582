"""The projection agents: one over all fact topics, one over the heartbeats.

One agent has all fact topics, so that Faust's copartitioning gives one worker the same partition
number of each of them, which is the unit of ownership. The effect (fold, rows, state records) is
the caller's and runs in threads, one partition number at a time. The heartbeats have an app of
their own, since a consumer has one isolation: strangers write them, so they are read uncommitted.
Shell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import faust

from everlode.agents.acks import each_batch
from everlode.agents.app import make_app, raw_topic

BATCH = 1000
WITHIN_S = 0.003
"""The first fact of a batch waits so long for those of the same answer of the broker."""


class Message(NamedTuple):
    """One record as Faust handed it out."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


class Effects(NamedTuple):
    """What the agents do. All but `assign` are called in a thread, and raise to stop the app."""

    apply: Callable[[int, list[Message]], None]
    """Applies messages of one partition number."""
    heartbeats: Callable[[list[Message]], None]
    """Notes heartbeats."""
    assign: Callable[[set[int]], set[int]]
    """Called with the partition numbers assigned after a rebalance; returns those to reconcile."""
    reconcile: Callable[[int], None]
    """Takes a number over, or gives it up; it takes turns with `apply` of that number itself."""


def _message(event: Any) -> Message:
    m = event.message
    headers = m.headers.items() if isinstance(m.headers, dict) else (m.headers or ())
    return Message(m.topic, m.partition, m.offset, m.key, m.value, list(headers))


class ProjectionAgents:
    """The Faust apps of a projector: `app`, and `beats` beside it, which ends it when it fails."""

    def __init__(
        self,
        group: str,
        bootstrap: str,
        facts: Sequence[str],
        heartbeats: Sequence[str],
        effects: Effects,
    ) -> None:
        self.app: faust.App = make_app(group, bootstrap)
        self.beats: faust.App = make_app(f"{group}.beats", bootstrap, uncommitted=True)
        self._effects = effects
        self._fact_topics = frozenset(facts)
        self._reconciling: set[asyncio.Task[None]] = set()
        self.app.agent(raw_topic(self.app, *facts), name=f"{group}.facts")(self._facts)
        channel = raw_topic(self.beats, *heartbeats)
        self.beats.agent(channel, name=f"{group}.beats")(self._heartbeats)
        self.app.on_partitions_assigned.connect(self._assigned)  # type: ignore[arg-type]

    async def _assigned(self, _app: Any, assigned: Any, **_: Any) -> None:
        """Reconcile what changed beside the rebalance, which must not wait for a catch-up."""
        numbers = {tp.partition for tp in assigned if tp.topic in self._fact_topics}
        for partition in sorted(self._effects.assign(numbers)):
            task = asyncio.create_task(self._reconcile(partition))
            self._reconciling.add(task)
            task.add_done_callback(self._reconciling.discard)

    async def _reconcile(self, partition: int) -> None:
        try:
            await asyncio.to_thread(self._effects.reconcile, partition)
        except Exception as error:  # noqa: BLE001 - without its partition it must not go on
            await self.app.crash(error)

    async def _facts(self, stream: Any) -> None:
        await each_batch(self.app, stream, self._fold, most=BATCH, within_s=WITHIN_S)

    async def _heartbeats(self, stream: Any) -> None:
        await each_batch(self.app, stream, self._note, most=BATCH, within_s=0.5)

    async def _fold(self, events: list[Any]) -> None:
        by_partition: dict[int, list[Message]] = {}
        for event in events:
            message = _message(event)
            by_partition.setdefault(message.partition, []).append(message)
        work = [
            asyncio.to_thread(self._effects.apply, p, found)
            for p, found in sorted(by_partition.items())
        ]
        for result in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def _note(self, events: list[Any]) -> None:
        await asyncio.to_thread(self._effects.heartbeats, [_message(e) for e in events])
