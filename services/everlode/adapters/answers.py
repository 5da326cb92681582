"""Does a part of a stack answer now? Each is asked what only a serving one can answer.

That a port takes connections proves nothing: the kernel takes them for a process that stands still.
Shell: Kafka, PostgreSQL, S3, HTTP.
"""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from urllib.parse import urlsplit

import psycopg
import urllib3
from confluent_kafka import KafkaException
from minio import Minio

from everlode.adapters.kafka_admin import admin_client, unavailable
from everlode.adapters.postgres_read import translated
from everlode.adapters.s3 import CLIENT_ERRORS
from everlode.errors import Unavailable

ASK_S = 5
"""Whoever has not answered by then does not answer."""


def ask_broker(bootstrap: str) -> None:
    """Its metadata. Raises: Unavailable."""
    try:
        found = admin_client(bootstrap).list_topics(timeout=ASK_S)
    except KafkaException as exc:
        raise unavailable(bootstrap, exc) from None
    if not found.brokers:
        raise Unavailable(f"{bootstrap} knows no broker")


def ask_database(conninfo: str) -> None:
    """A query. Raises: Unavailable; IntegrityError: there is another database."""
    with translated("a first question"), psycopg.connect(conninfo, connect_timeout=ASK_S) as db:
        db.execute("select 1").fetchone()


def ask_store(endpoint: str, keys: tuple[str, str], buckets: Sequence[str]) -> None:
    """That each bucket is there, with our keys. Raises: Unavailable."""
    pool = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=ASK_S, read=ASK_S), retries=urllib3.Retry(0)
    )
    client = Minio(endpoint, access_key=keys[0], secret_key=keys[1], secure=False, http_client=pool)
    try:
        missing = [name for name in buckets if not client.bucket_exists(name)]
    except CLIENT_ERRORS as exc:
        raise Unavailable(f"{endpoint} does not answer: {type(exc).__name__}") from None
    finally:
        pool.clear()
    if missing:
        raise Unavailable(f"{endpoint} has no bucket {', '.join(missing)}")


def ask_http(url: str) -> None:
    """Any answer at all. Raises: Unavailable."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=ASK_S)
    try:
        connection.request("GET", "/")
        connection.getresponse()
    except (OSError, http.client.HTTPException) as exc:
        raise Unavailable(f"{url} does not answer: {exc or type(exc).__name__}") from None
    finally:
        connection.close()
