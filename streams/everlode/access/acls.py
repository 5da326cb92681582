"""The ACLs of a cluster, from the table of rights and a topology.

Invariants: the same table and topology give the same ACLs, in the same order; a principal without
any right on a cluster has no ACL there. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from everlode.access.rights import REGION, RIGHTS, Rights
from everlode.events.catalogue import FACT_COMPONENTS, SIGNALS
from everlode.topics import Topology
from everlode.topics.names import (
    CONTROL_CLUSTER,
    CONTROL_SNAPSHOT_TOPIC,
    CONTROL_TOPIC,
    archive_topic,
    command_topic,
    fact_topic,
    reply_topic,
    snapshot_topic,
    work_topic,
)

Resource = Literal["TOPIC", "GROUP", "TRANSACTIONAL_ID"]
_MAKING = ("CREATE", "DELETE", "ALTER", "ALTER_CONFIGS", "DESCRIBE_CONFIGS")
_MIRRORS = ("mm2-", "mirrormaker2-")
"""How MirrorMaker names topics of its own."""


class Acl(NamedTuple):
    """One permission, as Kafka keeps it; from any host."""

    principal: str
    resource: Resource
    name: str
    prefixed: bool
    """It holds for every name that begins so."""
    operation: str


class Names(NamedTuple):
    """Topics of a kind."""

    exact: tuple[str, ...] = ()
    beginnings: tuple[str, ...] = ()


def topics_of(kind: str, topology: Topology, cluster: str) -> Names:
    """What a kind of the table is called in the cluster of a region, or in `control`."""
    if cluster == CONTROL_CLUSTER:
        return Names((CONTROL_TOPIC, CONTROL_SNAPSHOT_TOPIC)) if kind == "control" else Names()
    origin, (sort, _, which) = topology.origin(cluster), kind.partition(".")
    if kind in SIGNALS or sort == "facts":
        return Names((fact_topic(origin, which or kind),))
    if sort == "snapshots":
        return Names((snapshot_topic(origin, which), archive_topic(origin, which)))
    others = [o for o in topology.origins if o != origin]
    found = {
        "commands": Names((command_topic(cluster, which),)),
        "copies": Names(tuple(fact_topic(o, c) for o in others for c in FACT_COMPONENTS + SIGNALS)),
        "replies": Names((reply_topic(cluster),)),
        "work": Names((work_topic(origin),)),
        "states": Names((), ("state.g",)),
        "letters": Names((), (f"dlt.{which}.",)),
        "mirrors": Names((), _MIRRORS),
        "control": Names(),
    }
    return found[sort]


def named(beginnings: Iterable[str], topology: Topology) -> tuple[str, ...]:
    """Beginnings of names, each that has a REGION in it once a region."""
    return tuple(
        dict.fromkeys(
            one.replace(REGION, region) for one in beginnings for region in topology.regions
        )
    )


def acls(topology: Topology, cluster: str, table: Iterable[Rights] = RIGHTS) -> tuple[Acl, ...]:
    """All permissions of a cluster: a region's, or `control`."""
    found: list[Acl] = []
    for rights in table:
        topics = [
            Acl(rights.principal, "TOPIC", name, prefixed, operation)
            for kinds, operations in (
                (rights.reads, ("READ",)), (rights.writes, ("WRITE",)), (rights.makes, _MAKING),
            )
            for kind in kinds
            for names in [topics_of(kind, topology, cluster)]
            for group, prefixed in ((names.exact, False), (names.beginnings, True))
            for name in group
            for operation in operations
        ]  # fmt: skip
        if not topics:
            continue
        found += topics
        found += [
            Acl(rights.principal, "GROUP", name, True, "READ")
            for name in named(rights.groups, topology)
        ]
        found += [
            Acl(rights.principal, "TRANSACTIONAL_ID", name, True, "WRITE")
            for name in named(rights.transactions, topology)
        ]
    return tuple(dict.fromkeys(found))
