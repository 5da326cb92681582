"""The projection agents: one over all fact topics, one over the heartbeats.

One agent has all fact topics, so that Faust's copartitioning gives one worker the same partition
number of each of them, which is the unit of ownership. The effect (fold, rows, state records) is
the caller's and runs in threads, one partition number at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import faust

from everlode.agents.acks import each_batch
from everlode.agents.app import make_app, raw_topic

BATCH = 1000
WITHIN_S = 0.35


class Message(NamedTuple):
    """One record as Faust handed it out."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    timestamp_ms: int


Apply = Callable[[int, list[Message]], None]
"""Applies messages of one partition number; called in a thread, raises to stop the app."""


def _message(event: Any) -> Message:
    m = event.message
    headers = m.headers.items() if isinstance(m.headers, dict) else (m.headers or ())
    return Message(
        m.topic, m.partition, m.offset, m.key, m.value, list(headers), int(m.timestamp * 1000)
    )


class ProjectionAgents:
    """The Faust app of a projector."""

    def __init__(
        self,
        group: str,
        bootstrap: str,
        facts: Sequence[str],
        heartbeats: Sequence[str],
        apply: Apply,
        beats: Callable[[list[Message]], None],
    ) -> None:
        self.app: faust.App = make_app(group, bootstrap)
        self._apply = apply
        self._beats = beats
        self._locks: dict[int, asyncio.Lock] = {}
        self.app.agent(raw_topic(self.app, *facts), name=f"{group}.facts")(self._facts)
        self.app.agent(raw_topic(self.app, *heartbeats), name=f"{group}.beats")(self._heartbeats)

    async def _facts(self, stream: Any) -> None:
        await each_batch(self.app, stream, self._fold, most=BATCH, within_s=WITHIN_S)

    async def _heartbeats(self, stream: Any) -> None:
        await each_batch(self.app, stream, self._note, most=BATCH, within_s=0.5)

    async def _fold(self, events: list[Any]) -> None:
        by_partition: dict[int, list[Message]] = {}
        for event in events:
            message = _message(event)
            by_partition.setdefault(message.partition, []).append(message)
        work = [self._one(p, found) for p, found in sorted(by_partition.items())]
        for result in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def _one(self, partition: int, found: list[Message]) -> None:
        async with self._locks.setdefault(partition, asyncio.Lock()):
            await asyncio.to_thread(self._apply, partition, found)

    async def _note(self, events: list[Any]) -> None:
        await asyncio.to_thread(self._beats, [_message(e) for e in events])
