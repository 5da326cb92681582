"""The SDK: commands (MiningClient), facts (EventProducer, EventConsumer), nodes (NodeAgent)."""

from everlode.control.roles import Role, RoleChange
from everlode.sdk.agent import AsyncNodeAgent, Identity, Load, NodeAgent
from everlode.sdk.client import AsyncMiningClient, MiningClient
from everlode.sdk.consumer import EventConsumer, Received
from everlode.sdk.producer import Ack, EventProducer, Unknown
from everlode.stack.endpoints import Endpoints

__all__ = [
    "Ack",
    "AsyncMiningClient",
    "AsyncNodeAgent",
    "Endpoints",
    "EventConsumer",
    "EventProducer",
    "Identity",
    "Load",
    "MiningClient",
    "NodeAgent",
    "Received",
    "Role",
    "RoleChange",
    "Unknown",
]
