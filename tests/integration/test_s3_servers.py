"""The store contract on MinIO and on rclone: what each can do is asserted, nothing is skipped."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest
from minio import Minio
from minio.commonconfig import COMPLIANCE
from minio.error import S3Error
from minio.retention import Retention

from everlode.adapters import s3
from everlode.adapters.s3 import S3Store
from everlode.adapters.s3_buckets import ensure_buckets
from everlode.errors import (
    ConfigError,
    IntegrityError,
    NotFound,
    Precondition,
    Unavailable,
)
from everlode.settings.environment import settings
from everlode.stack.native.cache import cache_dir
from everlode.stack.native.object_server import choose
from everlode.stack.native.object_store import command
from everlode.stack.native.ports import HOST
from everlode.stack.native.process import Process
from tests.support.stores.faulty_proxy import INTERNAL, TIMEOUT, Fault, FaultyProxy
from tests.support.stores.store_contract import StoreContract

KEYS = ("test-access", "test-secret-key-0123456789")
pytestmark = pytest.mark.timeout(600)  # MinIO may have to be built, once


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def serve(kind: str, folder: Path) -> Iterator[str]:
    """A server with the buckets `plain` and `locked`; its host:port."""
    server = choose(cache_dir(settings().cache), kind)
    port = free_port()
    process = Process(command(server, folder / "data", port, KEYS, folder / "s3.log"))
    process.start()
    endpoint = f"{HOST}:{port}"
    try:
        deadline = time.monotonic() + 30
        ensure_buckets(endpoint, KEYS, ["plain"], lockable=False, deadline=deadline)
        ensure_buckets(endpoint, KEYS, ["locked"], lockable=True, deadline=deadline)
        yield endpoint
    finally:
        process.stop()


@pytest.fixture(scope="module")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from serve("minio", tmp_path_factory.mktemp("minio"))


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from serve("rclone", tmp_path_factory.mktemp("rclone"))


def raw_client(endpoint: str) -> Minio:
    """The client itself, for what the port does not offer."""
    return Minio(endpoint, access_key=KEYS[0], secret_key=KEYS[1], secure=False)


def emptied(endpoint: str, bucket: str) -> S3Store:
    store = S3Store(endpoint, KEYS, bucket)
    for item in list(store.list("")):
        store.delete(item.key)
    return store


class TestMinio(StoreContract):
    conditional = True

    @pytest.fixture
    def store(self, minio: str) -> S3Store:
        return emptied(minio, "plain")


class TestMinioWithLock(StoreContract):
    conditional, versioning, object_lock = True, True, True

    @pytest.fixture
    def store(self, minio: str) -> S3Store:
        return emptied(minio, "locked")


class TestRclone(StoreContract):
    conditional = False

    @pytest.fixture
    def store(self, rclone: str) -> S3Store:
        return emptied(rclone, "plain")


class TestRcloneAskedForALock(StoreContract):
    """It accepts the request and does nothing: the probe must not believe it."""

    conditional = False

    @pytest.fixture
    def store(self, rclone: str) -> S3Store:
        return emptied(rclone, "locked")


@pytest.mark.parametrize(
    ("kind", "bucket", "kept"),
    [("minio", "locked", True), ("minio", "plain", False),
     ("rclone", "locked", False), ("rclone", "plain", False)],
)  # fmt: skip
def test_overwritten_object_is_kept_only_where_versioning_says_so(
    kind: str, bucket: str, kept: bool, request: pytest.FixtureRequest
) -> None:
    endpoint = request.getfixturevalue(kind)
    store, client = S3Store(endpoint, KEYS, bucket), raw_client(endpoint)
    assert store.capabilities().versioning is kept
    first = client.put_object(bucket, "v/one", BytesIO(b"first"), 5).version_id
    client.put_object(bucket, "v/one", BytesIO(b"second"), 6)
    assert store.get("v/one") == b"second"
    if kept:
        with closing(client.get_object(bucket, "v/one", version_id=first)) as old:
            assert old.read() == b"first"
    else:
        assert first is None
    store.delete("v/one")


@pytest.mark.parametrize(("kind", "held"), [("minio", True), ("rclone", False)])
def test_object_under_retention_is_kept_only_where_lock_says_so(
    kind: str, held: bool, request: pytest.FixtureRequest
) -> None:
    endpoint = request.getfixturevalue(kind)
    store, client = S3Store(endpoint, KEYS, "locked"), raw_client(endpoint)
    assert store.capabilities().object_lock is held
    until = datetime.now(UTC) + timedelta(minutes=5)
    version = client.put_object(
        "locked", "l/one", BytesIO(b"kept"), 4, retention=Retention(COMPLIANCE, until)
    ).version_id
    if held:
        with pytest.raises(S3Error, match="WORM protected"):
            client.remove_object("locked", "l/one", version_id=version)
        with closing(client.get_object("locked", "l/one", version_id=version)) as found:
            assert found.read() == b"kept"
    else:  # accepted and ignored
        store.delete("l/one")
        with pytest.raises(NotFound):
            store.get("l/one")


@pytest.mark.parametrize("kind", ["minio", "rclone"])
def test_wrong_secret_is_a_configuration_error_without_the_secret(
    kind: str, request: pytest.FixtureRequest
) -> None:
    store = S3Store(request.getfixturevalue(kind), (KEYS[0], "another-secret-0123"), "plain")
    with pytest.raises(ConfigError) as caught:
        store.get("a/one")
    assert "another-secret" not in str(caught.value)


@pytest.mark.parametrize("kind", ["minio", "rclone"])
def test_missing_bucket_is_not_found(kind: str, request: pytest.FixtureRequest) -> None:
    store = S3Store(request.getfixturevalue(kind), KEYS, "no-such-bucket")
    with pytest.raises(NotFound):
        store.get("a/one")


def test_no_server_is_unavailable_and_says_what_to_do() -> None:
    store = S3Store(f"{HOST}:{free_port()}", KEYS, "plain", timeout_s=2)
    with pytest.raises(Unavailable, match="does not answer") as caught:
        store.capabilities()
    assert "stack status" in caught.value.hint


# -- a store that fails, and would not the next time -----------------------------------------------

DATA = random.Random(0).randbytes(3_000_000)


@pytest.fixture
def proxy(minio: str) -> Iterator[FaultyProxy]:
    with FaultyProxy(minio) as found:
        yield found


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> int:
    """Nobody waits between two tries; how many there are."""
    monkeypatch.setattr(s3, "_RETRIES", s3._RETRIES.new(total=3, backoff_factor=0))
    return 4


@pytest.mark.parametrize("bucket", ["plain", "locked"])
@pytest.mark.parametrize(
    "fault",
    [Fault("refuse"), Fault("refuse", INTERNAL), Fault("refuse", (429, "TooManyRequests")),
     Fault("drop"), Fault("lose"), Fault("cut"), Fault("cut", after=0)],
    ids=lambda fault: f"{fault.kind}-{fault.answer[0]}-{fault.after}",
)  # fmt: skip
def test_request_that_fails_once_is_made_again(
    proxy: FaultyProxy, minio: str, fault: Fault, bucket: str
) -> None:
    direct = emptied(minio, bucket)
    proxy.each_once(fault)
    store, large, back = S3Store(proxy.endpoint, KEYS, bucket), BytesIO(DATA * 2), BytesIO()
    store.put("f/once", DATA[:1000], only_new=True)
    store.put("f/plain", DATA[:1000])
    store.put_file("f/large", large)
    store.get_file("f/large", back)
    assert back.getvalue() == large.getvalue()
    assert store.get("f/once") == store.get("f/plain") == DATA[:1000]
    assert [item.key for item in store.list("f/")] == ["f/large", "f/once", "f/plain"]
    store.delete("f/plain")
    assert [item.key for item in direct.list("f/")] == ["f/large", "f/once"]
    assert proxy.failed > 8


def test_upload_that_timed_out_is_sent_anew(proxy: FaultyProxy, minio: str, quick: int) -> None:
    proxy.each_once(Fault("refuse", TIMEOUT))
    store = S3Store(proxy.endpoint, KEYS, "plain")
    for number, data in enumerate((DATA[:1000], DATA * 2)):
        store.put_file(f"f/anew-{number}", BytesIO(data))
        assert S3Store(minio, KEYS, "plain").get(f"f/anew-{number}") == data
    store.put("f/anew-once", DATA, only_new=True)
    assert proxy.failed >= quick


def test_lost_answer_of_a_conditional_put_is_a_success_for_our_bytes_alone(
    proxy: FaultyProxy, minio: str
) -> None:
    emptied(minio, "plain")
    store = S3Store(proxy.endpoint, KEYS, "plain")
    proxy.in_turn("PUT", "f/manifest", Fault("lose"), Fault("lose"))
    store.put("f/manifest", b"ours", only_new=True)
    assert [one.method for one in proxy.asked][-4:] == ["PUT", "PUT", "PUT", "GET"]
    proxy.in_turn("PUT", "f/manifest", Fault("lose"))
    with pytest.raises(Precondition, match="never overwritten"):
        store.put("f/manifest", b"another's", only_new=True)
    assert store.get("f/manifest") == b"ours"


@pytest.mark.parametrize("bucket", ["plain", "locked"])
def test_fetch_that_breaks_off_goes_on_where_it_was(
    proxy: FaultyProxy, minio: str, bucket: str
) -> None:
    S3Store(minio, KEYS, bucket).put("f/long", DATA)
    store, back = S3Store(proxy.endpoint, KEYS, bucket), BytesIO()
    proxy.in_turn("GET", "f/long", *[Fault("cut")] * 3)
    store.get_file("f/long", back)
    assert back.getvalue() == DATA
    begins = [
        int(one.range.removeprefix("bytes=").removesuffix("-") or 0)
        for one in proxy.asked
        if "f/long" in one.target
    ]
    assert len(begins) == 4
    assert begins == sorted(set(begins))
    assert begins[1] > len(DATA) // 3


def test_object_that_is_replaced_while_it_is_read_is_refused(
    proxy: FaultyProxy, minio: str
) -> None:
    direct = S3Store(minio, KEYS, "plain")
    direct.put("f/changed", DATA)
    store, left = S3Store(proxy.endpoint, KEYS, "plain"), [Fault("cut")]

    def decide(_: str, target: str) -> Fault | None:
        if "f/changed" not in target:
            return None
        if not left:
            direct.put("f/changed", bytes(len(DATA)))
            return None
        return left.pop()

    proxy.faults = decide
    with pytest.raises(IntegrityError, match="another object") as caught:
        store.get("f/changed")
    assert caught.value.code == "object_changed"


def test_answer_that_does_not_come_is_asked_for_again(proxy: FaultyProxy, minio: str) -> None:
    S3Store(minio, KEYS, "plain").put("f/late", DATA)
    store = S3Store(proxy.endpoint, KEYS, "plain", timeout_s=1)
    proxy.in_turn("GET", "f/late", Fault("delay", after=5))
    assert store.get("f/late") == DATA
    assert proxy.failed == 1


@pytest.mark.parametrize(
    ("fault", "named"),
    [(Fault("refuse"), "503 SlowDown"), (Fault("drop"), "does not answer")],
    ids=["slow", "dropped"],
)  # fmt: skip
def test_store_that_goes_on_failing_is_given_up(
    proxy: FaultyProxy, minio: str, quick: int, fault: Fault, named: str
) -> None:
    S3Store(minio, KEYS, "plain").put("f/never", DATA)
    proxy.faults = lambda _, target: None if "location" in target else fault
    store = S3Store(proxy.endpoint, KEYS, "plain")
    attempts: tuple[Callable[[], object], ...] = (
        lambda: store.put_file("f/no", BytesIO(DATA)),
        lambda: store.put("f/no", DATA, only_new=True),
        lambda: store.get("f/never"),
        lambda: list(store.list("f/")),
    )
    for attempt in attempts:
        before = proxy.failed
        with pytest.raises(Unavailable, match=named):
            attempt()
        assert proxy.failed - before == quick


def test_fetch_that_gets_no_byte_is_given_up(proxy: FaultyProxy, minio: str, quick: int) -> None:
    S3Store(minio, KEYS, "plain").put("f/never", DATA)
    proxy.in_turn("GET", "f/never", *[Fault("cut", after=0)] * 10)
    with pytest.raises(Unavailable, match="does not answer"):
        S3Store(proxy.endpoint, KEYS, "plain").get("f/never")
    assert proxy.failed == quick


def test_answer_that_is_shortened_unseen_is_no_list_and_no_object_of_a_backup(
    proxy: FaultyProxy, minio: str
) -> None:
    """Its length says that it is whole: the hashes of the manifest must find out."""
    S3Store(minio, KEYS, "plain").put("f/one", DATA)
    store = S3Store(proxy.endpoint, KEYS, "plain")
    proxy.faults = lambda _, target: None if "location" in target else Fault("shorten")
    assert store.get("f/one") == DATA[: len(DATA) // 2]
    with pytest.raises(Unavailable):
        list(store.list("f/"))
