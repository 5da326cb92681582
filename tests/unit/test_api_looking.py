"""The pages that explain: what is known is shown and escaped, what does not answer is said."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from datetime import UTC, datetime
from functools import cache, partial
from html import escape
from types import MappingProxyType, SimpleNamespace
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI

from everlode.api import kept, looking, queries
from everlode.api.app import application
from everlode.api.guard import COOKIE, Guard, House
from everlode.api.history import History
from everlode.api.queries import Kept
from everlode.api.tokens import parsed
from everlode.control.fold import ControlState, NodeState, ScopeState
from everlode.errors import NotFound, Unavailable
from everlode.events.control import ScopeAssigned
from everlode.events.stamp import stamp_at
from everlode.log import fates
from everlode.topics.letters import DeadLetter
from everlode.views.backups import Finished, Shown, Unusable
from everlode.views.keys import Noted
from everlode.views.operations import Operation

SCOPE = "miner-registry/eu"
HOSTILE = '"><script>alert("x")</script>'
TOKENS = parsed(f"ann viewer {hashlib.sha256(b'see').hexdigest()}", "f")
NODE = {
    "node_id": HOSTILE, "status": "healthy", "priority": 1, "queue_size": 0, "load_ppm": 0,
    "excluded": "", "health": 0.5, "behind_ms": None,
}  # fmt: skip
DECISION = {
    "offset": 1, "at": "2026", "epoch": 2, "primary": "a", "reason": HOSTILE, "failed_node": None,
    "verdict_id": "v", "decided_by": "c", "based_on": 0, "coordinator_epoch": 1, "void": None,
}  # fmt: skip
TOLD = {
    "candidates": [NODE], "recovery": {"ms": None, "cases": 0}, "takeover": {"owner": HOSTILE},
}  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test was answered is not another's."""
    for where, name in ((looking, "_SCOPES"), (queries, "_BACKUPS")):
        monkeypatch.setattr(where, name, Kept(5.0))


class Network:
    """A region whose control log is read; the rest of it answers as a test wants."""

    region = "eu"
    endpoints = SimpleNamespace(regions=("eu", "us"))

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.asked: list[str] = []
        self.operations = SimpleNamespace(newest=self.newest)
        self.history = History(dict)

    def newest(self, most: int) -> list[Operation]:
        step = {"step": HOSTILE, "outcome": "done", "detail": "", "duration_ms": 3, "at": None}
        evidence = [{"topic": HOSTILE, "partition": 0, "offset": 7, "note": "silence"}]
        made = Operation("o", "registry-failover", "eu", HOSTILE, SCOPE, 2, datetime.now(UTC))
        made.steps, made.evidence = [step], evidence
        backup = Operation("b", "backup", "eu", HOSTILE, success=True)
        backup.parts = [{"type": "BackupEnded", "backup_id": "b-2", "verified": True}]
        another = Operation("p", subject="of another", scope="task-manager/eu")
        return [made, another, backup][:most]

    def require_region(self, name: str) -> str:
        if name not in self.endpoints.regions:
            raise NotFound(f"no region is named {name!r}")
        return name

    def control(self) -> ControlState:
        decision = ScopeAssigned(
            scope_name=SCOPE, new_epoch=1, primary_node="a", region="eu", reason="bootstrap",
            based_on=0, based_on_epoch=0,
        )  # fmt: skip
        node = NodeState("a", "eu", "miner-registry", "", "e", 0, "healthy", 1)
        scope = ScopeState(SCOPE, 1, "a", "eu", 0, decision, 2)
        return ControlState(
            scopes=MappingProxyType({SCOPE: scope}), nodes=MappingProxyType({"a": node})
        )

    def backups(self, region: str, _: Any) -> Shown:
        self.asked.append(region)
        if self.fails:
            raise Unavailable("the store <is> away")
        made = partial(
            Finished, created_at_ms=1_700_000_000_000, cut_stamp=stamp_at(1_600_000_000_000),
            bytes=7, records=9, write_once=True, parent_id=None, encryption_key_id="k",
        )  # fmt: skip
        rows = [made("b-1", chain=""), made("b-2", chain=""), made("b-3", chain=f"no {HOSTILE}")]
        return Shown([*rows, Unusable(HOSTILE, HOSTILE)], f"newer was {HOSTILE}")

    def explained(self, scope: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        self.asked.append(scope)
        if self.fails:
            raise Unavailable("Kafka <is> away", hint="start it")
        return TOLD | {"candidates": [dict(NODE)]}, [DECISION | {"epoch": n} for n in range(60)]


@cache
def routes() -> FastAPI:
    """Made once: it takes longer than all that is asked of it."""
    return application(Network(), TOKENS)  # type: ignore[arg-type]


def asked(network: Network, path: str, cookie: str = "see", **headers: str) -> httpx.Response:
    routes().state.network = network
    app = Guard(routes(), House(TOKENS, None, 100, lambda _: None))

    async def ask() -> httpx.Response:
        way: Any = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=way, base_url="http://h") as client:
            return await client.get(path, headers={"Cookie": f"{COOKIE}={cookie}"} | headers)

    return asyncio.run(ask())


