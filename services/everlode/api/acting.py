"""Routes by which operators act from the page: a form about a scope or a node, and what it asks.

    GET /act?scope=task-manager/eu ─► the form: verbs, the key of this browser, an operation's id
    POST /act ─► the key? ─► operator? ─► the name typed? ─► asked, as `POST /operations` does ─► /

A form that was sent twice is carried out once: its id was made with it. Works without scripts.
Invariant: nothing is asked for by a form without its browser's key, nor for a viewer. Shell.
"""

from __future__ import annotations

import hmac
import re
import time
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response

from everlode.api.asking import Net, body_of
from everlode.api.audit import act_of
from everlode.api.guard import COOKIE, Browser
from everlode.api.network import Network
from everlode.api.overview import html
from everlode.api.problems import Denied, misfit, status_of
from everlode.api.queries import known_nodes, led
from everlode.api.tokens import Role
from everlode.api.wishes import WishAsked
from everlode.control.fold import ControlState
from everlode.errors import EverlodeError, NotFound
from everlode.operators.desk import Wanted

router = APIRouter(include_in_schema=False)
LONGEST_FORM = 20_000
LONGEST_PAUSE_MIN = 7 * 24 * 60
MINUTE_MS = 60_000
MEANINGS = {
    "scope": {
        "switchover": "another node is to lead, as planned; clients see a wait and no error",
        "failover": "another node is to lead now; the primary is treated as lost",
        "failback": "its home is to lead it again, as planned, after another region has taken it",
        "pause": "no automatic failover for a while",
        "resume": "automatic failover again",
        "ack": "the change of primary was seen; its cool-down ends",
    },
    "node": {
        "drain": "it takes no new work, the old ends, and it leads nothing any more",
        "rejoin": "it was drained or lost, and may work again",
        "ack": "its failure was seen",
    },
}
"""What a form is about → verbs of operators → what they do."""
TIMEOUT_S = {"drain": 60, "rejoin": 60}
"""Seconds within which it must be decided; 30 of the others, as of the command's verbs."""


class Subject(NamedTuple):
    """What a form is about."""

    of: str
    """`scope` or `node`."""
    name: str
    now: str
    """How it stands, for people."""
    others: list[str]
    """Nodes that might lead the scope instead."""


def subject_of(control: ControlState, asked: Mapping[str, str]) -> Subject:
    """The scope or node that is asked about. Pure. Raises: NotFound."""
    if name := asked.get("scope", ""):
        scope = control.scopes.get(name)
        if scope is None:
            raise NotFound(f"nobody has led {name!r} yet", code="no_primary", hint="see /")
        shown = led(control, scope)
        component, _, region = name.rpartition("/")
        others = [
            n["node_id"] for n in known_nodes(control, region)
            if n["component"] == component and n["node_id"] != scope.primary
        ]  # fmt: skip
        now = f"{scope.primary} leads it in epoch {scope.epoch}, and is {shown['status']}."
        return Subject("scope", name, now, others)
    name = asked.get("node", "")
    node = control.nodes.get(name)
    if node is None:
        raise NotFound(f"no node is named {name!r}", hint="see /")
    return Subject("node", name, f"A {node.component} of {node.region}, {node.status}.", [])


def wanted_of(subject: Subject, given: Mapping[str, str], now_ms: int) -> WishAsked:
    """What a form asks for. Pure. Raises: Denied: a field does not fit, or it is not confirmed."""
    verb = given.get("verb", "")
    if verb not in MEANINGS[subject.of]:
        raise _unfit("verb: none of a " + subject.of, ", ".join(MEANINGS[subject.of]))
    if given.get("confirm", "") != subject.name:
        raise _unfit(
            "the name that was typed is not that of what is to be changed",
            f"type {subject.name}", code="not_confirmed",
        )  # fmt: skip
    scope, node = (subject.name, "") if subject.of == "scope" else ("", subject.name)
    if verb in {"switchover", "failover"}:
        node = given.get("to", "")
    try:
        return WishAsked(
            verb=verb, scope=scope, node=node, reason=given.get("reason", ""),  # type: ignore[arg-type]
            until_ms=_until_ms(given.get("minutes", ""), now_ms) if verb == "pause" else None,
            timeout_s=TIMEOUT_S.get(verb, 30),
        )  # fmt: skip
    except ValidationError as error:
        raise misfit(error) from None


