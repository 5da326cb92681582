"""The one way to acknowledge that loses nothing in Faust: a batch, its effect, then every event.

Theory of operation. Faust commits the offset after the last acknowledged event, over an event
before it that is not, and over one whose agent raised. So no event of a batch is acknowledged
before the effect of all:
  1. take a batch, nothing of it acknowledged (`noack_take`);
  2. carry its effect out; on failure the app crashes, and acknowledges nothing more;
  3. acknowledge every event.

    offsets      0 .. 39 | 40 .. 59 | 60 ..      the effect of 40 .. 59 fails
    committed            40                      the app that is started next reads from 40

Any other way commits past a failure (tests/faults has the table).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import faust

Effect = Callable[[list[Any]], Awaitable[None]]


async def each_batch(
    app: faust.App, stream: Any, effect: Effect, *, most: int, within_s: float
) -> None:
    """Run `effect` on batches of the stream's events, and acknowledge what it has taken in.

    Events come in partition order; after a crash those since the last commit come again.
    """
    async for events in stream.noack_take(most, within=within_s):  # 1. taken
        try:
            await effect(events)  # 2. carried out
        except Exception as error:  # noqa: BLE001 - any failure must hold the offsets
            await app.crash(error)
            return
        for event in events:
            event.ack()  # 3. acknowledged