def aggregate(monkeypatch: pytest.MonkeyPatch, found: Any) -> list[tuple[Any, ...]]:
    """What a projection answers, or the error that it raises; the questions."""
    questions: list[tuple[Any, ...]] = []

    def answer(_: Any, *question: Any) -> Any:
        questions.append(question)
        if isinstance(found, Exception):
            raise found
        return found | {"task_id": question[1]}

    monkeypatch.setattr(looking, "aggregate", answer)
    monkeypatch.setattr(looking, "lag_s", lambda _: {"eu": 1.25, "us": None})
    return questions


TASK = {
    "status": "submitted", "home": "eu", "reason": None, "seen_from": "eu", "generation": 1,
    "waits_for": {"for": "a miner", "held_up_by": ["no miner", HOSTILE]},
    "events": [
        {"version": 1, "event": "TaskSubmitted", "at": "2026", "place": "eu/0@1", "seq": 1}
    ],
}  # fmt: skip


def test_scope_is_explained_with_candidates_decisions_and_evidence_all_escaped() -> None:
    answer = asked(Network(), f"/pages/scope?name={SCOPE}")
    assert answer.status_code == 200
    assert "<script" not in answer.text
    assert answer.text.count(escape(HOSTILE).replace("&quot;", "&#34;")) >= 6
    for wanted in (
        "a leads it in epoch 1", "nothing: it may be promoted", "It was taken from its region",
        "silence", "under way", f'href="/act?scope={SCOPE}"', "0 s ago",
    ):  # fmt: skip
        assert wanted in answer.text
    assert "of another" not in answer.text
    assert answer.text.index("<td>59</td>") < answer.text.index("<td>58</td>")
    assert "<td>9</td>" not in answer.text  # the newest 50
    assert "script-src 'self'" in answer.headers["content-security-policy"]


def test_scope_whose_logs_do_not_answer_still_says_who_leads_it() -> None:
    answer = asked(Network(fails=True), f"/pages/scope?name={SCOPE}")
    assert answer.status_code == 503
    assert "a leads it in epoch 1" in answer.text
    assert "Kafka &lt;is&gt; away (start it)" in answer.text
    assert "silence" in answer.text  # what is known of its recoveries


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 422), ("?name=", 422), ("?name=%00", 422), (f"?name={'x' * 321}", 422),
        (f"?name={SCOPE}&name={SCOPE}", 422), ("?name=miner-registry/us", 404),
        (f"?name={quote(HOSTILE)}", 404), ("?name=..", 404),
    ],
)  # fmt: skip
def test_scope_that_is_none_is_a_page_that_says_so_and_no_log_is_read(
    query: str, status: int
) -> None:
    network = Network()
    answer = asked(network, f"/pages/scope{query}")
    assert (answer.status_code, network.asked) == (status, [])
    assert 'role="alert"' in answer.text
    assert "<script" not in answer.text
    assert 'href="/"' in answer.text


