"""Buckets of a stack's own object store: created at the start, before anybody uses it.

Shell: the minio client.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import urllib3
from minio import Minio

from everlode.adapters.s3 import CLIENT_ERRORS
from everlode.errors import ConfigError, Unavailable

_RETRY_S = 0.1


def ensure_buckets(
    endpoint: str, keys: tuple[str, str], names: Sequence[str], *, lockable: bool, deadline: float
) -> None:
    """Create the missing buckets, with object lock enabled where `lockable`. Idempotent.

    `keys`: access key and secret key. Waits for the server until `deadline` (time.monotonic()).

    Raises: Unavailable: no answer in time. ConfigError: the server refuses.
    """
    http = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=1.0, read=5.0), retries=urllib3.Retry(0)
    )
    client = Minio(endpoint, access_key=keys[0], secret_key=keys[1], secure=False, http_client=http)
    try:
        for name in names:
            _ensure(client, name, lockable, deadline)
    finally:
        http.clear()


def _ensure(client: Minio, name: str, lockable: bool, deadline: float) -> None:
    while True:
        try:
            if name not in {bucket.name for bucket in client.list_buckets()}:
                client.make_bucket(name, object_lock=lockable)
            return
        except CLIENT_ERRORS as exc:
            code = getattr(exc, "code", "")
            if code in ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"):
                raise ConfigError(
                    f"S3 refuses our keys for bucket {name}: {code}",
                    hint="the stack's data folder belongs to other keys: remove its s3 folder",
                ) from exc
            if time.monotonic() > deadline:
                raise Unavailable(f"S3 does not create bucket {name}: {exc}") from exc
            time.sleep(_RETRY_S)
