"""The one way to acknowledge that loses nothing in Faust: a batch, its effect, then every event.

`noack_take`, the effect, and only then an ack of each event; on failure the app crashes with
everything unacknowledged. Any other way commits past a failure (tests/faults has the table).
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
    async for events in stream.noack_take(most, within=within_s):
        try:
            await effect(events)
        except Exception as error:  # noqa: BLE001 - any failure must hold the offsets
            await app.crash(error)
            return
        for event in events:
            event.ack()
