"""The four services of a mining network: one table of what each is called, wherever it is named.

A service has other names in topics, scopes, node kinds and recovery plans, because the published
design has. Whatever maps one of these to another is derived from here.

Invariants: no name stands twice in a column; the order is that of topics, scopes and figures. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from everlode.events.recovery import (
    RegistryRecoveryEnded,
    RewardRecoveryEnded,
    TaskManagerRecoveryEnded,
    ValidationRecoveryEnded,
)
from everlode.events.types import AIComponent, OperationKind

RecoveryEndedOf = (
    TaskManagerRecoveryEnded | RegistryRecoveryEnded | ValidationRecoveryEnded | RewardRecoveryEnded
)
"""What ends the failover of a service's node."""


class Service(NamedTuple):
    """One service, by all its names."""

    facts: str
    """Suffix of its topics of facts, commands and states; a command's component."""
    scope: str
    """First half of its scopes' names; component of its nodes; kind of its cluster."""
    node: str
    """Kind of node, as `everlode node run` takes it."""
    short: str
    """What stands for the kind in the ids of our own nodes, e.g. eu-tm-1."""
    ai_component: AIComponent
    """Its name in recovery plans and their stages."""
    operation: OperationKind
    """Kind of operation that handles its lost node."""
    ended: type[RecoveryEndedOf]
    """The event with which that operation ends."""


SERVICES = (
    Service(
        facts="tasks", scope="task-manager", node="task-manager", short="tm",
        ai_component="task-manager", operation="task-manager-failover",
        ended=TaskManagerRecoveryEnded,
    ),
    Service(
        facts="miners", scope="miner-registry", node="miner-registry", short="mr",
        ai_component="miner-registry", operation="registry-failover",
        ended=RegistryRecoveryEnded,
    ),
    Service(
        facts="validations", scope="validation", node="validator", short="val",
        ai_component="validation-system", operation="validation-failover",
        ended=ValidationRecoveryEnded,
    ),
    Service(
        facts="rewards", scope="rewards", node="reward-distributor", short="rd",
        ai_component="reward-distribution", operation="reward-failover",
        ended=RewardRecoveryEnded,
    ),
)  # fmt: skip
BY_FACTS = {service.facts: service for service in SERVICES}
BY_SCOPE = {service.scope: service for service in SERVICES}
BY_NODE = {service.node: service for service in SERVICES}

FRAUD = "fraud"
"""The fifth component of states: cases are facts of validations, and folded by themselves."""
STATES_OF: dict[AIComponent, str] = {
    **{service.ai_component: service.facts for service in SERVICES},
    "fraud-detection": FRAUD,
}
"""Component of a recovery plan → component of states."""
