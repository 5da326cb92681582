"""What every client of librdkafka here begins with, and what its broker's no means.

librdkafka tells a callback why it cannot connect, and answers whoever asked with a time-out. So who
was answered that way asks once more, by a client that listens. Shell.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from everlode.access.login import Login, current
from everlode.errors import ConfigError, EverlodeError, Refusal

Client = TypeVar("Client")
ASK_S = 2.0
"""For the question why a client is not let in."""
KNOCK_S = 0.5
"""For the question whether a broker speaks TLS: asked each time that one does not answer."""
_LOGIN = {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED}
_RIGHTS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
_SILENT = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._MSG_TIMED_OUT,
}
_TLS = (
    ("expired", "the broker's certificate has expired", "renew the broker's certificate"),
    ("mismatch", "the broker's certificate is not for this host", "renew it, for this host too"),
    ("issuer", "nobody in {ca} has issued the broker's certificate", "put who did there"),
    ("self-signed", "nobody in {ca} has issued the broker's certificate", "put who did there"),
    ("alert", "the broker does not take {own}", "name one that its authorities have issued"),
)  # fmt: skip
"""What OpenSSL says → what it means, and the way out; the first that fits."""


def identified(bootstrap: str) -> dict[str, Any]:
    """Address, login and silence: the first settings of every client."""
    login = current()
    known = {} if login is None else login.librdkafka()
    return {"bootstrap.servers": bootstrap, "log_level": 0, **known}


def new_client(kind: Callable[[dict[str, Any]], Client], settings: dict[str, Any]) -> Client:
    """A client of librdkafka, which begins with `identified`.

    Raises: ConfigError: none can be made, as of a file of the login that is gone or damaged.
    """
    try:
        return kind(settings)
    except KafkaException as error:
        raise ConfigError(
            f"no client of Kafka at {settings['bootstrap.servers']}: {error.args[0].str()}",
            code="no_client", hint="compare the files that EVERLODE_KAFKA_LOGIN names",
        ) from None  # fmt: skip


def explained(error: KafkaError, bootstrap: str, what: str) -> EverlodeError | None:
    """Why `what` failed, if this client is not let in or may not; None: it is of another kind.

    Asks for up to ASK_S where the broker did not answer. Errors: see `refused`.
    """
    if error.code() not in _SILENT:
        return refused(error, bootstrap, what)
    if current() is None:
        return _nameless(bootstrap, what)
    causes: list[KafkaError] = []
    settings: dict[str, Any] = {**identified(bootstrap), "error_cb": causes.append}
    asking = new_client(AdminClient, settings)
    with suppress(KafkaException):
        asking.list_topics(timeout=ASK_S)
    asking.poll(0)
    return next(filter(None, (refused(one, bootstrap, what) for one in causes)), None)


def refused(error: KafkaError, bootstrap: str, what: str) -> EverlodeError | None:
    """What a broker's no to this client means; None: it is no such no.

    A `ConfigError`: `login_missing`, `login_refused` or `tls_refused`; or a `Refusal`,
    `not_allowed`.
    """
    login = current()
    code, who = error.code(), login.said if login else "a client without a login"
    if login is None and code in _SILENT and "SSL listener" in error.str():
        return _nameless(bootstrap, what)
    if code in _LOGIN:
        path = login.secret_file if login else ""
        return ConfigError(
            f"{what}: Kafka at {bootstrap} does not let {who} in: it is unknown there, or its"
            " secret is wrong",
            code="login_refused", hint=f"put its secret into {path}, or make the user",
        )  # fmt: skip
    if login and (code == KafkaError._SSL or (code in _SILENT and "alert" in error.str())):
        why, hint = _tls(error, bootstrap, login)
        return ConfigError(
            f"{what}: no TLS between Kafka at {bootstrap} and {who}: {why}",
            code="tls_refused", hint=hint,
        )  # fmt: skip
    if code in _RIGHTS:
        return Refusal(
            f"{what}: {who} may not: {error.str()}", code="not_allowed",
            hint="docs/access.md has who may do what: use the login that may",
        )  # fmt: skip
    return None


def _nameless(bootstrap: str, what: str) -> ConfigError | None:
    """What it means that a client in plain text is hung up on; None: the broker speaks no TLS."""
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # nothing is said to whom this asks
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    host, port = _first(bootstrap)
    try:
        with socket.create_connection((host, port), KNOCK_S) as plain:
            anybody.wrap_socket(plain).close()
    except OSError:
        return None
    return ConfigError(
        f"{what}: Kafka at {bootstrap} speaks TLS and asks who comes; this process has no login",
        code="login_missing",
        hint="EVERLODE_KAFKA_LOGIN=FILE, or use_login(FILE) of the SDK",
    )  # fmt: skip


def _first(bootstrap: str) -> tuple[str, int]:
    host, _, port = bootstrap.partition(",")[0].rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise ConfigError(
            f"Kafka at {bootstrap[:200]!r}: host:port is expected, several with commas",
            code="bad_address", hint="compare endpoints.json of the stack",
        )  # fmt: skip
    return host, int(port)


def _tls(error: KafkaError, bootstrap: str, login: Login) -> tuple[str, str]:
    said = error.str() if "alert" in error.str() else _verified(bootstrap, login.ca)
    for sign, why, hint in _TLS:
        if sign in said:
            own = f"the certificate {login.certificate}" if login.certificate else "none"
            return why.format(ca=login.ca, own=own), hint
    return said or error.str(), f"compare the broker's certificate with {login.ca}"


def _verified(bootstrap: str, ca: str) -> str:
    """What is wrong with the broker's certificate: librdkafka says only that something is."""
    host, port = _first(bootstrap)
    try:
        with socket.create_connection((host, port), ASK_S) as plain:
            ssl.create_default_context(cafile=ca).wrap_socket(plain, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except OSError as error:
        return str(error)
    return ""
