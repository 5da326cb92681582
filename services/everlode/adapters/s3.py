"""S3 by the `minio` client: capabilities probed by doing them, errors by HTTP code.

Errors are mapped by HTTP status, because servers word them differently (rclone's reach the client
as `InvalidResponseError`). What a server can do is found out by doing it, never by its name: some
accept a request and ignore it.

What S3 says to try again is tried again, later and later: a request by urllib3 (`_RETRIES`), one
that the store wants whole anew here (`_anew`), an answer that breaks off from where it broke off
(`_stream`). Every request may be repeated: a key gets one content, ever, and what is refused
because it is there already is compared with ours. Shell.
"""

from __future__ import annotations

import io
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO
from xml.etree.ElementTree import ParseError

import urllib3
from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from minio.helpers import check_bucket_name, check_object_name

from everlode.adapters.object_store import Capabilities, Stored
from everlode.errors import (
    ConfigError,
    EverlodeError,
    IntegrityError,
    NotFound,
    Precondition,
    Unavailable,
)

_CHUNK = 1 << 18
_RETRIES = urllib3.Retry(
    total=6, connect=4, allowed_methods=None, status_forcelist=(408, 429, 500, 502, 503, 504),
    backoff_factor=0.25, backoff_max=8, backoff_jitter=0.25, retry_after_max=20,
    raise_on_status=False,
)  # fmt: skip
"""At once, then after 0.5, 1, 2 s and so on, or when the store says (429, 503); about 16 s in all.
A store that nobody answers for is given up after 4 s."""
_WANTED_ANEW = frozenset(
    {"RequestTimeout", "NoSuchUpload", "OperationAborted", "ConditionalRequestConflict"}
)
"""Codes, of statuses that are else final, with which a store wants the whole request once more."""
CLIENT_ERRORS = (MinioException, urllib3.exceptions.HTTPError, ParseError, ValueError)
"""Of who only asks whether a store is there: it answers, or does not."""
_CODE = re.compile(rb"<Code>(\w+)</Code>")


class _Interrupted(Unavailable):
    """The request has to be sent anew, from its first byte."""


def _by_status(status: int, code: str, what: str) -> EverlodeError:
    """The error that an HTTP status stands for."""
    if code in _WANTED_ANEW:
        return _Interrupted(f"{what}: the store answers {status} {code}", code="s3")
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
    except (MinioException, urllib3.exceptions.HTTPError, ParseError) as error:
        raise Unavailable(
            f"{what}: the store does not answer ({type(error).__name__})",
            code="s3",
            hint="is it running? everlode stack status",
        ) from None
    except (ValueError, AttributeError) as error:  # the client, over XML that is not what it asked
        raise Unavailable(
            f"{what}: what answers is no S3 server ({type(error).__name__})",
            code="s3",
            hint="compare the endpoint with that of the store: a proxy, or a web server?",
        ) from None


def _anew(send: Callable[[], None]) -> None:
    """Send it, and again while the store wants it anew. Raises: what `send` does."""
    retries = _RETRIES
    while True:
        try:
            return send()
        except _Interrupted as error:
            try:
                retries = retries.increment(error=error)
            except urllib3.exceptions.MaxRetryError:
                raise error from None
            retries.sleep()