@pytest.mark.parametrize(
    "task", ["eu/a/b?c#d", "..", ".", "%2e", "eu/%2e%2e/x", "a b+c&d=e;f", "ä" * 320, HOSTILE]
)
def test_task_is_shown_whatever_its_id_is_and_escaped(
    monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    questions = aggregate(monkeypatch, TASK)
    answer = asked(Network(), f"/pages/task?id={quote(task, safe='')}")
    assert (answer.status_code, questions) == (200, [("tasks", task, "eu")])
    shown = escape(task).replace("&quot;", "&#34;")
    assert f"<h1>{shown}</h1>" in answer.text
    assert f'value="{shown}"' in answer.text
    assert "<script" not in answer.text
    assert "in up to 1.2 s ago" in answer.text
    assert "no miner\n" in answer.text
    assert "TaskSubmitted" in answer.text


def test_page_without_a_task_is_a_form_and_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = aggregate(monkeypatch, TASK)
    answer = asked(Network(), "/pages/task")
    assert (answer.status_code, questions) == (200, [])
    assert 'name="id" required' in answer.text
    assert 'role="alert"' not in answer.text
    assert asked(Network(), "/pages/task?id=").status_code == 422
    assert asked(Network(), "/pages/task?id=%01").status_code == 422
    assert questions == []


@pytest.mark.parametrize(
    ("error", "status"),
    [(Unavailable("PostgreSQL of eu is away"), 503), (NotFound("no task is named 'a?'"), 404)],
)
def test_task_that_is_not_found_leads_to_the_other_regions_projections(
    monkeypatch: pytest.MonkeyPatch, error: Any, status: int
) -> None:
    aggregate(monkeypatch, error)
    answer = asked(Network(), "/pages/task?id=a%3F")
    assert answer.status_code == status
    assert escape(error.message).replace("&#x27;", "&#39;") in answer.text
    assert 'href="/pages/task?id=a%3F&amp;from=us"' in answer.text
    questions = aggregate(monkeypatch, TASK | {"seen_from": "us"})
    answer = asked(Network(), "/pages/task?id=a%3F&from=us")
    assert questions == [("tasks", "a?", "us")]
    assert "By the projection of us" in answer.text
    assert "s ago" not in answer.text  # this server does not know how old that is


def test_page_without_a_session_leads_to_the_way_in() -> None:
    network = Network()
    answer = asked(network, f"/pages/scope?name={SCOPE}", "old", Accept="text/html")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert asked(network, f"/pages/scope?name={SCOPE}", "old").status_code == 401
    assert network.asked == []


def test_reader_beyond_the_few_is_told_so_and_waits_for_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = threading.BoundedSemaphore(1)
    monkeypatch.setattr(looking, "_READING", few)
    monkeypatch.setattr(looking, "WAIT_S", 0.01)
    with few:
        answer = asked(Network(), f"/pages/scope?name={SCOPE}")
    assert (answer.status_code, "others are reading now" in answer.text) == (503, True)
    assert asked(Network(), f"/pages/scope?name={SCOPE}").status_code == 200


# -- what is kept --------------------------------------------------------------------------------


def row(text: str, of: str) -> str:
    """A row of a table, by what it begins with."""
    return text.partition(f'data-backup="{of}"')[2].partition("</tr>")[0]


def test_backups_are_shown_with_what_was_verified_and_what_is_broken() -> None:
    answer = asked(Network(), "/pages/backups")
    assert answer.status_code == 200
    assert "<script" not in answer.text
    assert "signature is right" in row(answer.text, "b-1")
    assert "not known any more" in row(answer.text, "b-1")
    assert "read back and compared" in row(answer.text, "b-2")
    assert "2023-11-14 22:13:20 UTC</td><td>2020-09-13 12:26:40 UTC" in row(answer.text, "b-2")
    assert 'class="bad">no &#34;' in row(answer.text, "b-3")
    assert "not usable: &#34;" in answer.text
    assert "Missing: newer was" in answer.text
    assert answer.text.index("b-3") < answer.text.index("b-1")
    assert 'href="/pages/backups?region=us"' in answer.text
    assert answer.text.count("<details") == 1  # the failover is none of them


def test_backups_without_a_store_that_answers_or_a_region_are_said() -> None:
    answer = asked(Network(fails=True), "/pages/backups?region=us")
    assert (answer.status_code, "the store &lt;is&gt; away" in answer.text) == (503, True)
    network = Network()
    answer = asked(network, f"/pages/backups?region={quote(HOSTILE)}")
    assert (answer.status_code, network.asked) == (404, [])
    assert "<script" not in answer.text
    network.backups = lambda region, _: Shown([], "")  # type: ignore[method-assign]
    assert "everlode backup create --region us" in asked(network, "/pages/backups?region=us").text


LETTER = DeadLetter("primary", HOSTILE, 0, 1, "broken", HOSTILE, (), 0, 2**62)
STOPPED = Noted(
    "version_gap", True, HOSTILE, 3, 17, "eu.1.tasks", 0, 9, "e", 5, 6,
    datetime(2026, 1, 2, tzinfo=UTC),
)  # fmt: skip


def test_letters_and_stopped_keys_are_shown_and_those_with_a_fate_only_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fate = fates.Fate(fates.DISCARDED, datetime.now(UTC), "ann", "old")
    done = fates.Kept(LETTER._replace(offset=2, message="it has its fate", kept_at_ms=None), fate)
    monkeypatch.setattr(kept, "letters_of", lambda *_: [fates.Kept(LETTER, None), done])
    stopped = {"region": "eu", "generation": 4, "keys": [STOPPED]}
    monkeypatch.setattr(kept, "stopped_of", lambda *_: stopped)
    answer = asked(Network(), "/pages/letters")
    assert answer.status_code == 200
    assert "<script" not in answer.text
    assert "it has its fate" not in answer.text
    assert "<td>discarded</td>" in answer.text
    assert f"no moment: {2**62}" in answer.text
    assert "In its generation 4" in answer.text
    assert "<td>17</td>" in answer.text


def test_letters_are_shown_though_the_projection_is_away_and_the_other_way_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: Any) -> Any:
        raise Unavailable("it is away")

    monkeypatch.setattr(kept, "letters_of", lambda *_: [])
    monkeypatch.setattr(kept, "stopped_of", fails)
    answer = asked(Network(), "/pages/letters")
    assert (answer.status_code, "There is no dead letter" in answer.text) == (503, True)
    monkeypatch.setattr(kept, "letters_of", fails)
    monkeypatch.setattr(kept, "stopped_of", lambda *_: {"generation": 1, "keys": []})
    answer = asked(Network(), "/pages/letters")
    assert answer.status_code == 503
    assert 'has stopped</h2>\n<p class="soft">None.</p>' in answer.text
    assert answer.text.count('role="alert"') == 1
    answer = asked(Network(), "/pages/letters?region=xx")
    assert (answer.status_code, answer.text.count('role="alert"')) == (404, 1)


