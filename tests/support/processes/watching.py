"""Somebody who opens the page of a run at once, and follows it to its end."""

from __future__ import annotations

import http.client
import json
import threading
import time
from contextlib import suppress
from pathlib import Path

from tests.support.processes.scraping import Figures, figures_of, scrape, targets

LISTENS_S = 60
"""By then a server that was started listens."""
UP_S = 180
"""By then its stack is up, and it answers."""


class Watcher(threading.Thread):
    """Follows `/events`; each time that one of `wanted` has come, it looks at the page again."""

    def __init__(self, host: str, wanted: frozenset[str], metrics: Path) -> None:
        """`host`: with the port. `wanted`: types of events. `metrics`: where processes say that
        they are scraped."""
        super().__init__(name="watcher", daemon=True)
        self._host, self._wanted, self._metrics = host, wanted, metrics
        self.pages: list[str] = []
        """The page at the first look, then after each event that was wanted."""
        self.kinds: list[str] = []
        """Types of all events, in the order in which they came."""
        self.figures: dict[str, Figures] = {}
        """Process → its figures when an event that was wanted had come."""
        self.ended = False
        """The server has ended the stream itself: nothing of it is missing."""

    def run(self) -> None:
        """See threading.Thread."""
        self._look()
        link = http.client.HTTPConnection(self._host, timeout=UP_S)
        link.request("GET", "/events")
        stream = link.getresponse()
        try:
            rest = b""
            while part := stream.read1(65_536):  # which tells an end from a stream that is cut off
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    name, _, value = line.decode().partition(": ")
                    event = json.loads(value) if name == "data" else {}
                    if "type" in event:
                        self._came(event["type"].removeprefix("everlode."))
            self.ended = True
        except (http.client.IncompleteRead, ConnectionError):
            pass  # it was cut off: `ended` says so
        finally:
            link.close()

    def _came(self, kind: str) -> None:
        self.kinds.append(kind)
        if kind in self._wanted:
            self._look()
            for name, at in targets(self._metrics).items():
                with suppress(OSError):  # one that was killed leaves its file
                    self.figures[name] = figures_of(scrape(at))

    def _look(self) -> None:
        deadline = time.monotonic() + LISTENS_S
        while True:
            link = http.client.HTTPConnection(self._host, timeout=UP_S)
            try:
                link.request("GET", "/")
                answer = link.getresponse()
                text = answer.read().decode()
                assert answer.status == 200, text
                self.pages.append(text)
                return
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, f"nothing listens at {self._host}"
                time.sleep(0.2)
            finally:
                link.close()
