"""What the clients and parsers that we use raise, provoked in them: each has one of the fates.

Of PostgreSQL's client: test_adapters_fates.py.
"""

from __future__ import annotations

import base64
import io
import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import fastavro
import pytest
import urllib3
from confluent_kafka import KafkaError

from everlode.access.login import Login, use
from everlode.adapters import s3
from everlode.adapters.answers import ask_store
from everlode.adapters.kafka import Reader, Record
from everlode.adapters.kafka_access import explained
from everlode.adapters.kafka_admin import admin_client
from everlode.adapters.kafka_control import ControlLog
from everlode.adapters.kafka_follower import ControlFollower
from everlode.adapters.kafka_group import group_members
from everlode.adapters.kafka_sender import Sender
from everlode.adapters.kafka_writer import MESSAGE_BYTES, Writer
from everlode.adapters.mirror_lag import stored_offsets
from everlode.adapters.mirror_status import flow_state
from everlode.adapters.mirror_status import reader as mirror_reader
from everlode.adapters.s3 import S3Store
from everlode.adapters.s3_buckets import ensure_buckets
from everlode.api.issuer import Issuer, Trust
from everlode.avro import schemas
from everlode.avro.plain import state_dict
from everlode.backup import container
from everlode.control.fold import ControlState
from everlode.control.snapshot import begin, from_bytes
from everlode.errors import (
    ConfigError,
    ContractError,
    EverlodeError,
    IntegrityError,
    NotFound,
    Refusal,
    Unavailable,
)
from everlode.events.control import ScopeAssigned
from everlode.failover.coordinator import Coordinator
from everlode.recovery.request import load_request
from everlode.sdk import consumer, watch
from everlode.settings.topology import load_topology
from everlode.topology.source import source_of
from everlode.views.detector import tuning_of
from tests.support.facts.poison import append, mock_broker
from tests.support.stores.junk_server import Answer, junk_server
from tests.support.world.region import until
from tests.support.world.state_play import play

DEEP = b"[" * 100_000
"""Deeper than Python's stack, for a parser that calls itself."""

# -- S3, by minio and urllib3 ----------------------------------------------------------------------

