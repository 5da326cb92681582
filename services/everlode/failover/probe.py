"""Asks a node whether it lives: alive, refused, or no answer. Shell."""

from __future__ import annotations

import http.client
import time

PROBE_S = 1.0


def probe(endpoint: str) -> tuple[str, int]:
    """Ask GET /livez; (alive | refused | no-answer, milliseconds it took)."""
    began = time.monotonic()
    host, _, port = endpoint.rpartition(":")
    answer = "no-answer"
    connection = http.client.HTTPConnection(host, int(port or 0), timeout=PROBE_S)
    try:
        connection.request("GET", "/livez")
        answer = "alive" if connection.getresponse().status == 200 else "no-answer"
    except ConnectionRefusedError:
        answer = "refused"
    except (OSError, http.client.HTTPException, ValueError):
        answer = "no-answer"
    finally:
        connection.close()
    return answer, round((time.monotonic() - began) * 1000)
