"""Asks a node whether it lives: alive, refused, or no answer. Shell."""

from __future__ import annotations

import http.client
import time

PROBE_S = 1.0


def probe(endpoint: str) -> tuple[str, int]:
    """Ask GET /livez; (alive | refused | no-answer, milliseconds it took)."""
    began = time.monotonic()
    try:
        answer = _ask(endpoint)
    except ConnectionRefusedError:
        answer = "refused"
    except (OSError, http.client.HTTPException, ValueError, OverflowError):
        answer = "no-answer"  # also when a beat named what is no endpoint
    return answer, round((time.monotonic() - began) * 1000)


def _ask(endpoint: str) -> str:
    host, _, port = endpoint.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=PROBE_S)
    try:
        connection.request("GET", "/livez")
        return "alive" if connection.getresponse().status == 200 else "no-answer"
    finally:
        connection.close()