class S3Store:
    """One bucket. Thread-safe."""

    def __init__(
        self, endpoint: str, keys: tuple[str, str], bucket: str, *, timeout_s: float = 30.0
    ) -> None:
        """`endpoint` host:port, `keys` access and secret key. Connects at the first use."""
        self._http = urllib3.PoolManager(
            maxsize=8,  # a few threads use it
            timeout=urllib3.Timeout(connect=min(3.0, timeout_s), read=timeout_s),
            retries=_RETRIES,
        )
        try:
            check_bucket_name(bucket)
            self._client = Minio(
                endpoint, access_key=keys[0], secret_key=keys[1], secure=False,
                http_client=self._http,
            )  # fmt: skip
        except ValueError as error:
            raise ConfigError(
                f"no S3 store at {endpoint}, bucket {bucket}: {error}", hint="host:port is expected"
            ) from None
        self._bucket = bucket
        self._known: Capabilities | None = None
        self.name = f"{endpoint}/{bucket}"

    def put(self, key: str, data: bytes, *, only_new: bool = False) -> None:
        """See ObjectStore."""
        try:
            if only_new:
                _anew(lambda: self._put_new(key, data))
            else:
                self.put_file(key, io.BytesIO(data))
        except Precondition:
            if self.get(key) != data:  # else it is ours: its answer was lost
                raise

    def _put_new(self, key: str, data: bytes) -> None:
        """minio's own put takes no If-None-Match: a plain PUT to a presigned URL does."""
        what = f"{self._bucket}/{key}"
        with _translated(what):
            url = self._client.presigned_put_object(self._bucket, key)
            answer = self._http.request(
                "PUT", url, body=data, headers={"If-None-Match": "*"}, redirect=False
            )
        if answer.status >= 300:
            code = _CODE.search(answer.data)
            raise _by_status(answer.status, code[1].decode() if code else "", what)

    def put_file(self, key: str, file: BinaryIO) -> None:
        """See ObjectStore."""
        size, what = file.seek(0, os.SEEK_END), f"{self._bucket}/{key}"

        def send() -> None:
            file.seek(0)
            with _translated(what):
                stored = self._client.put_object(self._bucket, key, file, size)
            if not stored.etag:  # the end of a large one may be refused with 200
                raise _Interrupted(f"{what}: the store did not take it", code="s3")

        _anew(send)

    def get(self, key: str) -> bytes:
        """See ObjectStore."""
        return b"".join(self._stream(key))

    def get_file(self, key: str, file: BinaryIO) -> None:
        """See ObjectStore."""
        for chunk in self._stream(key):
            file.write(chunk)

    def _stream(self, key: str) -> Iterator[bytes]:
        """The object's bytes; an answer that breaks off is asked for its rest.

        Given up when it broke off several times without a byte between them.
        """
        what, at, retries = f"{self._bucket}/{key}", 0, _RETRIES
        answer = first = self._opened(key, 0, {}, None)
        while True:
            try:
                for chunk in answer.stream(_CHUNK):
                    at, retries = at + len(chunk), _RETRIES
                    yield chunk
                return
            except urllib3.exceptions.HTTPError as error:
                with _translated(what):
                    retries = retries.increment("GET", key, error=error)
            finally:
                answer.close()
                answer.release_conn()
            retries.sleep()
            answer = self._rest(key, at, first.headers)

    def _rest(self, key: str, at: int, first: Mapping[str, str]) -> Any:
        """The answer with an object's bytes from `at` on; `first`: headers of its first answer.

        Raises: NotFound; Unavailable. IntegrityError: it is another object now.
        """
        what, tag = f"{self._bucket}/{key}", first.get("ETag")
        same = {"If-Match": tag} if tag else {}
        try:
            answer = self._opened(key, at, same, first.get("x-amz-version-id"))
        except Precondition:
            answer = None
        if answer is not None and answer.headers.get("ETag") == tag:
            if answer.status == (206 if at else 200):
                return answer
            answer.close()
            raise Unavailable(f"{what}: the store does not go on with it from byte {at}", code="s3")
        if answer is not None:
            answer.close()
        raise IntegrityError(
            f"{what} became another object while it was read",
            code="object_changed",
            hint="no object of a backup is ever written twice: find out who did",
        )

    def _opened(self, key: str, at: int, same: dict[str, str], version: str | None) -> Any:
        """The answer with an object's bytes from `at` on. Raises: NotFound; Unavailable."""
        try:
            check_object_name(key)
        except ValueError:  # as `eu/../manifest.json`: the client asks no store for that
            raise NotFound(f"{self._bucket}/{key} is not in the store") from None
        with _translated(f"{self._bucket}/{key}"):
            return self._client.get_object(
                self._bucket, key, at, request_headers={**same}, version_id=version
            )

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
        except EverlodeError:
            return False
        return True
