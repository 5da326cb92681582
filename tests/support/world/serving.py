"""A server over a small region, and ways to ask it: raw paths, and streams of events."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

TOKENS = {"viewer": "see-1234", "operator": "ask-1234", "admin": "all-1234"}


def tokens_file(folder: Path) -> Path:
    """A file of tokens, one a role."""
    file = folder / "tokens"
    file.touch(0o600)
    lines = [
        f"{role} {role} {hashlib.sha256(token.encode()).hexdigest()}"
        for role, token in TOKENS.items()
    ]
    file.write_text("\n".join(["# of the tests", "", *lines]) + "\n")
    return file


class Answer(NamedTuple):
    """What was answered."""

    status: int
    headers: dict[str, str]
    body: Any
    """JSON, or else text."""


class Event(NamedTuple):
    """One server-sent event; `kind` is empty for plain ones."""

    kind: str
    id: str
    data: dict[str, Any]


class Server:
    """`everlode serve` as a process. Use as a context manager."""

    def __init__(self, stack: Path, log: Path, *options: str) -> None:
        words = ["serve", "--dir", str(stack), "--json", "--rate", "100000", *options]
        self.log = log
        self._log = log.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "everlode.cli.main", *words],
            stdout=subprocess.PIPE, stderr=self._log, env=dict(os.environ),
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, log.read_text()
        self.printed = line.decode()
        self.address: str = json.loads(line)["address"]
        self.host = self.address.removeprefix("http://")

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def end(self) -> int:
        """SIGTERM; its exit code."""
        self.process.terminate()
        code = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()
        return code

    def ask(
        self,
        path: str,
        *,
        role: str | None = "viewer",
        method: str = "GET",
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request; the path goes out as it is."""
        link = http.client.HTTPConnection(self.host, timeout=70)
        asked = {"Authorization": f"Bearer {TOKENS[role]}"} if role else {}
        raw: bytes | None = body if isinstance(body, bytes) else None
        if body is not None and raw is None:
            raw = json.dumps(body).encode()
            asked["Content-Type"] = "application/json"
        try:
            link.request(method, path, raw, asked | (headers or {}))
            answer = link.getresponse()
            text = answer.read().decode()
            found = {name.lower(): value for name, value in answer.getheaders()}
            is_json = "json" in found.get("content-type", "")
            return Answer(answer.status, found, json.loads(text) if is_json else text)
        finally:
            link.close()

    def command(self, name: str, key: str, data: dict[str, Any], **options: Any) -> Answer:
        """Send a command."""
        body = {"id": key, "data": data}
        return self.ask(f"/commands/{name}", **{"method": "POST", "body": body} | options)

    def listen(self, query: str = "", last: str = "") -> Listener:
        """Follow `/events`."""
        return Listener(self.host, query, last)

    def listens(self, query: str = "") -> bool:
        """Whether `/events` can be followed."""
        listener = self.listen(query)
        listener.close()
        return listener.status == 200


class Listener:
    """Server-sent events, one by one; `id` is the last id that was read, of whatever it came."""

    def __init__(self, host: str, query: str, last: str) -> None:
        self._link = http.client.HTTPConnection(host, timeout=60)
        headers = {"Authorization": f"Bearer {TOKENS['viewer']}"}
        self._link.request("GET", f"/events{query}", None, headers | _resume(last))
        self._answer = self._link.getresponse()
        self.status = self._answer.status
        self.id = last
        self._events = self._read()
        if self.status == 200:
            self._first: Event | None = next(self._events)

    def _read(self) -> Generator[Event, None, None]:
        fields: dict[str, str] = {}
        while line := self._answer.readline().decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if line.strip():
                fields[name] = value  # of a comment the name is empty
                continue
            self.id = fields.get("id", self.id)
            data = json.loads(fields["data"]) if "data" in fields else {}
            yield Event(fields.get("event", ""), self.id, data)
            fields = {}

    @property
    def first(self) -> Event:
        """What came first: where it stands, or that it is stale."""
        assert self._first is not None
        return self._first

    def until(self, wanted: str, most: int = 10_000) -> list[Event]:
        """The events up to the first of this type."""
        found: list[Event] = []
        for event in self._events:
            if event.data:
                found.append(event)
            if event.data.get("type") == f"everlode.{wanted}" or len(found) >= most:
                break
        return found

    def close(self) -> None:
        """Leave."""
        self._events.close()
        self._answer.close()
        self._link.close()


def _resume(last: str) -> dict[str, str]:
    return {"Last-Event-ID": last} if last else {}
