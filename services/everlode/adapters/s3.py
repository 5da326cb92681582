"""S3 by the `minio` client: capabilities probed by doing them, errors by HTTP code.

Errors are mapped by HTTP status, because servers word them differently (rclone's reach the client
as `InvalidResponseError`). What a server can do is found out by doing it, never by its name: some
accept a request and ignore it. Shell.
"""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import urllib3
from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from everlode.adapters.object_store import Capabilities, Stored
from everlode.errors import ConfigError, EverlodeError, NotFound, Precondition, Unavailable

_CHUNK = 1 << 20


def _by_status(status: int, code: str, what: str) -> EverlodeError:
    """The error that an HTTP status stands for."""
    if status == 404:
        return NotFound(f"{what} is not in the store")
    if status in (409, 412):
        return Precondition(f"{what} exists and is never overwritten", code="exists")
    if status in (400, 401, 403):
        return ConfigError(
            f"the store refuses {what}: {code or status}",
            code="s3_refused",
            hint="check the access key, the secret key and the bucket's policy",
        )
    return Unavailable(f"{what}: the store answers {status} {code}".rstrip(), code="s3")


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except S3Error as error:
        status = int(error.response.status) if error.response is not None else 0
        raise _by_status(status, error.code or "", what) from None
    except (InvalidResponseError, ServerError) as error:
        status = int(getattr(error, "_code", 0) or getattr(error, "status_code", 0) or 0)
        raise _by_status(status, "", what) from None
    except (MinioException, urllib3.exceptions.HTTPError) as error:
        raise Unavailable(
            f"{what}: the store does not answer ({type(error).__name__})",
            code="s3",
            hint="is it running? everlode stack status",
        ) from None


class S3Store:
    """One bucket. Thread-safe."""

    def __init__(
        self, endpoint: str, keys: tuple[str, str], bucket: str, *, timeout_s: float = 30.0
    ) -> None:
        """`endpoint` host:port, `keys` access and secret key. Connects at the first use."""
        self._http = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=min(3.0, timeout_s), read=timeout_s),
            retries=urllib3.Retry(1),
        )
        self._client = Minio(
            endpoint, access_key=keys[0], secret_key=keys[1], secure=False, http_client=self._http
        )
        self._bucket = bucket
        self._known: Capabilities | None = None
        self.name = f"{endpoint}/{bucket}"

    def put(self, key: str, data: bytes, *, only_new: bool = False) -> None:
        """See ObjectStore."""
        what = f"{self._bucket}/{key}"
        with _translated(what):
            if not only_new:
                self._client.put_object(self._bucket, key, io.BytesIO(data), len(data))
                return
            # minio's own put takes no If-None-Match: a plain PUT to a presigned URL does
            url = self._client.presigned_put_object(self._bucket, key)
            answer = self._http.request(
                "PUT", url, body=data, headers={"If-None-Match": "*"}, redirect=False
            )
        if answer.status >= 300:
            raise _by_status(answer.status, "", what)

    def put_file(self, key: str, file: BinaryIO) -> None:
        """See ObjectStore."""
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        with _translated(f"{self._bucket}/{key}"):
            self._client.put_object(self._bucket, key, file, size)

    def get(self, key: str) -> bytes:
        """See ObjectStore."""
        return b"".join(self._stream(key))

    def get_file(self, key: str, file: BinaryIO) -> None:
        """See ObjectStore."""
        for chunk in self._stream(key):
            file.write(chunk)

    def _stream(self, key: str) -> Iterator[bytes]:
        """The object's bytes; an answer that breaks off is an error."""
        what = f"{self._bucket}/{key}"
        with _translated(what):
            answer: Any = self._client.get_object(self._bucket, key)
        try:
            with _translated(what):
                yield from answer.stream(_CHUNK)
        finally:
            answer.close()
            answer.release_conn()

    def list(self, prefix: str) -> Iterator[Stored]:
        """See ObjectStore."""
        with _translated(f"{self._bucket}/{prefix}"):
            found = [
                Stored(item.object_name or "", item.size or 0)
                for item in self._client.list_objects(self._bucket, prefix, recursive=True)
            ]
        yield from sorted(found)

    def delete(self, key: str) -> None:
        """See ObjectStore."""
        try:
            with _translated(f"{self._bucket}/{key}"):
                self._client.remove_object(self._bucket, key)
        except NotFound:
            return

    def capabilities(self) -> Capabilities:
        """See ObjectStore. Probed once."""
        if self._known is None:
            versioning = self._versioning()
            # a lock holds versions; rclone answers the question about it with a listing
            self._known = Capabilities(self._conditional(), versioning, versioning and self._lock())
        return self._known

    def _conditional(self) -> bool:
        key = f"probe/{uuid.uuid4()}"
        self.put(key, b"1", only_new=True)
        try:
            self.put(key, b"2", only_new=True)
        except Precondition:
            return self.get(key) == b"1"
        else:
            return False
        finally:
            self.delete(key)

    def _versioning(self) -> bool:
        """Read back: some servers accept the setting and ignore it."""
        try:
            with _translated(f"{self._bucket}: versioning"):
                return str(self._client.get_bucket_versioning(self._bucket).status) == "Enabled"
        except Unavailable as error:
            if "not answer" in error.message:
                raise
            return False
        except EverlodeError:
            return False

    def _lock(self) -> bool:
        """Read back, as above; a store that cannot answers with an error of its own kind."""
        try:
            with _translated(f"{self._bucket}: object lock"):
                self._client.get_object_lock_config(self._bucket)
        except Unavailable as error:
            if "not answer" in error.message:
                raise
            return False
        except (EverlodeError, ValueError, AttributeError):
            return False
        return True
