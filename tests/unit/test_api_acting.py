"""Operators act from the page: whose form it is, who may, what was typed; else nothing is asked."""

from __future__ import annotations

import asyncio
import hashlib
from types import MappingProxyType, SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from fastapi import FastAPI

from everlode.api.acting import MEANINGS, Subject, subject_of, wanted_of
from everlode.api.app import application
from everlode.api.guard import COOKIE, Guard, House, form_key
from everlode.api.problems import Denied
from everlode.api.tokens import parsed
from everlode.control.fold import ControlState, NodeState, ScopeState
from everlode.errors import NotFound, Precondition
from everlode.events.control import ScopeAssigned
from everlode.operators.desk import Wanted
from everlode.telemetry.entries import AskedOverHttp

SCOPE = "miner-registry/eu"
SECRETS = {"viewer": "see", "operator": "ask", "admin": "all"}
TOKENS = parsed(
    "\n".join(f"{r} {r} {hashlib.sha256(s.encode()).hexdigest()}" for r, s in SECRETS.items()), "f"
)
NOW_MS = 1_000_000
HERE = "http://h"


def control() -> ControlState:
    decision = ScopeAssigned(
        scope_name=SCOPE, new_epoch=1, primary_node="a", region="eu", reason="bootstrap",
        based_on=0, based_on_epoch=0,
    )  # fmt: skip
    nodes = {
        name: NodeState(name, "eu", component, "", "e", 0, "healthy", 1)
        for name, component in (
            ("a", "miner-registry"), ("..", "miner-registry"), ("t", "task-manager"),
        )
    }  # fmt: skip
    scope = ScopeState(SCOPE, 1, "a", "eu", 0, decision, 2)
    return ControlState(scopes=MappingProxyType({SCOPE: scope}), nodes=MappingProxyType(nodes))


class Network:
    """What a form meets: a control log as it is, and a desk that keeps what it is asked for."""

    def __init__(self, refuses: bool = False) -> None:
        self.asked: list[tuple[Wanted, str]] = []
        self.refuses = refuses

    def control(self) -> ControlState:
        return control()

    def desk(self) -> Any:
        return SimpleNamespace(ask=self.ask)

    def ask(self, wanted: Wanted, operator: str) -> None:
        if self.refuses:
            raise Precondition("it <cannot>", hint="..: lags", code="not_eligible")
        self.asked.append((wanted, operator))


def form(role: str = "operator", **fields: str) -> dict[str, str]:
    given = {
        "key": form_key(SECRETS[role]), "operation": "op-1", "scope": SCOPE, "verb": "switchover",
        "to": "..", "reason": "new disk", "confirm": SCOPE,
    }  # fmt: skip
    return given | fields


def sent(
    network: Network, fields: dict[str, str] | str, role: str | None = "operator", **more: Any
) -> tuple[httpx.Response, AskedOverHttp]:
    """A form by a browser that has a role's cookie; the answer and the entry in the log."""
    entries: list[Any] = []
    inside: FastAPI = application(network, TOKENS)  # type: ignore[arg-type]
    app = Guard(inside, House(more.get("tokens", TOKENS), None, 100, entries.append))
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": HERE}
    headers |= {"Cookie": f"{COOKIE}={SECRETS[role]}"} if role else {}
    headers |= more.get("headers", {})
    headers = {name: value for name, value in headers.items() if value}
    body = fields if isinstance(fields, str) else urlencode(fields)

    async def ask() -> httpx.Response:
        way: Any = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=way, base_url=HERE) as client:
            return await client.post(more.get("path", "/act"), content=body, headers=headers)

    answer = asyncio.run(ask())
    (entry,) = entries
    return answer, entry


@pytest.mark.parametrize("role", ["operator", "admin"])
def test_form_asks_for_what_it_says_in_the_name_of_its_token_and_is_audited(role: str) -> None:
    network = Network()
    answer, entry = sent(network, form(role), role)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    wanted = Wanted("switchover", SCOPE, "..", "new disk", None, 30, "op-1")
    assert network.asked == [(wanted, role)]
    assert (entry.who, entry.role, entry.path, entry.about, entry.id, entry.status) == (
        role, "operator", "/act", f"switchover {SCOPE}", "op-1", 303,
    )  # fmt: skip


KEY = form_key(SECRETS["operator"])