def test_figures_are_drawn_as_far_as_they_are_known_and_escaped() -> None:
    network = Network()
    answer = asked(network, "/pages/figures")
    assert (answer.status_code, "Nothing is known yet" in answer.text) == (200, True)
    network.history = History(lambda: {(HOSTILE, "active_tasks"): 7.0})
    network.history.sample()
    network.history.sample()
    answer = asked(network, "/pages/figures")
    assert answer.status_code == 200
    assert "active tasks: <strong>7</strong>" in answer.text
    assert answer.text.count("<svg") == 1
    assert HOSTILE not in answer.text
    assert escape(HOSTILE, quote=True).replace("&quot;", "&#34;") in answer.text


def test_page_may_load_and_be_loaded_by_its_own_server_only() -> None:
    for path in ("/pages/task", "/sign-in", "/nonsense"):
        policy = asked(Network(), path).headers["content-security-policy"]
        allowed = dict(rule.split(maxsplit=1) for rule in policy.split("; "))
        assert allowed["default-src"] == "'none'"
        assert {allowed[name] for name in ("base-uri", "frame-ancestors")} == {"'none'"}
        others = {name: where for name, where in allowed.items() if where != "'none'"}
        assert others == {
            "script-src": "'self'", "style-src": "'self'", "connect-src": "'self'",
            "form-action": "'self'", "img-src": "data:",
        }  # fmt: skip
