"""The SDK: commands (MiningClient), facts (EventProducer, EventConsumer), nodes (NodeAgent)."""

from everlode.sdk.agent import Identity, Load, NodeAgent
from everlode.sdk.client import AsyncMiningClient, MiningClient
from everlode.sdk.consumer import EventConsumer, Received
from everlode.sdk.producer import Ack, EventProducer, Unknown
from everlode.stack.endpoints import Endpoints

__all__ = [
    "Ack",
    "AsyncMiningClient",
    "Endpoints",
    "EventConsumer",
    "EventProducer",
    "Identity",
    "Load",
    "MiningClient",
    "NodeAgent",
    "Received",
    "Unknown",
]
