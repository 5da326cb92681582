"""S3 by the `minio` client: a small port, capabilities probed by doing them, errors by HTTP code.

Shell.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import urllib3
from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error

from everlode.errors import ConfigError, NotFound, Precondition, Unavailable


class Stored(NamedTuple):
    """An object as the store lists it."""

    key: str
    size: int


class Capabilities(NamedTuple):
    """What the store really does, found by doing it."""

    conditional_put: bool


class ObjectStore(Protocol):
    """What backups need of a store. Keys are never overwritten by us."""

    def put(self, key: str, data: bytes, *, only_new: bool = False) -> None:
        """Store bytes. `only_new`: refuse when the key exists, where the store can.

        Raises: Precondition: it exists. Unavailable.
        """

    def put_file(self, key: str, path: Path) -> None:
        """Store a file. Raises: Unavailable."""

    def get(self, key: str) -> bytes:
        """Read an object whole. Raises: NotFound; Unavailable."""

    def get_file(self, key: str, path: Path) -> None:
        """Read an object into a file. Raises: NotFound; Unavailable; OSError: no room."""

    def list(self, prefix: str) -> Iterator[Stored]:
        """Objects under a prefix, sorted by key. Raises: Unavailable."""

    def delete(self, key: str) -> None:
        """Remove an object; nothing when it is not there. Raises: Unavailable."""

    def capabilities(self) -> Capabilities:
        """Probe the store by doing it. Raises: Unavailable."""


class S3Store:
    """One bucket."""

    def __init__(self, endpoint: str, keys: tuple[str, str], bucket: str) -> None:
        self._http = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=3.0, read=30.0), retries=urllib3.Retry(1)
        )
        self._client = Minio(
            endpoint, access_key=keys[0], secret_key=keys[1], secure=False, http_client=self._http
        )
        self._bucket = bucket
        self.name = f"{endpoint}/{bucket}"

    def _error(self, key: str, error: Exception) -> Exception:
        code = getattr(error, "code", "")
        if isinstance(error, InvalidResponseError):
            code = "NoSuchKey" if "404" in str(error) else code
        if code in ("NoSuchKey", "NoSuchBucket", "NotFound"):
            return NotFound(f"{self._bucket}/{key} is not in the store")
        if code in ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"):
            return ConfigError(f"the store refuses our keys for {self._bucket}: {code}")
        return Unavailable(f"{self._bucket}/{key}: {type(error).__name__} {code}", code="s3")

    def put(self, key: str, data: bytes, *, only_new: bool = False) -> None:
        """See ObjectStore."""
        try:
            if not only_new:
                self._client.put_object(self._bucket, key, io.BytesIO(data), len(data))
                return
            url = self._client.presigned_put_object(self._bucket, key)
            answer = self._http.request("PUT", url, body=data, headers={"If-None-Match": "*"})
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise self._error(key, error) from None
        if answer.status == 412:
            raise Precondition(f"{self._bucket}/{key} exists and is never overwritten")
        if answer.status != 200:
            raise Unavailable(f"{self._bucket}/{key}: HTTP {answer.status}", code="s3")

    def put_file(self, key: str, path: Path) -> None:
        """See ObjectStore."""
        try:
            self._client.fput_object(self._bucket, key, str(path))
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise self._error(key, error) from None

    def get(self, key: str) -> bytes:
        """See ObjectStore."""
        try:
            answer = self._client.get_object(self._bucket, key)
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise self._error(key, error) from None
        try:
            return bytes(answer.data)
        finally:
            answer.close()
            answer.release_conn()

    def get_file(self, key: str, path: Path) -> None:
        """See ObjectStore."""
        try:
            answer = self._client.get_object(self._bucket, key)
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise self._error(key, error) from None
        try:
            with path.open("wb") as file:
                for chunk in answer.stream(1 << 20):
                    file.write(chunk)
        finally:
            answer.close()
            answer.release_conn()

    def list(self, prefix: str) -> Iterator[Stored]:
        """See ObjectStore."""
        try:
            for item in self._client.list_objects(self._bucket, prefix, recursive=True):
                yield Stored(item.object_name or "", item.size or 0)
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise self._error(prefix, error) from None

    def delete(self, key: str) -> None:
        """See ObjectStore."""
        try:
            self._client.remove_object(self._bucket, key)
        except S3Error as error:
            if error.code not in ("NoSuchKey", "NotFound"):
                raise self._error(key, error) from None
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise self._error(key, error) from None

    def capabilities(self) -> Capabilities:
        """See ObjectStore."""
        key = f"probe/{uuid.uuid4()}"
        self.put(key, b"1", only_new=True)
        try:
            self.put(key, b"2", only_new=True)
        except Precondition:
            conditional = True
        else:
            conditional = False
        finally:
            self.delete(key)
        return Capabilities(conditional)
