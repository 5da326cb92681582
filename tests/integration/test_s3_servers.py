"""The store contract on MinIO and on rclone: what each can do is asserted, nothing is skipped."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest
from minio import Minio
from minio.commonconfig import COMPLIANCE
from minio.error import S3Error
from minio.retention import Retention

from everlode.adapters.s3 import S3Store
from everlode.adapters.s3_buckets import ensure_buckets
from everlode.errors import ConfigError, NotFound, Unavailable
from everlode.settings.environment import settings
from everlode.stack.native.cache import cache_dir
from everlode.stack.native.object_server import choose
from everlode.stack.native.object_store import command
from everlode.stack.native.ports import HOST
from everlode.stack.native.process import Process
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
