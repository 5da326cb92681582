"""Commands that wait for their answers: each caller's deadline and future are its own."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from everlode.errors import DeadlineExceeded
from everlode.events import commands as c
from everlode.events.base import CommandAnswered, CommandHeader
from everlode.sdk.commands import CommandClient
from everlode.sdk.waiting import RESEND_S, Answered, Asked, Waiting

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CANCEL = c.CancelTask(reason="r")


def asked(name: str) -> Asked:
    header = CommandHeader(
        command_id=name, aggregate_id="t", issued_by="x", reply_to="r", issued_at=NOW,
        correlation_id="t",
    )  # fmt: skip
    return Asked(header, CANCEL, b"", "eu")


def answer(name: str, code: str = "") -> CommandAnswered:
    return CommandAnswered(
        command_id=name, command_type="CancelTask", aggregate_id="t", reply_to="r", region="eu",
        node_id="n", outcome="refused" if code else "done", code=code, message="", hint="",
        facts=(), level=1, answered_at=NOW,
    )  # fmt: skip


class Callers:
    """Who asks, and a hand on the clock."""

    def __init__(self, window: int = 9, *, handed: bool = True) -> None:
        self.waiting = Waiting(window)
        self.handed = handed
        self.began = time.monotonic()
        self.sent: list[str] = []

    def ask(self, name: str, timeout_s: float = 60) -> Answered:
        one = asked(name)
        one.handed = self.handed
        future, new = self.waiting.ask(one, timeout_s)
        if new:
            self.sent.append(name)
        return future

    def due(self, seconds: float, *, ready: bool) -> list[str]:
        found = self.waiting.due(self.began + seconds, lambda _: ready)
        return [one.header.command_id for one in found]

    def after(self, seconds: float) -> None:
        self.waiting.expire(time.monotonic() + seconds)


def test_two_who_ask_the_same_send_it_once_and_both_get_the_answer() -> None:
    callers = Callers()
    futures = [callers.ask("a"), callers.ask("a")]
    callers.waiting.answered(answer("a"))
    assert callers.sent == ["a"]
    assert [future.result(0).outcome for future in futures] == ["done", "done"]
    assert len(callers.waiting) == 0


def test_command_that_its_region_does_not_serve_is_sent_at_once_to_whoever_does() -> None:
    callers = Callers()
    future = callers.ask("a")
    callers.waiting.not_there(answer("a", "not_served"))
    assert not future.done()
    assert callers.waiting.oldest() == 0.0, "its owner is looked for now"
    callers.waiting.redirect(lambda _: "us", callers.began - 2)
    assert callers.due(0, ready=True) == ["a"]
    callers.waiting.not_there(answer("a", "not_served"))
    assert callers.due(0, ready=True) == [], "it has been sent to another one since"
    callers.waiting.answered(answer("a"))
    assert future.result(0).outcome == "done"


@pytest.mark.parametrize(
    ("aggregate", "region", "code", "told"),
    [
        ("us/t", "eu", "not_served", "not_there"),
        ("us/t", "eu", "not_at_home", "not_there"),
        ("us/t", "us", "not_served", "answered"),
        ("us/t", "eu", "unlawful", "answered"),
        ("us/t", "eu", "", "answered"),
        ("t", "eu", "not_served", "answered"),
    ],
)
def test_only_a_region_that_is_not_the_home_is_left_by_what_it_does_not_serve(
    aggregate: str, region: str, code: str, told: str
) -> None:
    heard: list[str] = []
    waiting = SimpleNamespace(
        not_there=lambda _: heard.append("not_there"), answered=lambda _: heard.append("answered")
    )
    client = SimpleNamespace(_endpoints=SimpleNamespace(regions=("eu", "us")), _waiting=waiting)
    said = answer("a", code).model_copy(update={"aggregate_id": aggregate, "region": region})
    CommandClient._answered(cast("Any", client), said)
    assert heard == [told]


def test_one_whose_time_is_over_takes_nothing_from_the_other() -> None:
    callers = Callers()
    short, long = callers.ask("a", 2), callers.ask("a", 60)
    callers.after(3)
    with pytest.raises(DeadlineExceeded, match="CancelTask a"):
        short.result(0)
    callers.waiting.answered(answer("a"))
    assert long.result(0).outcome == "done"


def test_one_who_is_cancelled_takes_nothing_from_the_other_nor_from_who_asks_again() -> None:
    callers = Callers()
    first, other = callers.ask("a"), callers.ask("a")
    assert first.cancel()
    again = callers.ask("a")
    callers.after(0)
    callers.waiting.answered(answer("a"))
    assert [other.result(0).outcome, again.result(0).outcome] == ["done", "done"]
    with pytest.raises(CancelledError):
        first.result(0)


def test_all_are_cancelled_and_the_next_sends_it_anew() -> None:
    callers = Callers(window=1)
    callers.ask("a").cancel()
    callers.after(0)
    assert (len(callers.waiting), callers.ask("a").done(), callers.sent) == (0, False, ["a", "a"])


def test_full_window_is_waited_for_until_the_deadline_only() -> None:
    callers = Callers(window=1)
    callers.ask("a")
    assert not callers.ask("a").done()  # it needs no place
    with pytest.raises(DeadlineExceeded, match="no place"):
        callers.ask("b", 0.01)
    got: list[Answered] = []
    other = threading.Thread(target=lambda: got.append(callers.ask("b")))
    other.start()
    callers.waiting.answered(answer("a"))
    other.join(30)
    assert (callers.sent, got[0].done()) == (["a", "b"], False)


def test_sent_for_the_first_time_once_its_home_is_ready_and_named_as_never_sent_before() -> None:
    callers = Callers(handed=False)
    early, late = callers.ask("a", 2), callers.ask("b", 60)
    assert callers.due(1, ready=False) == []
    callers.after(3)
    with pytest.raises(DeadlineExceeded, match=r"CancelTask a of t from its home eu .* never sent"):
        early.result(0)
    assert callers.due(4, ready=True) == ["b"]
    assert callers.due(4, ready=True) == []
    callers.after(61)
    with pytest.raises(DeadlineExceeded, match=r"CancelTask b .* may be carried out"):
        late.result(0)


def test_sent_again_each_time_after_twice_the_time() -> None:
    callers = Callers()
    callers.ask("a")
    callers.began = time.monotonic()
    at = [s for s in range(100) if callers.due(s, ready=True)]
    assert at == [RESEND_S, 3 * RESEND_S, 7 * RESEND_S]


def test_closed_fails_all_and_whoever_comes_later() -> None:
    callers = Callers()
    futures = [callers.ask("a"), callers.ask("a")]
    callers.waiting.close()
    futures.append(callers.ask("b"))
    assert [type(future.exception(0)) for future in futures] == [DeadlineExceeded] * 3
    assert (callers.sent, len(callers.waiting)) == (["a"], 0)
