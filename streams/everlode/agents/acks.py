"""The one way to acknowledge that loses nothing in Faust: a batch, its effect, then every event.

Theory of operation. Faust commits the offset after the last acknowledged event, over an event
before it that is not, and over one whose agent raised. So no event of a batch is acknowledged
before the effect of all:
  1. take what is there, nothing of it acknowledged (`noack`);
  2. carry its effect out; on failure the app crashes, and acknowledges nothing more;
  3. acknowledge every event.
A batch is what came while the one before it was carried out: small and at once when little comes,
large when much does. No timer runs while nothing comes (Faust's own `noack_take` has one).

    offsets      0 .. 39 | 40 .. 59 | 60 ..      the effect of 40 .. 59 fails
    committed            40                      the app that is started next reads from 40

Any other way commits past a failure (tests/faults has the table).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import faust

Effect = Callable[[list[Any]], Awaitable[None]]


async def each_batch(
    app: faust.App, stream: Any, effect: Effect, *, most: int, within_s: float
) -> None:
    """Run `effect` on batches of the stream's events, and acknowledge what it has taken in.

    A batch has at most `most` events; its first one waits `within_s` seconds for others. Events
    come in partition order; after a crash those since the last commit come again.
    """
    unacknowledged = stream.noack()
    taken: list[Any] = []
    async for event in unacknowledged.events():  # 1. taken
        taken.append(event)
        if len(taken) == 1:
            await asyncio.sleep(within_s)
        if len(taken) < most and not unacknowledged.channel.empty():
            continue
        try:
            await effect(taken)  # 2. carried out
        except Exception as error:  # noqa: BLE001 - any failure must hold the offsets
            await app.crash(error)
            return
        for each in taken:
            each.ack()  # 3. acknowledged
        taken = []
