"""A probe tells a living node, a closed port and a node that is stopped apart; a watch, its end."""

from __future__ import annotations

import socket
import time
from queue import Queue

import pytest

from everlode.failover.watch import Watch
from everlode.membership.probe import ProbeEndpoint, probe

pytestmark = pytest.mark.timeout(30)


def test_probe_of_a_node_that_lives_is_alive_and_refused_once_it_is_gone() -> None:
    endpoint = ProbeEndpoint()
    try:
        assert probe(endpoint.endpoint)[0] == "alive"
    finally:
        endpoint.close()
    assert probe(endpoint.endpoint)[0] == "refused"


def test_probe_of_a_node_that_accepts_but_says_nothing_gets_no_answer() -> None:
    """So does a process that was stopped: the kernel accepts for it."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        answer, took = probe(f"127.0.0.1:{listening.getsockname()[1]}")
    assert answer == "no-answer"
    assert took >= 900


@pytest.mark.parametrize("endpoint", ["", "nonsense", "127.0.0.1:what", "127.0.0.1:99999"])
def test_probe_of_what_is_no_endpoint_gets_no_answer(endpoint: str) -> None:
    assert probe(endpoint)[0] in ("no-answer", "refused")


def test_probe_of_another_service_is_not_alive() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        address = listening.getsockname()
        with socket.create_connection(address):
            assert probe(f"127.0.0.1:{address[1]}")[0] == "no-answer"


def test_watch_reports_an_end_at_once_and_until_the_process_is_another() -> None:
    seen: Queue[tuple[str, str]] = Queue()
    watch = Watch(lambda node, endpoint: seen.put((node, endpoint)))
    first, second = ProbeEndpoint(), ProbeEndpoint()
    try:
        watch.follow({"a": first.endpoint, "b": second.endpoint})
        await_open(first, second)
        assert seen.empty()
        first.close()
        ended = ("a", first.endpoint)
        assert seen.get(timeout=10) == ended
        assert seen.get(timeout=10) == ended  # a beat may have overtaken the first report
        third = ProbeEndpoint()
        watch.follow({"a": third.endpoint, "b": second.endpoint})
        await_open(third)
        third.close()
        found = seen.get(timeout=10)
        while found == ended:
            found = seen.get(timeout=10)
        assert found == ("a", third.endpoint)
    finally:
        watch.close()
        second.close()


def test_watch_of_an_endpoint_that_never_was_there_reports_nothing() -> None:
    seen: Queue[str] = Queue()
    watch = Watch(lambda node, _: seen.put(node))
    gone, there = ProbeEndpoint(), ProbeEndpoint()
    gone.close()
    watch.follow({"a": gone.endpoint, "b": "nonsense", "c": "127.0.0.1:99999"})
    watch.follow({"a": gone.endpoint, "b": "nonsense", "c": "", "d": there.endpoint})
    try:
        await_open(there)
        there.close()
        assert seen.get(timeout=10) == "d"  # it has been round since
        assert seen.get(timeout=10) == "d"
    finally:
        watch.close()


def await_open(*endpoints: ProbeEndpoint) -> None:
    """Wait until each of them holds a connection."""
    deadline = time.monotonic() + 20
    while not all(endpoint.watched for endpoint in endpoints):
        assert time.monotonic() < deadline, "nobody connects"
        time.sleep(0.01)