@pytest.mark.parametrize(
    ("fields", "role", "headers", "status", "code"),
    [
        (form("viewer"), "viewer", {}, 403, "forbidden"),
        (form(key=""), "operator", {}, 403, "stale_form"),
        (form(key="ä" * 64), "operator", {}, 403, "stale_form"),
        (form("viewer"), "operator", {}, 403, "stale_form"),  # another session's
        (form(), "operator", {"Origin": "http://elsewhere"}, 403, "cross_site"),
        (form(), "operator", {"Origin": "null"}, 403, "cross_site"),
        (form(), "operator", {"Origin": ""}, 403, "cross_site"),
        (form(), None, {}, 401, "unauthorized"),
        (form(), None, {"Cookie": f"{COOKIE}=old"}, 401, "unauthorized"),
        (form(), None, {"Authorization": "Bearer ask"}, 403, "stale_form"),  # no browser
        (form(confirm="miner-registry/us"), "operator", {}, 422, "not_confirmed"),
        (form(confirm=""), "operator", {}, 422, "not_confirmed"),
        (form(verb="drain"), "operator", {}, 422, "bad_field"),
        (form(reason="x" * 100_000), "operator", {}, 413, "too_large"),
        (form(reason="x" * 19_000), "operator", {}, 422, "bad_field"),
        (form(verb="pause", minutes="1e3"), "operator", {}, 422, "bad_field"),
        (form(scope="none/eu"), "operator", {}, 404, "no_primary"),
        (urlencode(form()) + "&confirm=x", "operator", {}, 422, "bad_field"),
    ],
)  # fmt: skip
def test_form_that_is_not_right_asks_for_nothing_and_is_audited(
    fields: Any, role: str | None, headers: dict[str, str], status: int, code: str
) -> None:
    network = Network()
    answer, entry = sent(network, fields, role, headers=headers)
    assert (answer.status_code, entry.status, entry.code) == (status, status, code)
    assert network.asked == []
    secrets = set(SECRETS.values()) | {KEY}
    assert not secrets & set(entry.text.split())


def test_cookie_does_nothing_but_by_the_pages_own_forms() -> None:
    for path in ("/operations", "/commands/DepositStake", "/act/", "/ACT"):
        answer, _ = sent(Network(), form(), path=path)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


def test_refusal_shows_the_form_again_with_its_reason_and_what_was_filled_in() -> None:
    answer, entry = sent(Network(refuses=True), form(reason='"><b>'))
    assert (answer.status_code, entry.code) == (409, "not_eligible")
    assert "it &lt;cannot&gt;" in answer.text
    assert "..: lags" in answer.text
    assert 'value="&#34;&gt;&lt;b&gt;"' in answer.text
    assert 'value="op-1"' in answer.text  # sent again it is the same one
    assert "<b>switchover" in answer.text


def test_session_that_is_over_leads_to_the_way_in() -> None:
    answer, entry = sent(Network(), form(), None, headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert entry.code == "unauthorized"


def test_sign_out_ends_the_cookie_of_its_own_session_only() -> None:
    answer, _ = sent(Network(), form("viewer"), "viewer", path="/sign-out")
    assert answer.headers["location"] == "/sign-in"
    assert 'everlode_token=""' in answer.headers["set-cookie"]
    answer, _ = sent(Network(), form("operator"), "viewer", path="/sign-out")
    assert "set-cookie" not in answer.headers


def test_without_tokens_a_form_still_needs_the_servers_own_key() -> None:
    network = Network()
    answer, entry = sent(network, form(), None, tokens=None)
    assert (answer.status_code, entry.code, network.asked) == (403, "stale_form", [])


def test_subject_is_a_scope_with_who_might_lead_it_or_a_node() -> None:
    assert subject_of(control(), {"scope": SCOPE}).others == [".."]
    assert subject_of(control(), {"node": ".."}).of == "node"
    for wrong in ({}, {"scope": "x"}, {"node": "x"}):
        with pytest.raises(NotFound):
            subject_of(control(), wrong)


def test_every_verb_asks_for_itself_about_its_subject() -> None:
    for of, verbs in MEANINGS.items():
        subject = Subject(of, "name", "", [])
        for verb in verbs:
            given = {"verb": verb, "confirm": "name", "to": "other", "minutes": "5"}
            found = wanted_of(subject, given, NOW_MS)
            names = ("name", "other" if verb in {"switchover", "failover"} else "")
            assert (found.scope, found.node) == (names if of == "scope" else ("", "name"))
            assert found.until_ms == (NOW_MS + 300_000 if verb == "pause" else None)
            assert found.timeout_s == (60 if verb in {"drain", "rejoin"} else 30)


@pytest.mark.parametrize("minutes", ["0", "-1", "1.5", "x", "10081", "9" * 50, "٣"])
def test_pause_lasts_whole_minutes_a_week_at_most(minutes: str) -> None:
    given = {"verb": "pause", "confirm": "name", "minutes": minutes}
    with pytest.raises(Denied, match="minutes"):
        wanted_of(Subject("scope", "name", "", []), given, NOW_MS)
