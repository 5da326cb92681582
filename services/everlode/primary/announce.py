"""A primary publishes all schemas that its version writes. Shell."""

from __future__ import annotations

import json

from everlode.avro import schemas
from everlode.events.catalogue import COMMANDS, EVENTS, SNAPSHOTS, STATES
from everlode.events.schemas import SchemaPublished
from everlode.membership.agent import NodeAgent


def announce(agent: NodeAgent) -> None:
    """Publish them, so that older readers can learn them.

    Any primary does: nodes of one region are of one version, but for an upgrade.
    """
    states = [cls.__name__ for cls in STATES.values()]
    for name in (*EVENTS, *COMMANDS, "CommandAnswered", *states, *SNAPSHOTS):
        mark = schemas.fingerprint(name).hex()
        data = SchemaPublished(
            fingerprint=mark,
            schema_name=f"{schemas.NAMESPACE}.{name}",
            document=json.dumps(schemas.raw(name)),
        )
        agent.signal(data, topic="schemas", key=mark, partition=0)
