"""A probe tells a living node, a closed port and a node that is stopped apart."""

from __future__ import annotations

import socket

import pytest

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
