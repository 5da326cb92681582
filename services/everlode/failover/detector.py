"""`everlode detector run`: where the detection agent starts from, and its own beats. Shell."""

from __future__ import annotations

import sys

from everlode.agents.app import run_app
from everlode.agents.detection import DetectionAgent
from everlode.errors import ConfigError
from everlode.nodes.build import agent_of, say
from everlode.sdk.agent import Identity, Load
from everlode.settings import settings
from everlode.stack.endpoints import Endpoints


def run_detector(region: str, node_id: str, endpoints: Endpoints) -> None:
    """Run a detector until SIGTERM or SIGINT. Raises: ConfigError: unknown region."""
    if region not in endpoints.regions:
        raise ConfigError(f"region {region!r}", hint=f"there are: {', '.join(endpoints.regions)}")
    cfg = settings()
    topology = cfg.load_topology()
    place = endpoints.regions[region]
    detection = DetectionAgent(
        place.origin, place.kafka_bootstrap, node_id, f"detector.{place.origin}"
    )
    agent = agent_of(
        Identity(node_id, region, place.origin, "detector"),
        endpoints,
        topology,
        cfg,
        load=lambda: Load(work_done=detection.beats),
    )
    agent.start()
    say(f"{node_id}: ready")
    code = run_app(detection.app)
    say(f"{node_id}: {detection.beats} records read, {detection.verdicts} verdicts published")
    agent.close()
    sys.exit(code)
