"""Who asked a server to change something, and who was turned away: one entry each in its log.

Invariant: no entry holds a token, a cookie or what a body said; texts of a caller's are cut. What
is only read is not reported, nor what came too often from its caller: it is not looked at. Shell.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from starlette.requests import Request
from starlette.types import Message, Scope, Send

from everlode.api.tokens import Member
from everlode.telemetry.entries import AskedOverHttp
from everlode.telemetry.sink import Sink

READS = frozenset({"GET", "HEAD"})
TURNED_AWAY = frozenset(
    {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.MISDIRECTED_REQUEST}
)
LONGEST = 200


@dataclass
class Act:
    """What a request came to; whoever knows a part of it fills that in."""

    about: str = ""
    """E.g. `switchover task-manager/eu`, or the aggregate of a command."""
    id: str = ""
    """The operation's or the command's."""
    code: str = ""
    """Of the refusal."""


def act_of(request: Request) -> Act:
    """The act that a request is."""
    found: Act = request.state.act
    return found


class Audited:
    """One request's `send`; it reports once it is known what is answered."""

    def __init__(self, scope: Scope, send: Send, report: Sink) -> None:
        self.act = Act()
        self.member: Member | None = None
        self._scope, self._send, self._report = scope, send, report

    async def __call__(self, message: Message) -> None:
        """See ASGI."""
        if message["type"] == "http.response.start" and self._is_wanted(message["status"]):
            self._report(self._entry(message["status"]))
        await self._send(message)

    def _is_wanted(self, status: int) -> bool:
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return False
        return self._scope["method"] not in READS or status in TURNED_AWAY

    def _entry(self, status: int) -> AskedOverHttp:
        member = self.member
        return AskedOverHttp(
            who=member.name if member else "",
            role=str(member.role) if member else "",
            address=str((self._scope["client"] or [""])[0]),
            method=self._scope["method"],
            path=cut(self._scope["path"]),
            about=cut(self.act.about),
            id=cut(self.act.id),
            status=status,
            code=self.act.code,
        )


def cut(text: str) -> str:
    """Short, and without what would break a line or a terminal. Pure."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:LONGEST])
