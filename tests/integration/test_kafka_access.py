"""A broker with TLS and users: who it lets in, and what is said to whom it does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from everlode.access.login import Login
from everlode.adapters.answers import ask_broker
from everlode.adapters.kafka import Reader
from everlode.adapters.kafka_admin import await_brokers
from everlode.adapters.kafka_control import ControlLog
from everlode.adapters.kafka_group import group_offsets
from everlode.adapters.kafka_users import make_users
from everlode.adapters.kafka_writer import Writer
from everlode.errors import ConfigError, EverlodeError, Refusal
from everlode.events.control import LeaseRenewed
from everlode.settings.login import load_login
from everlode.stack.certificates import Pair, make_authority, make_pair
from tests.support.world.guarded import Guarded, being, guarded_broker, login_file, tls_server

RENEWED = LeaseRenewed(scope_name="s", node_id="n", held_epoch=1, nonce="x")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded_broker(tmp_path_factory.mktemp("guarded")) as found:
        yield found


def refusal(login: Login, ask: Callable[[], object]) -> EverlodeError:
    with being(login), pytest.raises(EverlodeError) as caught:
        ask()
    assert login.secret not in str(caught.value.as_dict())
    assert caught.value.hint
    return caught.value


def knock(bootstrap: str) -> None:
    """As a stack that starts."""
    await_brokers(bootstrap, 1, time.monotonic() + 20)


def read(bootstrap: str) -> None:
    reader = Reader(bootstrap, "g")
    with closing(reader):
        reader.assign({("t", 0): 0})
        reader.batch(1, 20)


def test_the_right_secret_is_let_in(broker: Guarded) -> None:
    with being(broker.own):
        ask_broker(broker.bootstrap)


def test_a_wrong_secret_is_named_with_its_file(broker: Guarded) -> None:
    wrong = replace(broker.own, secret="something else")
    error = refusal(wrong, lambda: ask_broker(broker.bootstrap))
    assert isinstance(error, ConfigError)
    assert error.code == "login_refused"
    assert "user 'everlode'" in error.message
    assert broker.own.secret_file in error.hint


def test_a_start_that_waits_for_brokers_ends_at_once_when_they_refuse_it(broker: Guarded) -> None:
    wrong = replace(broker.own, secret="something else")
    began = time.monotonic()
    error = refusal(wrong, lambda: await_brokers(broker.bootstrap, 1, began + 60))
    assert error.code == "login_refused"
    assert time.monotonic() - began < 10


ASKED: dict[str, Callable[[str], object]] = {
    "groups": lambda at: group_offsets(at, timeout_s=2),
    "ends": lambda at: Reader(at, "g").ends([("t", 0)], timeout_s=2),
    "committed": lambda at: Reader(at, "g").committed([("t", 0)], timeout_s=2),
    "cluster": lambda at: Reader(at, "g").cluster_id(timeout_s=2),
    "writer": lambda at: Writer(at, "w", timeout_ms=1500).open(),
}


def test_an_unknown_user_is_told_so_by_every_client(broker: Guarded) -> None:
    def told(ask: Callable[[str], object]) -> EverlodeError:
        with pytest.raises(EverlodeError) as caught:
            ask(broker.bootstrap)
        return caught.value

    nobody = replace(broker.own, user="nobody", mechanism="SCRAM-SHA-512")
    with being(nobody), ThreadPoolExecutor(len(ASKED)) as pool:
        errors = dict(zip(ASKED, pool.map(told, ASKED.values()), strict=True))
    assert {name: error.code for name, error in errors.items()} == dict.fromkeys(
        ASKED, "login_refused"
    )
    assert all("user 'nobody'" in error.message and error.hint for error in errors.values())


def test_a_broker_of_an_unknown_authority_is_not_believed(broker: Guarded, tmp_path: Path) -> None:
    other = Pair.named(tmp_path, "other")
    make_authority(other, "other")
    strange = replace(broker.own, ca=str(other.certificate))
    error = refusal(strange, lambda: knock(broker.bootstrap))
    assert error.code == "tls_refused"
    assert f"nobody in {other.certificate} has issued" in error.message


@pytest.mark.parametrize(
    ("hosts", "days", "said"),
    [
        (["127.0.0.1"], -1, "certificate has expired"),
        (["example.org"], 9, "certificate is not"),
    ],
)
def test_a_broker_with_a_wrong_certificate_is_not_believed(
    broker: Guarded, tmp_path: Path, hosts: list[str], days: int, said: str
) -> None:
    pair = Pair.named(tmp_path, "bad")
    make_pair(broker.authority, pair, "bad", hosts, days)
    with tls_server(pair) as bootstrap:
        error = refusal(broker.own, lambda: knock(bootstrap))
    assert error.code == "tls_refused"
    assert f"the broker's {said}" in error.message


@pytest.mark.parametrize("days", [-1, 9], ids=["expired", "unknown"])
def test_a_certificate_that_the_broker_does_not_take_is_named(
    broker: Guarded, tmp_path: Path, days: int
) -> None:
    issuer = broker.authority
    if days > 0:
        issuer = Pair.named(tmp_path, "other")
        make_authority(issuer, "other")
    pair = Pair.named(tmp_path, "mine")
    make_pair(issuer, pair, "mine", days=days)
    mine = Login(
        source="mine.json", ca=broker.own.ca, certificate=str(pair.certificate), key=str(pair.key)
    )
    with being(mine), pytest.raises(ConfigError) as caught:
        knock(broker.controller)
    assert caught.value.code == "tls_refused"
    assert f"does not take the certificate {pair.certificate}" in caught.value.message


@pytest.fixture(scope="module")
def stranger(broker: Guarded) -> Login:
    """Known, and without any right."""
    with being(broker.own):
        make_users(broker.bootstrap, {"stranger": "let me in"})
    ca = broker.authority.certificate
    return load_login(login_file(broker.folder, ca, "stranger", "let me in"))


@pytest.mark.parametrize(
    "ask",
    [
        lambda at: Writer(at, "not-mine", timeout_ms=3000).open(),
        read,
        lambda at: ControlLog(at).append("s", RENEWED, node_id="n"),
    ],
    ids=["writer", "reader", "control"],
)
def test_who_may_not_is_told_what_and_where_to_look(
    broker: Guarded, stranger: Login, ask: Callable[[str], object]
) -> None:
    error = refusal(stranger, lambda: ask(broker.bootstrap))
    assert isinstance(error, Refusal)
    assert error.code == "not_allowed"
    assert "user 'stranger'" in error.message
    assert "docs/access.md" in error.hint
