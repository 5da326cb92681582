"""A client in plain text whose broker speaks TLS is told so; one whose broker is away is not."""

from __future__ import annotations

from pathlib import Path

from confluent_kafka import KafkaError

from everlode.adapters.kafka_access import explained
from everlode.errors import ConfigError
from everlode.settings.login import SETTING
from everlode.stack.certificates import Pair, make_authority, make_pair
from tests.support.world.guarded import being, tls_server


def test_who_speaks_plain_text_to_tls_is_told_what_it_lacks(tmp_path: Path) -> None:
    authority, pair = Pair.named(tmp_path, "ca"), Pair.named(tmp_path, "node")
    make_authority(authority, "test")
    make_pair(authority, pair, "node", ["127.0.0.1"])
    silence = KafkaError(KafkaError._TIMED_OUT)
    with being(None):
        with tls_server(pair) as bootstrap:
            told = explained(silence, bootstrap, "a question")
        assert isinstance(told, ConfigError)
        assert told.code == "login_missing"
        assert bootstrap in told.message
        assert SETTING in told.hint
        assert explained(silence, bootstrap, "a question") is None, "nobody listens any more"
