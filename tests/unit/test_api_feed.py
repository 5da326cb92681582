"""Who listens to a stream: a sign of life with a position, and no more listeners than it takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime

import pytest

from everlode.api import feed as feeds
from everlode.api.feed import Feed, Group
from everlode.api.ring import Wanted
from everlode.errors import Unavailable
from everlode.events.base import Envelope, Fact
from everlode.events.recovery import OperationStep

STEP = OperationStep(
    kind="registry-failover", number=1, step="promote", outcome="done", detail="", duration_ms=3
)
ENVELOPE = Envelope(
    event_id="e", aggregate_id="o", version=0, origin="eu.1", scope="", epoch=0, seq=1, stamp=1,
    occurred_at=datetime(2026, 1, 2, tzinfo=UTC), correlation_id="c",
)  # fmt: skip


def opened() -> Feed:
    """A stream of one partition that is read to its end, in the running loop."""
    found = Feed(Group("machinery", "", (("eu.1.recovery", 0),), 10), lambda *_: ("", ""))
    found._loop = asyncio.get_running_loop()
    found._opened("cluster", [0])
    found._at_end()
    return found


def listening(feed: Feed, *types: str) -> AsyncGenerator[bytes, None]:
    found = feed.listen(None, Wanted(types=frozenset(types)))
    assert isinstance(found, AsyncGenerator)
    return found


def id_of(text: bytes) -> str:
    return next(line[3:].strip() for line in text.decode().splitlines() if line[:3] == "id:")


def test_listener_of_a_still_stream_gets_signs_of_life_whose_position_passes_what_it_did_not_want(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feeds, "KEEP_ALIVE_S", 0.01)

    async def listen() -> None:
        feed = opened()
        async with aclosing(listening(feed, "NodeLost")) as events:
            begin = await anext(events)
            alive = await anext(events)
            assert (b": here" in begin, b": alive" in alive) == (True, True)
            assert id_of(begin) == id_of(alive)
            feed._take([(0, 0, Fact(ENVELOPE, STEP))])  # another type
            after = id_of(await anext(events))
            assert (after.rpartition("~")[2], id_of(begin).rpartition("~")[2]) == ("1", "0")

    asyncio.run(listen())


def test_stream_takes_as_many_listeners_as_it_may_and_one_more_when_one_has_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feeds, "LISTENERS", 2)

    async def listen() -> None:
        feed = opened()
        both = [listening(feed) for _ in range(2)]
        for events in both:
            await feed.require_room()
            await anext(events)
        with pytest.raises(Unavailable) as refused:
            await feed.require_room()
        assert refused.value.code == "too_many_listeners"
        await both[0].aclose()
        await feed.require_room()
        feed.close()
        assert [text async for text in both[1]] == []

    asyncio.run(listen())
