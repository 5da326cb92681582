"""The SDK, a face: MiningClient, EventProducer, EventConsumer, NodeAgent, MinerBeacon, Balancer.

Each has a form for asyncio, by the same name with Async before it. Balancer and its members do not:
they never wait.
"""

from everlode.balancing.pool import Member
from everlode.control.roles import Role, RoleChange
from everlode.errors import FencedOut, NotFound, OutcomeUnknown, Refusal, Unavailable
from everlode.membership.agent import Identity, Load, NodeAgent
from everlode.sdk.aio import (
    AsyncEventConsumer,
    AsyncEventProducer,
    AsyncJob,
    AsyncMiningClient,
    AsyncNodeAgent,
    AsyncTaskWatch,
    AsyncWork,
)
from everlode.sdk.balancer import Balancer
from everlode.sdk.beacon import MinerBeacon
from everlode.sdk.client import MiningClient
from everlode.sdk.consumer import EventConsumer, Received
from everlode.sdk.emits import Ack
from everlode.sdk.job import Job
from everlode.sdk.producer import EventProducer
from everlode.sdk.watch import Change, TaskWatch
from everlode.sdk.work import Work
from everlode.settings.endpoints import Endpoints
from everlode.settings.login import use_login

__all__ = [
    "Ack",
    "AsyncEventConsumer",
    "AsyncEventProducer",
    "AsyncJob",
    "AsyncMiningClient",
    "AsyncNodeAgent",
    "AsyncTaskWatch",
    "AsyncWork",
    "Balancer",
    "Change",
    "Endpoints",
    "EventConsumer",
    "EventProducer",
    "FencedOut",
    "Identity",
    "Job",
    "Load",
    "Member",
    "MinerBeacon",
    "MiningClient",
    "NodeAgent",
    "NotFound",
    "OutcomeUnknown",
    "Received",
    "Refusal",
    "Role",
    "RoleChange",
    "TaskWatch",
    "Unavailable",
    "Work",
    "use_login",
]
