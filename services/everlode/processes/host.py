"""What every process of a region has: its line to the log, its signals, its membership. Shell."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType

from everlode.membership.agent import Identity, NodeAgent
from everlode.settings.endpoints import Endpoints, RegionEndpoints
from everlode.settings.environment import Settings
from everlode.topics import Topology


def say(text: str) -> None:
    """One line to stderr."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - the process's own log


def until_signal() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()

    def asked(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, asked)
    signal.signal(signal.SIGINT, asked)
    return stop


def agent_of(
    identity: Identity, endpoints: Endpoints, topology: Topology, cfg: Settings, **more: object
) -> NodeAgent:
    """A NodeAgent with the settings' timings. Raises: ConfigError: no control cluster."""
    return NodeAgent.of(
        identity,
        endpoints,
        partitions=topology.partitions,
        clock=cfg.clock(),
        beat_ms=cfg.beat_ms,
        renew_ms=cfg.renew_ms,
        fence_after_ms=cfg.fence_after_ms,
        **more,
    )


def place_of(endpoints: Endpoints, region: str) -> RegionEndpoints:
    """Where a region's parts listen. Raises: ConfigError: it is not in the endpoints."""
    return endpoints.region(region)