XML = {"Content-Type": "application/xml"}
LISTING = b"""<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>
<Contents><Key>a</Key><LastModified>%b</LastModified><Size>%b</Size><ETag>x</ETag></Contents>
</ListBucketResult>"""
NOON = b"2026-11-30T12:00:00.000Z"
ANSWERS: dict[str, tuple[Answer, type[EverlodeError]]] = {
    "a web page": (Answer(200, b"<html>hello</html>", {"Content-Type": "text/html"}), Unavailable),
    "no XML": (Answer(200, b"{}", {"Content-Type": "application/json"}), Unavailable),
    "nothing": (Answer(200, b"", {}), Unavailable),
    "XML without an end": (Answer(200, b"<a>" * 1000, XML), Unavailable),
    "no time": (Answer(200, LISTING % (b"yesterday", b"1"), XML), Unavailable),
    "no size": (Answer(200, LISTING % (NOON, b"large"), XML), Unavailable),
    "no UTF-8": (Answer(404, b"\xff\xfe", XML), Unavailable),
    "an error that breaks off": (Answer(400, b"<Error", XML), Unavailable),
    "no compression": (Answer(200, b"plain", {"Content-Encoding": "gzip"}), Unavailable),
    "another place": (Answer(302, b"", {"Location": "http://127.0.0.1:9/"}), Unavailable),
    "a no": (Answer(403, b"<Error><Code>AccessDenied</Code></Error>", XML), ConfigError),
    "no such": (Answer(404, b"<Error><Code>NoSuchBucket</Code></Error>", XML), NotFound),
}
CALLS: dict[str, Callable[[S3Store, str], object]] = {
    "get": lambda store, _: store.get("k"),
    "put": lambda store, _: store.put("k", b"1"),
    "put only new": lambda store, _: store.put("k", b"1", only_new=True),
    "put in parts": lambda store, _: store.put_file("k", io.BytesIO(bytes(6 << 20))),
    "delete": lambda store, _: store.delete("k"),
    "capabilities": lambda store, _: store.capabilities(),
    "ask": lambda _, address: ask_store(address, ("k", "s"), ["bucket"]),
    "make buckets": lambda _, address: ensure_buckets(
        address, ("k", "s"), ["bucket"], lockable=True, deadline=time.monotonic()
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_whatever_answers_as_a_store_has_one_of_the_fates(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A listing has the one that is said; a call that looks at no answer may succeed."""
    once = urllib3.Retry(total=1, backoff_factor=0, allowed_methods=None, raise_on_status=False)
    monkeypatch.setattr(s3, "_RETRIES", once)
    answer, expected = ANSWERS[name]
    with junk_server(answer) as address:
        store = S3Store(address, ("k", "s"), "bucket", timeout_s=5)
        with pytest.raises(EverlodeError) as caught:
            list(store.list("eu/"))
        assert type(caught.value) is expected
        for call in CALLS.values():
            with suppress(EverlodeError):  # all others go through
                call(store, address)


@pytest.mark.parametrize(("address", "bucket"), [("http://h/path", "bucket"), ("h:1", "B ")])
def test_address_or_bucket_that_is_none_is_a_setting(address: str, bucket: str) -> None:
    with pytest.raises(ConfigError, match="no S3 store at"):
        S3Store(address, ("k", "s"), bucket)


@pytest.mark.parametrize("key", ["", "eu/../manifest.json", "eu/./manifest.json"])
def test_key_that_no_client_asks_for_is_not_there(key: str) -> None:
    with pytest.raises(NotFound):
        S3Store("127.0.0.1:9", ("k", "s"), "bucket").get(key)


# -- Kafka, by confluent_kafka ---------------------------------------------------------------------

TOO_LARGE = Record("topic", 0, "k", bytes(MESSAGE_BYTES), [])
NO_RECORDS = {
    "too large": (TOO_LARGE, "too_large"),
    "half of a surrogate pair": (TOO_LARGE._replace(key="\ud800", value=b""), "unwritable"),
    "U+0000 in a topic": (TOO_LARGE._replace(topic="a\0b", value=b""), "unwritable"),
}
NOWHERE = "127.0.0.1:9"


@pytest.fixture
def broker() -> Iterator[str]:
    with mock_broker() as found:
        yield found


@pytest.mark.parametrize("name", NO_RECORDS)
def test_record_that_can_never_be_written_is_the_writers_fault(broker: str, name: str) -> None:
    record, code = NO_RECORDS[name]
    with pytest.raises(ContractError) as caught:
        Sender(NOWHERE).send(record)
    assert caught.value.code == code
    writer = Writer(broker, "writer")
    writer.open()
    good = Record("topic", 0, "k", b"good", [])
    for write in (writer.write, writer.put):
        with pytest.raises(ContractError) as caught:
            write([good, record])
        assert caught.value.code == code
    assert len(writer.write([good, good])) == 2, "its transactions are over: it writes on"


def test_snapshot_of_the_control_log_that_is_too_large_ends_no_coordinator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("everlode.adapters.kafka_control.to_bytes", lambda _: bytes(MESSAGE_BYTES))
    notes: list[Any] = []
    with closing(ControlLog(NOWHERE)) as log:
        with pytest.raises(ContractError) as caught:
            log.keep(ControlState())
        assert caught.value.code == "too_large"
        self = SimpleNamespace(
            _agent=SimpleNamespace(log=log), _report=notes.append, _kept_at=-1, _kept_late=-1
        )
        for _ in range(2):
            Coordinator._keep(cast("Any", self), ControlState())
    (note,) = notes
    assert "snapshot is not kept" in note.text


CLIENTS: dict[str, Callable[[], object]] = {
    "reader": lambda: Reader(NOWHERE, "group"),
    "sender": lambda: Sender(NOWHERE),
    "writer": lambda: Writer(NOWHERE, "writer"),
    "admin": lambda: admin_client(NOWHERE),
    "group": lambda: group_members(NOWHERE, "group", 1),
    "control log": lambda: ControlLog(NOWHERE),
    "follower": lambda: ControlFollower(NOWHERE),
    "mirror": lambda: mirror_reader(NOWHERE),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_client_that_cannot_be_made_names_the_file_of_the_login(tmp_path: Path, name: str) -> None:
    """As when a certificate is renewed while a process works: each retry makes a client anew."""
    use(Login(source="login.json", ca=str(tmp_path / "gone.pem"), user="u", secret="secret"))
    try:
        with pytest.raises(ConfigError, match=r"ssl\.ca\.location") as caught:
            CLIENTS[name]()
    finally:
        use(None)
    assert caught.value.code == "no_client"
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("address", ["", "no port", ":::", "host:", "host:99999"])
def test_address_of_a_broker_that_is_none_is_a_setting(address: str) -> None:
    with pytest.raises(ConfigError, match="host:port is expected"):
        explained(KafkaError(KafkaError._TRANSPORT), address, "a question")


def test_follower_of_the_control_log_that_fails_says_so_and_halts(broker: str) -> None:
    """It led on by what it had read, for as long as its lease, and nobody knew why."""

    def fails(*_: object) -> None:
        raise KeyError("a mistake of ours")

    decision = ScopeAssigned(
        scope_name="rewards/eu", new_epoch=1, primary_node="eu-rd-1", region="eu",
        reason="forced", based_on=0, based_on_epoch=0,
    )  # fmt: skip
    follower = ControlFollower(broker, fails).start()
    with closing(ControlLog(broker)) as log:
        log.append("rewards/eu", decision, node_id="test", scope="coordinator/eu")
        until(lambda: follower.error is not None, 20, "it has halted")
    with pytest.raises(ContractError, match="following the control log: KeyError"):
        follower.wait_for(lambda _: False, 5)


MIRRORS = {
    "nested": (b"status-task-MirrorSourceConnector-0", b'["MirrorSourceConnector",1]', DEEP),
    "no number": (b"status-task-MirrorSourceConnector-x", b'["MirrorSourceConnector",[]]',
                  b'{"state": "RUNNING"}'),
    "endless": (b"status-connector-", b'["MirrorSourceConnector",{"topic":"t","partition":0}]',
                b'{"offset": Infinity}'),
}  # fmt: skip


@pytest.mark.parametrize("name", MIRRORS)
def test_record_of_a_mirror_that_cannot_be_read_is_named(broker: str, name: str) -> None:
    status, offset, value = MIRRORS[name]
    append(broker, "mm2-status.us.internal", [(status, value)])
    append(broker, "mm2-offsets.us.internal", [(offset, value)])
    with pytest.raises(ContractError, match=r"mm2-status\.us\.internal"):
        flow_state(broker, "us", "eu")
    with pytest.raises(ContractError, match=r"mm2-offsets\.us\.internal"):
        stored_offsets(broker, "us")


# -- texts: JSON, YAML, Avro's containers ----------------------------------------------------------

PLACES = (b'["c", "t", "k", %b, 1, true]', b'["c", [["t", 0, %b]]]', b'["c", [["t", %b, 0]]]')
BAD_PLACES = [DEEP, b"null", *(
    place % number for place in PLACES for number in (b"Infinity", b"NaN", b"-1", b"1" + b"0" * 30)
)]  # fmt: skip


@pytest.mark.parametrize("text", BAD_PLACES, ids=lambda text: text[:40].decode())
@pytest.mark.parametrize("parse", [watch._Token.parse, consumer._parse])
def test_place_to_go_on_from_that_is_none_is_refused(
    parse: Callable[[str], object], text: bytes
) -> None:
    with pytest.raises(Refusal):
        parse(base64.urlsafe_b64encode(text).decode())


def test_snapshot_of_the_control_log_that_is_damaged_has_no_say() -> None:
    for text in (DEEP, b'{"fold": 1, "state": ' + DEEP):
        assert from_bytes(text) is None
        assert begin(text, 5) is None


def test_issuer_that_answers_nested_json_gives_no_keys() -> None:
    with junk_server(Answer(200, DEEP, {})) as address:
        issuer = Issuer(Trust(f"http://{address}", "everlode"))
        with pytest.raises(Unavailable, match="RecursionError"):
            issuer.open()


YAML = [
    "[" * 600, "a: 2026-99-99", "a: " + "9" * 5000, "a: 0x_", "a: !!int x", "a: !!bool x",
    "a: !!timestamp x", "a: *nobody", "? [a]\n: b", "a: \x00", "<<: 1",
]  # fmt: skip


@pytest.mark.parametrize("text", YAML, ids=lambda text: text[:20])
def test_yaml_that_is_none_is_a_setting_that_names_its_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    for read in (load_request, load_topology, tuning_of):
        with pytest.raises(ConfigError, match=str(file)):
            read(file)
    assert [finding.rule for finding in source_of(text).findings] == ["yaml"]


def test_container_that_was_damaged_anywhere_does_not_decode() -> None:
    """Its hash is checked before; what comes behind trusts nothing all the same."""
    played = play(7, 200, "tasks", "miners").states
    states = [state_dict(s) for (c, _), s in played.items() if c == "miners" and s is not None]
    file = io.BytesIO()
    fastavro.writer(file, schemas.parsed("MinerState"), states, codec="zstandard")
    good, drawn, damaged = file.getvalue(), random.Random(1), 0
    for _ in range(300):
        bad, at = bytearray(good), drawn.randrange(len(good))
        bad[at : at + drawn.choice([1, 9, len(bad)])] = drawn.randbytes(drawn.choice([0, 1]))
        try:
            list(container.read(io.BytesIO(bytes(bad)), "x", "MinerState"))
        except IntegrityError as error:
            damaged += "does not decode" in error.message
    assert damaged > 200
