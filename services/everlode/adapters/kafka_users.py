"""Users of a Kafka cluster, known by SCRAM. Shell: confluent_kafka's admin client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from everlode.adapters.kafka_admin import REQUEST_S, admin_client, unavailable

ITERATIONS = 4096
"""Kafka's least. Secrets that a stack draws are 24 random bytes: nobody guesses them sooner."""


def make_users(bootstrap: str, secrets: Mapping[str, str]) -> None:
    """Make these users, or give those that there are these secrets. Idempotent.

    Raises: Unavailable; Refusal: this process may not.
    """
    client = admin_client(bootstrap)  # must live until all have answered
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
    wanted: list[Any] = [
        UserScramCredentialUpsertion(user, info, secret.encode())
        for user, secret in secrets.items()
    ]
    try:
        asked = client.alter_user_scram_credentials(wanted, request_timeout=REQUEST_S)
        for future in asked.values():
            future.result()
    except KafkaException as exc:
        raise unavailable(bootstrap, exc) from exc
