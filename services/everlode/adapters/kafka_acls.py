"""ACLs of a Kafka cluster: made to be as the table says. Shell: confluent_kafka's admin client."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from everlode.access.acls import Acl
from everlode.adapters.kafka_admin import REQUEST_S, admin_client, unavailable
from everlode.errors import DeadlineExceeded

_ANY: Any = None
_ANYTHING = AclBindingFilter(
    ResourceType.ANY, _ANY, ResourcePatternType.ANY, _ANY, _ANY, AclOperation.ANY,
    AclPermissionType.ANY,
)  # fmt: skip
_RESOURCES = {
    "TOPIC": ResourceType.TOPIC,
    "GROUP": ResourceType.GROUP,
    "TRANSACTIONAL_ID": ResourceType.TRANSACTIONAL_ID,
}


def set_acls(bootstrap: str, wanted: Iterable[Acl]) -> tuple[int, int]:
    """Let the cluster have exactly these ACLs; returns how many were made, and taken back.

    Idempotent; returns once they hold. First made, then taken back: who keeps a right never loses
    it. Raises: Unavailable; Refusal: this process may not.
    """
    client = admin_client(bootstrap)  # must live until all have answered
    goal = {_binding(acl) for acl in wanted}
    try:
        found = set(client.describe_acls(_ANYTHING, request_timeout=REQUEST_S).result())
        if missing := list(goal - found):
            for made in client.create_acls(missing, request_timeout=REQUEST_S).values():
                made.result()
        if surplus := [_exactly(acl) for acl in found - goal]:
            for gone in client.delete_acls(surplus, request_timeout=REQUEST_S).values():
                gone.result()
        _await(client, goal)
    except KafkaException as exc:
        raise unavailable(bootstrap, exc) from exc
    return len(missing), len(surplus)


def _await(client: AdminClient, goal: set[AclBinding]) -> None:
    """A broker says yes to a change before it obeys it."""
    deadline = time.monotonic() + REQUEST_S
    while set(client.describe_acls(_ANYTHING, request_timeout=REQUEST_S).result()) != goal:
        if time.monotonic() > deadline:
            raise DeadlineExceeded("the brokers do not obey their new ACLs in time")
        time.sleep(0.05)


def _binding(acl: Acl) -> AclBinding:
    pattern = ResourcePatternType.PREFIXED if acl.prefixed else ResourcePatternType.LITERAL
    return AclBinding(
        _RESOURCES[acl.resource], acl.name, pattern, f"User:{acl.principal}", "*",
        AclOperation[acl.operation], AclPermissionType.ALLOW,
    )  # fmt: skip


def _exactly(found: AclBinding) -> AclBindingFilter:
    return AclBindingFilter(
        found.restype, found.name, found.resource_pattern_type, found.principal, found.host,
        found.operation, found.permission_type,
    )  # fmt: skip
