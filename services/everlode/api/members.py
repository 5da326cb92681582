"""Whose token it is, whoever knows it: the file of tokens, or an issuer. Shell."""

from __future__ import annotations

from http import HTTPStatus

from starlette.concurrency import run_in_threadpool

from everlode.api.issuer import Issuer, Refused
from everlode.api.problems import Denied
from everlode.api.tokens import Member, Tokens, member_of

Trusted = Tokens | Issuer
"""What says whose a token is."""


async def known(trusted: Trusted, token: str) -> Member | None:
    """Whose token it is; None: nobody's.

    Raises: Denied: a token of an issuer, with why it does not count. Unavailable: its keys are not
    known now.
    """
    if not isinstance(trusted, Issuer):
        return member_of(trusted, token)
    try:
        if trusted.needs_asking(token):  # it takes its time
            return await run_in_threadpool(trusted.member_of, token)
        return trusted.member_of(token)
    except Refused as error:
        raise Denied(
            HTTPStatus.UNAUTHORIZED, f"the token does not count: {error.message}",
            code="unauthorized", hint="ask the issuer for a new one",
        ) from None  # fmt: skip