def _until_ms(minutes: str, now_ms: int) -> int | None:
    if not minutes.strip():
        return None
    found = re.fullmatch(r"\s*([0-9]{1,5})\s*", minutes)
    if found is None or not 1 <= int(found[1]) <= LONGEST_PAUSE_MIN:
        raise _unfit("minutes: a pause lasts whole minutes", f"1 to {LONGEST_PAUSE_MIN}")
    return now_ms + int(found[1]) * MINUTE_MS


def _unfit(said: str, hint: str, code: str = "bad_field") -> Denied:
    return Denied(HTTPStatus.UNPROCESSABLE_ENTITY, said, code=code, hint=hint)


def _form(
    browser: Browser, subject: Subject, given: Mapping[str, str], trouble: EverlodeError | None
) -> Response:
    verbs = [{"name": name, "meaning": says} for name, says in MEANINGS[subject.of].items()]
    fields = {name: given.get(name, "") for name in ("verb", "to", "minutes", "reason")}
    operation = given.get("operation") or str(uuid.uuid4())
    page = html(
        "act.html.j2", subject=subject, verbs=verbs, trouble=trouble,
        form_key=browser.form_key if browser.acts else "", given=fields | {"operation": operation},
    )  # fmt: skip
    return HTMLResponse(page, status_of(trouble) if trouble else HTTPStatus.OK)


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form of the page. Raises: Denied: it is none, or of another browser."""
    browser: Browser = request.state.browser
    text = (await body_of(request, LONGEST_FORM)).decode("utf-8", "replace")
    pairs = parse_qsl(text, keep_blank_values=True)
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _unfit("a field is given twice", "send the page's own form")
    key = fields.get("key", "").encode()
    if not browser.form_key or not hmac.compare_digest(key, browser.form_key.encode()):
        raise Denied(
            HTTPStatus.FORBIDDEN, "this form is not of this session", code="stale_form",
            hint="load the page again",
        )  # fmt: skip
    return fields


@router.get("/act")
async def shown(request: Request, network: Net) -> Response:
    """The form about `?scope=` or `?node=`."""
    subject = subject_of(network.control(), dict(request.query_params))
    return _form(request.state.browser, subject, {}, None)


@router.post("/act")
async def ask(request: Request, network: Net) -> Response:
    """Ask for what the form says; a refusal shows it again, with the reason."""
    given = await form_of(request)
    if not request.state.member.role.may(Role.OPERATOR):
        raise Denied(
            HTTPStatus.FORBIDDEN, f"this needs the role {Role.OPERATOR}", code="forbidden",
            hint="sign in with a token that has it",
        )  # fmt: skip
    act = act_of(request)
    act.about = f"{given.get('verb', '')} {given.get('scope') or given.get('node', '')}"
    act.id = given["operation"] = given.get("operation") or str(uuid.uuid4())
    subject = subject_of(network.control(), given)
    try:
        await run_in_threadpool(_ask, network, subject, given, request.state.member.name)
    except EverlodeError as error:
        act.code = error.code
        return _form(request.state.browser, subject, given, error)
    return RedirectResponse("/", HTTPStatus.SEE_OTHER)


def _ask(network: Network, subject: Subject, given: Mapping[str, str], operator: str) -> Any:
    asked = wanted_of(subject, given, time.time_ns() // 1_000_000)
    wanted = Wanted(**asked.model_dump(), operation=given["operation"])
    return network.desk().ask(wanted, operator)


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    """Let this browser forget its token."""
    await form_of(request)
    act_of(request).about = request.state.member.name
    answer = RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
    answer.delete_cookie(COOKIE)
    return answer
