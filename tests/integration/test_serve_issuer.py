"""`everlode serve --issuer`, as a process beside a small issuer; no part of a stack answers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlencode

import pytest

from everlode.api.guard import COOKIE
from tests.support.processes.entries import entries, matching
from tests.support.processes.outputs import misfits
from tests.support.world.endpoints import one_region
from tests.support.world.issuing import AUDIENCE, SmallIssuer
from tests.support.world.serving import Server

pytestmark = pytest.mark.timeout(60)


def test_server_knows_who_asks_by_an_issuers_tokens_in_headers_and_in_a_cookie(
    tmp_path: Path,
) -> None:
    one_region("127.0.0.1:9", 1).save(tmp_path)
    with SmallIssuer() as issuer:
        key = issuer.new_key("one", "EC")
        issuer.publish(key)
        good = issuer.token(key, "ES256", groups=["viewer"])
        old = issuer.token(key, "ES256", groups=["viewer"], exp=int(time.time()) - 60)
        options = ("--issuer", issuer.url, "--audience", AUDIENCE, "--roles-claim", "groups")
        with Server(tmp_path, tmp_path / "log", *options) as server:
            assert misfits("serve", server.printed) == []

            def ask(path: str, token: str, body: bytes | None = None) -> tuple[int, str]:
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                method = "POST" if body is not None else "GET"
                found = server.ask(path, role=None, method=method, body=body, headers=headers)
                return found.status, found.body["code"]

            assert ask("/scopes", "") == (401, "unauthorized")
            assert ask("/scopes", old) == (401, "unauthorized")
            assert ask("/scopes", good) == (503, "not_ready")  # it is let in; no broker answers
            assert ask("/operations", good, b"{}") == (403, "forbidden")

            form = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html"}
            for token, status in ((old, 401), (good, 303)):
                found = server.ask(
                    "/sign-in", role=None, method="POST", headers=form,
                    body=urlencode({"token": token}).encode(),
                )  # fmt: skip
                assert found.status == status
            cookie = SimpleCookie(found.headers["set-cookie"])[COOKIE]
            assert (cookie["httponly"], cookie["samesite"]) == (True, "strict")
            mine = {"Cookie": f"{COOKIE}={cookie.value}"}
            assert server.ask("/scopes", role=None, headers=mine).body["code"] == "not_ready"
    who = matching(entries(tmp_path / "log"), "AskedOverHttp", path="/operations")
    assert [(e["who"], e["role"], e["code"]) for e in who] == [("ann", "viewer", "forbidden")]
    assert good not in (tmp_path / "log").read_text()


def test_server_does_not_start_without_its_issuer_or_with_two_ways_in(tmp_path: Path) -> None:
    def refused(*options: str) -> str:
        words = ["serve", "--dir", str(tmp_path), "--json", *options]
        found = subprocess.run(
            [sys.executable, "-m", "everlode.cli.main", *words], capture_output=True, text=True
        )
        assert found.returncode != 0
        assert misfits("serve", found.stdout) == []
        return str(json.loads(found.stdout)["error"]["code"])

    assert refused("--issuer", "http://127.0.0.1:9/realm") == "no_issuer"
    assert refused("--issuer", "https://id.example", "--insecure") == "config"
