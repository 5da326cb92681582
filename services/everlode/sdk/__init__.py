"""The SDK, a face: MiningClient, EventProducer, EventConsumer, NodeAgent, MinerBeacon.

Each has a form for asyncio, by the same name with Async before it.
"""

from everlode.control.roles import Role, RoleChange
from everlode.errors import OutcomeUnknown
from everlode.membership.agent import Identity, Load, NodeAgent
from everlode.sdk.aio import (
    AsyncEventConsumer,
    AsyncEventProducer,
    AsyncMiningClient,
    AsyncNodeAgent,
)
from everlode.sdk.beacon import MinerBeacon
from everlode.sdk.client import MiningClient
from everlode.sdk.consumer import EventConsumer, Received
from everlode.sdk.emits import Ack
from everlode.sdk.producer import EventProducer
from everlode.settings.endpoints import Endpoints

__all__ = [
    "Ack",
    "AsyncEventConsumer",
    "AsyncEventProducer",
    "AsyncMiningClient",
    "AsyncNodeAgent",
    "Endpoints",
    "EventConsumer",
    "EventProducer",
    "Identity",
    "Load",
    "MinerBeacon",
    "MiningClient",
    "NodeAgent",
    "OutcomeUnknown",
    "Received",
    "Role",
    "RoleChange",
]
